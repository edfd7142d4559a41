output "name" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.this.id
}

output "arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.this.arn
}

output "url" {
  description = "The bucket as Frazil and Polars name it."
  value       = "s3://${aws_s3_bucket.this.id}"
}

output "queue_arn" {
  description = "ARN of the queue of notifications; null without one."
  value       = one(aws_sqs_queue.events[*].arn)
}

output "queue_url" {
  description = "URL of the queue of notifications; null without one."
  value       = one(aws_sqs_queue.events[*].url)
}

output "dead_letter_queue_arn" {
  description = "ARN of the queue of what could not be taken up; null without one."
  value       = one(aws_sqs_queue.dead_letters[*].arn)
}
