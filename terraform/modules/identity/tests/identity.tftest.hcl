# What the module plans, with a provider that asks nobody. The documents of policies are looked at before they become JSON.
mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  oidc_provider_arn = "arn:aws:iam::000000000000:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/ABC"
  store             = { bucket_arn = "arn:aws:s3:::store", prefix = "frazil/" }
}

run "each_role_is_for_one_service_account_of_one_namespace" {
  command = plan

  variables {
    namespace = "queries"
  }

  assert {
    condition = { for each in data.aws_iam_policy_document.trust["function"].statement[0].condition : each.variable => join(",", each.values) } == {
      "oidc.eks.eu-central-1.amazonaws.com/id/ABC:sub" = "system:serviceaccount:queries:frazil-function"
      "oidc.eks.eu-central-1.amazonaws.com/id/ABC:aud" = "sts.amazonaws.com"
    }
    error_message = "Others could take the role."
  }

  assert {
    condition     = keys(output.role_names) == ["frazil-coordinator", "frazil-function"]
    error_message = "A role that nobody asked for."
  }
}

run "without_data_only_the_store_below_its_prefix_can_be_reached" {
  command = plan

  assert {
    condition     = flatten(data.aws_iam_policy_document.storage["function"].statement[*].resources) == ["arn:aws:s3:::store/frazil/*", "arn:aws:s3:::store"]
    error_message = "More than the store."
  }

  assert {
    condition     = [for each in data.aws_iam_policy_document.storage["coordinator"].statement[1].condition : "${each.test} ${each.variable} ${join(",", each.values)}"] == ["StringLike s3:prefix frazil/*"]
    error_message = "All of the bucket can be listed."
  }
}

run "data_is_read_where_it_is_read_and_written_where_it_is_written" {
  command = plan

  variables {
    data       = [{ bucket_arn = "arn:aws:s3:::lake", read_prefixes = ["raw/"], write_prefixes = ["out/"] }]
    queue_arns = ["arn:aws:sqs:eu-central-1:000000000000:events"]
  }

  assert {
    condition     = [for each in data.aws_iam_policy_document.storage["function"].statement : each.resources if each.sid == "DataRead"] == [toset(["arn:aws:s3:::lake/raw/*", "arn:aws:s3:::lake/out/*"])]
    error_message = "Reads more or less than was named."
  }

  assert {
    condition     = [for each in data.aws_iam_policy_document.storage["function"].statement : each.resources if each.sid == "DataWrite"] == [toset(["arn:aws:s3:::lake/out/*"])]
    error_message = "Writes where it may only read."
  }

  assert {
    condition     = contains(keys(output.role_names), "frazil-source-sqs")
    error_message = "Nobody reads the queue."
  }
}

run "no_statement_gives_every_action_or_every_resource" {
  command = plan

  variables {
    data         = [{ bucket_arn = "arn:aws:s3:::lake", read_prefixes = [""] }]
    kms_key_arns = ["arn:aws:kms:eu-central-1:000000000000:key/1"]
    queue_arns   = ["arn:aws:sqs:eu-central-1:000000000000:events"]
  }

  assert {
    condition = alltrue(flatten([
      for document in concat(values(data.aws_iam_policy_document.storage), data.aws_iam_policy_document.queue) : [
        for statement in document.statement : [for word in concat(tolist(statement.resources), tolist(statement.actions)) : word != "*" && !endswith(word, ":*")]
      ]
    ]))
    error_message = "A right to everything."
  }
}

run "prefixes_without_a_slash_are_refused" {
  command = plan

  variables {
    store = { bucket_arn = "arn:aws:s3:::store", prefix = "frazil" }
    data  = [{ bucket_arn = "arn:aws:s3:::lake", read_prefixes = ["raw"] }]
  }

  expect_failures = [var.store, var.data]
}

run "what_is_no_provider_of_a_cluster_is_refused" {
  command = plan

  variables {
    oidc_provider_arn = "https://oidc.eks.eu-central-1.amazonaws.com/id/ABC"
  }

  expect_failures = [var.oidc_provider_arn]
}
