# Everything on AWS from nothing: network, cluster, buckets, identities, Knative, Frazil, and notifications of new objects.

provider "aws" {
  region = var.region
}

locals {
  credentials = {
    api_version = "client.authentication.k8s.io/v1beta1"
    command     = "aws"
    args        = ["eks", "get-token", "--region", var.region, "--cluster-name", module.aws.cluster_name]
  }
}

provider "helm" {
  kubernetes = {
    host                   = module.aws.cluster_endpoint
    cluster_ca_certificate = base64decode(module.aws.cluster_certificate_authority_data)
    exec                   = local.credentials
  }
}

provider "kubernetes" {
  host                   = module.aws.cluster_endpoint
  cluster_ca_certificate = base64decode(module.aws.cluster_certificate_authority_data)

  exec {
    api_version = local.credentials.api_version
    command     = local.credentials.command
    args        = local.credentials.args
  }
}

module "aws" {
  source = "../../modules/aws"

  name                = var.name
  public_access_cidrs = var.public_access_cidrs
  tags                = var.tags
}

module "store" {
  source = "../../modules/bucket"

  name        = "${var.bucket_prefix}-store"
  expire_days = { "frazil/exchange/" = 1 }
  tags        = var.tags
}

module "data" {
  source = "../../modules/bucket"

  name                  = "${var.bucket_prefix}-data"
  versioning            = true
  notifications         = "sqs"
  notification_prefixes = ["incoming/"]
  tags                  = var.tags
}

module "identity" {
  source = "../../modules/identity"

  name              = var.name
  oidc_provider_arn = module.aws.oidc_provider_arn
  store             = { bucket_arn = module.store.arn, prefix = "frazil/" }
  data              = [{ bucket_arn = module.data.arn, read_prefixes = [""], write_prefixes = ["results/"] }]
  queue_arns        = [module.data.queue_arn]
  tags              = var.tags
}

module "knative" {
  source = "../../modules/knative"

  cluster_autoscaler = {
    cluster_name = module.aws.cluster_name
    region       = var.region
    role_arn     = module.aws.cluster_autoscaler_role_arn
  }
}

module "frazil" {
  source = "../../modules/frazil"

  store_url   = "${module.store.url}/frazil"
  annotations = { for account, arn in module.identity.role_arns : account => { "eks.amazonaws.com/role-arn" = arn } }
  components  = ["network-policies", "prescale", "quotas", "priority-classes", "spot", "zone-spread", "prepull", "eventing", "source-sqs"]
  queue       = { arn = module.data.queue_arn, region = var.region }

  images = {
    coordinator = "${module.aws.repository_urls["frazil-coordinator"]}:${var.image_tag}"
    function    = "${module.aws.repository_urls["frazil-function"]}:${var.image_tag}"
  }

  depends_on = [module.knative]
}
