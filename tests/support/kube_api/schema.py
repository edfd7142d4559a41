"""What the double refuses of an object: by the CRD's schema (422), by strict decoding (400), by Knative's webhook (400).

Where Knative's published CRDs are not on the machine, a schema in few words takes their place: the fields of a Service that
our manifests use. What the webhook says is in our own words, as its rules are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from support.crd import crd_schema, violations
from support.kube_api.fields import Object

__all__ = ["Refused", "check"]

FLAGS_ON = frozenset({"kubernetes.podspec-volumes-emptydir", "kubernetes.podspec-init-containers"})
"""Feature flags of Knative Serving that are on by default."""


class Refused(Exception):
    """The object is refused."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


_ANY: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_LIST: Object = {"type": "array", "items": _ANY}
_FLAGGED: Object = {
    "affinity": _ANY,
    "nodeSelector": _ANY,
    "priorityClassName": {"type": "string"},
    "tolerations": _LIST,
    "topologySpreadConstraints": _LIST,
}


def _flagged(name: str, shape: Object) -> Object:
    return {**shape, "description": f"This is accessible behind a feature flag - kubernetes.podspec-{name.lower()}"}


_POD: Object = {
    "type": "object",
    "required": ["containers"],
    "properties": {
        "containers": _LIST,
        "volumes": _LIST,
        "containerConcurrency": {"type": "integer"},
        "timeoutSeconds": {"type": "integer"},
        "responseStartTimeoutSeconds": {"type": "integer"},
        "idleTimeoutSeconds": {"type": "integer"},
        "serviceAccountName": {"type": "string"},
        "automountServiceAccountToken": {"type": "boolean"},
        "enableServiceLinks": {"type": "boolean"},
        "imagePullSecrets": _LIST,
        "securityContext": _ANY,
        "terminationGracePeriodSeconds": {"type": "integer"},
        **{name: _flagged(name, shape) for name, shape in _FLAGGED.items()},
    },
}
_IN_FEW_WORDS: Object = {
    "type": "object",
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": _ANY,
        "spec": {
            "type": "object",
            "properties": {
                "template": {"type": "object", "properties": {"metadata": _ANY, "spec": _POD}},
                "traffic": _LIST,
            },
        },
        "status": _ANY,
    },
}


@cache
def _schema(kind: str) -> Object | None:
    if kind not in ("Service", "Revision", "Route", "Configuration"):
        return None
    try:
        return crd_schema(f"serving/{kind.lower()}.yaml")
    except pytest.skip.Exception:
        return _IN_FEW_WORDS if kind == "Service" else None


def check(new: Object, live: Object | None, *, strict: bool, flags: frozenset[str], most_timeout_s: int) -> None:
    """Refuse what a cluster with Knative Serving refuses; without `strict`, take away what its schemas do not know.

    Raises
    ------
    Refused
        With the code and the words of the API server.
    """
    if not str(new["apiVersion"]).startswith("serving.knative.dev/"):
        return
    schema = _schema(new["kind"])
    shown = {name: value for name, value in new.items() if name != "metadata"} | {"metadata": {}}
    found = [] if schema is None else list(violations(shown, schema))
    unknown = [each.removesuffix(": unknown field").lstrip(".") for each in found if each.endswith(": unknown field")]
    if unknown and strict:
        words = ", ".join(f'unknown field "{each}"' for each in unknown)
        raise Refused(400, "BadRequest", f"strict decoding error: {words}")
    for each in unknown:
        _prune(new, each)
    flagged = [each for each in found if ": behind the feature flag " in each]
    wrong = [each.lstrip(".") for each in found if each not in flagged and not each.endswith(": unknown field")]
    if wrong:
        where = f'{new["kind"]}.serving.knative.dev "{new["metadata"]["name"]}" is invalid'
        raise Refused(422, "Invalid", f"{where}: {'; '.join(wrong)}")
    refusals = [
        f"must not set the field(s): {each.partition(':')[0].lstrip('.')}"
        for each in flagged
        if each.rsplit(" ", 1)[-1] not in FLAGS_ON | flags
    ]
    refusals += list(_webhook(new, live, most_timeout_s))
    if refusals:
        hook = 'admission webhook "validation.webhook.serving.knative.dev" denied the request: validation failed: '
        raise Refused(400, "BadRequest", hook + "\n".join(refusals))


def _prune(node: Any, path: str) -> None:
    """Take a field that the schema does not know away, as the API server does without a word."""
    *above, last = re.findall(r"[^.\[\]]+", path)
    for name in above:
        node = node[int(name)] if isinstance(node, list) else node[name]
    del node[last]


def _webhook(new: Object, live: Object | None, most_timeout_s: int) -> list[str]:
    if new["kind"] == "Revision":
        changed = live is not None and live["spec"] != new["spec"]
        return ["Immutable fields changed (-old +new): spec"] if changed else _scales(new["metadata"], "metadata")
    if new["kind"] != "Service" or "template" not in new["spec"]:
        return []
    template = new["spec"]["template"]
    found = _scales(template.get("metadata", {}), "spec.template.metadata")
    spec = template.get("spec", {})
    longest = spec.get("timeoutSeconds", 300)
    if longest > most_timeout_s:
        found.append(f"expected 0 <= {longest} <= {most_timeout_s}: spec.template.spec.timeoutSeconds")
    if spec.get("responseStartTimeoutSeconds", 0) > longest:
        found.append(f"responseStartTimeoutSeconds must not exceed timeoutSeconds ({longest}): spec.template.spec")
    containers = spec.get("containers", [])
    found += [
        f"missing field(s): spec.template.spec.containers[{number}].image"
        for number, each in enumerate(containers)
        if not each.get("image")
    ]
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", new["metadata"]["name"]):
        found.append("not a DNS 1035 label: metadata.name")
    return found


def _scales(metadata: Mapping[str, Any], where: str) -> list[str]:
    annotations = metadata.get("annotations", {})
    found, scales = [], {}
    for name in ("min-scale", "max-scale"):
        text = annotations.get(f"autoscaling.knative.dev/{name}", "0")
        if not re.fullmatch(r"\d+", str(text)) or not isinstance(text, str):
            found.append(f"invalid value: {text}: {where}.annotations.autoscaling.knative.dev/{name}")
        else:
            scales[name] = int(text)
    if len(scales) == 2 and 0 < scales["max-scale"] < scales["min-scale"]:
        found.append(f"max-scale={scales['max-scale']} is less than min-scale={scales['min-scale']}: {where}.annotations")
    return found
