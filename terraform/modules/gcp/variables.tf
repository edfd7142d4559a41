variable "project" {
  description = "Project that everything is made in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "The id of a project: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of the network, the cluster and the registry."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region such as europe-west3."
  }
}

variable "name" {
  description = "Name of the cluster, and what the names of everything else begin with."
  type        = string
  default     = "frazil"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "Lower-case letters, digits and hyphens, a letter first, at most 21."
  }
}

variable "zones" {
  description = "Zones of the nodes; empty for those that Google chooses."
  type        = list(string)
  default     = []
}

variable "release_channel" {
  description = "How soon new versions of Kubernetes come: RAPID, REGULAR, STABLE or EXTENDED."
  type        = string
  default     = "REGULAR"

  validation {
    condition     = contains(["RAPID", "REGULAR", "STABLE", "EXTENDED"], var.release_channel)
    error_message = "One of RAPID, REGULAR, STABLE, EXTENDED."
  }
}

variable "node_cidr" {
  description = "Addresses of nodes."
  type        = string
  default     = "10.40.0.0/20"

  validation {
    condition     = can(cidrhost(var.node_cidr, 0))
    error_message = "A range such as 10.40.0.0/20."
  }
}

variable "pod_cidr" {
  description = "Addresses of pods: each node takes a /25 of it."
  type        = string
  default     = "10.44.0.0/16"

  validation {
    condition     = can(cidrhost(var.pod_cidr, 0)) && tonumber(split("/", var.pod_cidr)[1]) <= 19
    error_message = "A range such as 10.44.0.0/16; at least a /19, which is enough for 64 nodes."
  }
}

variable "service_cidr" {
  description = "Addresses of Services."
  type        = string
  default     = "10.48.0.0/20"

  validation {
    condition     = can(cidrhost(var.service_cidr, 0))
    error_message = "A range such as 10.48.0.0/20."
  }
}

variable "authorized_networks" {
  description = "Who reaches the API server from outside the network, by name; empty for nobody."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for each in values(var.authorized_networks) : can(cidrhost(each, 0))])
    error_message = "Ranges such as 203.0.113.7/32."
  }
}

variable "system_nodes" {
  description = "Nodes on demand for Knative, the coordinator and what else must not go: type and number in each zone."
  type = object({
    machine_type = optional(string, "e2-standard-2")
    min          = optional(number, 1)
    max          = optional(number, 2)
    disk_gib     = optional(number, 50)
  })
  default = {}

  validation {
    condition     = var.system_nodes.min >= 1 && var.system_nodes.max >= var.system_nodes.min
    error_message = "At least one node, and no more at least than at most."
  }
}

variable "function_pools" {
  description = "Pools of nodes for functions, from none to max in all zones together."
  type = map(object({
    machine_type = string
    max          = number
    spot         = optional(bool, true)
    min          = optional(number, 0)
    disk_gib     = optional(number, 100)
  }))
  default = {
    functions = { machine_type = "n2d-standard-8", max = 24 }
  }

  validation {
    condition     = alltrue([for each in values(var.function_pools) : each.min >= 0 && each.max >= 1 && each.max >= each.min])
    error_message = "Each pool: min of 0 or more, max of at least 1 and not below min."
  }
}

variable "kms_key" {
  description = "Key that encrypts the cluster's secrets and the images (projects/…/cryptoKeys/…); null for Google's own."
  type        = string
  default     = null
}

variable "deletion_protection" {
  description = "Whether the cluster can't be destroyed."
  type        = bool
  default     = true
}

variable "labels" {
  description = "Labels of everything that is made."
  type        = map(string)
  default     = { managed-by = "terraform" }
}
