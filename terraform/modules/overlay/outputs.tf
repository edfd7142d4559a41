output "files" {
  description = "The overlay: names of files and what is in them. It lies in a folder of knative/overlays."
  value       = merge({ "kustomization.yaml" = yamlencode(local.kustomization) }, { for name, patch in local.patches : name => yamlencode(patch) })
}

output "digest" {
  description = "Changes when a file of the overlay does."
  value       = sha256(jsonencode(merge({ "kustomization.yaml" = yamlencode(local.kustomization) }, { for name, patch in local.patches : name => yamlencode(patch) })))
}
