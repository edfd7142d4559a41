variable "project" {
  description = "Project that everything is made in."
  type        = string
}

variable "region" {
  description = "Region of everything."
  type        = string
  default     = "europe-west3"
}

variable "name" {
  description = "Name of the cluster, and what the names of everything else begin with."
  type        = string
  default     = "frazil"
}

variable "bucket_prefix" {
  description = "What the names of the two buckets begin with: unique in the whole of Cloud Storage."
  type        = string
}

variable "authorized_networks" {
  description = "Who reaches the API server, by name: the addresses of whoever runs this."
  type        = map(string)
}

variable "image_tag" {
  description = "Tag of the two images. They are pushed between the first and the second apply (README)."
  type        = string
}
