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
from collections.abc import Sequence
from functools import cache, partial
from typing import Final, cast

import msgspec
import polars as pl
from polars.exceptions import PolarsError

from frazil_functions.arena_nodes import (
    FRAME_MEMBERS,
    INLINE_MEMBER,
    INPUT_MEMBERS,
    REFERENCE,
    Raw,
    has_strays,
    map_references,
    python_kinds,
    raw_children,
    usual_inputs,
)
from frazil_functions.errors import PlanError, PlanVersionError, PythonPlanError
from frazil_functions.task import INPUT_SCHEME, input_path

__all__ = ["Arena", "Raw", "plan_header", "require_version"]

_MAGIC: Final = b"DSL_VERSION"
_HEADER_BYTES: Final = 79
_REFERENCE_MEMBER: Final = b"idx"
"""What each reference has in it, however it is encoded; a name or a text of the user's may have it too."""

_NO_REFERENCE: Final = b"hive_start_idx"
"""What each scan has in it, though it refers to nothing."""


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


_MOST_NODES: Final = 100_000
"""Nodes of a plan, each counted as often as it is read."""

_DECODER: Final = msgspec.msgpack.Decoder(_Document)
_ENCODER: Final = msgspec.msgpack.Encoder()
_NIL: Final = msgspec.Raw(b"\xc0")


@cache
def plan_header() -> bytes:
    """Return the 79 bytes with which plans of this version of polars begin."""
    return pl.LazyFrame({"a": [1]}).serialize()[:_HEADER_BYTES]


def require_version(plan: bytes) -> None:
    """Refuse a plan of another version of polars; what is no plan, or cut short, is for :meth:`Arena.decode`.

    Raises
    ------
    PlanVersionError
        When another version of polars wrote it.
    """
    if plan[: len(_MAGIC)] != _MAGIC or len(plan) <= _HEADER_BYTES or plan[:_HEADER_BYTES] == plan_header():
        return
    raise PlanVersionError(
        f"the plan was serialised by another version of polars; this side runs polars {pl.__version__}: "
        f'pip install "polars=={pl.__version__}" where the query is written'
    )


