output "id" {
  description = "Known when Frazil is deployed; another one after each deployment."
  value       = terraform_data.deploy.id
}
