variable "project" {
  description = "Project of the cluster and of the accounts."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "The id of a project: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "name" {
  description = "What the ids of the accounts begin with: <name>-coordinator, <name>-function."
  type        = string
  default     = "frazil"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,17}$", var.name))
    error_message = "Lower-case letters, digits and hyphens, a letter first, at most 18: an account's id has at most 30."
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
  description = "Frazil's store: the bucket's name, and the prefix below which everything is read, written, listed and deleted."
  type = object({
    bucket = string
    prefix = string
  })

  validation {
    condition     = endswith(var.store.prefix, "/") && length(var.store.prefix) > 1
    error_message = "A prefix that ends with a slash: without it, objects beside the folder could be read and deleted too."
  }
}

variable "data" {
  description = "What queries may read, and what their sinks may write: prefixes of buckets. \"\" is the whole bucket."
  type = list(object({
    bucket         = string
    read_prefixes  = optional(list(string), [])
    write_prefixes = optional(list(string), [])
  }))
  default = []

  validation {
    condition     = alltrue(flatten([for each in var.data : [for prefix in concat(each.read_prefixes, each.write_prefixes) : prefix == "" || endswith(prefix, "/")]]))
    error_message = "End each prefix with a slash (or give \"\" for the whole bucket)."
  }
}
