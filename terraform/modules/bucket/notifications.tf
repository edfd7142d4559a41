# New objects are told to a queue, or to EventBridge. What the queue's reader could not take up five times goes to a second queue, and not away.

resource "aws_sqs_queue" "dead_letters" {
  count = local.queue

  name                      = "${replace(var.name, ".", "-")}-events-dead"
  message_retention_seconds = 14 * 24 * 3600
  sqs_managed_sse_enabled   = true
  tags                      = var.tags
}

resource "aws_sqs_queue" "events" {
  count = local.queue

  name                       = "${replace(var.name, ".", "-")}-events"
  message_retention_seconds  = 4 * 24 * 3600
  receive_wait_time_seconds  = 20
  visibility_timeout_seconds = 120
  sqs_managed_sse_enabled    = true
  tags                       = var.tags
}

resource "aws_sqs_queue_redrive_policy" "events" {
  count = local.queue

  queue_url = aws_sqs_queue.events[0].id

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters[0].arn
    maxReceiveCount     = 5
  })
}

data "aws_caller_identity" "current" {
  count = local.queue
}

data "aws_iam_policy_document" "events" {
  count = local.queue

  statement {
    sid       = "OnlyTheBucketOfThisAccountSends"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.events[0].arn]

    principals {
      type        = "Service"
      identifiers = ["s3.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_s3_bucket.this.arn]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current[0].account_id]
    }
  }
}

resource "aws_sqs_queue_policy" "events" {
  count = local.queue

  queue_url = aws_sqs_queue.events[0].id
  policy    = data.aws_iam_policy_document.events[0].json
}

resource "aws_s3_bucket_notification" "this" {
  count = local.queue + local.events

  bucket      = aws_s3_bucket.this.id
  eventbridge = local.events == 1

  dynamic "queue" {
    for_each = local.queue == 0 ? [] : length(var.notification_prefixes) == 0 ? [""] : sort(var.notification_prefixes)

    content {
      queue_arn     = aws_sqs_queue.events[0].arn
      events        = ["s3:ObjectCreated:*"]
      filter_prefix = queue.value
      filter_suffix = var.notification_suffix
    }
  }

  # S3 tries the queue when it is named.
  depends_on = [aws_sqs_queue_policy.events]
}
