"""The objects of a deployment, the pure part: release, order, comparison, and the list of what was applied."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
import yaml

from frazil_coordinator.platform.knative.models import (
    COMPONENT_LABEL,
    IMAGE_ANNOTATION,
    LARGE,
    POLARS_LABEL,
    RELEASE_LABEL,
    SIZE_LABEL,
    SMALL,
    Object,
)
from frazil_coordinator.platform.knative.releases import release_id, service_name
from frazil_functions.errors import RequestError

__all__ = [
    "INVENTORY",
    "KEPT_KINDS",
    "MANAGED_LABEL",
    "MANAGER",
    "Reference",
    "difference",
    "in_order",
    "inventory_object",
    "is_function",
    "is_knative",
    "labelled",
    "read_inventory",
    "reference",
    "with_release",
]

MANAGER: Final = "frazil-deploy"
MANAGED_LABEL: Final = "app.kubernetes.io/managed-by"
INVENTORY: Final = "frazil-deployment"
"""ConfigMap with what was applied."""

KEPT_KINDS: Final = frozenset({"Namespace", "PersistentVolumeClaim", "Secret"})
"""What may hold data of the user's: applied where the manifests have it, and never deleted."""

_ORDER: Final = (
    "Namespace", "PriorityClass", "ResourceQuota", "LimitRange", "ServiceAccount", "Secret", "ConfigMap", "ClusterRole",
    "Role", "ClusterRoleBinding", "RoleBinding", "NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget",
    "StatefulSet", "Deployment", "DaemonSet",
)  # fmt: skip
"""What others need comes first; Knative Services come last, functions before the coordinator."""

_NOISE: Final = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink")


class Reference(msgspec.Struct, frozen=True, order=True):
    """Which object."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


def reference(obj: Object, namespace: str = "") -> Reference:
    """Return which object it is."""
    meta = obj["metadata"]
    return Reference(obj["apiVersion"], obj["kind"], meta.get("namespace") or namespace, meta["name"])


def is_knative(obj: Object) -> bool:
    """Return whether it is a Knative Service."""
    return bool(obj["kind"] == "Service" and str(obj["apiVersion"]).startswith("serving.knative.dev/"))


def is_function(obj: Object) -> bool:
    """Return whether it is a function service."""
    return is_knative(obj) and obj["metadata"].get("labels", {}).get(COMPONENT_LABEL) == "function"


def in_order(objects: Iterable[Object]) -> list[Object]:
    """Return objects in the order in which they are applied."""

    def rank(obj: Object) -> tuple[int, str]:
        if is_knative(obj):
            return len(_ORDER) + (1 if is_function(obj) else 2), str(obj["metadata"]["name"])
        known = _ORDER.index(obj["kind"]) if obj["kind"] in _ORDER else len(_ORDER)
        return known, str(obj["metadata"]["name"])

    return sorted(objects, key=rank)


def labelled(objects: Iterable[Object]) -> list[Object]:
    """Return objects with the label by which they are known to be ours."""
    found = [copy.deepcopy(each) for each in objects]
    for each in found:
        each["metadata"].setdefault("labels", {})[MANAGED_LABEL] = MANAGER
    return found


def with_release(objects: Iterable[Object], polars: str) -> tuple[list[Object], str]:
    """Return objects with function services that are named by their release, and the release.

    Parameters
    ----------
    objects
        As kustomize made them.
    polars
        Version in the functions' image.

    Raises
    ------
    RequestError
        When there is no function service, or those that there are have several images.
    """
    found = [copy.deepcopy(each) for each in objects]
    functions = [each for each in found if is_function(each)]
    images = {_container(each)["image"] for each in functions}
    if len(images) != 1:
        raise RequestError(f"the function services must have one image, and have {', '.join(sorted(images)) or 'none'}")
    (image,) = images
    release = release_id(polars, image)
    names: dict[str, str] = {}
    for each in functions:
        meta, template = each["metadata"], each["spec"]["template"].setdefault("metadata", {})
        names[meta["name"]] = service_name(meta["name"], release)
        size = LARGE if "large" in meta["name"] else SMALL
        own = {RELEASE_LABEL: release, POLARS_LABEL: polars, SIZE_LABEL: meta["labels"].get(SIZE_LABEL, size)}
        meta["labels"] = {**meta["labels"], **own}
        meta["annotations"] = {**meta.get("annotations", {}), IMAGE_ANNOTATION: image}
        template["labels"] = {**template.get("labels", {}), **own}
        meta["name"] = names[meta["name"]]
    for each in found:
        if is_knative(each) and not is_function(each):
            _point_to(each, release, names)
    return found, release


def _container(service: Object) -> dict[str, Any]:
    first: dict[str, Any] = service["spec"]["template"]["spec"]["containers"][0]
    return first


def _point_to(coordinator: Object, release: str, names: Mapping[str, str]) -> None:
    """Let the coordinator begin queries on a release; by URL, where it may not ask the cluster."""
    env = _container(coordinator).setdefault("env", [])
    for variable in env:
        if variable["name"] == "FRAZIL_FUNCTION_URL" and "value" in variable:
            for old, new in names.items():
                variable["value"] = variable["value"].replace(f"//{old}.", f"//{new}.")
    env[:] = [each for each in env if each["name"] != "FRAZIL_RELEASE"]
    env.append({"name": "FRAZIL_RELEASE", "value": release})


# Comparison


def _plain(obj: Object | None) -> str:
    if obj is None:
        return ""
    shown = {name: value for name, value in copy.deepcopy(obj).items() if name != "status"}
    shown["metadata"] = {name: value for name, value in shown["metadata"].items() if name not in _NOISE}
    if shown["kind"] == "Secret":
        for part in ("data", "stringData"):
            shown[part] = dict.fromkeys(shown.get(part) or {}, "(not shown)")
    return yaml.safe_dump(shown, sort_keys=True)


def difference(live: Object | None, new: Object | None, name: str) -> str:
    """Return what changes of an object as a unified diff; empty when nothing does. Values of Secrets are not shown."""
    lines = difflib.unified_diff(
        _plain(live).splitlines(), _plain(new).splitlines(), f"live/{name}", f"deployed/{name}", lineterm=""
    )
    return "\n".join(lines)


# The list of what was applied


def inventory_object(references: Iterable[Reference], namespace: str, release: str) -> Object:
    """Return the ConfigMap that holds what was applied."""
    data = {
        "objects": msgspec.json.format(msgspec.json.encode(sorted(set(references)))).decode(),
        "release": release,
    }
    meta = {"name": INVENTORY, "namespace": namespace, "labels": {MANAGED_LABEL: MANAGER}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def read_inventory(obj: Object | None) -> frozenset[Reference]:
    """Return what was applied.

    Raises
    ------
    RequestError
        When the list can't be read.
    """
    if obj is None:
        return frozenset()
    try:
        return frozenset(msgspec.json.decode(obj["data"]["objects"], type=list[Reference]))
    except (KeyError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise RequestError(f"the ConfigMap {INVENTORY} can't be read ({error}): correct or delete it") from error
