output "role_arns" {
  description = "ARN of the role of each service account, by the account's name: its annotation eks.amazonaws.com/role-arn."
  value       = { for account, name in local.accounts : name => aws_iam_role.this[account].arn }
}

output "role_names" {
  description = "Name of the role of each service account, by the account's name: to attach more to it."
  value       = { for account, name in local.accounts : name => aws_iam_role.this[account].name }
}
