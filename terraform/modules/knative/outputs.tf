output "knative_version" {
  description = "Version of Knative that the operator keeps."
  value       = var.knative_version
}

output "feature_flags" {
  description = "Feature flags that are on: the components that name others would be refused."
  value       = keys({ for name, value in local.serving.config.features : name => value if lower(value) != "disabled" })
}

output "serving_config" {
  description = "What is set of Knative Serving, by ConfigMap."
  value       = local.serving.config
}

output "ready" {
  description = "Known when Knative was asked for: what needs it depends on this."
  value       = helm_release.knative.id
}
