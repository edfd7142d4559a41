"""``frazil doctor`` against a good set-up and against broken ones: each is found, with what to do about it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from frazil.cli import _app
from frazil_coordinator.doctor.cluster import check_cluster
from frazil_coordinator.doctor.findings import Finding, Severity
from frazil_coordinator.doctor.store import check_store
from frazil_functions.errors import StorageError
from frazil_functions.storage import FolderStore, open_store
from frazil_functions.storage_model import ObjectInfo, PassingStore
from support.crd import REPOSITORY
from support.kube_api import ADMIN, KubeApi, kube_api
from support.kube_world import COORDINATOR, client_of, function_service_object
from support.seaweed import SeaweedFS


@dataclass
class Cluster:
    """A cluster with Frazil on it, as it should be."""

    double: KubeApi
    folder: Path

    def change(self, resource: str, name: str, patch: dict[str, Any], group: str = "", namespace: str = "frazil") -> None:
        kind = self.double.kind(resource, group)
        self.double.objects.patch(kind, (group, resource, namespace, name), patch, "test")

    def delete(self, resource: str, name: str, group: str = "") -> None:
        self.double.objects.delete(self.double.kind(resource, group), (group, resource, "frazil", name))

    def function(self, **changes: Any) -> None:
        """Deploy the small function service anew."""
        service = function_service_object(polars="2.1.0", release="r", max_scale=changes.pop("max_scale", 50))
        service["metadata"]["name"] = "frazil-function-small"
        template = service["spec"]["template"]
        template["metadata"]["annotations"]["autoscaling.knative.dev/target-utilization-percentage"] = "70"
        requests = {"requests": {"cpu": "2", "memory": "4Gi"}}
        template["spec"]["containers"][0]["resources"] = requests
        template["spec"] |= {"responseStartTimeoutSeconds": template["spec"]["timeoutSeconds"], **changes}
        self.double.put(service)

    def coordinator(self) -> None:
        service = yaml.safe_load((REPOSITORY / "knative" / "base" / "coordinator.yaml").read_text())
        service["metadata"]["namespace"] = "frazil"
        self.double.put(service)

    def findings(self, token: str = ADMIN, *, reach: Callable[[str], str] | None = None) -> list[Finding]:
        with client_of(self.double, self.folder, token) as api:
            return list(check_cluster(api, polars="2.1.0", as_coordinator=token == COORDINATOR, reach=reach))


def node(name: str, cpu: str, memory: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": memory}},
    }


def config(name: str, data: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "frazil"}, "data": data}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with kube_api() as double:
        cluster = Cluster(double, tmp_path)
        double.knative.not_ready["no/such"] = ("ContainerMissing", "Unable to fetch image")
        for name in ("role", "rolebinding"):
            made = yaml.safe_load((REPOSITORY / "knative" / "components" / "prescale" / f"{name}.yaml").read_text())
            made["metadata"]["namespace"] = "frazil"
            double.put(made)
        secret = {"metadata": {"name": "frazil-secrets", "namespace": "frazil"}}
        data = {"task-keys": "eA==", "journal-keys": "eA==", "token": "eA=="}
        double.put({"apiVersion": "v1", "kind": "Secret", **secret, "data": data})
        double.put(config("frazil-settings", {"namespace": "frazil", "max-in-flight": "45"}))
        for number in range(7):
            double.objects.create(double.kind("nodes"), node(f"n{number}", "16", "64Gi"))
        cluster.coordinator()
        cluster.function()
        yield cluster


def wrong(findings: Sequence[Finding]) -> list[Finding]:
    return [each for each in findings if each.severity in (Severity.ERROR, Severity.WARNING)]


def test_a_good_cluster_has_nothing_wrong_for_who_deploys_and_for_the_coordinator_itself(cluster: Cluster) -> None:
    findings = cluster.findings(reach=lambda url: "")
    assert wrong(findings) == []
    checked = {each.check for each in findings if each.severity is Severity.OK}
    assert checked == {
        "kubernetes", "versions.knative", "rights.deployer", "rights.coordinator", "secrets", "services", "ready",
        "timeouts", "concurrency", "capacity", "versions.polars", "settings.namespace", "reach",
    }  # fmt: skip
    # It may see neither secrets nor nodes nor settings, and says so; what it can see is well.
    own = cluster.findings(COORDINATOR)
    assert {each.check for each in own if each.severity is Severity.SKIPPED} >= {"secrets", "capacity"}


Break = Callable[[Cluster], None]

BROKEN: dict[str, tuple[Break, str, str, str]] = {
    "rights": (
        lambda cluster: cluster.delete("rolebindings", "frazil-coordinator", "rbac.authorization.k8s.io"),
        "rights.coordinator", "patch revisions.serving.knative.dev", "components/prescale",
    ),
    "no secret": (
        lambda cluster: cluster.delete("secrets", "frazil-secrets"), "secrets", "no Secret", "create secret generic",
    ),
    "half a secret": (
        lambda cluster: cluster.change("secrets", "frazil-secrets", {"data": {"journal-keys": None, "token": None}}),
        "secrets", "lacks journal-keys, token", "add what is missing",
    ),
    "another namespace": (
        lambda cluster: cluster.change("configmaps", "frazil-settings", {"data": {"namespace": "default"}}),
        "settings.namespace", "says namespace 'default'", "set namespace of frazil-settings to frazil",
    ),
    "no max-scale": (lambda cluster: cluster.function(max_scale=None), "scale", "max-scale is not set", "upper bound"),
    "max-in-flight above the pods": (
        lambda cluster: cluster.change("configmaps", "frazil-settings", {"data": {"max-in-flight": "50"}}),
        "scale", "max-in-flight 50 is above 45", "to 45",
    ),
    "small nodes": (
        lambda cluster: cluster.function(max_scale=100), "capacity", "room for 56 pods", "node pool grow",
    ),
    "long timeout": (
        lambda cluster: cluster.change(
            "configmaps", "config-defaults", {"data": {"max-revision-timeout-seconds": "300"}}, namespace="knative-serving"
        ),
        "timeouts", "600 is above the cluster's max-revision-timeout-seconds 300", "config-defaults",
    ),
    "timeouts apart": (
        lambda cluster: cluster.function(responseStartTimeoutSeconds=300), "timeouts", "is 300, timeoutSeconds 600", "both",
    ),
    "old Knative": (
        lambda cluster: cluster.change(
            "deployments", "controller", {"metadata": {"labels": {"app.kubernetes.io/version": "1.20.4"}}}, "apps",
            "knative-serving",
        ),
        "versions.knative", "Serving is 1.20.4", "1.21 or later",
    ),
    "old Kubernetes": (
        lambda cluster: setattr(cluster.double, "version", "v1.28.3"), "kubernetes", "v1.28.3", "update",
    ),
    "another polars": (
        lambda cluster: cluster.change(
            "services", "frazil-function-small", {"metadata": {"labels": {"frazil.dev/polars": "2.0.0"}}},
            "serving.knative.dev",
        ),
        "versions.polars", "has polars 2.0.0, and here is 2.1.0", "polars==2.0.0",
    ),
    "many tasks a pod": (
        lambda cluster: cluster.function(containerConcurrency=4), "concurrency", "containerConcurrency is 4", ": 1",
    ),
    "image that can't be fetched": (
        lambda cluster: cluster.function(containers=[{"image": "no/such", "resources": {"requests": {"cpu": "2"}}}]),
        "ready", "Unable to fetch image", "describe revision",
    ),
    "no functions": (
        lambda cluster: cluster.delete("services", "frazil-function-small", "serving.knative.dev"),
        "services", "no function service", "frazil deploy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_with_its_fix(cluster: Cluster, name: str) -> None:
    breaks, check, evidence, fix = BROKEN[name]
    breaks(cluster)
    found = [each for each in wrong(cluster.findings(reach=lambda url: "")) if each.check == check]
    assert found, name
    assert any(evidence in each.evidence and fix in each.fix for each in found), found


def test_a_flag_that_a_used_field_needs_is_named(cluster: Cluster) -> None:
    cluster.double.objects.flags = frozenset({"kubernetes.podspec-nodeselector"})
    cluster.function(nodeSelector={"a": "b"})
    (found,) = wrong(cluster.findings())
    assert (found.check, found.severity) == ("flags", Severity.ERROR)
    assert "kubernetes.podspec-nodeselector" in found.fix


def test_a_service_that_does_not_answer_is_found(cluster: Cluster) -> None:
    found = wrong(cluster.findings(reach=lambda url: "ConnectError: no such name" if "function" in url else ""))
    assert [(each.check, "no such name" in each.evidence) for each in found] == [("reach", True)]


def test_the_command_prints_evidence_and_fix_and_its_exit_code_tells(cluster: Cluster) -> None:
    arguments = ["doctor", "--kubeconfig", str(cluster.double.kubeconfig(cluster.folder / "kubeconfig"))]
    good = CliRunner().invoke(_app, arguments)
    assert good.exit_code == 0, good.output
    cluster.delete("secrets", "frazil-secrets")
    bad = CliRunner().invoke(_app, arguments)
    assert bad.exit_code == 1
    assert "✗ secrets  namespace frazil has no Secret frazil-secrets" in bad.output
    assert "fix: kubectl -n frazil create secret" in bad.output
    parsed = json.loads(CliRunner().invoke(_app, [*arguments, "--json"]).stdout)
    assert parsed["ok"] is False
    assert {"check", "severity", "evidence", "fix"} == set(parsed["findings"][0])


def test_the_command_looks_at_the_store_that_is_deployed_and_is_careful_when_it_is_not_to_be_reached_from_here(
    cluster: Cluster,
) -> None:
    arguments = ["doctor", "--json", "--kubeconfig", str(cluster.double.kubeconfig(cluster.folder / "kubeconfig"))]

    def found() -> dict[str, str]:
        return {
            each["check"]: each["severity"] for each in json.loads(CliRunner().invoke(_app, arguments).stdout)["findings"]
        }

    cluster.change("configmaps", "frazil-settings", {"data": {"store-url": str(cluster.folder / "store")}})
    assert found()["store.conditional-put"] == "ok"
    cluster.change("configmaps", "frazil-settings", {"data": {"store-url": "s3://bucket/frazil"}})
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_region": "c"}
    nowhere = {"aws_endpoint_url": "http://127.0.0.1:1", "aws_allow_http": True, "max_retries": 0}
    options = base64.b64encode(json.dumps({**keys, **nowhere}).encode()).decode()
    cluster.change("secrets", "frazil-secrets", {"data": {"store-options": options}})
    assert found()["store.put"] == "warning"
    cluster.delete("configmaps", "frazil-settings")
    assert found()["store"] == "skipped"


def test_a_cluster_that_does_not_answer_is_one_finding(cluster: Cluster) -> None:
    cluster.double.url = "https://127.0.0.1:1"
    (found,) = cluster.findings()
    assert (found.check, found.severity) == ("kubernetes", Severity.ERROR)
    assert "KUBECONFIG" in found.fix


# The store


class Broken(PassingStore):
    """A store that has one thing wrong."""

    def __init__(self, folder: Path, fault: str) -> None:
        super().__init__(FolderStore(folder))
        self._fault = fault

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        if self._fault == "put":
            raise StorageError("AccessDenied")
        super().put(key, parts)

    def create(self, key: str, data: bytes) -> bool:
        if self._fault == "create":
            super().put(key, [data])
            return True
        return super().create(key, data)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self.get(key) if self._fault == "range" else super().get_range(key, start, length)

    def list(self, prefix: str) -> list[ObjectInfo]:
        if self._fault == "list":
            raise StorageError("AccessDenied")
        return super().list(prefix)

    def delete_prefix(self, prefix: str) -> int:
        return 0 if self._fault == "delete" else super().delete_prefix(prefix)


@pytest.mark.parametrize(
    ("fault", "check", "severity", "fix"),
    [
        ("put", "store.put", Severity.ERROR, "credentials"),
        ("create", "store.conditional-put", Severity.WARNING, "one coordinator only"),
        ("range", "store.range", Severity.ERROR, "another store"),
        ("list", "store.list", Severity.ERROR, "rights"),
        ("delete", "store.delete", Severity.ERROR, "consistent store"),
    ],
)
def test_a_store_with_a_fault_is_found_out(tmp_path: Path, fault: str, check: str, severity: Severity, fix: str) -> None:
    found = [each for each in wrong(list(check_store(Broken(tmp_path, fault)))) if each.check == check]
    assert [each.severity for each in found] == [severity]
    assert fix in found[0].fix


@pytest.mark.parametrize(("ahead_s", "severity"), [(0, Severity.OK), (10, Severity.WARNING), (-100, Severity.ERROR)])
def test_clocks_apart_are_found(tmp_path: Path, ahead_s: float, severity: Severity) -> None:

    findings = check_store(FolderStore(tmp_path), unix=lambda: time.time() + ahead_s)
    assert [each.severity for each in findings if each.check == "store.clock"] == [severity]


def test_a_real_s3_server_passes_every_check_and_nothing_is_left_on_it(seaweed: SeaweedFS) -> None:
    store = open_store(seaweed.url("doctor/frazil"), seaweed.storage_options)
    findings = list(check_store(store))
    assert {each.check for each in findings if each.severity is Severity.OK} >= {
        "store.put", "store.get", "store.range", "store.list", "store.clock", "store.multipart", "store.conditional-put",
        "store.delete",
    }  # fmt: skip
    assert wrong(findings) == []
    assert store.list("") == []


def test_a_wrong_secret_is_found_without_being_shown(seaweed: SeaweedFS) -> None:
    options = {**seaweed.storage_options, "aws_secret_access_key": "a-wrong-secret"}
    (found,) = check_store(open_store(seaweed.url("doctor/frazil"), options))
    assert (found.check, found.severity) == ("store.put", Severity.ERROR)
    assert "a-wrong-secret" not in found.evidence


def test_a_laptop_is_looked_at_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    result = CliRunner().invoke(_app, ["doctor", "--store", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    found = {each["check"]: each["severity"] for each in json.loads(result.stdout)["findings"]}
    assert found["functions"] == "ok"
    assert found["kubernetes"] == "skipped"
