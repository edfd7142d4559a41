output "kubeconfig_command" {
  description = "Makes kubectl and frazil speak to the cluster."
  value       = "aws eks update-kubeconfig --region ${var.region} --name ${module.aws.cluster_name}"
}

output "repository_urls" {
  description = "Where the images are pushed to."
  value       = module.aws.repository_urls
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