class Arena:
    """Plan nodes by number. Mutable; made by :meth:`decode` or :meth:`of`.

    Attributes
    ----------
    nodes
        Every node, inputs as numbers of other nodes in :meth:`inputs`; inline inputs are given a number of their own. An
        in-memory frame is a member of its node (its bytes, not a reference), so that a node is whole without its arena.
    root
        Number of the node whose rows are the plan's result.
    independent
        Nodes that are computed by themselves though they look like others: their numbers are part of their digests.
    """

    def __init__(self) -> None:
        self.nodes: list[Raw] = []
        self.independent: set[int] = set()
        self._strays: set[int] = set()
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
        require_version(plan)
        try:
            document = _DECODER.decode(memoryview(plan)[_HEADER_BYTES:])
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, TypeError, ValueError) as error:
            # Texts that are not UTF-8, and keys of maps that are none, are no errors of msgspec's own.
            raise PlanError(f"the plan is truncated or corrupt: {error}") from error
        arena = cls()
        try:
            arena._fill(document, plan.count(_REFERENCE_MEMBER) - plan.count(_NO_REFERENCE))
        except RecursionError as error:
            raise PlanError("the plan is nested too deeply") from error
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

    def _fill(self, document: _Document, most_references: int) -> None:
        """Take the nodes of a document that has at most so many references."""
        numbers = {index: number for number, index in enumerate(self._live(document))}
        self.nodes = [cast("Raw", document.dsl_plans[index].value) for index in numbers]
        usual = 1 + sum(self._number_inputs(number, numbers) for number in range(len(self.nodes)))
        usual += sum(_embed_frames(node, document.dataframes) for node in self.nodes)
        # Looking through the members of every node takes longer than all the rest, and few plans have strays.
        for number, node in enumerate(self.nodes if most_references > usual else ()):
            if has_strays(node):
                self._strays.add(number)
                (kind,) = node
                node[kind] = map_references(node[kind], partial(_known, numbers), usual=False, strays=True)
        if document.root.idx not in numbers:
            raise PlanError("the plan is corrupt: its root is missing")
        self.root = numbers[document.root.idx]
        self._check_acyclic()

    @staticmethod
    def _live(document: _Document) -> list[int]:
        live = [index for index, slot in enumerate(document.dsl_plans) if slot.value is not None]
        for index in live:
            _check_node(document.dsl_plans[index].value)
        return live

    def _number_inputs(self, number: int, numbers: dict[int, int]) -> int:
        """Replace the references of node `number` by node numbers, and give inline inputs a number; return how many."""
        references = 0
        for member, position, value in list(raw_children(self.nodes[number])):
            if not isinstance(value, dict):
                raise PlanError("the plan is corrupt: an input is not a node")
            if value.keys() == REFERENCE:
                target = _known(numbers, value["idx"])
                references += 1
            else:
                _check_node(value)
                target = len(self.nodes)
                self.nodes.append(cast("Raw", value))
                references += self._number_inputs(target, numbers)
            self._set_child(number, member, position, target)
        return references

    def _set_child(self, number: int, member: str, position: int | None, target: int) -> None:
        (payload,) = self.nodes[number].values()
        members = cast("dict[str, object]", payload)
        if position is None:
            members[member] = target
        else:
            cast("list[object]", members[member])[position] = target

    def _check_acyclic(self) -> None:
        """Refuse a plan that contains itself, or that is far larger when each node is written out where it is read.

        Polars reads either one for ever: it follows every reference, and a node that is read twice, twice.
        """
        sizes: dict[int, int] = {}
        state: dict[int, bool] = {}
        stack: list[tuple[int, bool]] = [(self.root, False)]
        while stack:
            number, leaving = stack.pop()
            if leaving:
                state[number] = True
                sizes[number] = 1 + sum(sizes[child] for child in self.inputs(number))
                if sizes[number] > _MOST_NODES:
                    raise PlanError(
                        f"the plan reads its own parts so often that it would have more than {_MOST_NODES:,} nodes"
                    )
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
        (payload,) = self.nodes[number].values()
        if number not in self._strays:
            return usual_inputs(payload)
        found: list[int] = []

        def note(target: int) -> int:
            found.append(target)
            return target

        map_references(payload, note, strays=True)
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
        base = len(self.nodes)
        for number, node in enumerate(other.nodes):
            (kind,) = node
            moved = map_references(node[kind], lambda target: target + base, strays=number in other._strays)
            self.nodes.append({kind: moved})
        self._strays |= {base + number for number in other._strays}
        self.independent |= {base + number for number in other.independent}
        return base + other.root

    def add(self, node: Raw) -> int:
        """Add a node whose inputs are numbers of this arena, and return its number."""
        self.nodes.append(node)
        number = len(self.nodes) - 1
        if has_strays(node):
            self._strays.add(number)
        return number

    @staticmethod
    def with_inputs(node: Raw, numbers: Sequence[int]) -> Raw:
        """Return a copy of `node` whose inputs are `numbers`, in the order of its own."""
        (kind,) = node
        left = iter(numbers)
        return {kind: map_references(node[kind], lambda _: next(left), strays=True)}

    def redirect(self, replacements: dict[int, int]) -> None:
        """Make every consumer of a node in `replacements` read the node's replacement instead."""
        for number, node in enumerate(self.nodes):
            (kind,) = node

            def target(old: int, consumer: int = number) -> int:
                new = replacements.get(old, old)
                return old if new == consumer else new

            node[kind] = map_references(node[kind], target, strays=number in self._strays)
        self.root = replacements.get(self.root, self.root)

    def encode(self, root: int | None = None) -> bytes:
        """Return the plan of `root` (by default the arena's) as polars reads it; only what it reaches is written."""
        order = self.reachable(root)
        numbers = {number: index for index, number in enumerate(order, start=1)}
        frames: list[msgspec.Raw] = []
        plans: list[object] = [{"value": None, "version": 0}]
        plans.extend({"value": self._external(number, numbers, frames), "version": 1} for number in order)
        document = {
            "root": {"idx": numbers[order[-1]], "version": 1},
            "dataframes": [
                {"value": _NIL, "version": 0},
                *({"value": frame, "version": 1} for frame in frames),
            ],
            "dsl_plans": plans,
        }
        return plan_header() + _ENCODER.encode(document)

    def _external(self, number: int, numbers: dict[int, int], frames: list[msgspec.Raw]) -> Raw:
        """Return node `number` as polars reads it."""
        (kind,) = self.nodes[number]
        payload = self.nodes[number][kind]
        inline = payload.get(INLINE_MEMBER) if isinstance(payload, dict) else None
        written = map_references(payload, lambda target: numbers[target], strays=number in self._strays)
        if not isinstance(written, dict):
            return {kind: written}
        for member in INPUT_MEMBERS:
            value = written.get(member)
            if member == INLINE_MEMBER and isinstance(inline, list):
                written[member] = [self._external(cast("int", item), numbers, frames) for item in inline]
            elif isinstance(value, int):
                written[member] = {"idx": value, "version": 1}
            elif isinstance(value, list):
                written[member] = [{"idx": item, "version": 1} for item in value]
        for member, frame in _frames_of(written):
            index = next((index for index, known in enumerate(frames) if known is frame), len(frames))
            if index == len(frames):
                frames.append(frame)
            written[member] = {"idx": index + 1, "version": 1}
        return {kind: written}

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

    def renumber_placeholders(self, numbers: dict[int, int]) -> None:
        """Give placeholders new input numbers: old → new."""
        for old, places in self.placeholders().items():
            for place in places:
                scan = self.payload(place)
                self.nodes[place] = {"Scan": {**scan, "sources": {"Paths": [{"inner": input_path(numbers[old])}]}}}

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
            payload = map_references(self.nodes[number][kind], lambda _: 0, usual=False, strays=number in self._strays)
            own = (
                {name: value for name, value in payload.items() if name not in (*INPUT_MEMBERS, *FRAME_MEMBERS)}
                if isinstance(payload, dict)
                else payload
            )
            body = hashlib.sha256(_ENCODER.encode([kind, own, children]))
            for _, frame in _frames_of(payload) if isinstance(payload, dict) else ():
                body.update(bytes(frame))
            if number in self.independent:
                body.update(f"independent {number}".encode())
            digests[number] = body.hexdigest()
        return digests

    def python_functions(self) -> list[str]:
        """Return the kinds of the Python objects in the plan, e.g. ``["PythonScan"]``; empty when there are none."""
        found = {kind for number in self.reachable() for kind in python_kinds([self.nodes[number]])}
        return sorted(found)

    def refuse_python(self, why: str) -> None:
        """Raise unless the plan is free of Python objects.

        Parameters
        ----------
        why
            The setting by which they are refused.

        Raises
        ------
        PythonPlanError
            Naming what was found and what to do.
        """
        if found := self.python_functions():
            raise PythonPlanError(
                f"the plan holds Python objects ({', '.join(found)}), which are refused ({why}): use polars expressions "
                "instead of map_elements, map_batches, map_groups and Python sources, and storage_options instead of a "
                "credential provider"
            )


