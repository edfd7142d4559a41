# Knative by its operator, with Kourier, set up for Frazil. Two charts: the operator's own, which brings the kinds KnativeServing and KnativeEventing, and one
# beside this file with a resource of each, since a provider can't plan a kind that is not there yet.

locals {
  # What Frazil counts on (docs/deploy.md, docs/terraform.md).
  config = {
    network  = { "ingress-class" = "kourier.ingress.networking.knative.dev" }
    features = var.feature_flags
    defaults = {
      "max-revision-timeout-seconds" = tostring(var.max_timeout_seconds)
    }
    autoscaler = {
      "enable-scale-to-zero" = "true"
      # A pod that is not needed any more goes soon; what a service asks for by scale-down-delay comes before.
      "scale-to-zero-grace-period" = "30s"
    }
    deployment = {
      # A pod that waits for a new node is no failed deployment: spot nodes take minutes.
      "progress-deadline" = "1200s"
    }
  }

  names = setunion(keys(local.config), keys(var.serving_config))

  serving = {
    version             = var.knative_version
    "high-availability" = { replicas = var.replicas }
    ingress             = { kourier = { enabled = true, "service-type" = var.ingress_service_type } }
    config              = { for name in local.names : name => merge(lookup(local.config, name, {}), lookup(var.serving_config, name, {})) }
  }

  eventing = {
    version             = var.knative_version
    "high-availability" = { replicas = var.replicas }
  }
}

resource "helm_release" "operator" {
  name             = "knative-operator"
  namespace        = "knative-operator"
  create_namespace = true
  repository       = "https://knative.github.io/operator"
  chart            = "knative-operator"
  version          = var.operator_version
  atomic           = true
  timeout          = var.timeout_seconds
}

resource "helm_release" "knative" {
  name      = "knative"
  namespace = "knative-operator"
  chart     = "${path.module}/charts/knative"
  timeout   = var.timeout_seconds

  values = [yamlencode({
    serving  = local.serving
    eventing = var.eventing ? local.eventing : null
  })]

  depends_on = [helm_release.operator]
}

resource "helm_release" "cluster_autoscaler" {
  count = var.cluster_autoscaler == null ? 0 : 1

  name       = "cluster-autoscaler"
  namespace  = "kube-system"
  repository = "https://kubernetes.github.io/autoscaler"
  chart      = "cluster-autoscaler"
  version    = var.cluster_autoscaler.chart_version
  atomic     = true
  timeout    = var.timeout_seconds

  values = [yamlencode({
    autoDiscovery = { clusterName = var.cluster_autoscaler.cluster_name }
    awsRegion     = var.cluster_autoscaler.region
    rbac = {
      serviceAccount = {
        name        = "cluster-autoscaler"
        annotations = { "eks.amazonaws.com/role-arn" = var.cluster_autoscaler.role_arn }
      }
    }
    nodeSelector = { "frazil.dev/pool" = "system" }
    extraArgs = {
      # The cheapest way to room for the pods that wait, and nodes that go soon after the last function.
      expander                        = "least-waste"
      "scale-down-unneeded-time"      = "5m"
      "scale-down-delay-after-add"    = "5m"
      "skip-nodes-with-local-storage" = false
    }
  })]
}
