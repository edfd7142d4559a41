"""Checking a manifest against the OpenAPI schema of its CRD, more strictly than a cluster does: unknown fields are errors.

A cluster prunes a misspelt field without a word, so a schema check that lets it pass would miss the commonest mistake.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import yaml

__all__ = ["REPOSITORY", "Node", "crd_schema", "violations"]

REPOSITORY = Path(__file__).parents[2]

Node: TypeAlias = "dict[str, Node] | list[Node] | str | int | float | bool | None"
Schema: TypeAlias = "dict[str, object]"

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def crd_schema(relative: str) -> Schema:
    """Return the schema of a CRD; skip the test where Knative's CRDs are not to be found.

    Parameters
    ----------
    relative
        Path below ``FRAZIL_KNATIVE_CRDS`` (by default ``../shared/knative-crds`` beside the repository).
    """
    place = os.environ.get("FRAZIL_KNATIVE_CRDS")
    path = (Path(place) if place else REPOSITORY.parent / "shared" / "knative-crds") / relative
    if not path.exists():
        pytest.skip("Knative's CRDs are not here: set FRAZIL_KNATIVE_CRDS to their folder")
    return _read(path)


@functools.cache
def _read(path: Path) -> Schema:
    version = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]["versions"][0]
    found: Schema = version["schema"]["openAPIV3Schema"]
    return found


def violations(node: Node, schema: Schema, path: str = "") -> Iterator[str]:
    """Yield what is wrong with `node`, and each use of a field that stands behind a feature flag, as ``path: words``."""
    description = str(schema.get("description", ""))
    if "behind a feature flag" in description:
        yield f"{path}: behind the feature flag {description.rsplit(' ', 1)[-1]}"
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(node, int | str):
            yield f"{path}: neither a number nor text"
        return
    kind = schema.get("type")
    if isinstance(kind, str) and (not isinstance(node, _TYPES[kind]) or (kind != "boolean" and isinstance(node, bool))):
        yield f"{path}: not of type {kind}"
        return
    if isinstance(node, dict):
        yield from _object_violations(node, schema, path)
    elif isinstance(node, list):
        items = schema.get("items")
        for number, item in enumerate(node):
            if isinstance(items, dict):
                yield from violations(item, items, f"{path}[{number}]")
    choices = schema.get("enum")
    if isinstance(choices, list) and node not in choices:
        yield f"{path}: not one of {choices}"


def _object_violations(node: dict[str, Node], schema: Schema, path: str) -> Iterator[str]:
    required, properties, additional = schema.get("required"), schema.get("properties"), schema.get("additionalProperties")
    for name in required if isinstance(required, list) else ():
        if name not in node:
            yield f"{path}.{name}: missing"
    free = schema.get("x-kubernetes-preserve-unknown-fields") or (properties is None and additional is None)
    for name, value in node.items():
        below = properties.get(name) if isinstance(properties, dict) else None
        below = below if below is not None else additional
        if isinstance(below, dict):
            yield from violations(value, below, f"{path}.{name}")
        elif not free:
            yield f"{path}.{name}: unknown field"
