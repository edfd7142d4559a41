"""The Knative base: what every manifest must hold for Frazil to work, be safe, and cost nothing while idle."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from frazil_coordinator.settings import Settings
from frazil_functions.memory import FATAL_FACTOR
from frazil_functions.settings import FunctionSettings
from support.crd import REPOSITORY, crd_schema, violations
from support.kustomize import kustomized

BASE = REPOSITORY / "knative" / "base"
FILES = sorted(BASE.glob("*.yaml"))
AUTOSCALING = "autoscaling.knative.dev/"
FLAGS_ON_BY_DEFAULT = {"kubernetes.podspec-volumes-emptydir"}


def load(path: Path) -> dict[str, Any]:
    (document,) = yaml.safe_load_all(path.read_text())
    assert isinstance(document, dict)
    return document


def manifests(kind: str) -> dict[str, dict[str, Any]]:
    found = [load(path) for path in FILES]
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


SERVICES = manifests("Service")
FUNCTIONS = {name: service for name, service in SERVICES.items() if name.startswith("frazil-function-")}
COORDINATOR = SERVICES["frazil-coordinator"]
SETTINGS: dict[str, str] = manifests("ConfigMap")["frazil-settings"]["data"]
KNOBS = "frazil-knobs"

every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
every_function = pytest.mark.parametrize("service", FUNCTIONS.values(), ids=FUNCTIONS)


def revision(service: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = service["spec"]["template"]["spec"]
    return spec


def container(service: dict[str, Any]) -> dict[str, Any]:
    (only,) = revision(service)["containers"]
    assert isinstance(only, dict)
    return only


def scaling(service: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = service["spec"]["template"]["metadata"]["annotations"]
    return found


def expand(text: str, earlier: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda name: earlier[name[1]], text)


def environment(service: dict[str, Any]) -> dict[str, str]:
    """Return what the container sees, with the base's own settings and made-up secrets."""
    secrets = {"task-keys": "a,b", "journal-keys": "a secret of thirty-two characters", "token": "t", "store-options": "{}"}
    found: dict[str, str] = {}
    for variable in container(service)["env"]:
        source = variable.get("valueFrom", {})
        if "configMapKeyRef" in source:
            found[variable["name"]] = SETTINGS[source["configMapKeyRef"]["key"]]
        elif "secretKeyRef" in source:
            found[variable["name"]] = secrets[source["secretKeyRef"]["key"]]
        else:
            found[variable["name"]] = expand(variable["value"], found)
    return found


def quantity(text: str) -> float:
    units = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "": 1}
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", text).groups()  # type: ignore[union-attr]  # a quantity always matches
    return float(number) * units[unit]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_file_holds_one_resource_and_is_named_in_the_kustomization(path: Path) -> None:
    assert load(path)["kind"]
    listed = load(BASE / "kustomization.yaml")["resources"]
    assert path.name == "kustomization.yaml" or path.name in listed


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_base_names_no_namespace(path: Path) -> None:
    assert "namespace" not in load(path).get("metadata", {})


def test_kustomize_renders_every_resource() -> None:
    rendered = [(each["kind"], each["metadata"]["name"]) for each in kustomized(BASE)]
    expected = [(load(path)["kind"], load(path)["metadata"]["name"]) for path in FILES if path.name != "kustomization.yaml"]
    assert sorted(rendered) == sorted(expected)


