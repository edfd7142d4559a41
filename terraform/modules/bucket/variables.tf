variable "name" {
  description = "Name of the bucket, unique in the whole of S3."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens."
  }
}

variable "expire_days" {
  description = "Days after which objects below a prefix are deleted, by prefix: {\"frazil/exchange/\" = 1} for a store of Frazil. The store's other prefixes (catalog, journal, kept, leader) are never to be in it."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for days in values(var.expire_days) : days >= 1 && floor(days) == days])
    error_message = "S3 deletes after whole days, at least 1."
  }

  validation {
    condition     = alltrue([for prefix in keys(var.expire_days) : endswith(prefix, "/")])
    error_message = "End a prefix with a slash: without it, objects beside the folder would be deleted too."
  }
}

variable "abort_multipart_days" {
  description = "Days after which parts of uploads that nobody finished are deleted: what a killed task leaves."
  type        = number
  default     = 1

  validation {
    condition     = var.abort_multipart_days >= 1
    error_message = "At least 1 day."
  }
}

variable "versioning" {
  description = "Whether what is overwritten or deleted is kept: for data, not for a store of Frazil, which names each object once."
  type        = bool
  default     = false
}

variable "noncurrent_days" {
  description = "Days for which versions that are no longer current are kept, with versioning."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1
    error_message = "At least 1 day."
  }
}

variable "kms_key_arn" {
  description = "Key that encrypts objects; null for S3's own keys (SSE-S3), which cost nothing."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:", var.kms_key_arn))
    error_message = "The ARN of a KMS key."
  }
}

variable "notifications" {
  description = "Who is told of new objects: sqs (a queue is made for them), eventbridge, or none."
  type        = string
  default     = "none"

  validation {
    condition     = contains(["none", "sqs", "eventbridge"], var.notifications)
    error_message = "One of none, sqs, eventbridge."
  }
}

variable "notification_prefixes" {
  description = "Prefixes of objects that the queue is told of; they may not overlap. Empty: all objects."
  type        = set(string)
  default     = []
}

variable "notification_suffix" {
  description = "What the names of objects that the queue is told of end with."
  type        = string
  default     = ""
}

variable "access_log_bucket" {
  description = "Bucket that S3's access logs go to; null for none."
  type        = string
  default     = null
}

variable "s3_compatible" {
  description = "True for a store that speaks S3 and is not AWS (SeaweedFS, Ceph, MinIO): leaves out what only AWS has (public access block, ownership, the policy that refuses plain HTTP, access logs, notifications)."
  type        = bool
  default     = false
}

variable "force_destroy" {
  description = "Whether destroying deletes what is in the bucket."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
