# IAM roles for the service accounts of Frazil (IRSA): each may do what its pods do, below the prefixes that are named, and nothing else.

locals {
  issuer = regex("oidc-provider/(.+)$", var.oidc_provider_arn)[0]

  accounts = merge(
    { coordinator = "frazil-coordinator", function = "frazil-function" },
    length(var.queue_arns) == 0 ? {} : { source-sqs = "frazil-source-sqs" },
  )

  readers = { for account, name in local.accounts : account => name if account != "source-sqs" }

  reads  = [for each in var.data : { bucket_arn = each.bucket_arn, prefixes = distinct(concat(each.read_prefixes, each.write_prefixes)) }]
  writes = [for each in var.data : { bucket_arn = each.bucket_arn, prefixes = each.write_prefixes } if length(each.write_prefixes) > 0]
}

data "aws_iam_policy_document" "trust" {
  for_each = local.accounts

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:sub"
      values   = ["system:serviceaccount:${var.namespace}:${each.value}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each = local.accounts

  name                 = "${var.name}-${each.key}"
  description          = "Service account ${each.value} in namespace ${var.namespace}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

# Both roles: the coordinator plans (lists, reads footers), commits and cleans up; functions read, write, and take back what they began to write.
data "aws_iam_policy_document" "storage" {
  for_each = local.readers

  statement {
    sid       = "StoreObjects"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    resources = ["${var.store.bucket_arn}/${var.store.prefix}*"]
  }

  statement {
    sid       = "StoreList"
    actions   = ["s3:ListBucket"]
    resources = [var.store.bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${var.store.prefix}*"]
    }
  }

  dynamic "statement" {
    for_each = length(local.reads) == 0 ? [] : [1]

    content {
      sid       = "DataRead"
      actions   = ["s3:GetObject"]
      resources = flatten([for each in local.reads : [for prefix in each.prefixes : "${each.bucket_arn}/${prefix}*"]])
    }
  }

  dynamic "statement" {
    for_each = local.reads

    content {
      sid       = "DataList${statement.key}"
      actions   = ["s3:ListBucket"]
      resources = [statement.value.bucket_arn]

      condition {
        test     = "StringLike"
        variable = "s3:prefix"
        values   = [for prefix in statement.value.prefixes : "${prefix}*"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(local.writes) == 0 ? [] : [1]

    content {
      sid       = "DataWrite"
      actions   = ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
      resources = flatten([for each in local.writes : [for prefix in each.prefixes : "${each.bucket_arn}/${prefix}*"]])
    }
  }

  dynamic "statement" {
    for_each = length(var.kms_key_arns) == 0 ? [] : [1]

    content {
      sid       = "Keys"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = var.kms_key_arns
    }
  }
}

resource "aws_iam_role_policy" "storage" {
  for_each = local.readers

  name   = "storage"
  role   = aws_iam_role.this[each.key].id
  policy = data.aws_iam_policy_document.storage[each.key].json
}

data "aws_iam_policy_document" "queue" {
  count = length(var.queue_arns) == 0 ? 0 : 1

  statement {
    sid       = "TakeNotifications"
    actions   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
    resources = var.queue_arns
  }
}

resource "aws_iam_role_policy" "queue" {
  count = length(var.queue_arns) == 0 ? 0 : 1

  name   = "queue"
  role   = aws_iam_role.this["source-sqs"].id
  policy = data.aws_iam_policy_document.queue[0].json
}
