# Frazil in a cluster that is there, of any cloud or none, with a store that is there.

provider "helm" {
  kubernetes = {
    config_path = var.kubeconfig
  }
}

provider "kubernetes" {
  config_path = var.kubeconfig
}

module "knative" {
  source = "../../modules/knative"
  count  = var.install_knative ? 1 : 0
}

module "frazil" {
  source = "../../modules/frazil"

  store_url     = var.store_url
  store_options = var.store_options
  images        = var.images
  components    = var.components
  kubeconfig    = pathexpand(var.kubeconfig)

  depends_on = [module.knative]
}
