"""The policies of `make policy` find what they are for. Skipped where that never installed checkov."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from support.crd import REPOSITORY
from support.kustomize import kustomized
from support.policies import as_pods, failed

CHECKOV = REPOSITORY / ".policy" / "bin" / "checkov"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHECKOV.exists(), reason="checkov is not here: `make policy` installs it into .policy"),
]


def test_a_container_with_more_rights_is_found(tmp_path: Path) -> None:
    resources = as_pods(kustomized(REPOSITORY / "knative" / "overlays" / "local"))
    (function,) = [
        each for each in resources if each["metadata"]["name"] == "frazil-function-small" and each["kind"] == "Pod"
    ]
    context = function["spec"]["containers"][0]["securityContext"]
    context["privileged"], context["readOnlyRootFilesystem"] = True, False
    (tmp_path / "local.yaml").write_text(yaml.safe_dump_all(resources))
    found = failed(str(CHECKOV), tmp_path, "kubernetes")
    assert {each.partition(" ")[0] for each in found} == {"CKV_K8S_16", "CKV_K8S_22"}


def test_a_bucket_that_is_public_and_a_cluster_that_is_not_encrypted_are_found(tmp_path: Path) -> None:
    for module in ("bucket", "aws"):
        shutil.copytree(REPOSITORY / "terraform" / "modules" / module, tmp_path / module)
    bucket, cluster = tmp_path / "bucket" / "main.tf", tmp_path / "aws" / "main.tf"
    bucket.write_text(bucket.read_text().replace("block_public_acls       = true", "block_public_acls       = false"))
    cluster.write_text(cluster.read_text().replace('resources = ["secrets"]', "resources = []"))
    found = {each.partition(" ")[0] for each in failed(str(CHECKOV), tmp_path, "terraform")}
    assert {"CKV_AWS_53", "CKV_AWS_58"} <= found
