"""The checks of the manifests find what is wrong: each case breaks one thing in an overlay, and names what is found."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Final

import pytest

from support.crd import REPOSITORY
from support.kustomize import kustomized
from support.manifests import Resource, flags, schema_problems
from support.references import reference_problems

KNATIVE = REPOSITORY / "knative"


@functools.cache
def _rendered(folder: str) -> list[Resource]:
    return kustomized(KNATIVE / "overlays" / folder)


class Change:
    """One overlay's resources, to be changed by a case."""

    def __init__(self, overlay: str) -> None:
        self.resources = copy.deepcopy(_rendered(overlay))

    def of(self, kind: str, name: str) -> Resource:
        (found,) = [each for each in self.resources if (each["kind"], each["metadata"]["name"]) == (kind, name)]
        return found

    def drop(self, kind: str, name: str) -> None:
        self.resources.remove(self.of(kind, name))

    def pod(self, kind: str, name: str) -> Resource:
        spec: Resource = self.of(kind, name)["spec"]["template"]["spec"]
        return spec

    def container(self, kind: str, name: str) -> Resource:
        container: Resource = self.pod(kind, name)["containers"][0]
        return container

    def problems(self) -> list[str]:
        return [problem for each in self.resources for problem in schema_problems(each)] + reference_problems(self.resources)


def misspelt_field_of_knative(to: Change) -> None:
    to.container("Service", "frazil-coordinator")["imagePullPolice"] = "Always"


def misspelt_field_of_kubernetes(to: Change) -> None:
    to.of("PodDisruptionBudget", "frazil-function")["spec"]["maxUnavailble"] = 1


def number_where_text_belongs(to: Change) -> None:
    to.of("ConfigMap", "frazil-settings")["data"]["max-in-flight"] = 7


def annotation_that_is_no_text(to: Change) -> None:
    to.of("Service", "frazil-function-small")["metadata"]["annotations"] = {"a": 1}


def wrong_port_of_a_service(to: Change) -> None:
    to.of("Service", "frazil-seaweedfs")["spec"]["ports"][0]["targetPort"] = 8334


def wrong_port_of_a_probe(to: Change) -> None:
    to.container("StatefulSet", "frazil-seaweedfs")["readinessProbe"]["httpGet"]["port"] = 9000


def wrong_port_of_a_policy(to: Change) -> None:
    to.of("NetworkPolicy", "frazil-function")["spec"]["ingress"][0]["ports"][0]["port"] = 8080


def autoscaler_shut_out(to: Change) -> None:
    peers = to.of("NetworkPolicy", "frazil-function")["spec"]["ingress"][0]["from"][0]["namespaceSelector"]
    peers["matchExpressions"][0]["values"] = ["kourier-system"]


def account_that_is_not_there(to: Change) -> None:
    to.pod("Service", "frazil-function-large")["serviceAccountName"] = "frazil-functions"


def key_that_is_not_there(to: Change) -> None:
    del to.of("ConfigMap", "frazil-settings")["data"]["log-level"]


def map_that_is_not_there(to: Change) -> None:
    to.drop("ConfigMap", "frazil-knobs")


def secret_that_nobody_is_told_of(to: Change) -> None:
    to.pod("StatefulSet", "frazil-seaweedfs")["volumes"][1]["secret"]["secretName"] = "a-secret"


def volume_that_is_not_there(to: Change) -> None:
    to.container("Service", "frazil-coordinator")["volumeMounts"][0]["name"] = "temp"


def another_namespace_in_the_settings(to: Change) -> None:
    to.of("ConfigMap", "frazil-settings")["data"]["namespace"] = "default"


def resource_in_another_namespace(to: Change) -> None:
    to.of("ServiceAccount", "frazil-function")["metadata"]["namespace"] = "default"


def address_of_nobody(to: Change) -> None:
    variables = to.container("Service", "frazil-coordinator")["env"]
    (url,) = [each for each in variables if each["name"] == "FRAZIL_FUNCTION_URL"]
    url["value"] = url["value"].replace("function-small", "functions-small")


def selector_of_nobody(to: Change) -> None:
    to.of("PodDisruptionBudget", "frazil-function")["spec"]["selector"]["matchLabels"] = {"app": "frazil-function"}


CASES: Final[dict[Callable[[Change], None], str]] = {
    misspelt_field_of_knative: "containers[0].imagePullPolice: unknown field",
    misspelt_field_of_kubernetes: "'maxUnavailble' was unexpected",
    number_where_text_belongs: "ConfigMap frazil-settings.data.max-in-flight",
    annotation_that_is_no_text: "metadata.annotations.a",
    wrong_port_of_a_service: "Service frazil-seaweedfs: no pod that it selects has port 8334",
    wrong_port_of_a_probe: "readinessProbe asks port 9000",
    wrong_port_of_a_policy: "no ingress policy lets Knative reach frazil-function-small on port 8012",
    autoscaler_shut_out: "no ingress policy lets Knative reach frazil-function-small on port 9090",
    account_that_is_not_there: "no ServiceAccount frazil-functions",
    key_that_is_not_there: "no key log-level in ConfigMap frazil-settings",
    map_that_is_not_there: "no ConfigMap frazil-knobs",
    secret_that_nobody_is_told_of: "no Secret a-secret",
    volume_that_is_not_there: "no volume temp",
    another_namespace_in_the_settings: "frazil-settings says namespace default",
    resource_in_another_namespace: "resources are in more than one namespace",
    address_of_nobody: "no Service at frazil-functions-small.frazil.svc.cluster.local",
    selector_of_nobody: "PodDisruptionBudget frazil-function: selects no pod",
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_what_is_broken_is_found(case: Callable[[Change], None]) -> None:
    change = Change("local")
    assert change.problems() == []
    case(change)
    assert CASES[case] in "\n".join(change.problems())


def test_a_class_of_priority_that_is_not_there_is_found() -> None:
    change = Change("gke")
    change.drop("PriorityClass", "frazil-function")
    assert "no PriorityClass frazil-function" in "\n".join(change.problems())


def test_a_way_to_the_store_that_no_policy_opens_is_found() -> None:
    """As when seaweedfs is named before network-policies: its patch then selects nothing."""
    change = Change("local")
    change.container("Service", "frazil-function-small")["env"].append(
        {"name": "STORE", "value": "http://frazil-seaweedfs.frazil.svc.cluster.local:8333"}
    )
    assert change.problems() == []
    egress = change.of("NetworkPolicy", "frazil-function")["spec"]["egress"]
    egress.remove(egress[-1])
    assert "no egress policy lets it reach Service frazil-seaweedfs on port 8333" in "\n".join(change.problems())


def test_a_field_behind_a_flag_is_found() -> None:
    change = Change("local")
    assert flags(change.resources) == set()
    change.pod("Service", "frazil-function-small")["nodeSelector"] = {"a": "b"}
    assert flags(change.resources) == {"kubernetes.podspec-nodeselector"}
