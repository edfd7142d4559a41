output "cluster_name" {
  description = "Name of the cluster: gcloud container clusters get-credentials <it> --region <region>."
  value       = google_container_cluster.this.name
}

output "cluster_endpoint" {
  description = "Address of the API server."
  value       = google_container_cluster.this.endpoint
}

output "cluster_certificate_authority_data" {
  description = "Authority of the API server's certificate: PEM in base64, as in a kubeconfig."
  value       = google_container_cluster.this.master_auth[0].cluster_ca_certificate
}

output "repository_url" {
  description = "What the names of the images begin with."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.this.repository_id}"
}

output "node_service_account" {
  description = "Account of the nodes."
  value       = google_service_account.node.email
}
