"""Send a task only the arms of a union that it reads.

Each input of a union has tasks of its own, and all of them share one fragment: of a union of a hundred tables, a task reads
one and would carry, bind and run ninety-nine for nothing. Here the arms without anything to read are left out of the
task's fragment. That changes no answer: only arms go that yield no row of no rows, which is tried, and only from unions
whose inputs have one schema. Planning knows nothing of it; :mod:`frazil_coordinator.schedule.driver` asks for each attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import polars as pl
from polars.exceptions import PanicException, PolarsError

from frazil_coordinator.plan.model import INLINE_FRAGMENT_BYTES, Stage
from frazil_coordinator.plan.pushdown import makes_rows
from frazil_functions.arena import Arena
from frazil_functions.arena_nodes import python_kinds
from frazil_functions.errors import PlanError
from frazil_functions.ids import StageId
from frazil_functions.task import ExchangeInput, TaskInput

__all__ = ["Arms", "Fragments", "StoredFragment", "takes_time"]

logger = logging.getLogger(__name__)

_LEAST_INPUTS: Final = 8
"""Inputs of a fragment from which it is worth a look."""

_CONVERTING: Final = ("to_supertypes", "diagonal")
"""Arguments of a union by which all inputs together decide what the columns are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """A fragment of which tasks get a part each."""

    whole: bytes
    """The fragment."""

    arena: Arena | None
    """The same, decoded; None when nothing may be left out. Changed only while :meth:`fragment` runs."""

    unions: Mapping[int, Mapping[int, frozenset[int]]]
    """Node of a union → node of an arm that may be left out → the inputs that it reads."""

    @classmethod
    def of(cls, fragment: bytes, inputs: int) -> Self:
        """Look through a fragment of so many inputs; combiners have none."""
        if inputs < _LEAST_INPUTS or not fragment:
            return cls(whole=fragment, arena=None, unions={})
        arena = Arena.decode(fragment)
        unions = _unions(arena)
        return cls(whole=fragment, arena=arena if unions else None, unions=unions)

    def fragment(self, inputs: Sequence[TaskInput]) -> bytes:
        """Return what a task with these inputs has to run; the numbers of the inputs are as in the whole fragment."""
        if self.arena is None:
            return self.whole
        idle = {number for number, given in enumerate(inputs) if not _reads(given)}
        nodes = self.arena.nodes
        before = {number: nodes[number] for number in self.unions}
        try:
            for number, arms in self.unions.items():
                every = self.arena.inputs(number)
                # Of arms that are all idle one stays: it has the schema.
                kept = [arm for arm in every if arm not in arms or not arms[arm] <= idle] or every[:1]
                nodes[number] = {"Union": {**self.arena.payload(number), "inputs": kept}}
            return self.arena.encode()
        finally:
            for number, node in before.items():
                nodes[number] = node


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFragment:
    """Where a fragment lies in the store, sealed."""

    key: str
    """Object key."""

    secret: bytes = field(repr=False)
    """What unseals it."""


class Fragments:
    """What the tasks of a query's stages run. Mutable; owned by the driver."""

    def __init__(self) -> None:
        self.stored: dict[StageId, StoredFragment] = {}
        """The fragments that were stored because they are large."""

        self.unaggregated: set[StageId] = set()
        """Stages whose tasks no longer aggregate rows before a shuffle."""

        self._arms: dict[StageId, Arms] = {}

    def look_through(self, stage: Stage) -> None:
        """Prepare a stage; with many inputs it takes some time (:func:`takes_time`), and may be done in a thread."""
        if stage.id not in self._arms:
            self._arms[stage.id] = Arms.of(stage.fragment, len(stage.sources))

    def of_task(self, stage: Stage, inputs: Sequence[TaskInput]) -> tuple[bytes, StoredFragment | None]:
        """Return the fragment of a task with these inputs, or where one lies that is too large to send along."""
        if stage.id in self.unaggregated:
            return stage.unaggregated, None
        self.look_through(stage)
        fragment, stored = self._arms[stage.id].fragment(inputs), self.stored.get(stage.id)
        return (fragment, None) if stored is None or len(fragment) <= INLINE_FRAGMENT_BYTES else (b"", stored)


def takes_time(stage: Stage) -> bool:
    """Return whether a stage has so many inputs that no event loop should wait until it is looked through."""
    return len(stage.sources) >= _LEAST_INPUTS


def _reads(given: TaskInput) -> bool:
    return bool(given.blocks if isinstance(given, ExchangeInput) else given.splits)


def _unions(arena: Arena) -> dict[int, dict[int, frozenset[int]]]:
    """Return the arms that may be left out of each union."""
    inputs = {node: number for number, places in arena.placeholders().items() for node in places}
    try:
        silent = {number: _silent(arena, number, inputs) for number in arena.reachable() if arena.kind(number) == "Union"}
    except (PolarsError, PlanError, OSError, PanicException) as error:
        logger.debug("the union does not run on empty data, so its tasks get all of it: %s", error)
        return {}
    return {number: arms for number, arms in silent.items() if arms}


def _silent(arena: Arena, union: int, inputs: Mapping[int, int]) -> dict[int, frozenset[int]]:
    """Return the arms of a union that yield nothing when they read nothing, with the inputs that they read."""
    arguments = arena.payload(union)["args"]
    if not isinstance(arguments, dict) or any(arguments.get(name) for name in _CONVERTING):
        return {}
    arms = dict.fromkeys(arena.inputs(union))
    leaves = {arm: frozenset(number for number in arena.reachable(arm) if not arena.inputs(number)) for arm in arms}
    tried = [arm for arm in arms if leaves[arm] <= inputs.keys() and not _is_opaque(arena, arm)]
    # The plans are small and have no rows: it takes well under a millisecond each.
    frames = pl.collect_all(_of_nothing(arena, tried, inputs), engine="in-memory")
    schemas = [frame.schema for frame in frames]
    schemas += [arena.lazy(arm).collect_schema() for arm in arms if arm not in tried]
    if any(schema != schemas[0] for schema in schemas):
        return {}
    return {
        arm: frozenset(inputs[leaf] for leaf in leaves[arm])
        for arm, frame in zip(tried, frames, strict=True)
        if not frame.height
    }


def _is_opaque(arena: Arena, arm: int) -> bool:
    """Return whether an arm can't be tried here: functions of the user's are not called, nor are rows made of nothing."""
    nodes = [arena.nodes[number] for number in arena.reachable(arm)]
    return any(makes_rows(node) or any(python_kinds([node])) for node in nodes)


def _of_nothing(arena: Arena, arms: Sequence[int], inputs: Mapping[int, int]) -> list[pl.LazyFrame]:
    """Return arms that read no rows."""
    copy = Arena()
    copy.append(arena)  # the first that is appended keeps its numbers
    empty = {node: pl.LazyFrame(schema=arena.lazy(node).collect_schema()) for node in inputs}
    copy.redirect({node: copy.append(Arena.of(frame)) for node, frame in empty.items()})
    return [copy.lazy(arm) if arm not in inputs else empty[arm] for arm in arms]
