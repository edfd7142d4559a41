# The files that the module yields; rendered by kustomize and checked against the schemas in tests/terraform.
variables {
  store_url = "s3://my-bucket/frazil"
  images = {
    coordinator = "registry.example:5000/frazil-coordinator:0.1.0"
    function    = "registry.example:5000/frazil-function:0.1.0"
  }
}

run "images_are_named_by_repository_and_tag" {
  command = plan

  assert {
    condition     = yamldecode(output.files["kustomization.yaml"]).images[0] == { name = "frazil-coordinator", newName = "registry.example:5000/frazil-coordinator", newTag = "0.1.0" }
    error_message = "The port was taken for a tag."
  }
}

run "tasks_in_flight_follow_the_number_of_functions" {
  command = plan

  variables {
    max_scale = { small = 20 }
  }

  assert {
    condition     = yamldecode(output.files["settings.yaml"]).data["max-in-flight"] == "18"
    error_message = "Not 0.9 of the functions."
  }
}

run "tasks_in_flight_stay_below_what_an_ingress_takes" {
  command = plan

  variables {
    max_scale = { small = 1000 }
  }

  assert {
    condition     = yamldecode(output.files["settings.yaml"]).data["max-in-flight"] == "800"
    error_message = "More than an ingress takes."
  }
}

run "what_can_not_work_is_refused" {
  command = plan

  variables {
    store_url  = "my-bucket"
    images     = { coordinator = "frazil-coordinator:latest", function = "frazil-function" }
    components = ["seaweedfs", "network-policies", "source-sqs"]
    settings   = { split_target_bytes = "1" }
    max_scale  = { small = 1 }
  }

  expect_failures = [var.store_url, var.images, var.components, var.settings, var.max_scale]
}
