# Runs `frazil deploy` when what is deployed changes, and `frazil undeploy` when all of it is destroyed. Needs no provider.

locals {
  environment = var.kubeconfig == null ? {} : { KUBECONFIG = var.kubeconfig }
}

resource "terraform_data" "deploy" {
  triggers_replace = [var.revision, var.namespace, var.store_url, var.overlay]

  provisioner "local-exec" {
    command = "\"$FRAZIL\" deploy --overlay \"$OVERLAY\" --namespace \"$NAMESPACE\" --store \"$STORE\" --yes"

    environment = merge(local.environment, {
      FRAZIL    = var.command
      OVERLAY   = var.overlay
      NAMESPACE = var.namespace
      STORE     = var.store_url
    })
  }

  depends_on = [terraform_data.undeploy]
}

# A resource of its own: a change replaces the one above, and must not take the services away before it puts them back.
# It is made first, so that a deployment that failed half way is taken away too.
resource "terraform_data" "undeploy" {
  input = merge(local.environment, { FRAZIL = var.command, NAMESPACE = var.namespace })

  provisioner "local-exec" {
    when        = destroy
    command     = "\"$FRAZIL\" undeploy --namespace \"$NAMESPACE\" --yes"
    environment = self.input
  }
}
