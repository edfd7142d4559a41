"""The rights of the coordinator: those that its client uses, and no other; and the double is one that ``kubectl`` takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.processes import program
from frazil_coordinator.platform.knative.cluster import live_fleet
from frazil_coordinator.platform.knative.prescale import LEASE_ANNOTATION
from support.crd import REPOSITORY
from support.kube_api import KubeApi as Double
from support.kube_api import kube_api
from support.kube_world import client_of, function_service_object, min_scale, role_rules
from support.polling import eventually_async

SMALL = "frazil-function-small-a"


@pytest.fixture
def double() -> Iterator[Double]:
    with kube_api(Double(now=lambda: time.time() - 3600)) as api:
        yield api


async def test_the_role_gives_what_a_coordinator_uses_on_its_way_and_nothing_else(double: Double, tmp_path: Path) -> None:
    double.put(function_service_object(release="a", polars="2.1.0"))
    double.put(function_service_object(release="old", polars="2.1.0"))
    expired = {"frazil.dev/prescale": '{"base": "0", "set": 9, "leases": {"dead": [9, 1.0]}}'}
    double.put(function_service_object(release="b", polars="2.1.0"))
    revision = ("serving.knative.dev", "revisions", "frazil", "frazil-function-small-b-00001")
    patch = {"metadata": {"annotations": {**expired, "autoscaling.knative.dev/min-scale": "9"}}}
    double.objects.patch(double.kind("revisions", "serving.knative.dev"), revision, patch, "dead")
    with client_of(double, tmp_path) as api:
        async with live_fleet(api, holder="me", release="a", polars="2.1.0", watch_s=30.0) as live:
            live.fleet.demand(12)
            await eventually_async(lambda: min_scale(double, f"{SMALL}-00001") == "12", "pods are asked for")
            gone = f"{SMALL.removesuffix('-a')}-old"
            await eventually_async(lambda: gone not in double.names("services"), "an unused release goes")
    assert LEASE_ANNOTATION not in double.named("revisions", f"{SMALL}-00001")["metadata"]["annotations"]
    given = {(verb, rule["apiGroups"][0], rule["resources"][0]) for rule in role_rules() for verb in rule["verbs"]}
    assert double.rights.used == given


def kubectl(double: Double, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = double.kubeconfig(folder / "kubeconfig")
    command = [program("kubectl"), "--kubeconfig", str(config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_real_kubectl_applies_our_base_waits_for_it_and_finds_no_difference_afterwards(
    double: Double, tmp_path: Path
) -> None:
    base = ["-k", str(REPOSITORY / "knative" / "base"), "--namespace", "frazil"]
    before = kubectl(double, tmp_path, "diff", "--server-side", *base)
    assert (before.returncode, before.stderr) == (1, "")
    assert "+kind: Service" in before.stdout
    applied = kubectl(double, tmp_path, "apply", "--server-side", "--validate=false", *base)
    assert applied.stdout.count("serverside-applied") == 8, applied.stderr
    wait = ["wait", "--for=condition=Ready", "services.serving.knative.dev", "--all", "--timeout=10s"]
    assert kubectl(double, tmp_path, *wait).stdout.count("condition met") == 3
    assert kubectl(double, tmp_path, "diff", "--server-side", *base).returncode == 0
