"""Every overlay and every component as kustomize renders it: valid, whole, within its quota.

That the checks find what is wrong is shown by test_broken_manifests.py.
"""

from __future__ import annotations

import copy
import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml

from frazil_coordinator.events.cloudevents import CloudEvent
from frazil_coordinator.events.formats import PING_TYPE, told_by_cloudevent
from frazil_coordinator.identity import reviews
from frazil_coordinator.settings import Settings
from frazil_functions.memory import FATAL_FACTOR
from support.crd import REPOSITORY
from support.kustomize import kustomized
from support.manifests import Resource, flags, pod_spec, rights, schema_problems
from support.quantities import quantity
from support.references import SECRETS, reference_problems

KNATIVE = REPOSITORY / "knative"
DOCS = (REPOSITORY / "docs" / "deploy.md").read_text()
# Terraform writes overlays of its own beside ours (terraform/modules/frazil).
OVERLAYS = sorted(path.name for path in (KNATIVE / "overlays").iterdir() if not path.name.startswith("terraform-"))
COMPONENTS = sorted(path.name for path in (KNATIVE / "components").iterdir())
BEFORE: Final = {
    "kafka-broker": ("eventing",),
    "source-seaweedfs": ("seaweedfs",),
    "source-sqs": ("eventing",),
    "token-review": ("tenants",),
}
"""What a component's comment says that must be named before it; network-policies is always first here."""

RIGHTS: Final = {
    "token-review": {("authentication.k8s.io", "tokenreviews", "create")},
    "prescale": {
        *(("serving.knative.dev", "services", verb) for verb in ("list", "watch", "patch", "delete")),
        *(("serving.knative.dev", "revisions", verb) for verb in ("get", "list", "patch")),
    },
}
"""What the coordinator may ask of the API server, by component."""

Render = Callable[..., list[Resource]]

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
every_component = pytest.mark.parametrize("component", COMPONENTS)


