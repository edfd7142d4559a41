variable "namespace" {
  description = "Namespace that Frazil is deployed to; it is made, and held to the restricted Pod Security Standard (baseline with source-sqs)."
  type        = string
  default     = "frazil"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "The name of a namespace: lower-case letters, digits and hyphens, at most 63."
  }
}

variable "store_url" {
  description = "Frazil's store: a bucket and a prefix below which everything lies, such as s3://my-bucket/frazil."
  type        = string
}

variable "store_options" {
  description = "Options that open the store where the pods' identity does not: credentials, endpoint. Kept out of the state."
  type        = map(string)
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "images" {
  description = "Where the two images lie, each with a tag that stays what it is."
  type = object({
    coordinator = string
    function    = string
  })
}

variable "components" {
  description = "Folders of knative/components, in their order: network-policies first."
  type        = list(string)
  default     = ["network-policies", "prescale", "quotas", "priority-classes", "spot", "zone-spread", "prepull"]
}

variable "annotations" {
  description = "Annotations of service accounts, by account: the identity of a cloud."
  type        = map(map(string))
  default     = {}
}

variable "max_scale" {
  description = "The most functions at once."
  type = object({
    small = optional(number, 50)
    large = optional(number, 10)
  })
  default = {}
}

variable "settings" {
  description = "Settings of the coordinator, FRAZIL_<NAME>, as in docs/settings.md."
  type        = map(string)
  default     = {}
}

variable "queue" {
  description = "Queue of notifications that the component source-sqs reads; null without it."
  type = object({
    arn    = string
    region = string
  })
  default = null
}

variable "secrets_revision" {
  description = "Raise it to make new secrets (the keys of tasks and of the journal, the token). Queries that run then are lost."
  type        = number
  default     = 1

  validation {
    condition     = var.secrets_revision >= 1 && floor(var.secrets_revision) == var.secrets_revision
    error_message = "A whole number of at least 1."
  }
}

variable "kubeconfig" {
  description = "Kubeconfig that `frazil deploy` uses; null for that of the environment. Its current context is used."
  type        = string
  default     = null
}

variable "frazil_command" {
  description = "The command frazil, of the same version as the images."
  type        = string
  default     = "frazil"
}
