"""The members of raw plan nodes: where they refer to other nodes, and where they hide Python objects.

:mod:`frazil_functions.arena` builds on this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias, cast

__all__ = [
    "FRAME_MEMBERS",
    "INLINE_MEMBER",
    "INPUT_MEMBERS",
    "REFERENCE",
    "Raw",
    "has_strays",
    "map_references",
    "python_kinds",
    "raw_children",
    "usual_inputs",
]

Raw: TypeAlias = dict[str, object]
"""A node (or an expression) as decoded from MessagePack: one key, the kind, with its members."""

INPUT_MEMBERS: Final = ("input", "input_left", "input_right", "inputs", "contexts")
INLINE_MEMBER: Final = "inputs"
"""Polars writes the inputs of Union and HConcat as nodes, not as references to nodes, and reads nothing else."""

FRAME_MEMBERS: Final = ("df", "on_columns")
"""Members that refer to an in-memory frame: of a DataFrameScan its rows, of a Pivot its columns."""

_USUAL_MEMBERS: Final = frozenset((*INPUT_MEMBERS, *FRAME_MEMBERS))
REFERENCE: Final = frozenset({"idx", "version"})
"""Members of a reference, as Polars writes it."""

_PYTHON_KINDS: Final = frozenset(
    {
        "PythonScan",
        "OpaquePython",
        "PipeWithSchema",
        "AnonymousFunction",
        "AnonymousAgg",
        "AnonymousStreamingAgg",
        "PythonUdf",
    }
)
_PYTHON_FUNCTION_MARK: Final = b"PLPYFN"
_PICKLE_AT: Final = 3
"""Offset of the pickle in a Python object that polars serialised: one byte of flags, two of the Python version."""


def raw_children(node: Raw) -> Iterator[tuple[str, int | None, object]]:
    """Yield ``(member, position, value)`` for every plan input of `node`; position is None for a single input."""
    for payload in node.values():
        if not isinstance(payload, dict):
            continue
        for member in INPUT_MEMBERS:
            value = payload.get(member)
            if isinstance(value, dict):
                yield member, None, value
            elif isinstance(value, list):
                yield from ((member, position, item) for position, item in enumerate(value))


def has_strays(node: Raw) -> bool:
    """Return whether a node refers to others from elsewhere than the usual members, as SQL and sub-plans do."""
    (payload,) = node.values()
    if not isinstance(payload, dict):
        return False
    stack: list[object] = [value for member, value in payload.items() if member not in _USUAL_MEMBERS]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if value.keys() == REFERENCE:
                return True
            stack.extend(value.values())
        elif isinstance(value, list) and not (value and isinstance(value[0], int)):
            stack.extend(value)
    return False


def usual_inputs(payload: object) -> list[int]:
    """Return the node numbers in the usual members of a node, in order."""
    found: list[int] = []
    if isinstance(payload, dict):
        for member in INPUT_MEMBERS:
            value = payload.get(member)
            if isinstance(value, int):
                found.append(value)
            elif isinstance(value, list):
                found += [item for item in value if isinstance(item, int)]
    return found


def map_references(payload: object, change: Callable[[int], int], *, usual: bool = True, strays: bool) -> object:
    """Return a copy of a node's members with every node number changed; the usual members first, then the strays.

    Numbers stand bare in the usual members, and as ``{"idx", "version"}`` anywhere else.
    """
    if not isinstance(payload, dict):
        return payload
    changed = dict(payload)
    for member in INPUT_MEMBERS if usual else ():
        value = changed.get(member)
        if isinstance(value, int):
            changed[member] = change(value)
        elif isinstance(value, list):
            changed[member] = [change(item) if isinstance(item, int) else item for item in value]
    if not strays:
        return changed

    def deep(value: object) -> object:
        if isinstance(value, dict):
            if value.keys() == REFERENCE:
                return {"idx": change(cast("int", value["idx"])), "version": 1}
            return {name: deep(inner) for name, inner in value.items()}
        return [deep(inner) for inner in value] if isinstance(value, list) else value

    changed |= {member: deep(value) for member, value in changed.items() if member not in _USUAL_MEMBERS}
    return changed


def python_kinds(values: Iterable[object]) -> Iterator[str]:
    """Yield what Python objects raw nodes hold, e.g. ``"PythonScan"``; nothing is unpickled."""
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            for name, member in value.items():
                if name in _PYTHON_KINDS:
                    yield str(name)
                elif name == "credential_provider" and member is not None:
                    yield "credential provider"
                elif name == "apply" and member is not None:
                    yield "map_groups"
                stack.append(member)
        elif isinstance(value, list):
            if len(value) > _PICKLE_AT + 1 and all(isinstance(item, int) for item in value[: _PICKLE_AT + 2]):
                if _is_pickle(bytes(item & 0xFF for item in value[: _PICKLE_AT + 2])):
                    yield "pickled object"
            else:
                stack.extend(value)
        elif isinstance(value, bytes) and (value.startswith(_PYTHON_FUNCTION_MARK) or _is_pickle(value)):
            yield "pickled object"


def _is_pickle(data: bytes) -> bool:
    return any(data[at : at + 1] == b"\x80" and data[at + 1 : at + 2] in (b"\x04", b"\x05") for at in (0, _PICKLE_AT))
