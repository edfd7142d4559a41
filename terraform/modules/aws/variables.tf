variable "name" {
  description = "Name of the cluster, and what the names of everything else begin with."
  type        = string
  default     = "frazil"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,37}$", var.name))
    error_message = "Lower-case letters, digits and hyphens, a letter first, at most 38."
  }
}

variable "kubernetes_version" {
  description = "Version of Kubernetes. Knative 1.21 needs 1.33 at least, 1.22 and later 1.34."
  type        = string
  default     = "1.35"

  validation {
    condition     = can(regex("^1\\.[0-9]+$", var.kubernetes_version)) && tonumber(split(".", var.kubernetes_version)[1]) >= 33
    error_message = "Such as 1.35; at least 1.33, which Knative 1.21 needs."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the network: a pod takes one."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && tonumber(split("/", var.vpc_cidr)[1]) <= 18
    error_message = "A range such as 10.40.0.0/16; at least a /18, so that each zone has addresses for some thousand pods."
  }
}

variable "zones" {
  description = "Availability zones; empty for the first three of the region."
  type        = list(string)
  default     = []

  validation {
    condition     = length(var.zones) == 0 || (length(var.zones) >= 2 && length(var.zones) <= 4)
    error_message = "Two to four zones: EKS asks for two."
  }
}

variable "single_nat_gateway" {
  description = "One NAT gateway for all zones: a third of the cost, and none of the other zones reaches the outside when its zone is lost. The store is reached without it."
  type        = bool
  default     = true
}

variable "public_access_cidrs" {
  description = "Who reaches the API server from outside the network; empty for nobody."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for each in var.public_access_cidrs : can(cidrhost(each, 0))])
    error_message = "Ranges such as 203.0.113.7/32."
  }
}

variable "authentication_mode" {
  description = "Who may be let in: API (access entries only), API_AND_CONFIG_MAP, CONFIG_MAP; null leaves it to AWS. admin_principal_arns needs one of the first two."
  type        = string
  default     = "API"

  validation {
    condition     = var.authentication_mode == null || contains(["API", "API_AND_CONFIG_MAP", "CONFIG_MAP"], coalesce(var.authentication_mode, "API"))
    error_message = "One of API, API_AND_CONFIG_MAP, CONFIG_MAP, or null."
  }
}

variable "admin_principal_arns" {
  description = "IAM roles and users that administer the cluster, besides who makes it."
  type        = set(string)
  default     = []
}

variable "system_nodes" {
  description = "Nodes on demand for Knative, the coordinator and what else must not go: types and number."
  type = object({
    instance_types = optional(list(string), ["m7i.large", "m6i.large"])
    min            = optional(number, 2)
    max            = optional(number, 4)
    disk_gib       = optional(number, 50)
  })
  default = {}

  validation {
    condition     = var.system_nodes.min >= 1 && var.system_nodes.max >= var.system_nodes.min
    error_message = "At least one node, and no more at least than at most."
  }
}

variable "function_pools" {
  description = "Pools of nodes for functions, from none to max. Types of one pool should be alike in CPUs and memory: an autoscaler takes any for the first. The labels and the taint are those that knative/components/spot knows."
  type = map(object({
    instance_types = list(string)
    max            = number
    spot           = optional(bool, true)
    min            = optional(number, 0)
    disk_gib       = optional(number, 100)
  }))
  default = {
    functions = {
      instance_types = ["m7i.2xlarge", "m7a.2xlarge", "m6i.2xlarge", "m6a.2xlarge"]
      max            = 24
    }
  }

  validation {
    condition     = alltrue([for each in values(var.function_pools) : each.min >= 0 && each.max >= 1 && each.max >= each.min])
    error_message = "Each pool: min of 0 or more, max of at least 1 and not below min."
  }

  validation {
    condition     = alltrue([for name in keys(var.function_pools) : can(regex("^[a-z0-9-]{1,20}$", name)) && name != "system"])
    error_message = "Names of pools have lower-case letters, digits and hyphens, at most 20, and are not system."
  }

  validation {
    condition     = alltrue([for each in values(var.function_pools) : length(each.instance_types) > 0])
    error_message = "Each pool needs a type; a spot pool several, so that one that is sold out does not stop it."
  }
}

variable "scale_from_zero_tags" {
  description = "Whether the groups of the function pools are tagged with what a node of theirs would be, so that the autoscaler of nodes starts the first one. False where something else makes nodes (Karpenter)."
  type        = bool
  default     = true
}

variable "addons" {
  description = "Add-ons of EKS, by name, with their configuration as JSON. vpc-cni enforces network policies only when it is told to."
  type        = map(object({ configuration = optional(string) }))
  default = {
    coredns            = {}
    kube-proxy         = {}
    vpc-cni            = { configuration = "{\"enableNetworkPolicy\": \"true\"}" }
    aws-ebs-csi-driver = {}
  }

  validation {
    condition     = alltrue([for each in values(var.addons) : each.configuration == null || can(jsondecode(each.configuration))])
    error_message = "The configuration of an add-on is JSON."
  }
}

variable "log_types" {
  description = "Logs of the control plane that go to CloudWatch."
  type        = set(string)
  default     = ["api", "audit", "authenticator"]
}

variable "log_days" {
  description = "Days for which logs of the control plane and of the network are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653], var.log_days)
    error_message = "A number of days that CloudWatch has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827 or 3653."
  }
}

variable "flow_logs" {
  description = "Whether connections of the network are logged: paid for by volume."
  type        = bool
  default     = false
}

variable "repositories" {
  description = "Repositories of images that are made in ECR, below the cluster's name."
  type        = set(string)
  default     = ["frazil-coordinator", "frazil-function"]
}

variable "force_destroy" {
  description = "Whether destroying deletes the images in the repositories."
  type        = bool
  default     = false
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
