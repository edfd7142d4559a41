"""What terraform deploys: the overlay that it writes, rendered and checked, and when it calls the command.

Needs no provider. Skipped where terraform is not on the machine.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from frazil_coordinator.settings import Settings
from support.crd import REPOSITORY
from support.kustomize import kustomized
from support.manifests import flags, schema_problems
from support.references import reference_problems
from support.terraform import MODULES, Terraform

ALL_COMPONENTS: Final = [
    "network-policies", "prescale", "quotas", "priority-classes", "spot", "zone-spread", "prepull",
    "eventing", "source-sqs", "otel",
]  # fmt: skip
ON_AWS: Final[dict[str, Any]] = {
    "namespace": "queries",
    "store_url": "s3://acme-store/frazil",
    "images": {
        "coordinator": "acme.example:5000/frazil-coordinator:0.2.0",
        "function": "acme.example/frazil-function:0.2.0",
    },
    "components": ALL_COMPONENTS,
    "annotations": {
        "frazil-coordinator": {"eks.amazonaws.com/role-arn": "arn:aws:iam::000000000000:role/frazil-coordinator"}
    },
    "max_scale": {"small": 20, "large": 2},
    "settings": {"FRAZIL_SPLIT_TARGET_BYTES": "67108864"},
    "queue": {"arn": "arn:aws:sqs:eu-west-1:000000000000:events", "region": "eu-west-1"},
}


def configured(folder: Path, module: str, arguments: dict[str, Any], outputs: tuple[str, ...]) -> Terraform:
    """Return terraform in a folder whose configuration calls one module."""
    folder.mkdir(exist_ok=True)
    call = {"module": {"it": {"source": str(MODULES / module), **arguments}}}
    shown = {"output": {name: {"value": f"${{module.it.{name}}}"} for name in outputs}}
    (folder / "main.tf.json").write_text(json.dumps({**call, **shown}))
    return Terraform(folder=folder)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The overlay of ``ON_AWS`` as terraform yields it and kustomize renders it."""
    folder = tmp_path_factory.mktemp("terraform")
    terraform = configured(folder / "configuration", "overlay", ON_AWS, ("files", "digest"))
    terraform.init()
    terraform.apply()
    shutil.copytree(REPOSITORY / "knative", folder / "knative")
    overlay = folder / "knative" / "overlays" / "terraform-queries"
    overlay.mkdir()
    for name, text in terraform.outputs()["files"].items():
        (overlay / name).write_text(text)
    return kustomized(overlay)


def find(resources: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def test_the_overlay_is_valid_and_refers_to_nothing_that_is_not_there(written: list[dict[str, Any]]) -> None:
    assert [problem for each in written for problem in schema_problems(each)] == []
    assert reference_problems(written) == []


def test_the_overlay_needs_no_flag_that_the_module_knative_does_not_switch_on(written: list[dict[str, Any]]) -> None:
    text = (MODULES / "knative" / "variables.tf").read_text()
    assert [flag for flag in flags(written) if f'"{flag}"' not in text] == []


def test_the_overlay_has_the_images_identities_sizes_and_settings_that_it_was_given(written: list[dict[str, Any]]) -> None:
    images = {
        name: find(written, "Service", name)["spec"]["template"]["spec"]["containers"][0]["image"]
        for name in ("frazil-coordinator", "frazil-function-small", "frazil-function-large")
    }
    assert images["frazil-coordinator"] == ON_AWS["images"]["coordinator"]
    assert images["frazil-function-small"] == images["frazil-function-large"] == ON_AWS["images"]["function"]
    account = find(written, "ServiceAccount", "frazil-coordinator")
    assert account["metadata"]["annotations"] == ON_AWS["annotations"]["frazil-coordinator"]
    settings = find(written, "ConfigMap", "frazil-settings")["data"]
    assert (settings["namespace"], settings["store-url"], settings["max-in-flight"]) == (
        "queries",
        "s3://acme-store/frazil",
        "18",
    )
    assert Settings.from_env(find(written, "ConfigMap", "frazil-knobs")["data"]).split_target_bytes == 67108864
    for size, pods in ON_AWS["max_scale"].items():
        scaling = find(written, "Service", f"frazil-function-{size}")["spec"]["template"]["metadata"]["annotations"]
        assert scaling["autoscaling.knative.dev/max-scale"] == str(pods)
        assert scaling["autoscaling.knative.dev/target-utilization-percentage"] == "70"
    sqs = find(written, "IntegrationSource", "frazil-sqs")["spec"]["aws"]["sqs"]
    assert (sqs["arn"], sqs["region"], sqs["deleteAfterRead"]) == (
        "arn:aws:sqs:eu-west-1:000000000000:events",
        "eu-west-1",
        True,
    )


def test_the_modules_own_tests_pass(tmp_path: Path) -> None:
    shutil.copytree(MODULES / "overlay", tmp_path / "overlay")
    terraform = Terraform(folder=tmp_path / "overlay")
    terraform.init()
    assert "4 passed, 0 failed" in terraform.run("test").stdout


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """A command ``frazil`` that writes down how it was called, and fails while a file ``fail`` lies beside it."""
    path = tmp_path / "frazil"
    path.write_text(f'#!/bin/sh\necho "$* [$KUBECONFIG]" >> "{tmp_path}/calls"\ntest ! -e "{tmp_path}/fail"\n')
    path.chmod(0o755)
    return path


def calls(command: Path) -> list[str]:
    path = command.with_name("calls")
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


DEPLOY: Final = "deploy --overlay /an overlay --namespace queries --store s3://b/frazil --yes [/a/kubeconfig]"
UNDEPLOY: Final = "undeploy --namespace queries --yes [/a/kubeconfig]"


def deployment(folder: Path, command: Path, revision: str) -> Terraform:
    given = {"overlay": "/an overlay", "namespace": "queries", "store_url": "s3://b/frazil", "kubeconfig": "/a/kubeconfig"}
    return configured(
        folder / "configuration", "deployment", {**given, "command": str(command), "revision": revision}, ("id",)
    )


def test_frazil_is_deployed_once_again_when_it_changes_and_undeployed_at_the_end(tmp_path: Path, command: Path) -> None:
    terraform = deployment(tmp_path, command, "1")
    terraform.init()
    terraform.apply()
    assert calls(command) == [DEPLOY]
    assert terraform.changes() == ""
    deployment(tmp_path, command, "2").apply()
    assert calls(command) == [DEPLOY]
    terraform.destroy()
    assert calls(command) == [UNDEPLOY]
    assert terraform.resources() == []


def test_what_could_not_be_deployed_is_tried_again_and_can_be_taken_away(tmp_path: Path, command: Path) -> None:
    terraform = deployment(tmp_path, command, "1")
    terraform.init()
    command.with_name("fail").touch()
    terraform.run("apply", "-auto-approve", accept=(1,))
    assert terraform.changes() != ""
    command.with_name("fail").unlink()
    terraform.apply()
    assert calls(command) == [DEPLOY, DEPLOY]
    command.with_name("fail").touch()
    deployment(tmp_path, command, "2").run("apply", "-auto-approve", accept=(1,))
    command.with_name("fail").unlink()
    terraform.destroy()
    assert calls(command) == [DEPLOY, UNDEPLOY]
