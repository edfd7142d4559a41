# What the module plans, with a provider that asks nobody. What AWS would answer is tried against an emulator (tests/terraform).
mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:000000000000:events" }
  }
}

variables {
  name = "my-bucket"
}

run "a_bucket_is_private_encrypted_and_keeps_no_torn_uploads" {
  command = plan

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this[0].block_public_acls,
      aws_s3_bucket_public_access_block.this[0].block_public_policy,
      aws_s3_bucket_public_access_block.this[0].ignore_public_acls,
      aws_s3_bucket_public_access_block.this[0].restrict_public_buckets,
    ])
    error_message = "Something public is let through."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this.rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "Not encrypted."
  }

  assert {
    condition     = one(aws_s3_bucket_lifecycle_configuration.this.rule[0].abort_incomplete_multipart_upload).days_after_initiation == 1
    error_message = "Torn uploads stay."
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this.rule) == 1
    error_message = "Nothing is deleted unless it is asked for."
  }

  assert {
    condition     = length(aws_s3_bucket_notification.this) == 0 && output.queue_arn == null
    error_message = "Nobody is told unless it is asked for."
  }
}

run "the_exchange_of_a_store_is_deleted_after_a_day_and_nothing_beside_it" {
  command = plan

  variables {
    expire_days = { "frazil/exchange/" = 1 }
  }

  assert {
    condition     = one(aws_s3_bucket_lifecycle_configuration.this.rule[1].expiration).days == 1
    error_message = "The exchange stays."
  }

  assert {
    condition     = one(aws_s3_bucket_lifecycle_configuration.this.rule[1].filter).prefix == "frazil/exchange/"
    error_message = "Another prefix than the one that was named."
  }
}

run "with_a_queue_new_objects_of_the_prefixes_are_told_and_dead_letters_are_kept" {
  command = apply

  variables {
    notifications         = "sqs"
    notification_prefixes = ["in/", "more/"]
    notification_suffix   = ".parquet"
  }

  assert {
    condition     = [for each in aws_s3_bucket_notification.this[0].queue : each.filter_prefix] == ["in/", "more/"]
    error_message = "Other prefixes than those that were named."
  }

  assert {
    condition     = jsondecode(aws_sqs_queue_redrive_policy.events[0].redrive_policy).maxReceiveCount == 5
    error_message = "What can't be taken up would come for ever."
  }

  assert {
    condition     = !aws_s3_bucket_notification.this[0].eventbridge
    error_message = "Told twice."
  }
}

run "with_eventbridge_there_is_no_queue" {
  command = plan

  variables {
    notifications = "eventbridge"
  }

  assert {
    condition     = aws_s3_bucket_notification.this[0].eventbridge && length(aws_sqs_queue.events) == 0
    error_message = "A queue that nobody reads."
  }
}

run "a_key_of_ones_own_is_used_with_bucket_keys" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:000000000000:key/1"
  }

  assert {
    condition     = one(aws_s3_bucket_server_side_encryption_configuration.this.rule).bucket_key_enabled
    error_message = "Each object would be a request to KMS."
  }
}

run "a_store_that_is_not_aws_gets_only_what_speaks_s3" {
  command = plan

  variables {
    s3_compatible = true
    notifications = "sqs"
  }

  assert {
    condition     = length(aws_s3_bucket_public_access_block.this) + length(aws_s3_bucket_policy.tls_only) + length(aws_sqs_queue.events) == 0
    error_message = "Asked for what only AWS has."
  }
}

run "a_prefix_without_a_slash_is_refused" {
  command = plan

  variables {
    expire_days = { "frazil/exchange" = 1 }
  }

  expect_failures = [var.expire_days]
}

run "names_keys_and_listeners_that_do_not_exist_are_refused" {
  command = plan

  variables {
    name          = "My_Bucket"
    kms_key_arn   = "alias/mine"
    notifications = "sns"
  }

  expect_failures = [var.name, var.kms_key_arn, var.notifications]
}
