"""Server-side apply: who owns which field, and what an apply or another write does to that.

Fields are the paths of an object's leaves. Lists are one leaf, as the schemas of Knative and those of rules and subjects say
(``x-kubernetes-list-type: atomic``); lists that Kubernetes merges by key are not merged here. What an owner has is kept as
``managedFields`` in the form that the real API server gives (FieldsV1).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Conflict", "ConflictsError", "Object", "applied", "merged", "written"]

Object: TypeAlias = dict[str, Any]
Path: TypeAlias = tuple[str, ...]

_NOT_OWNED: frozenset[Path] = frozenset(
    {("apiVersion",), ("kind",)}
    | {("metadata", name) for name in ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp")}
    | {("metadata", "managedFields"), ("metadata", "deletionTimestamp")}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A field that somebody else owns with another value."""

    manager: str
    path: str


class ConflictsError(Exception):
    """An apply without force met fields of others."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        super().__init__()
        self.conflicts = conflicts


def _leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if path in _NOT_OWNED:
        return
    if isinstance(node, dict) and (node or not path):
        for name, value in node.items():
            yield from _leaves(value, (*path, name))
    elif path:
        yield path, node


def _owned(entry: Mapping[str, Any]) -> set[Path]:
    def walk(node: Mapping[str, Any], path: Path) -> Iterator[Path]:
        for name, below in node.items():
            here = (*path, name.removeprefix("f:"))
            if below:
                yield from walk(below, here)
            else:
                yield here

    return set(walk(entry["fieldsV1"], ()))


def _entry(manager: str, operation: str, api_version: str, paths: set[Path]) -> Object:
    fields: Object = {}
    for path in sorted(paths):
        node = fields
        for name in path:
            node = node.setdefault(f"f:{name}", {})
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _owners(live: Object) -> dict[tuple[str, str], set[Path]]:
    return {(each["manager"], each["operation"]): _owned(each) for each in live["metadata"].get("managedFields", [])}


def _with_owners(live: Object, owners: Mapping[tuple[str, str], set[Path]]) -> Object:
    version = live["apiVersion"]
    live["metadata"]["managedFields"] = [_entry(*owner, version, paths) for owner, paths in owners.items() if paths]
    return live


_MISSING = object()


def _at(node: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(node, dict) or name not in node:
            return _MISSING
        node = node[name]
    return node


def _put(node: Object, path: Path, value: Any) -> None:
    for name in path[:-1]:
        below = node.get(name)
        node[name] = node = below if isinstance(below, dict) else {}
    if value != {} or not isinstance(node.get(path[-1]), dict):  # an empty map takes nothing away
        node[path[-1]] = copy.deepcopy(value)


def _drop(node: Object, path: Path) -> None:
    first, *rest = path
    below = node.get(first)
    if not rest:
        node.pop(first, None)
    elif isinstance(below, dict):
        _drop(below, tuple(rest))
        if not below:
            del node[first]


def applied(live: Object | None, wanted: Object, manager: str, *, force: bool) -> Object:
    """Return the object after ``manager`` has applied ``wanted``.

    Raises
    ------
    ConflictsError
        Without `force`, when fields of others have other values.
    """
    mine, fields = (manager, "Apply"), dict(_leaves(wanted))
    fields = {path: value for path, value in fields.items() if path[:1] != ("status",)}
    if live is None:
        made = copy.deepcopy(wanted)
        made.pop("status", None)
        return _with_owners(made, {mine: set(fields)})
    owners, made = _owners(live), copy.deepcopy(live)
    changed = {path for path, value in fields.items() if _at(live, path) not in (_MISSING, value) and value != {}}
    foreign = [
        Conflict(manager=owner, path="." + ".".join(path))
        for (owner, operation), paths in owners.items()
        for path in sorted(paths & changed)
        if (owner, operation) != mine
    ]
    if foreign and not force:
        raise ConflictsError(foreign)
    for owner in owners:
        if owner != mine:
            owners[owner] -= changed
    elsewhere = set().union(*(paths for owner, paths in owners.items() if owner != mine))
    for path in owners.get(mine, set()) - fields.keys() - elsewhere:
        _drop(made, path)
    for path, value in fields.items():
        _put(made, path, value)
    return _with_owners(made, {**owners, mine: set(fields)})


def written(live: Object | None, new: Object, manager: str) -> Object:
    """Return ``new`` as ``manager`` wrote it by other means than apply: what it changed is its own."""
    owners = {} if live is None else _owners(live)
    before, after = {} if live is None else dict(_leaves(live)), dict(_leaves(new))
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    for owner, paths in owners.items():
        owners[owner] = (paths - changed) & after.keys()
    mine = (manager, "Update")
    return _with_owners(copy.deepcopy(new), {**owners, mine: owners.get(mine, set()) | changed})


def merged(node: Any, patch: Any) -> Any:
    """Return what a JSON merge patch (RFC 7386) makes of ``node``; a strategic one of maps is the same."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    made = dict(node) if isinstance(node, dict) else {}
    for name, value in patch.items():
        if value is None:
            made.pop(name, None)
        else:
            made[name] = merged(made.get(name), value)
    return made
