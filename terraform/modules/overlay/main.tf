# The files of an overlay of knative/, as text: no provider, nothing is made. The module frazil writes and applies them.

locals {
  images = { for name, image in var.images : name => regex("^(?P<repository>.+):(?P<tag>[^:/]+)$", image) }

  accounts = { for account, annotations in var.annotations : account => annotations if length(annotations) > 0 }

  patches = merge(
    {
      "settings.yaml" = {
        apiVersion = "v1"
        kind       = "ConfigMap"
        metadata   = { name = "frazil-settings" }
        data = {
          namespace   = var.namespace
          "store-url" = var.store_url
          # 0.9 of the functions, so that a retry finds one; an ingress overflows at 1,024.
          "max-in-flight" = tostring(min(800, floor(0.9 * var.max_scale.small)))
        }
      }
    },
    length(var.settings) == 0 ? {} : {
      "knobs.yaml" = {
        apiVersion = "v1"
        kind       = "ConfigMap"
        metadata   = { name = "frazil-knobs" }
        data       = var.settings
      }
    },
    { for account, annotations in local.accounts : "serviceaccount-${account}.yaml" => {
      apiVersion = "v1"
      kind       = "ServiceAccount"
      metadata   = { name = account, annotations = annotations }
    } },
    { for size, pods in { small = var.max_scale.small, large = var.max_scale.large } : "function-${size}.yaml" => {
      apiVersion                = "serving.knative.dev/v1"
      kind                      = "Service"
      metadata                  = { name = "frazil-function-${size}" }
      spec                      = { template = { metadata = { annotations = { "autoscaling.knative.dev/max-scale" = tostring(pods) } } } }
    } },
    var.queue == null ? {} : {
      "integrationsource.yaml" = {
        apiVersion = "sources.knative.dev/v1alpha1"
        kind       = "IntegrationSource"
        metadata   = { name = "frazil-sqs" }
        spec       = { aws = { sqs = { arn = var.queue.arn, region = var.queue.region } } }
      }
    },
  )

  kustomization = {
    apiVersion = "kustomize.config.k8s.io/v1beta1"
    kind       = "Kustomization"
    namespace  = var.namespace
    resources  = ["../../base"]
    components = [for name in var.components : "../../components/${name}"]
    images = [for name, image in local.images : {
      name    = "frazil-${name}"
      newName = image.repository
      newTag  = image.tag
    }]
    patches = [for name in sort(keys(local.patches)) : { path = name }]
  }
}
