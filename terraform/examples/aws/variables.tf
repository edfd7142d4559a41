variable "region" {
  description = "Region of everything."
  type        = string
  default     = "eu-central-1"
}

variable "name" {
  description = "Name of the cluster, and what the names of everything else begin with."
  type        = string
  default     = "frazil"
}

variable "bucket_prefix" {
  description = "What the names of the two buckets begin with: unique in the whole of S3."
  type        = string
}

variable "public_access_cidrs" {
  description = "Who reaches the API server: the addresses of whoever runs this."
  type        = list(string)
}

variable "image_tag" {
  description = "Tag of the two images. They are pushed between the first and the second apply (README)."
  type        = string
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = { project = "frazil" }
}
