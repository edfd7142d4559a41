# What the module plans, with a provider that asks nobody.
mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-central-1a", "eu-central-1b", "eu-central-1c"] }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "000000000000" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

run "functions_have_spot_nodes_from_none_that_only_they_take" {
  command = plan

  assert {
    condition     = aws_eks_node_group.functions["functions"].capacity_type == "SPOT"
    error_message = "Functions are paid for as if they could not run again."
  }

  assert {
    condition     = aws_eks_node_group.functions["functions"].scaling_config[0].min_size == 0 && aws_eks_node_group.functions["functions"].scaling_config[0].desired_size == 0
    error_message = "Nodes are paid for while idle."
  }

  assert {
    condition     = one(aws_eks_node_group.functions["functions"].taint) == { effect = "NO_SCHEDULE", key = "frazil.dev/functions", value = "true" }
    error_message = "Other pods would hold the pool's nodes."
  }

  assert {
    condition     = aws_eks_node_group.system.capacity_type == "ON_DEMAND" && aws_eks_node_group.system.scaling_config[0].min_size == 2
    error_message = "The coordinator would lose its node."
  }

  assert {
    condition     = length([for each in aws_autoscaling_group_tag.scale_from_zero : each if strcontains(each.tag[0].key, "ephemeral-storage")]) == 1
    error_message = "An empty pool would never start: functions ask for ephemeral storage."
  }
}

run "each_zone_has_a_private_and_a_public_subnet_that_do_not_overlap" {
  command = plan

  assert {
    condition     = [for each in aws_subnet.private : each.cidr_block] == ["10.40.0.0/19", "10.40.32.0/19", "10.40.64.0/19"]
    error_message = "Private subnets are not where they were."
  }

  assert {
    condition     = [for each in aws_subnet.public : each.cidr_block] == ["10.40.192.0/22", "10.40.196.0/22", "10.40.200.0/22"]
    error_message = "Public subnets are not where they were."
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 1
    error_message = "One gateway unless more are asked for."
  }
}

run "a_gateway_a_zone_when_it_is_asked_for" {
  command = plan

  variables {
    single_nat_gateway = false
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3
    error_message = "A lost zone would take the others' way out along."
  }
}

run "the_api_server_is_private_unless_somebody_is_named" {
  command = plan

  assert {
    condition     = !aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].endpoint_private_access
    error_message = "The API server is open."
  }
}

run "who_is_named_reaches_the_api_server_and_no_one_else" {
  command = plan

  variables {
    public_access_cidrs  = ["203.0.113.7/32"]
    admin_principal_arns = ["arn:aws:iam::000000000000:role/admin"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.7/32"])
    error_message = "Others than those that are named."
  }

  assert {
    condition     = length(aws_eks_access_entry.admin) == 1
    error_message = "Who was named does not administer."
  }
}

run "pods_do_not_get_the_identity_of_their_node_and_disks_are_encrypted" {
  command = plan

  assert {
    condition     = alltrue([for each in aws_launch_template.node : each.metadata_options[0].http_tokens == "required" && each.metadata_options[0].http_put_response_hop_limit == 1])
    error_message = "Pods reach the metadata of their node."
  }

  assert {
    condition     = alltrue([for each in aws_launch_template.node : each.block_device_mappings[0].ebs[0].encrypted == "true"])
    error_message = "Disks in the clear."
  }
}

run "a_tag_of_an_image_is_never_given_twice" {
  command = plan

  assert {
    condition     = alltrue([for each in aws_ecr_repository.this : each.image_tag_mutability == "IMMUTABLE"])
    error_message = "What a query ran with could be overwritten."
  }
}

run "what_can_not_work_is_refused_before_anything_is_made" {
  command = plan

  variables {
    kubernetes_version  = "1.30"
    vpc_cidr            = "10.0.0.0/24"
    zones               = ["eu-central-1a"]
    public_access_cidrs = ["anybody"]
    function_pools      = { functions = { instance_types = [], max = 0 } }
  }

  expect_failures = [var.kubernetes_version, var.vpc_cidr, var.zones, var.public_access_cidrs, var.function_pools]
}
