# One bucket of Cloud Storage: for data, or as the store of Frazil. Private, and one rule of access for all objects.

resource "google_storage_bucket" "this" {
  # checkov:skip=CKV_GCP_78:versioning is asked for by data buckets; a store names each object once
  project                     = var.project
  name                        = var.name
  location                    = var.location
  force_destroy               = var.force_destroy
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  labels                      = var.labels

  versioning {
    enabled = var.versioning
  }

  # Without it each object that is deleted would be kept, and paid for, for a week.
  soft_delete_policy {
    retention_duration_seconds = var.versioning ? 604800 : 0
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }

    condition {
      age = var.abort_multipart_days
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.expire_days

    content {
      action {
        type = "Delete"
      }

      condition {
        age            = lifecycle_rule.value
        matches_prefix = [lifecycle_rule.key]
      }
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      default_kms_key_name = encryption.value
    }
  }

  dynamic "logging" {
    for_each = var.access_log_bucket == null ? [] : [var.access_log_bucket]

    content {
      log_bucket        = logging.value
      log_object_prefix = var.name
    }
  }
}

data "google_storage_project_service_account" "this" {
  count = var.notifications ? 1 : 0

  project = var.project
}

resource "google_pubsub_topic" "events" {
  count = var.notifications ? 1 : 0

  project = var.project
  name    = "${var.name}-events"
  labels  = var.labels
}

resource "google_pubsub_topic_iam_member" "events" {
  count = var.notifications ? 1 : 0

  project = var.project
  topic   = google_pubsub_topic.events[0].name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.this[0].email_address}"
}

resource "google_pubsub_subscription" "events" {
  count = var.notifications ? 1 : 0

  project                    = var.project
  name                       = "${var.name}-events"
  topic                      = google_pubsub_topic.events[0].id
  ack_deadline_seconds       = 120
  message_retention_duration = "604800s"
  labels                     = var.labels
}

resource "google_storage_notification" "this" {
  count = var.notifications ? 1 : 0

  bucket         = google_storage_bucket.this.name
  topic          = google_pubsub_topic.events[0].id
  payload_format = "JSON_API_V1"
  event_types    = ["OBJECT_FINALIZE"]

  depends_on = [google_pubsub_topic_iam_member.events]
}
