output "cluster_name" {
  description = "Name of the cluster: aws eks update-kubeconfig --name <it>."
  value       = aws_eks_cluster.this.name
}

output "cluster_endpoint" {
  description = "URL of the API server."
  value       = aws_eks_cluster.this.endpoint
}

output "cluster_certificate_authority_data" {
  description = "Authority of the API server's certificate: PEM in base64, as in a kubeconfig."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "oidc_provider_arn" {
  description = "OpenID Connect provider of the cluster in IAM: input of the module identity."
  value       = aws_iam_openid_connect_provider.this.arn
}

output "cluster_autoscaler_role_arn" {
  description = "Role of the autoscaler of nodes: input of the module knative."
  value       = aws_iam_role.irsa["cluster-autoscaler"].arn
}

output "node_role_arn" {
  description = "Role of the nodes."
  value       = aws_iam_role.node.arn
}

output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "private_subnet_ids" {
  description = "Subnets of the nodes, by zone."
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }
}

output "repository_urls" {
  description = "Repositories of the images, by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

output "kms_key_arn" {
  description = "Key of secrets, logs and images."
  value       = aws_kms_key.this.arn
}
