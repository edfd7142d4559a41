output "namespace" {
  description = "Namespace that Frazil is in."
  value       = kubernetes_namespace_v1.this.metadata[0].name
}

output "url" {
  description = "The coordinator, for clients in the cluster."
  value       = "http://frazil-coordinator.${var.namespace}.svc.cluster.local"
}

output "token_command" {
  description = "Prints the token that clients send."
  value       = "kubectl get secret frazil-secrets --namespace ${var.namespace} --output jsonpath={.data.token} | base64 --decode"
}

output "overlay" {
  description = "Folder of the overlay that was applied."
  value       = local.folder
}
