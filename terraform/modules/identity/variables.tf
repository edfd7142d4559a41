variable "name" {
  description = "What the names of the roles begin with: <name>-coordinator, <name>-function, <name>-source-sqs."
  type        = string
  default     = "frazil"

  validation {
    condition     = can(regex("^[a-zA-Z0-9+=,.@_-]{1,40}$", var.name))
    error_message = "A role's name has letters, digits and +=,.@_- only; at most 40 of them leave room for the rest."
  }
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's OpenID Connect provider in IAM (output of the module aws)."
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:oidc-provider/", var.oidc_provider_arn))
    error_message = "The ARN of an OpenID Connect provider: arn:aws:iam::<account>:oidc-provider/<issuer without https://>."
  }
}

variable "namespace" {
  description = "Namespace of the cluster that Frazil is in."
  type        = string
  default     = "frazil"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "The name of a namespace: lower-case letters, digits and hyphens, at most 63."
  }
}

variable "store" {
  description = "Frazil's store: the bucket's ARN, and the prefix below which everything is read, written, listed and deleted."
  type = object({
    bucket_arn = string
    prefix     = string
  })

  validation {
    condition     = endswith(var.store.prefix, "/") && length(var.store.prefix) > 1
    error_message = "A prefix that ends with a slash: without it, objects beside the folder could be read and deleted too."
  }
}

variable "data" {
  description = "What queries may read, and what their sinks may write: prefixes of buckets. \"\" is the whole bucket."
  type = list(object({
    bucket_arn     = string
    read_prefixes  = optional(list(string), [])
    write_prefixes = optional(list(string), [])
  }))
  default = []

  validation {
    condition     = alltrue([for each in var.data : length(each.read_prefixes) + length(each.write_prefixes) > 0])
    error_message = "A bucket without a prefix gives no right: leave it out, or name what may be read or written."
  }

  validation {
    condition     = alltrue(flatten([for each in var.data : [for prefix in concat(each.read_prefixes, each.write_prefixes) : prefix == "" || endswith(prefix, "/")]]))
    error_message = "End each prefix with a slash (or give \"\" for the whole bucket)."
  }
}

variable "kms_key_arns" {
  description = "Keys that the buckets' objects are encrypted with; empty for S3's own keys."
  type        = list(string)
  default     = []
}

variable "queue_arns" {
  description = "Queues of notifications that the component source-sqs reads; with none, no role is made for it."
  type        = list(string)
  default     = []
}

variable "permissions_boundary_arn" {
  description = "Policy that bounds the roles, where the account asks for one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