def test_the_overlay_that_the_docs_show_sets_namespace_images_and_store(tmp_path: Path) -> None:
    docs = (REPOSITORY / "docs" / "deploy.md").read_text()
    (overlay,) = re.findall(r"```yaml\n(apiVersion: kustomize.*?)```", docs, re.DOTALL)
    shutil.copytree(BASE, tmp_path / "base")
    (tmp_path / "my-overlay").mkdir()
    (tmp_path / "my-overlay" / "kustomization.yaml").write_text(overlay)
    rendered = kustomized(tmp_path / "my-overlay")
    assert {each["metadata"]["namespace"] for each in rendered} == {"frazil"}
    images = {container(each)["image"] for each in rendered if each["kind"] == "Service"}
    assert images == {"YOUR/frazil-coordinator:0.1.0", "YOUR/frazil-function:0.1.0"}
    maps = {each["metadata"]["name"]: each["data"] for each in rendered if each["kind"] == "ConfigMap"}
    assert maps["frazil-settings"] == {**SETTINGS, "namespace": "frazil", "store-url": "s3://my-bucket/frazil"}
    # They are settings that the coordinator knows, of values that it takes.
    read = Settings.from_env(maps[KNOBS])
    assert {f"FRAZIL_{name.upper()}": str(getattr(read, name)) for name in changed(read)} == maps[KNOBS]


def changed(settings: Settings) -> list[str]:
    default = Settings()
    return [each.name for each in fields(Settings) if getattr(settings, each.name) != getattr(default, each.name)]


def test_any_setting_of_the_coordinator_is_a_line_of_one_config_map_that_the_base_leaves_empty() -> None:
    assert container(COORDINATOR)["envFrom"] == [{"configMapRef": {"name": KNOBS}}]
    assert manifests("ConfigMap")[KNOBS]["data"] == {}


@every_service
def test_services_use_only_fields_that_knative_knows_and_allows_by_default(service: dict[str, Any]) -> None:
    found = list(violations(service, crd_schema("serving/service.yaml")))
    flagged = [each for each in found if each.rsplit(" ", 1)[-1] in FLAGS_ON_BY_DEFAULT]
    assert [each for each in found if each not in flagged] == []


def test_the_strict_check_finds_a_misspelt_and_a_flagged_field() -> None:
    schema = crd_schema("serving/service.yaml")
    wrong: dict[str, Any] = {
        "spec": {"template": {"spec": {"containers": [{"imag": "x"}], "hostNetwork": True, "timeoutSeconds": "1"}}}
    }
    found = "\n".join(violations(wrong, schema))
    assert "containers[0].imag: unknown field" in found
    assert "hostNetwork: behind the feature flag kubernetes.podspec-hostnetwork" in found
    assert "timeoutSeconds: not of type integer" in found


@every_service
def test_services_are_reachable_only_inside_the_cluster(service: dict[str, Any]) -> None:
    assert service["metadata"]["labels"]["networking.knative.dev/visibility"] == "cluster-local"


@every_service
def test_both_timeouts_are_set_together_and_within_the_default_bound_of_a_cluster(service: dict[str, Any]) -> None:
    spec = revision(service)
    assert 0 < spec["responseStartTimeoutSeconds"] <= spec["timeoutSeconds"] <= 600


@every_service
def test_a_service_never_grows_without_bound(service: dict[str, Any]) -> None:
    assert int(scaling(service)[f"{AUTOSCALING}max-scale"]) >= 1
    assert scaling(service)[f"{AUTOSCALING}target-utilization-percentage"] == "70"
    minutes = re.fullmatch(r"(\d)m", scaling(service)[f"{AUTOSCALING}scale-down-delay"])
    assert minutes is not None
    assert 1 <= int(minutes[1]) <= 5


@every_function
def test_functions_take_one_task_at_a_time_and_go_to_zero(service: dict[str, Any]) -> None:
    assert revision(service)["containerConcurrency"] == 1
    assert scaling(service)[f"{AUTOSCALING}min-scale"] == "0"


def test_there_is_exactly_one_coordinator_because_it_holds_queries_in_memory() -> None:
    assert scaling(COORDINATOR)[f"{AUTOSCALING}min-scale"] == "1"
    assert scaling(COORDINATOR)[f"{AUTOSCALING}max-scale"] == "1"
    assert revision(COORDINATOR)["containerConcurrency"] == 0


@every_service
def test_containers_run_unprivileged_on_a_read_only_root(service: dict[str, Any]) -> None:
    context = container(service)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@every_service
