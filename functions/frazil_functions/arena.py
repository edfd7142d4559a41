"""A serialised polars plan as an arena of nodes that can be cut, joined and looked through without running it.

``LazyFrame.serialize()`` is a 79-byte header (magic, DSL version, schema hash) followed by MessagePack
``{root, dataframes, dsl_plans}``. Nodes are referred to by ``{"idx", "version"}``. Nothing here deserialises a Python
object, so an arena may be read from strangers; :meth:`Arena.python_functions` tells what must be refused before polars
sees it. The coordinator's planner (``frazil_coordinator.plan.decode``) and the function's
:mod:`frazil_functions.fragment` build on it.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final, TypeAlias, cast

import msgspec
import polars as pl
from polars.exceptions import PolarsError

from frazil_functions.errors import PlanError, PlanVersionError, PythonPlanError
from frazil_functions.task import INPUT_SCHEME

__all__ = ["Arena", "Raw", "plan_header", "raw_children"]

Raw: TypeAlias = dict[str, object]
"""A node (or an expression) as decoded from MessagePack: one key, the kind, with its members."""

_MAGIC: Final = b"DSL_VERSION"
_HEADER_BYTES: Final = 79
_INPUT_MEMBERS: Final = ("input", "input_left", "input_right", "inputs", "contexts")
_INLINE_MEMBER: Final = "inputs"
"""Polars writes the inputs of Union and HConcat as nodes, not as references to nodes, and reads nothing else."""

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


class _Key(msgspec.Struct, frozen=True):
    idx: int
    version: int


class _NodeSlot(msgspec.Struct):
    value: object
    version: int


class _FrameSlot(msgspec.Struct):
    value: msgspec.Raw
    version: int


class _Document(msgspec.Struct):
    root: _Key
    dataframes: list[_FrameSlot]
    dsl_plans: list[_NodeSlot]


_DECODER: Final = msgspec.msgpack.Decoder(_Document)
_ENCODER: Final = msgspec.msgpack.Encoder()
_NIL: Final = msgspec.Raw(b"\xc0")


@cache
def plan_header() -> bytes:
    """Return the 79 bytes with which plans of this version of polars begin."""
    return pl.LazyFrame({"a": [1]}).serialize()[:_HEADER_BYTES]


def raw_children(node: Raw) -> Iterator[tuple[str, int | None, object]]:
    """Yield ``(member, position, value)`` for every plan input of `node`; position is None for a single input."""
    for payload in node.values():
        if not isinstance(payload, dict):
            continue
        for member in _INPUT_MEMBERS:
            value = payload.get(member)
            if isinstance(value, dict):
                yield member, None, value
            elif isinstance(value, list):
                yield from ((member, position, item) for position, item in enumerate(value))


class Arena:
    """Plan nodes by number. Mutable; made by :meth:`decode` or :meth:`of`.

    Attributes
    ----------
    nodes
        Every node, inputs as numbers of other nodes in :meth:`inputs`; inline inputs are given a number of their own.
    root
        Number of the node whose rows are the plan's result.
    """

    def __init__(self) -> None:
        self.nodes: list[Raw] = []
        self._frames: list[msgspec.Raw] = []
        self.root = 0

    @classmethod
    def decode(cls, plan: bytes) -> Arena:
        """Read a serialised plan.

        Raises
        ------
        PlanError
            When the bytes are not a plan, or are cut short.
        PlanVersionError
            When another version of polars wrote them.
        """
        if plan[: len(_MAGIC)] != _MAGIC:
            raise PlanError("not a polars plan: send the bytes of LazyFrame.serialize()")
        if len(plan) <= _HEADER_BYTES:
            raise PlanError("the plan is truncated: send all bytes of LazyFrame.serialize()")
        if plan[:_HEADER_BYTES] != plan_header():
            raise PlanVersionError(
                f"the plan was serialised by another version of polars; this side runs polars {pl.__version__}: "
                f'install "polars=={pl.__version__}" where the query is written'
            )
        try:
            document = _DECODER.decode(memoryview(plan)[_HEADER_BYTES:])
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            raise PlanError(f"the plan is truncated or corrupt: {error}") from error
        arena = cls()
        arena._fill(document)
        return arena

    @classmethod
    def of(cls, lf: pl.LazyFrame) -> Arena:
        """Return the arena of a LazyFrame.

        Raises
        ------
        PythonPlanError
            When the plan holds a Python object that can't be serialised.
        """
        try:
            return cls.decode(lf.serialize())
        except PolarsError as error:
            raise PythonPlanError(f"the plan can't be serialised: {error}") from error

    def _fill(self, document: _Document) -> None:
        self._frames = [slot.value for slot in document.dataframes]
        numbers = {index: number for number, index in enumerate(self._live(document))}
        self.nodes = [cast("Raw", document.dsl_plans[index].value) for index in numbers]
        for number in range(len(self.nodes)):
            self._number_inputs(number, numbers)
        if document.root.idx not in numbers:
            raise PlanError("the plan is corrupt: its root is missing")
        self.root = numbers[document.root.idx]
        self._check_acyclic()

    @staticmethod
    def _live(document: _Document) -> list[int]:
        live = [index for index, slot in enumerate(document.dsl_plans) if slot.value is not None]
        if any(not isinstance(document.dsl_plans[index].value, dict) for index in live):
            raise PlanError("the plan is corrupt: a node is not a map")
        return live

    def _number_inputs(self, number: int, numbers: dict[int, int]) -> None:
        """Replace the references of node `number` by node numbers, and give inline inputs a number."""
        for member, position, value in list(raw_children(self.nodes[number])):
            if not isinstance(value, dict):
                raise PlanError("the plan is corrupt: an input is not a node")
            if value.keys() == {"idx", "version"}:
                if value["idx"] not in numbers:
                    raise PlanError("the plan is corrupt: an input is missing")
                target = numbers[value["idx"]]
            else:
                target = len(self.nodes)
                self.nodes.append(cast("Raw", value))
                self._number_inputs(target, numbers)
            self._set_child(number, member, position, target)

    def _set_child(self, number: int, member: str, position: int | None, target: int) -> None:
        (payload,) = self.nodes[number].values()
        members = cast("dict[str, object]", payload)
        if position is None:
            members[member] = target
        else:
            cast("list[object]", members[member])[position] = target

    def _check_acyclic(self) -> None:
        state: dict[int, bool] = {}
        stack: list[tuple[int, bool]] = [(self.root, False)]
        while stack:
            number, leaving = stack.pop()
            if leaving:
                state[number] = True
            elif number not in state:
                state[number] = False
                stack.append((number, True))
                for child in self.inputs(number):
                    if state.get(child) is False:
                        raise PlanError("the plan is corrupt: it contains itself")
                    stack.append((child, False))

    def kind(self, number: int) -> str:
        """Return the kind of node `number`, e.g. ``"Filter"``."""
        return next(iter(self.nodes[number]))

    def payload(self, number: int) -> Raw:
        """Return the members of node `number`; its inputs are node numbers."""
        return cast("Raw", next(iter(self.nodes[number].values())))

    def inputs(self, number: int) -> list[int]:
        """Return the numbers of the nodes that `number` reads, in order."""
        payload = next(iter(self.nodes[number].values()))
        found: list[int] = []
        if isinstance(payload, dict):
            for member in _INPUT_MEMBERS:
                value = payload.get(member)
                if isinstance(value, int):
                    found.append(value)
                elif isinstance(value, list):
                    found.extend(item for item in value if isinstance(item, int))
        return found

    def reachable(self, root: int | None = None) -> list[int]:
        """Return the numbers of `root` and everything under it, inputs before their consumers, each once."""
        order: list[int] = []
        seen: set[int] = set()
        stack = [(self.root if root is None else root, False)]
        while stack:
            number, leaving = stack.pop()
            if leaving:
                order.append(number)
            elif number not in seen:
                seen.add(number)
                stack.append((number, True))
                stack.extend((child, False) for child in reversed(self.inputs(number)))
        return order

    def append(self, other: Arena) -> int:
        """Copy the nodes of `other` into this arena, and return the number of its root here."""
        base, frame_base = len(self.nodes), len(self._frames)
        self._frames.extend(other._frames)
        for node in other.nodes:
            (kind,) = node
            payload = node[kind]
            self.nodes.append({kind: _shifted(payload, base, frame_base) if isinstance(payload, dict) else payload})
        return base + other.root

    def add(self, node: Raw) -> int:
        """Add a node whose inputs are numbers of this arena, and return its number."""
        self.nodes.append(node)
        return len(self.nodes) - 1

    @staticmethod
    def with_inputs(node: Raw, numbers: Sequence[int]) -> Raw:
        """Return a copy of `node` whose inputs are `numbers`, in the order of its own."""
        (kind,) = node
        payload = dict(cast("Raw", node[kind]))
        left = iter(numbers)
        for member in _INPUT_MEMBERS:
            value = payload.get(member)
            if isinstance(value, int):
                payload[member] = next(left)
            elif isinstance(value, list):
                payload[member] = [next(left) if isinstance(item, int) else item for item in value]
        return {kind: payload}

    def redirect(self, replacements: dict[int, int]) -> None:
        """Make every consumer of a node in `replacements` read the node's replacement instead."""
        for number, node in enumerate(self.nodes):
            (payload,) = node.values()
            if not isinstance(payload, dict):
                continue
            for member in _INPUT_MEMBERS:
                value = payload.get(member)
                if isinstance(value, int) and value in replacements and replacements[value] != number:
                    payload[member] = replacements[value]
                elif isinstance(value, list):
                    payload[member] = [replacements.get(item, item) if isinstance(item, int) else item for item in value]
        self.root = replacements.get(self.root, self.root)

    def encode(self, root: int | None = None) -> bytes:
        """Return the plan of `root` (by default the arena's) as polars reads it; only what it reaches is written."""
        order = self.reachable(root)
        numbers = {number: index for index, number in enumerate(order, start=1)}
        frames: dict[int, int] = {}
        plans: list[object] = [{"value": None, "version": 0}]
        for number in order:
            (kind,) = self.nodes[number]
            payload = self.nodes[number][kind]
            plans.append({"value": {kind: self._external(payload, numbers, frames)}, "version": 1})
        document = {
            "root": {"idx": numbers[order[-1]], "version": 1},
            "dataframes": [
                {"value": _NIL, "version": 0},
                *({"value": self._frames[frame], "version": 1} for frame in frames),
            ],
            "dsl_plans": plans,
        }
        return plan_header() + _ENCODER.encode(document)

    def _external(self, payload: object, numbers: dict[int, int], frames: dict[int, int]) -> object:
        if not isinstance(payload, dict):
            return payload
        written = dict(payload)
        for member in _INPUT_MEMBERS:
            value = written.get(member)
            if isinstance(value, int):
                written[member] = {"idx": numbers[value], "version": 1}
            elif isinstance(value, list) and member == _INLINE_MEMBER:
                written[member] = [
                    {kind: self._external(inner, numbers, frames)}
                    for item in value
                    for kind, inner in self.nodes[cast("int", item)].items()
                ]
            elif isinstance(value, list):
                written[member] = [{"idx": numbers[cast("int", item)], "version": 1} for item in value]
        if isinstance(frame := written.get("df"), dict):
            index = frames.setdefault(cast("int", frame["idx"]), len(frames) + 1)
            written["df"] = {"idx": index, "version": 1}
        return written

    def lazy(self, root: int | None = None) -> pl.LazyFrame:
        """Return `root` as a LazyFrame.

        Raises
        ------
        PlanError
            When polars can't read the plan.
        """
        try:
            return pl.LazyFrame.deserialize(io.BytesIO(self.encode(root)))
        except PolarsError as error:
            raise PlanError(f"polars can't read the plan: {error}") from error

    def placeholders(self) -> dict[int, list[int]]:
        """Return input number → the nodes that stand for it (scans of ``frazil-input:///<n>``)."""
        found: dict[int, list[int]] = {}
        for number in self.reachable():
            if (path := self.scan_path(number)) is not None and path.startswith(INPUT_SCHEME):
                found.setdefault(int(path.removeprefix(INPUT_SCHEME)), []).append(number)
        return found

    def scan_path(self, number: int) -> str | None:
        """Return the path of a scan of exactly one path, else None."""
        paths = self.scan_paths(number)
        return paths[0] if paths is not None and len(paths) == 1 else None

    def scan_paths(self, number: int) -> list[str] | None:
        """Return the paths (globs, directories) of a scan of paths, else None."""
        if self.kind(number) != "Scan":
            return None
        sources = self.payload(number).get("sources")
        paths = sources.get("Paths") if isinstance(sources, dict) else None
        if not isinstance(paths, list):
            return None
        return [str(path["inner"]) if isinstance(path, dict) and "inner" in path else str(path) for path in paths]

    def digest(self, root: int | None = None) -> str:
        """Return a digest of the plan of `root`: equal plans have equal digests, also across arenas."""
        return self.digests(root)[self.root if root is None else root]

    def digests(self, root: int | None = None) -> dict[int, str]:
        """Return the digest of every node that `root` reaches, inputs before their consumers."""
        digests: dict[int, str] = {}
        for number in self.reachable(root):
            (kind,) = self.nodes[number]
            children = [digests[child] for child in self.inputs(number)]
            if kind == "Cache":  # its id is random
                digests[number] = children[0]
                continue
            payload = self.nodes[number][kind]
            own = (
                {name: value for name, value in payload.items() if name not in _INPUT_MEMBERS and name != "df"}
                if isinstance(payload, dict)
                else payload
            )
            body = hashlib.sha256(_ENCODER.encode([kind, own, children]))
            frame = payload.get("df") if isinstance(payload, dict) else None
            if isinstance(frame, dict):
                body.update(bytes(self._frames[cast("int", frame["idx"])]))
            digests[number] = body.hexdigest()
        return digests

    def python_functions(self) -> list[str]:
        """Return the kinds of the Python objects in the plan, e.g. ``["PythonScan"]``; empty when there are none."""
        found = {kind for number in self.reachable() for kind in _python_kinds([self.nodes[number]])}
        return sorted(found)

    def refuse_python(self) -> None:
        """Raise unless the plan is free of Python objects.

        Raises
        ------
        PythonPlanError
            Naming what was found and what to do.
        """
        if found := self.python_functions():
            raise PythonPlanError(
                f"the plan holds Python objects ({', '.join(found)}), which are refused: use polars expressions instead of "
                "map_elements, map_batches, map_groups and Python sources, and storage_options instead of a credential "
                "provider"
            )


def _shifted(payload: Raw, base: int, frame_base: int) -> Raw:
    moved = dict(payload)
    for member in _INPUT_MEMBERS:
        value = moved.get(member)
        if isinstance(value, int):
            moved[member] = value + base
        elif isinstance(value, list):
            moved[member] = [item + base if isinstance(item, int) else item for item in value]
    if isinstance(frame := moved.get("df"), dict):
        moved["df"] = {"idx": cast("int", frame["idx"]) + frame_base, "version": 1}
    return moved


def _python_kinds(values: Iterable[object]) -> Iterator[str]:
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
