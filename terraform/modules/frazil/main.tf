# Frazil in a cluster with Knative: a namespace, its secrets, and an overlay of this repository's knative/ that `frazil deploy` applies, waits for and takes away.

module "overlay" {
  source = "../overlay"

  namespace   = var.namespace
  store_url   = var.store_url
  images      = var.images
  components  = var.components
  annotations = var.annotations
  max_scale   = var.max_scale
  settings    = var.settings
  queue       = var.queue
}

locals {
  manifests = abspath("${path.module}/../../../knative")
  # Kustomize looks for bases beside an overlay; git ignores folders of this name.
  folder = "${local.manifests}/overlays/terraform-${var.namespace}"
  # Knative makes the pod of a source without what `restricted` asks for.
  security = contains(var.components, "source-sqs") ? "baseline" : "restricted"
  # A change of the base or of a component is applied too.
  sources = sha256(join("", [for each in sort(fileset(local.manifests, "{base,components}/**/*.yaml")) : filesha256("${local.manifests}/${each}")]))
}

resource "kubernetes_namespace_v1" "this" {
  metadata {
    name = var.namespace

    labels = {
      "app.kubernetes.io/part-of"          = "frazil"
      "pod-security.kubernetes.io/enforce" = local.security
      "pod-security.kubernetes.io/warn"    = "restricted"
    }
  }
}

ephemeral "random_password" "secret" {
  for_each = toset(["task-keys", "journal-keys", "token"])

  length  = 64
  special = false
}

# Written once for each revision, and never read back: `kubectl get secret frazil-secrets` shows the token to who may.
resource "kubernetes_secret_v1" "this" {
  metadata {
    name      = "frazil-secrets"
    namespace = kubernetes_namespace_v1.this.metadata[0].name
  }

  data_wo_revision = var.secrets_revision
  data_wo = merge(
    { for name, secret in ephemeral.random_password.secret : name => secret.result },
    var.store_options == null ? {} : { "store-options" = jsonencode(var.store_options) },
  )
}

resource "local_file" "overlay" {
  for_each = module.overlay.files

  filename             = "${local.folder}/${each.key}"
  content              = each.value
  file_permission      = "0644"
  directory_permission = "0755"
}

module "deployment" {
  source = "../deployment"

  command    = var.frazil_command
  kubeconfig = var.kubeconfig
  namespace  = var.namespace
  store_url  = var.store_url
  overlay    = local.folder
  revision   = sha256(join(" ", [module.overlay.digest, local.sources, var.secrets_revision]))

  depends_on = [local_file.overlay, kubernetes_secret_v1.this]
}
