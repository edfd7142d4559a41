variable "namespace" {
  description = "Namespace that everything is in."
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

  validation {
    condition     = can(regex("^(s3|gs|az|abfs|abfss)://[^/]+/.+[^/]$", var.store_url))
    error_message = "s3://, gs:// or az://, a bucket and a prefix, without a slash at the end."
  }
}

variable "images" {
  description = "Where the two images lie."
  type = object({
    coordinator = string
    function    = string
  })

  validation {
    condition     = alltrue([for each in values(var.images) : can(regex("^[^:@\\s]+(:[0-9]+/[^:@\\s]+)?:[A-Za-z0-9._-]+$", each)) && !endswith(each, ":latest")])
    error_message = "A repository and a tag that stays what it is: registry/frazil-function:0.1.0, and not latest."
  }
}

variable "components" {
  description = "Folders of knative/components, in their order: network-policies first."
  type        = list(string)
  default     = ["network-policies", "prescale", "quotas", "priority-classes", "spot", "zone-spread", "prepull"]

  validation {
    condition     = length(distinct(var.components)) == length(var.components)
    error_message = "A component twice."
  }

  validation {
    condition     = !contains(var.components, "network-policies") || try(var.components[0], "") == "network-policies"
    error_message = "Name network-policies first: those that follow open ways in it."
  }

  validation {
    condition = alltrue([for after, before in { kafka-broker = "eventing", source-sqs = "eventing", source-seaweedfs = "seaweedfs", token-review = "tenants" } :
      !contains(var.components, after) || try(index(var.components, before) < index(var.components, after), false)
    ])
    error_message = "kafka-broker and source-sqs come after eventing, source-seaweedfs after seaweedfs, token-review after tenants."
  }
}

variable "annotations" {
  description = "Annotations of service accounts, by account: the identity of a cloud, as the modules identity and identity-gcp give it."
  type        = map(map(string))
  default     = {}

  validation {
    condition     = alltrue([for account in keys(var.annotations) : contains(["frazil-coordinator", "frazil-function", "frazil-source-sqs"], account)])
    error_message = "Accounts are frazil-coordinator, frazil-function and frazil-source-sqs."
  }
}

variable "max_scale" {
  description = "The most functions at once. The quota of the component quotas is enough for the defaults: more needs a quota of your own."
  type = object({
    small = optional(number, 50)
    large = optional(number, 10)
  })
  default = {}

  validation {
    condition     = var.max_scale.small >= 2 && var.max_scale.small <= 1000 && var.max_scale.large >= 1 && var.max_scale.large <= 1000
    error_message = "At least 2 small ones and 1 large one, at most 1,000."
  }
}

variable "settings" {
  description = "Settings of the coordinator, FRAZIL_<NAME>, as in docs/settings.md."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^FRAZIL_[A-Z0-9_]+$", name))])
    error_message = "Names such as FRAZIL_SPLIT_TARGET_BYTES."
  }
}

variable "queue" {
  description = "Queue of notifications that the component source-sqs reads; null without it."
  type = object({
    arn    = string
    region = string
  })
  default = null
}
