"""``frazil deploy`` and ``undeploy``: what is shown, applied, waited for and deleted, and what is left alone."""

from __future__ import annotations

import base64
import copy
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from frazil.cli import _app
from frazil_coordinator.deployment.applying import Deployment
from frazil_coordinator.deployment.objects import difference, read_inventory, with_release
from frazil_coordinator.deployment.rendering import Wanted, render
from frazil_coordinator.platform.knative.errors import DeniedError
from frazil_coordinator.platform.knative.keeper import Keeper
from frazil_coordinator.platform.knative.models import Object
from frazil_coordinator.platform.knative.releases import uses
from frazil_functions.errors import DeadlineError, FrazilError, RequestError
from support.crd import REPOSITORY
from support.kube_api import ADMIN, KubeApi, kube_api
from support.kube_world import client_of

SERVING = "serving.knative.dev"
FUNCTION = "r/f@sha256:" + "a" * 64
RENDERED: dict[str, list[Object]] = {}
OTHER = "r/f@sha256:" + "b" * 64


@dataclass
class World:
    double: KubeApi
    config: Path

    def run(self, *arguments: str, answer: str = "") -> Result:
        return CliRunner().invoke(_app, [*arguments, "--kubeconfig", str(self.config)], input=answer)

    def deploy(self, *more: str, image: str = FUNCTION, answer: str = "", yes: bool = True) -> Result:
        images = ("--function-image", image, "--coordinator-image", "r/c:1", "--store", "s3://bucket/frazil")
        return self.run("deploy", *images, *more, *(["--yes"] if yes else []), answer=answer)

    def applied(self) -> list[str]:
        """Return what was really applied, in this order."""
        found = [path for method, path in self.double.requests if method == "PATCH" and "dryRun" not in path]
        return [re.sub(r"^.*/(\w+/[\w-]+)\?.*$", r"\1", path) for path in found if "fieldManager=frazil-deploy" in path]


