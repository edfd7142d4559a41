output "url" {
  description = "The coordinator, for clients in the cluster."
  value       = module.frazil.url
}

output "token_command" {
  description = "Prints the token that clients send."
  value       = module.frazil.token_command
}