def test_only_tmp_is_writable_and_its_size_is_bounded(service: dict[str, Any]) -> None:
    (mount,) = container(service)["volumeMounts"]
    (volume,) = revision(service)["volumes"]
    assert (mount["name"], mount["mountPath"]) == (volume["name"], "/tmp")
    limit = container(service)["resources"]["limits"]["ephemeral-storage"]
    assert quantity(volume["emptyDir"]["sizeLimit"]) < quantity(limit)


@every_service
def test_resources_are_requested_and_limited(service: dict[str, Any]) -> None:
    resources = container(service)["resources"]
    for name in ("cpu", "memory", "ephemeral-storage"):
        assert 0 < quantity(resources["requests"][name]) <= quantity(resources["limits"][name])


@every_service
def test_probes_ask_the_paths_that_the_servers_answer(service: dict[str, Any]) -> None:
    # Not /readyz: a coordinator that stands by would never be ready, and the one that leads would never be told to end.
    assert container(service)["readinessProbe"]["httpGet"] == {"path": "/healthz"}
    assert container(service)["livenessProbe"]["httpGet"] == {"path": "/healthz"}


@every_service
def test_each_role_has_a_service_account_of_its_own_without_a_token(service: dict[str, Any]) -> None:
    accounts = manifests("ServiceAccount")
    assert accounts[revision(service)["serviceAccountName"]]["automountServiceAccountToken"] is False
    assert revision(service)["automountServiceAccountToken"] is False


@every_service
def test_secrets_come_by_reference_and_are_told_of_in_the_docs(service: dict[str, Any]) -> None:
    docs = (REPOSITORY / "docs" / "deploy.md").read_text()
    secret = {"FRAZIL_TASK_KEYS", "FRAZIL_TOKEN", "FRAZIL_STORE_OPTIONS"}
    for variable in container(service)["env"]:
        if variable["name"] in secret:
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "frazil-secrets"
            assert f"--from-literal={reference['key']}=" in docs
    for key in SETTINGS:
        assert f"`{key}`" in docs


@every_function
def test_functions_start_with_what_their_manifest_gives_them(service: dict[str, Any]) -> None:
    settings = FunctionSettings.from_env(environment(service))
    assert settings.task_keys
    assert settings.store_url == SETTINGS["store-url"]
    assert settings.memory_limit_bytes is not None
    memory = quantity(container(service)["resources"]["limits"]["memory"])
    assert memory / 2 < settings.memory_limit_bytes < memory / FATAL_FACTOR
    threads = environment(service)["POLARS_MAX_THREADS"]
    assert float(threads) == quantity(container(service)["resources"]["limits"]["cpu"])


def test_the_coordinator_sends_to_the_small_functions_and_never_more_than_they_take() -> None:
    found = environment(COORDINATOR)
    assert found["FRAZIL_PLATFORM"] == "knative"
    assert found["FRAZIL_FUNCTION_URL"] == "http://frazil-function-small.default.svc.cluster.local/"
    in_flight = Settings.from_env(found).max_in_flight
    assert in_flight is not None
    assert in_flight <= min(800, 0.9 * int(scaling(FUNCTIONS["frazil-function-small"])[f"{AUTOSCALING}max-scale"]))


def test_queries_are_planned_for_the_memory_that_functions_have() -> None:
    function = FunctionSettings.from_env(environment(FUNCTIONS["frazil-function-small"]))
    limits = container(FUNCTIONS["frazil-function-small"])["resources"]["limits"]
    settings = Settings.from_env(environment(COORDINATOR))
    assert settings.function_memory_bytes == function.memory_limit_bytes
    assert (settings.function_vcpus, settings.function_gib * 2**30) == (quantity(limits["cpu"]), quantity(limits["memory"]))


def test_both_sides_share_keys_and_store() -> None:
    for name in ("FRAZIL_TASK_KEYS", "FRAZIL_STORE_URL", "FRAZIL_STORE_OPTIONS"):
        sides = [next(each for each in container(one)["env"] if each["name"] == name) for one in SERVICES.values()]
        assert all(each == sides[0] for each in sides)
