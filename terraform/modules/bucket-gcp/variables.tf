variable "project" {
  description = "Project that the bucket is in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "The id of a project: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "name" {
  description = "Name of the bucket, unique in the whole of Cloud Storage."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$", var.name))
    error_message = "A bucket's name has 3 to 63 lower-case letters, digits, dots, hyphens and underscores."
  }
}

variable "location" {
  description = "Region of the bucket: that of the cluster, so that nothing is paid for between them."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z]+(-[A-Za-z]+[0-9])?$", var.location))
    error_message = "A region such as europe-west3, or EU, US, ASIA."
  }
}

variable "expire_days" {
  description = "Days after which objects below a prefix are deleted, by prefix: {\"frazil/exchange/\" = 1} for a store of Frazil."
  type        = map(number)
  default     = {}

  validation {
    condition     = alltrue([for prefix, days in var.expire_days : endswith(prefix, "/") && days >= 1 && floor(days) == days])
    error_message = "Prefixes end with a slash; days are whole and at least 1."
  }
}

variable "abort_multipart_days" {
  description = "Days after which parts of uploads that nobody finished are deleted."
  type        = number
  default     = 1

  validation {
    condition     = var.abort_multipart_days >= 1
    error_message = "At least 1 day."
  }
}

variable "versioning" {
  description = "Whether what is overwritten or deleted is kept: for data, not for a store of Frazil."
  type        = bool
  default     = false
}

variable "kms_key" {
  description = "Key that encrypts objects (projects/…/cryptoKeys/…); null for Google's own."
  type        = string
  default     = null
}

variable "notifications" {
  description = "Whether new objects are told to a topic of Pub/Sub, with a subscription that keeps them for a week."
  type        = bool
  default     = false
}

variable "access_log_bucket" {
  description = "Bucket that access logs go to; null for none."
  type        = string
  default     = null
}

variable "force_destroy" {
  description = "Whether destroying deletes what is in the bucket."
  type        = bool
  default     = false
}

variable "labels" {
  description = "Labels of everything that is made."
  type        = map(string)
  default     = { managed-by = "terraform" }
}
