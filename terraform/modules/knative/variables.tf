variable "knative_version" {
  description = "Version of Knative Serving and Eventing that the operator keeps; Frazil needs 1.21 at least."
  type        = string
  default     = "1.22"

  validation {
    condition     = can(regex("^1\\.[0-9]+(\\.[0-9]+)?$", var.knative_version)) && tonumber(split(".", var.knative_version)[1]) >= 21
    error_message = "Such as 1.22 or 1.22.1; at least 1.21: older ones take no min-scale on a Revision, which Frazil sets to start functions ahead."
  }
}

variable "operator_version" {
  description = "Version of the operator's chart; it installs the three versions of Knative before its own too."
  type        = string
  default     = "v1.22.3"

  validation {
    condition     = can(regex("^v1\\.[0-9]+\\.[0-9]+$", var.operator_version))
    error_message = "Such as v1.22.3."
  }
}

variable "eventing" {
  description = "Whether Knative Eventing is installed: for the components eventing, kafka-broker, source-sqs and source-schedule."
  type        = bool
  default     = true
}

variable "ingress_service_type" {
  description = "Service of Kourier, Knative's ingress: ClusterIP (nothing is reachable from outside; clients are in the cluster or use a port-forward) or LoadBalancer."
  type        = string
  default     = "ClusterIP"

  validation {
    condition     = contains(["ClusterIP", "LoadBalancer", "NodePort"], var.ingress_service_type)
    error_message = "One of ClusterIP, LoadBalancer, NodePort."
  }
}

variable "feature_flags" {
  description = "Feature flags of Knative, with their values: those that the components in use name (docs/deploy.md)."
  type        = map(string)
  default = {
    "kubernetes.podspec-affinity"                  = "enabled"
    "kubernetes.podspec-priorityclassname"         = "enabled"
    "kubernetes.podspec-tolerations"               = "enabled"
    "kubernetes.podspec-topologyspreadconstraints" = "enabled"
  }

  validation {
    condition     = alltrue([for each in values(var.feature_flags) : contains(["enabled", "allowed", "disabled"], lower(each))])
    error_message = "Each flag is enabled, allowed or disabled."
  }
}

variable "max_timeout_seconds" {
  description = "The longest request that a service may ask for: the longest task of Frazil. Knative's own default is 600."
  type        = number
  default     = 3600

  validation {
    condition     = var.max_timeout_seconds >= 600 && var.max_timeout_seconds <= 86400
    error_message = "At least 600, which the manifests ask for, and at most a day."
  }
}

variable "replicas" {
  description = "Pods of each part of Knative: 2 and more outlive the loss of a node."
  type        = number
  default     = 2

  validation {
    condition     = var.replicas >= 1
    error_message = "At least 1."
  }
}

variable "serving_config" {
  description = "Further ConfigMaps of Knative Serving, by name without config-, with their entries. What stands here wins over what this module sets."
  type        = map(map(string))
  default     = {}
}

variable "cluster_autoscaler" {
  description = "The autoscaler of nodes of an EKS cluster (outputs of the module aws); null where the cloud brings one (GKE, AKS) or Karpenter makes nodes."
  type = object({
    cluster_name  = string
    region        = string
    role_arn      = string
    chart_version = optional(string, "9.52.1")
  })
  default = null
}

variable "timeout_seconds" {
  description = "Seconds to wait for each chart."
  type        = number
  default     = 600

  validation {
    condition     = var.timeout_seconds >= 60
    error_message = "At least 60."
  }
}
