output "kubeconfig_command" {
  description = "Makes kubectl and frazil speak to the cluster."
  value       = "gcloud container clusters get-credentials ${module.gcp.cluster_name} --region ${var.region} --project ${var.project}"
}

output "repository_url" {
  description = "Where the images are pushed to."
  value       = module.gcp.repository_url
}

output "data_url" {
  description = "The bucket for data."
  value       = module.data.url
}

output "store_url" {
  description = "Frazil's store."
  value       = "${module.store.url}/frazil"
}

output "url" {
  description = "The coordinator, for clients in the cluster."
  value       = module.frazil.url
}

output "token_command" {
  description = "Prints the token that clients send."
  value       = module.frazil.token_command
}
