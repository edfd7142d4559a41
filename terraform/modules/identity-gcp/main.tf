# Accounts of Google for the service accounts of Frazil (Workload Identity): each may do what its pods do, below the prefixes that are named.

locals {
  accounts = { coordinator = "frazil-coordinator", function = "frazil-function" }

  grants = merge([
    for account in keys(local.accounts) : merge(
      { "${account} store" = { account = account, bucket = var.store.bucket, prefix = var.store.prefix, role = "roles/storage.objectUser" } },
      merge([for each in var.data : { for prefix in each.read_prefixes :
        "${account} read ${each.bucket}/${prefix}" => { account = account, bucket = each.bucket, prefix = prefix, role = "roles/storage.objectViewer" }
      }]...),
      merge([for each in var.data : { for prefix in each.write_prefixes :
        "${account} write ${each.bucket}/${prefix}" => { account = account, bucket = each.bucket, prefix = prefix, role = "roles/storage.objectUser" }
      }]...),
    )
  ]...)
}

resource "google_service_account" "this" {
  for_each = local.accounts

  project      = var.project
  account_id   = "${var.name}-${each.key}"
  display_name = "Service account ${each.value} in namespace ${var.namespace}"
}

resource "google_service_account_iam_member" "workload_identity" {
  for_each = local.accounts

  service_account_id = google_service_account.this[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/${each.value}]"
}

# Objects by their name, listings by the prefix that they ask for.
resource "google_storage_bucket_iam_member" "this" {
  for_each = local.grants

  bucket = each.value.bucket
  role   = each.value.role
  member = "serviceAccount:${google_service_account.this[each.value.account].email}"

  dynamic "condition" {
    for_each = each.value.prefix == "" ? [] : [each.value.prefix]

    content {
      title = "Below ${condition.value}"

      expression = join(" || ", [
        "resource.name.startsWith('projects/_/buckets/${each.value.bucket}/objects/${condition.value}')",
        "api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('${condition.value}')",
      ])
    }
  }
}