def _check_node(value: object) -> None:
    """Refuse what does not look like a node: a map of one name, with inputs that are nodes."""
    if not isinstance(value, dict) or len(value) != 1 or not isinstance(next(iter(value)), str):
        raise PlanError("the plan is corrupt: a node is not a map of one name")
    (payload,) = value.values()
    for member in INPUT_MEMBERS if isinstance(payload, dict) else ():
        if not isinstance(payload.get(member), dict | list | None):
            raise PlanError("the plan is corrupt: an input is not a node")


def _known(numbers: dict[int, int], index: object) -> int:
    if not isinstance(index, int) or index not in numbers:
        raise PlanError("the plan is corrupt: an input is missing")
    return numbers[index]


def _embed_frames(node: Raw, slots: list[_FrameSlot]) -> int:
    """Put the frames that `node` refers to in the place of the references; return how many."""
    (payload,) = node.values()
    found = 0
    for member in FRAME_MEMBERS if isinstance(payload, dict) else ():
        reference = cast("Raw", payload).get(member)
        if isinstance(reference, dict):
            index = reference.get("idx")
            if not isinstance(index, int) or not 0 < index < len(slots):
                raise PlanError("the plan is corrupt: an in-memory frame is missing")
            cast("Raw", payload)[member] = slots[index].value
            found += 1
    return found


def _frames_of(payload: Raw) -> list[tuple[str, msgspec.Raw]]:
    """Return the members of a node that are in-memory frames."""
    members = ((member, payload.get(member)) for member in FRAME_MEMBERS)
    return [(member, value) for member, value in members if isinstance(value, msgspec.Raw)]