@pytest.fixture(autouse=True)
def rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let kubectl render what is the same once for all tests."""

    def cached(wanted: Wanted) -> list[Object]:
        if repr(wanted) not in RENDERED:
            RENDERED[repr(wanted)] = render(wanted)
        return copy.deepcopy(RENDERED[repr(wanted)])

    monkeypatch.setattr("frazil_coordinator.deployment.rendering.render", cached)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with kube_api() as double:
        meta = {"name": "frazil-secrets", "namespace": "frazil"}
        double.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"task-keys": "eA=="}})
        yield World(double, double.kubeconfig(tmp_path / "kubeconfig"))


def function_names(world: World) -> list[str]:
    """Return the small services of functions; each release has a large one beside it."""
    names = [name for name in world.double.names("services") if name.startswith("frazil-function")]
    small = [name for name in names if "-small-" in name]
    assert sorted(names) == sorted([*small, *(name.replace("-small-", "-large-") for name in small)])
    return small


def test_a_first_deployment_goes_in_order_waits_and_prints_the_url(world: World) -> None:
    result = world.deploy("--set", "max-in-flight=9", "--set", "FRAZIL_HEARTBEAT_S=3")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().endswith("http://frazil-coordinator.frazil.svc.cluster.local")
    (function,) = function_names(world)
    assert world.applied() == [
        "configmaps/frazil-deployment", "serviceaccounts/frazil-coordinator", "serviceaccounts/frazil-function",
        "configmaps/frazil-knobs", "configmaps/frazil-settings", "roles/frazil-coordinator",
        "rolebindings/frazil-coordinator", "poddisruptionbudgets/frazil-function",
        f"services/{function.replace('-small-', '-large-')}", f"services/{function}", "services/frazil-coordinator",
        "configmaps/frazil-deployment",
    ]  # fmt: skip
    settings = world.double.named("configmaps", "frazil-settings", group="")["data"]
    assert (settings["namespace"], settings["store-url"], settings["max-in-flight"]) == ("frazil", "s3://bucket/frazil", "9")
    assert world.double.named("configmaps", "frazil-knobs", group="")["data"] == {"FRAZIL_HEARTBEAT_S": "3"}
    release = function.removeprefix("frazil-function-small-")
    in_use = uses(world.double.named("services", function)["metadata"]["annotations"])
    assert set(in_use) == {"deploy"}, "no coordinator of another release may delete it meanwhile"
    assert in_use["deploy"] > time.time() + 600
    container = world.double.named("services", "frazil-coordinator")["spec"]["template"]["spec"]["containers"][0]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert env["FRAZIL_RELEASE"] == release
    assert env["FRAZIL_FUNCTION_URL"] == f"http://{function}.$(FRAZIL_NAMESPACE).svc.cluster.local/"
    (subject,) = world.double.named("rolebindings", "frazil-coordinator", group="rbac.authorization.k8s.io")["subjects"]
    assert subject["namespace"] == "frazil"


def test_the_same_again_changes_nothing(world: World) -> None:
    world.deploy()
    before = world.double.objects.version
    result = world.deploy("--json")
    assert world.double.objects.version == before
    parsed = json.loads(result.stdout)
    assert parsed["changed"] is False
    assert {each["action"] for each in parsed["changes"]} == {"keep"}


def test_a_dry_run_shows_the_difference_and_changes_nothing(world: World) -> None:
    world.deploy()
    before = world.double.objects.version
    result = world.deploy("--dry-run", "--set", "max-in-flight=9", yes=False)
    assert result.exit_code == 0
    assert "-  max-in-flight: '45'\n+  max-in-flight: '9'" in result.stdout
    assert "1 to change" in result.output
    assert world.double.objects.version == before


def test_it_asks_and_no_means_no(world: World) -> None:
    before = world.double.objects.version
    result = world.deploy(yes=False, answer="n\n")
    assert result.exit_code == 1
    assert "Apply this to" in result.output
    assert world.double.objects.version == before
    assert world.deploy("--json", yes=False).exit_code == 2


def test_without_the_secret_nothing_is_applied(world: World) -> None:
    world.double.objects.delete(world.double.kind("secrets"), ("", "secrets", "frazil", "frazil-secrets"))
    result = world.deploy()
    assert isinstance(result.exception, RequestError)
    assert "no Secret frazil-secrets" in str(result.exception)
    assert world.applied() == []


def test_the_secret_is_made_with_fresh_keys_when_it_is_told_to_and_stays_afterwards(world: World) -> None:
    world.double.objects.delete(world.double.kind("secrets"), ("", "secrets", "frazil", "frazil-secrets"))
    more = ("--create-secret", "--store-option", "aws_region=eu-central-1")
    result = world.deploy(*more)
    assert result.exit_code == 0, result.output
    data = world.double.named("secrets", "frazil-secrets", group="")["data"]
    opened = {name: base64.b64decode(text).decode() for name, text in data.items()}
    assert len({opened[name] for name in ("task-keys", "journal-keys", "token")}) == 3
    assert all(len(opened[name]) == 64 for name in ("task-keys", "journal-keys", "token"))
    assert json.loads(opened["store-options"]) == {"aws_region": "eu-central-1"}
    assert not [text for text in opened.values() if text in result.output]
    assert world.deploy(*more).exit_code == 0
    assert world.double.named("secrets", "frazil-secrets", group="")["data"] == data
    world.run("undeploy", "--yes")
    assert world.double.names("secrets", group="") == ["frazil-secrets"]


def test_one_refused_object_keeps_all_from_being_applied(world: World, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    service: dict[str, Any] = {
        "apiVersion": f"{SERVING}/v1",
        "kind": "Service",
        "metadata": {"name": "frazil-function-small"},
    }
    service["metadata"]["labels"] = {"app.kubernetes.io/component": "function"}
    service["spec"] = {"template": {"spec": {"containers": [{"image": "frazil-function:1"}], "timeoutSecond": 1}}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "frazil-function"}}
    (overlay / "all.yaml").write_text(yaml.safe_dump_all([account, service]))
    (overlay / "kustomization.yaml").write_text("resources: [all.yaml]\n")
    result = world.run("deploy", "--overlay", str(overlay), "--yes")
    assert isinstance(result.exception, RequestError)
    assert "service/frazil-function-small-" in str(result.exception)
    assert 'unknown field "spec.template.spec.timeoutSecond"' in str(result.exception)
    assert world.applied() == []


def test_a_field_of_somebody_else_is_taken_only_when_told_to(world: World) -> None:
    world.deploy()
    meta = {"name": "frazil-settings", "namespace": "frazil"}
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"log-level": "debug"}}
    world.double.put(theirs, manager="argocd")
    result = world.deploy()
    assert isinstance(result.exception, RequestError)
    assert re.search(r'conflict with "argocd": \.data\.log-level; --force-conflicts', str(result.exception))
    assert world.deploy("--force-conflicts").exit_code == 0
    assert world.double.named("configmaps", "frazil-settings", group="")["data"]["log-level"] == "info"


def test_what_does_not_become_ready_is_told_with_the_reason(world: World) -> None:
    world.double.knative.not_ready[FUNCTION] = ("ContainerMissing", "Unable to fetch image")
    result = world.deploy("--timeout-s", "1")
    assert isinstance(result.exception, DeadlineError)
    assert "ContainerMissing Unable to fetch image" in str(result.exception)
    assert "waiting for frazil-function-small-" in result.output
    assert "services/frazil-coordinator" not in world.applied(), "it would begin queries on functions that are not there"


def test_a_missing_right_is_named(world: World, tmp_path: Path) -> None:
    rules = [{"apiGroups": ["", SERVING], "resources": ["*"], "verbs": []}]
    world.double.rights.add("weak", "weak", rules)
    world.config = world.double.kubeconfig(tmp_path / "weak", "weak")
    result = world.deploy()
    assert isinstance(result.exception, DeniedError)
    assert "lacks the verb get on namespaces" in str(result.exception)


async def test_a_new_image_comes_beside_the_old_one_which_goes_when_nobody_uses_it(world: World, tmp_path: Path) -> None:
    world.deploy()
    (old,) = function_names(world)
    now = [1_790_000_000.0]
    with client_of(world.double, tmp_path, ADMIN) as api:
        coordinator = Keeper(api, "old", frozenset, unix=lambda: now[0])
        await coordinator.round(frozenset({old.removeprefix("frazil-function-small-")}))
        result = world.deploy(image=OTHER)
        assert result.exit_code == 0
        assert len(function_names(world)) == 2
        (new,) = set(function_names(world)) - {old}
        used = frozenset({new.removeprefix("frazil-function-small-")})
        now[0] += 1000
        assert await Keeper(api, "new", frozenset, unix=lambda: now[0] + 10**9).round(used) == (
            old.replace("-small-", "-large-"),
            old,
        )
        world.deploy(image=OTHER)
        inventory = read_inventory(world.double.named("configmaps", "frazil-deployment", group=""))
        assert old not in {each.name for each in inventory}


def test_what_is_in_the_manifests_no_more_is_deleted(world: World, tmp_path: Path) -> None:
    world.deploy()
    result = world.deploy("--component", "tenants")
    assert result.exit_code == 0, result.output
    assert "delete role/frazil-coordinator" in result.output
    assert "--component prescale" in result.output, "what it does without"
    assert world.double.names("roles", group="rbac.authorization.k8s.io") == []
    assert len(function_names(world)) == 1


def test_undeploy_deletes_what_was_applied_and_nothing_else(world: World) -> None:
    meta = {"namespace": "frazil"}
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**meta, "name": "mine"}, "data": {}}
    world.double.put(mine)
    world.deploy()
    world.deploy(image=OTHER)
    # Somebody made one of them their own.
    label = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}
    key = ("", "serviceaccounts", "frazil", "frazil-function")
    world.double.objects.patch(world.double.kind("serviceaccounts"), key, label, "me")
    refused = world.run("undeploy", answer="n\n")
    assert refused.exit_code == 1
    assert len(function_names(world)) == 2
    result = world.run("undeploy", "--yes", "--json")
    deleted = json.loads(result.stdout)["deleted"]
    assert deleted[0] == "service/frazil-coordinator"
    assert "serviceaccount/frazil-function" not in deleted
    assert world.double.names("services") == world.double.names("revisions") == []
    assert world.double.names("configmaps", group="") == ["mine"]
    assert world.double.names("secrets", group="") == ["frazil-secrets"]
    assert world.double.names("serviceaccounts", group="") == ["frazil-function"]
    assert "nothing that frazil deploy applied" in world.run("undeploy", "--yes").output


FLAGS = ("affinity", "nodeselector", "priorityclassname", "tolerations", "topologyspreadconstraints")


@pytest.mark.parametrize(
    "name", sorted(each.name for each in (REPOSITORY / "knative" / "overlays").iterdir() if each.is_dir())
)
def test_each_overlay_is_deployed_once_and_again_and_away_from_a_namespace_that_stays(world: World, name: str) -> None:
    world.double.objects.flags = frozenset(f"kubernetes.podspec-{flag}" for flag in FLAGS)
    arguments = ("deploy", "--overlay", str(REPOSITORY / "knative" / "overlays" / name), "--yes")
    first = world.run(*arguments)
    assert first.exit_code == 0, (first.output, first.exception)
    before = world.double.objects.version
    again = world.run(*arguments)
    assert again.exit_code == 0, again.output
    assert "0 to change" in again.output, again.output
    assert world.double.objects.version == before
    assert world.run("undeploy", "--yes").exit_code == 0
    assert world.double.objects.get(world.double.kind("namespaces"), "", "frazil") is not None
    assert world.double.names("secrets", group="") == ["frazil-secrets"]
    assert world.double.names("services") == world.double.names("configmaps", group="") == []
    assert world.double.names("priorityclasses", namespace="", group="scheduling.k8s.io") == []


def test_a_component_that_the_overlay_has_already_is_taken_once(world: World) -> None:
    world.double.objects.flags = frozenset(f"kubernetes.podspec-{flag}" for flag in FLAGS)
    overlay = str(REPOSITORY / "knative" / "overlays" / "gke")
    result = world.run("deploy", "--overlay", overlay, "--component", "prescale", "--yes")
    assert result.exit_code == 0, (result.output, result.exception)
    assert world.double.names("roles", group="rbac.authorization.k8s.io") == ["frazil-coordinator"]


def test_what_is_of_the_whole_cluster_stays_as_long_as_another_namespace_has_it(world: World, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    shared = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "frazil"}, "value": 1}
    service: dict[str, Any] = {
        "apiVersion": f"{SERVING}/v1",
        "kind": "Service",
        "metadata": {"name": "frazil-function-small"},
    }
    service["metadata"]["labels"] = {"app.kubernetes.io/component": "function"}
    service["spec"] = {"template": {"spec": {"containers": [{"image": "frazil-function:1"}]}}}
    (overlay / "all.yaml").write_text(yaml.safe_dump_all([shared, service]))
    (overlay / "kustomization.yaml").write_text("resources: [all.yaml]\n")

    def classes() -> list[str]:
        return world.double.names("priorityclasses", namespace="", group="scheduling.k8s.io")

    for namespace in ("frazil", "other"):
        result = world.run("deploy", "-n", namespace, "--overlay", str(overlay), "--create-secret", "--yes")
        assert result.exit_code == 0, (result.output, result.exception)
    assert world.run("undeploy", "-n", "frazil", "--yes").exit_code == 0
    assert world.double.names("services") == []
    assert classes() == ["frazil"]
    assert world.run("undeploy", "-n", "other", "--yes").exit_code == 0
    assert classes() == []


def test_a_deployment_that_broke_off_is_undeployed_too(world: World) -> None:
    world.double.knative.not_ready[FUNCTION] = ("ContainerMissing", "Unable to fetch image")
    world.deploy("--timeout-s", "1")
    assert len(function_names(world)) == 1
    assert world.run("undeploy", "--yes").exit_code == 0
    assert world.double.names("services") == world.double.names("configmaps", group="") == []


def test_a_namespace_that_is_not_there_is_made(world: World) -> None:
    result = world.run("deploy", "--function-image", FUNCTION, "--coordinator-image", "r/c:1", "-n", "new", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "create namespace/new" in result.output
    assert world.double.objects.get(world.double.kind("namespaces"), "", "new") is None


# Rendering


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(namespace="n", function_image="r/f"), "has no tag and no digest"),
        (Wanted(namespace="n", function_image="localhost:5000/f"), "has no tag and no digest"),
        (Wanted(namespace="n", components=["nobody"]), "there is no component nobody: there are"),
        (Wanted(namespace="n", overlay=Path("/nowhere")), "is not a folder"),
    ],
)
def test_what_can_not_be_rendered_says_why(wanted: Wanted, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        render(wanted)


def test_function_services_of_several_images_are_no_release() -> None:
    def service(name: str, image: str) -> Object:
        labels = {"app.kubernetes.io/component": "function"}
        spec = {"template": {"spec": {"containers": [{"image": image}]}}}
        return {"apiVersion": f"{SERVING}/v1", "kind": "Service", "metadata": {"name": name, "labels": labels}, "spec": spec}

    with pytest.raises(FrazilError, match="must have one image"):
        with_release([service("frazil-function-small", "a"), service("frazil-function-large", "b")], "2.1.0")
    objects, release = with_release([service("frazil-function-small", "a"), service("frazil-function-large", "a")], "2.1.0")
    assert [each["metadata"]["labels"]["frazil.dev/size"] for each in objects] == ["small", "large"]
    assert objects[1]["metadata"]["name"] == f"frazil-function-large-{release}"


def test_values_of_a_secret_are_not_shown() -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "hidden"}}
    shown = difference(None, secret, "secret/s")
    assert "hidden" not in shown
    assert "key" in shown


def test_readiness_is_waited_for_as_long_as_it_takes(world: World, tmp_path: Path) -> None:
    world.double.knative.not_ready[FUNCTION] = ("Deploying", "")
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            world.double.knative.not_ready.clear()
            world.double.knative.settle()

    with client_of(world.double, tmp_path, ADMIN) as api:
        deployment = Deployment(api, sleep=sleep)
        objects = render(Wanted(namespace="frazil", function_image=FUNCTION, coordinator_image="r/c:1"))
        assert deployment.apply(deployment.plan(objects), "", timeout_s=60.0).startswith("http://frazil-coordinator.")
    assert looks == 3