@functools.cache
def overlaid(overlay: str) -> list[Resource]:
    return kustomized(KNATIVE / "overlays" / overlay)


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Render the base with components, in the order given; each combination once."""
    folder = tmp_path_factory.mktemp("overlays") / "knative"
    shutil.copytree(KNATIVE, folder)

    @functools.cache
    def rendered(*components: str) -> list[Resource]:
        overlay = folder / "overlays" / ("-".join(components) or "none")
        overlay.mkdir()
        document = {
            "namespace": "default",
            "resources": ["../../base"],
            "components": [f"../../components/{name}" for name in components],
        }
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document))
        return kustomized(overlay)

    return rendered


def with_what_it_needs(component: str) -> tuple[str, ...]:
    first = () if component == "network-policies" else ("network-policies",)
    return (*first, *BEFORE.get(component, ()), component)


def kustomization(component: str) -> Resource:
    document: Resource = yaml.safe_load((KNATIVE / "components" / component / "kustomization.yaml").read_text())
    return document


def annotated(component: str, name: str) -> set[str]:
    found = kustomization(component).get("metadata", {}).get("annotations", {}).get(f"frazil.dev/{name}", "")
    return set(filter(None, found.split(",")))


def find(resources: list[Resource], kind: str, name: str) -> Resource:
    (found,) = [each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def container(service: Resource) -> Resource:
    (found,) = service["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@every_overlay
def test_an_overlay_is_valid_by_the_schemas_and_refers_to_nothing_that_is_not_there(overlay: str) -> None:
    resources = overlaid(overlay)
    assert [problem for each in resources for problem in schema_problems(each)] == []
    assert reference_problems(resources) == []


@every_component
def test_a_component_is_valid_by_the_schemas_and_refers_to_nothing_that_is_not_there(component: str, render: Render) -> None:
    resources = render(*with_what_it_needs(component))
    assert [problem for each in resources for problem in schema_problems(each)] == []
    assert reference_problems(resources) == []


def test_all_components_go_together(render: Render) -> None:
    ordered = list(dict.fromkeys(name for each in ("network-policies", *COMPONENTS) for name in with_what_it_needs(each)))
    resources = render(*ordered)
    assert [problem for each in resources for problem in schema_problems(each)] == []
    assert reference_problems(resources) == []


def test_the_base_needs_no_feature_flag_that_is_off_by_default(render: Render) -> None:
    assert flags(render()) == set()


@every_component
def test_a_component_names_the_feature_flags_that_it_needs_and_so_do_the_docs(component: str, render: Render) -> None:
    assert flags(render(*with_what_it_needs(component))) == annotated(component, "feature-flags")
    (row,) = re.findall(rf"^\| `{component}` \|.*$", DOCS, re.MULTILINE)
    for each in annotated(component, "feature-flags") | annotated(component, "extensions"):
        assert f"`{each}`" in row


@every_component
def test_each_file_of_a_component_is_named_in_its_kustomization_and_holds_one_resource(component: str) -> None:
    document = kustomization(component)
    assert document["kind"] == "Component"
    listed = [*document.get("resources", []), *(patch["path"] for patch in document.get("patches", []))]
    files = [path for path in (KNATIVE / "components" / component).iterdir() if path.name != "kustomization.yaml"]
    assert sorted(listed) == sorted(path.name for path in files)
    for path in files:
        (_,) = yaml.safe_load_all(path.read_text())


@every_overlay
def test_each_file_of_an_overlay_is_named_in_its_kustomization(overlay: str) -> None:
    folder = KNATIVE / "overlays" / overlay
    document = yaml.safe_load((folder / "kustomization.yaml").read_text())
    listed = [each for each in document["resources"] if each.endswith(".yaml")]
    listed += [patch["path"] for patch in document["patches"]]
    assert sorted(listed) == sorted(path.name for path in folder.iterdir() if path.name != "kustomization.yaml")


@every_overlay
def test_no_resource_that_an_overlay_patches_is_left_as_it_was_by_a_target_that_nobody_has(overlay: str) -> None:
    """Kustomize takes a patch with a target that selects nothing without a word."""
    resources = overlaid(overlay)
    folder = KNATIVE / "overlays" / overlay
    for patch in yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]:
        target = patch.get("target")
        if target is not None:
            names = [each["metadata"]["name"] for each in resources if each["kind"] == target["kind"]]
            assert any(re.fullmatch(target.get("name", ".*"), name) for name in names), patch


@every_overlay
def test_the_namespace_of_an_overlay_is_held_to_the_strictest_pod_security_standard(overlay: str) -> None:
    resources = overlaid(overlay)
    (namespace,) = [each for each in resources if each["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for spec in filter(None, map(pod_spec, resources)):
        for each in (*spec.get("initContainers", []), *spec["containers"]):
            context = {**spec.get("securityContext", {}), **each["securityContext"]}
            assert context["runAsNonRoot"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert {"cpu", "memory", "ephemeral-storage"} <= each["resources"]["limits"].keys()
            assert {"cpu", "memory", "ephemeral-storage"} <= each["resources"]["requests"].keys()


@every_overlay
def test_functions_end_a_task_before_the_kernel_ends_the_pod_and_the_coordinator_plans_for_that(
    overlay: str,
) -> None:
    resources = overlaid(overlay)
    planned = [
        each for each in container(find(resources, "Service", "frazil-coordinator"))["env"]
        if each["name"] == "FRAZIL_FUNCTION_MEMORY_BYTES"
    ]  # fmt: skip
    for size in ("small", "large"):
        function = container(find(resources, "Service", f"frazil-function-{size}"))
        env = {each["name"]: each.get("value") for each in function["env"]}
        limits = function["resources"]["limits"]
        limit = int(env["FRAZIL_MEMORY_LIMIT_BYTES"])
        assert limit * FATAL_FACTOR < quantity(limits["memory"]) < 2 * limit
        assert float(env["POLARS_MAX_THREADS"]) == quantity(limits["cpu"])
        assert size == "large" or planned[0]["value"] == env["FRAZIL_MEMORY_LIMIT_BYTES"]


@every_overlay
def test_no_more_tasks_are_in_flight_than_an_overlay_has_functions(overlay: str) -> None:
    resources = overlaid(overlay)
    scaling = find(resources, "Service", "frazil-function-small")["spec"]["template"]["metadata"]["annotations"]
    in_flight = int(find(resources, "ConfigMap", "frazil-settings")["data"]["max-in-flight"])
    assert in_flight <= min(800, 0.9 * int(scaling["autoscaling.knative.dev/max-scale"]))
    knobs = Settings.from_env(find(resources, "ConfigMap", "frazil-knobs")["data"])
    limits = container(find(resources, "Service", "frazil-function-small"))["resources"]["limits"]
    assert (knobs.function_vcpus, knobs.function_gib * 2**30) == (quantity(limits["cpu"]), quantity(limits["memory"]))


def most(resources: list[Resource], kind: str, name: str) -> float:
    """Return the most of `name` that the services ask for at once, with a queue-proxy a pod; `kind`: requests or limits."""
    (defaults,) = find(resources, "LimitRange", "frazil")["spec"]["limits"]
    proxy = quantity(defaults["defaultRequest" if kind == "requests" else "default"][name])
    total = 0.0
    for each in resources:
        if each["apiVersion"] == "serving.knative.dev/v1":
            pods = int(each["spec"]["template"]["metadata"]["annotations"]["autoscaling.knative.dev/max-scale"])
            # One more for the coordinator: an update starts the new one before the old one ends.
            pods += each["metadata"]["name"] == "frazil-coordinator"
            total += pods * (quantity(container(each)["resources"][kind][name]) + proxy)
    return total


def test_the_quota_is_what_the_services_can_ask_for_and_not_much_more(render: Render) -> None:
    resources = render("network-policies", "quotas")
    hard = find(resources, "ResourceQuota", "frazil")["spec"]["hard"]
    for kind in ("requests", "limits"):
        for name in ("cpu", "memory", "ephemeral-storage"):
            needed = most(resources, kind, name)
            assert needed <= quantity(hard[f"{kind}.{name}"]) <= 1.2 * needed, (kind, name, needed)


def test_no_container_is_larger_than_the_limit_range_allows(render: Render) -> None:
    resources = render("network-policies", "quotas")
    (limits,) = find(resources, "LimitRange", "frazil")["spec"]["limits"]
    for spec in filter(None, map(pod_spec, resources)):
        for each in spec["containers"]:
            for name, value in each["resources"]["limits"].items():
                assert quantity(value) <= quantity(limits["max"][name])


@every_component
def test_accounts_have_the_rights_that_are_named_here_and_no_other(component: str, render: Render) -> None:
    resources = render(*with_what_it_needs(component))
    plain = rights(render(), "frazil-coordinator")
    assert rights(resources, "frazil-coordinator") - plain == RIGHTS.get(component, set())
    for account in [each["metadata"]["name"] for each in resources if each["kind"] == "ServiceAccount"]:
        assert account == "frazil-coordinator" or rights(resources, account) == set()


def test_the_right_of_token_review_is_that_of_the_request_which_the_coordinator_makes() -> None:
    _, _, group, _, resource = reviews._PATH.split("/")
    assert RIGHTS["token-review"] == {(group, resource, "create")}


def test_a_verb_that_a_role_lost_is_found(render: Render) -> None:
    resources = copy.deepcopy(render("network-policies", "tenants", "token-review"))
    assert rights(resources, "frazil-coordinator") == RIGHTS["token-review"]
    find(resources, "ClusterRole", "frazil-token-review")["rules"][0]["verbs"].remove("create")
    assert rights(resources, "frazil-coordinator") == set()


def test_a_source_whose_pod_knative_makes_lowers_the_standard_of_the_namespace_and_nothing_else_does(tmp_path: Path) -> None:
    shutil.copytree(KNATIVE, tmp_path / "knative")
    path = tmp_path / "knative" / "overlays" / "eks" / "kustomization.yaml"
    document = yaml.safe_load(path.read_text())
    document["components"] += [f"../../components/{name}" for name in ("otel", "eventing", "seaweedfs", "source-seaweedfs")]
    path.write_text(yaml.safe_dump(document))
    enforced = "pod-security.kubernetes.io/enforce"
    assert find(kustomized(path.parent), "Namespace", "frazil")["metadata"]["labels"][enforced] == "restricted"
    document["components"].append("../../components/source-sqs")
    path.write_text(yaml.safe_dump(document))
    assert find(kustomized(path.parent), "Namespace", "frazil")["metadata"]["labels"][enforced] == "baseline"


def test_the_class_of_an_hpa_does_not_go_to_zero_and_large_functions_still_do(render: Render) -> None:
    resources = render("hpa")
    small, large = (
        find(resources, "Service", f"frazil-function-{size}")["spec"]["template"]["metadata"]["annotations"]
        for size in ("small", "large")
    )
    prefix = "autoscaling.knative.dev/"
    assert small[f"{prefix}class"] == "hpa.autoscaling.knative.dev"
    assert (small[f"{prefix}min-scale"], large[f"{prefix}min-scale"]) == ("1", "0")
    assert f"{prefix}target-utilization-percentage" not in small


def test_the_last_sink_is_that_of_the_kafka_broker(render: Render) -> None:
    """Kubernetes takes the last variable of a name."""
    env = container(find(render("eventing", "kafka-broker"), "Service", "frazil-coordinator"))["env"]
    sinks = [each["value"] for each in env if each["name"] == "FRAZIL_EVENTS_SINK"]
    assert sinks[-1] == "http://kafka-broker-ingress.knative-eventing.svc.cluster.local/$(FRAZIL_NAMESPACE)/frazil"


def test_what_the_coordinator_announces_does_not_come_back_to_it(render: Render) -> None:
    spec = find(render("eventing"), "Trigger", "frazil-coordinator")["spec"]
    assert spec["filters"] == [{"not": {"prefix": {"type": "dev.frazil."}}}]
    assert spec["subscriber"]["uri"] == "/"


def test_a_schedule_says_what_the_coordinator_understands(render: Render) -> None:
    spec = find(render("source-schedule"), "PingSource", "frazil-schedule")["spec"]
    event = CloudEvent(id="1", source="/ping", type=PING_TYPE, data=json.loads(spec["data"]))
    assert told_by_cloudevent(event).run == ("my-trigger",)
    assert (spec["contentType"], spec["sink"]["uri"]) == ("application/json", "/")


def test_announcements_go_where_the_command_reads_it(render: Render) -> None:
    env = container(find(render("eventing"), "Service", "frazil-coordinator"))["env"]
    assert "FRAZIL_EVENTS_SINK" in {each["name"] for each in env}
    assert "`FRAZIL_EVENTS_SINK`" in (REPOSITORY / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("secret", SECRETS)
def test_each_secret_that_manifests_refer_to_is_told_of_in_the_docs(secret: str) -> None:
    assert f"secret generic {secret} --namespace frazil" in DOCS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_is_told_of_in_the_docs(overlay: str) -> None:
    assert f"`{overlay}`" in DOCS


def test_what_kustomize_renders_is_in_no_file_of_the_repository() -> None:
    files = [path for path in KNATIVE.rglob("*") if path.is_file() and "terraform-" not in path.parent.name]
    assert {path.suffix for path in files} == {".yaml"}
    for path in files:
        assert len(list(yaml.safe_load_all(path.read_text()))) == 1, path
