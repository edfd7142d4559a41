# Everything on Google Cloud from nothing: network, cluster, buckets, identities, Knative, Frazil.

provider "google" {
  project = var.project
  region  = var.region
}

data "google_client_config" "here" {}

provider "helm" {
  kubernetes = {
    host                   = "https://${module.gcp.cluster_endpoint}"
    cluster_ca_certificate = base64decode(module.gcp.cluster_certificate_authority_data)
    token                  = data.google_client_config.here.access_token
  }
}

provider "kubernetes" {
  host                   = "https://${module.gcp.cluster_endpoint}"
  cluster_ca_certificate = base64decode(module.gcp.cluster_certificate_authority_data)
  token                  = data.google_client_config.here.access_token
}

module "gcp" {
  source = "../../modules/gcp"

  project             = var.project
  region              = var.region
  name                = var.name
  authorized_networks = var.authorized_networks
}

module "store" {
  source = "../../modules/bucket-gcp"

  project     = var.project
  location    = var.region
  name        = "${var.bucket_prefix}-store"
  expire_days = { "frazil/exchange/" = 1 }
}

module "data" {
  source = "../../modules/bucket-gcp"

  project    = var.project
  location   = var.region
  name       = "${var.bucket_prefix}-data"
  versioning = true
}

module "identity" {
  source = "../../modules/identity-gcp"

  project = var.project
  name    = var.name
  store   = { bucket = module.store.name, prefix = "frazil/" }
  data    = [{ bucket = module.data.name, read_prefixes = [""], write_prefixes = ["results/"] }]

  # The pool of identities comes with the cluster.
  depends_on = [module.gcp]
}

module "knative" {
  source = "../../modules/knative"

  # GKE brings its own autoscaler of nodes.
  depends_on = [module.gcp]
}

module "frazil" {
  source = "../../modules/frazil"

  store_url   = "${module.store.url}/frazil"
  annotations = { for account, email in module.identity.emails : account => { "iam.gke.io/gcp-service-account" = email } }
  components  = ["network-policies", "prescale", "gke-metadata", "quotas", "priority-classes", "spot", "zone-spread", "prepull"]

  images = {
    coordinator = "${module.gcp.repository_url}/frazil-coordinator:${var.image_tag}"
    function    = "${module.gcp.repository_url}/frazil-function:${var.image_tag}"
  }

  depends_on = [module.knative]
}
