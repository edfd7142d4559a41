variable "overlay" {
  description = "Folder of the overlay."
  type        = string
}

variable "namespace" {
  description = "Namespace that it is deployed to."
  type        = string
}

variable "store_url" {
  description = "Frazil's store."
  type        = string
}

variable "revision" {
  description = "Changes when what is deployed does: `frazil deploy` runs again."
  type        = string
}

variable "kubeconfig" {
  description = "Kubeconfig that the command uses; null for that of the environment. Its current context is used."
  type        = string
  default     = null
}

variable "command" {
  description = "The command frazil, of the same version as the images."
  type        = string
  default     = "frazil"
}
