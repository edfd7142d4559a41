variable "kubeconfig" {
  description = "Kubeconfig of the cluster."
  type        = string
  default     = "~/.kube/config"
}

variable "install_knative" {
  description = "Whether Knative is installed too; false where the cluster has it already, from 1.21 on."
  type        = bool
  default     = false
}

variable "store_url" {
  description = "Frazil's store: a bucket that is there, and a prefix below which everything lies, such as s3://my-bucket/frazil."
  type        = string
}

variable "store_options" {
  description = "Options that open the store: credentials, endpoint. Kept out of the state."
  type        = map(string)
  default     = null
  sensitive   = true
  ephemeral   = true
}

variable "images" {
  description = "Where the two images lie."
  type = object({
    coordinator = string
    function    = string
  })
}

variable "components" {
  description = "Folders of knative/components. Those that need a feature flag of Knative are left out by default: somebody else may have to switch it on."
  type        = list(string)
  default     = ["network-policies", "prescale", "quotas"]
}
