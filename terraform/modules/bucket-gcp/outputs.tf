output "name" {
  description = "Name of the bucket."
  value       = google_storage_bucket.this.name
}

output "url" {
  description = "The bucket as Frazil and Polars name it."
  value       = google_storage_bucket.this.url
}

output "topic" {
  description = "Topic of notifications; null without one."
  value       = one(google_pubsub_topic.events[*].id)
}

output "subscription" {
  description = "Subscription of notifications; null without one."
  value       = one(google_pubsub_subscription.events[*].id)
}
