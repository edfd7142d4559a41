"""What is wrong with rendered manifests by themselves: schema, flags, rights.

Knative's kinds are checked against its published CRDs, Kubernetes' own against its OpenAPI schema (wheel
``kubernetes-validate``), both with unknown fields forbidden. Nothing here asks a cluster. How resources refer to each other
is looked at by :mod:`support.references`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import kubernetes_validate

from support.crd import crd_schema, violations

__all__ = [
    "FLAGS_ON_BY_DEFAULT",
    "KUBERNETES",
    "Resource",
    "flags",
    "named",
    "pod_spec",
    "pod_template",
    "rights",
    "schema_problems",
]

Resource: TypeAlias = "dict[str, Any]"

KUBERNETES: Final = "1.37"
"""The version of Kubernetes whose schema is used."""

FLAGS_ON_BY_DEFAULT: Final = frozenset({"kubernetes.podspec-volumes-emptydir"})
_CRDS: Final = {
    ("serving.knative.dev/v1", "Service"): "serving/service.yaml",
    ("eventing.knative.dev/v1", "Broker"): "eventing/broker.yaml",
    ("eventing.knative.dev/v1", "Trigger"): "eventing/trigger.yaml",
    ("sources.knative.dev/v1", "PingSource"): "eventing/pingsource.yaml",
    ("sources.knative.dev/v1alpha1", "IntegrationSource"): "eventing/integrationsource.yaml",
}


def named(resource: Resource) -> str:
    """Return what to call a resource in a message."""
    return f"{resource['kind']} {resource['metadata']['name']}"


def schema_problems(resource: Resource) -> list[str]:
    """Return each field that the schema of the resource's kind does not allow; the use of a flag is none."""
    return list(_schema_problems(json.dumps(resource, sort_keys=True)))


@functools.cache
def _schema_problems(text: str) -> tuple[str, ...]:
    # Once for equal resources: most are the same in most overlays.
    resource: Resource = json.loads(text)
    crd = _CRDS.get((resource["apiVersion"], resource["kind"]))
    if crd is None:
        return tuple(_kubernetes_problems(resource))
    # The API server knows these of any kind; some CRDs name them and some do not.
    own = {name: value for name, value in resource.items() if name not in {"apiVersion", "kind", "metadata"}}
    found = [each for each in violations(own, crd_schema(crd)) if "behind the feature flag" not in each]
    # The schema of metadata is that of any other kind.
    metadata = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": resource["metadata"]}
    return (*(f"{named(resource)}{each}" for each in found), *_kubernetes_problems(metadata))


def _kubernetes_problems(resource: Resource) -> Iterator[str]:
    try:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{named(resource)}.{'.'.join(str(part) for part in error.path)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield f"{named(resource)}: {error.message}"


def flags(resources: Sequence[Resource]) -> set[str]:
    """Return the feature flags of Knative that are off by default and needed."""
    services = [each for each in resources if (each["apiVersion"], each["kind"]) in _CRDS]
    found = {
        problem.rsplit(" ", 1)[-1]
        for each in services
        for problem in violations(each, crd_schema(_CRDS[each["apiVersion"], each["kind"]]))
        if "behind the feature flag" in problem
    }
    return found - FLAGS_ON_BY_DEFAULT


def pod_template(resource: Resource) -> Resource | None:
    """Return the template of the pods that a resource makes; None for one that makes none."""
    template: Resource | None = None
    if (
        resource["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"}
        or resource["apiVersion"] == "serving.knative.dev/v1"
    ):
        template = resource["spec"].get("template")
    return template


def pod_spec(resource: Resource) -> Resource | None:
    """Return the spec of the pods that a resource makes; None for one that makes none."""
    template = pod_template(resource)
    return None if template is None else template["spec"]


def rights(resources: Sequence[Resource], account: str) -> set[tuple[str, str, str]]:
    """Return what a service account may do: API group, resource, verb, of every role that is bound to it."""
    roles = {(each["kind"], each["metadata"]["name"]): each for each in resources if each["kind"] in {"Role", "ClusterRole"}}
    bindings = [each for each in resources if each["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
    bound = [each["roleRef"] for each in bindings if account in [subject["name"] for subject in each["subjects"]]]
    return {
        (group, resource, verb)
        for reference in bound
        for rule in roles[reference["kind"], reference["name"]]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
