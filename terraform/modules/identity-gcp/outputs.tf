output "emails" {
  description = "Address of the account of each service account, by the latter's name: its annotation iam.gke.io/gcp-service-account."
  value       = { for account, name in local.accounts : name => google_service_account.this[account].email }
}
