"""What planning works on: relations, which are fragments in the making, and the exchanges between them.

A relation is a LazyFrame whose leaves are placeholders, with the sources that the placeholders stand for and the way its
rows lie over tasks. Rules (:mod:`frazil_coordinator.plan.rules`) turn relations into relations by Polars operations;
:mod:`~frazil_coordinator.plan.stages` turns the finished ones into stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

import polars as pl

from frazil_coordinator.plan.model import InlineSource, Partitions, ScanSource, StageKind
from frazil_functions.arena import Arena, Raw
from frazil_functions.task import SortKey, input_path

__all__ = [
    "RANGE_BLOCKS_PER_PARTITION",
    "SINGLE",
    "Distribution",
    "Exchange",
    "ExchangeLeaf",
    "Leaf",
    "Read",
    "Relation",
    "apply",
    "leaf_tasks",
    "placeholder",
    "tasks_of",
]

RANGE_BLOCKS_PER_PARTITION: Final = 4
"""Blocks that a sorted run is cut into for each partition of a range exchange: their first keys are the sample from which
the ranges are chosen, so a range is off by at most a quarter of a partition a run."""

Read: TypeAlias = Literal["partition", "range", "all", "task"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How the rows of a relation lie over its tasks."""

    kind: Literal["single", "any", "hash", "range"]
    keys: tuple[str, ...] = ()
    """For ``hash``: columns whose values decide the partition; equal values lie in one partition."""

    dtypes: tuple[pl.DataType, ...] = ()
    """For ``hash``: dtypes to which the keys were cast before hashing."""

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(self.keys)})" if self.keys else self.kind


SINGLE = Distribution(kind="single")
ANY = Distribution(kind="any")


@dataclass(frozen=True, eq=False, kw_only=True)
class Exchange:
    """An edge between two stages; its identity is the object's, so that one producer may serve several consumers."""

    producer: Relation
    kind: Literal["hash", "range", "broadcast", "single"]
    partitions: int = 1
    hash_keys: tuple[pl.Expr, ...] = ()
    sort_keys: tuple[SortKey, ...] = ()
    stable: bool = False
    """Whether the sort of a range exchange keeps the order of equal rows."""

    row_tag: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeLeaf:
    """A leaf that reads an exchange."""

    exchange: Exchange
    read: Read
    first_task: int = 0
    """Task that reads the first partition; the tasks before it, and those after the last partition, read nothing."""

    partitions: Partitions = "all"
    """See `frazil_coordinator.plan.model.ExchangeSource.partitions`."""


Leaf: TypeAlias = ScanSource | InlineSource | ExchangeLeaf


@dataclass(frozen=True, eq=False, kw_only=True)
class Relation:
    """A fragment in the making."""

    lf: pl.LazyFrame
    """Its leaves are placeholders whose numbers are the keys of `leaves`."""

    leaves: dict[int, Leaf]
    distribution: Distribution
    kind: StageKind
    operators: tuple[str, ...] = ()
    """What the fragment does, for EXPLAIN, first step first."""

    fallbacks: tuple[str, ...] = ()
    bytes: int = 0
    """Upper estimate of the compressed bytes of its rows."""

    details: dict[str, str] = field(default_factory=dict)
    keeps_rows: bool = False
    """Whether it has exactly the rows of its only leaf, in order, so that a slice of it is a slice of the leaf."""

    tasks: int | None = None
    """Number of tasks when the leaves alone don't tell it (a union)."""

    divisible: frozenset[int] = frozenset()
    """Leaves whose rows may be divided among tasks, see `frazil_coordinator.plan.model.Stage.divisible`."""

    first_rows: int | None = None
    """See `frazil_coordinator.plan.model.Stage.first_rows`."""

    row_states: pl.LazyFrame | None = None
    """The same as `lf` to whoever reads it, without aggregating rows first (:mod:`~frazil_coordinator.plan.row_states`)."""

    @property
    def is_single(self) -> bool:
        """Whether one task has all rows."""
        return self.distribution.kind == "single"

    @property
    def schema(self) -> pl.Schema:
        """Schema of its rows."""
        return self.lf.collect_schema()

    def then(
        self,
        lf: pl.LazyFrame,
        operator: str | None = None,
        *,
        distribution: Distribution | None = None,
        kind: StageKind | None = None,
        keeps_rows: bool = False,
        divisible: bool = False,
    ) -> Relation:
        """Return the relation after one more step inside the same stage.

        Parameters
        ----------
        lf, operator, distribution, kind
            The step, and what it changes.
        keeps_rows
            Whether the step drops and adds no rows, and makes of each what it would make of it alone.
        divisible
            Whether the step may be done on parts of its rows, and the results put one after the other.
        """
        return replace(
            self,
            lf=lf,
            operators=self.operators if operator is None else (*self.operators, operator),
            distribution=self.distribution if distribution is None else distribution,
            kind=self.kind if kind is None else kind,
            keeps_rows=keeps_rows and self.keeps_rows,
            divisible=self.divisible if divisible else frozenset(),
            first_rows=None,
            row_states=None,
        )


def placeholder(number: int, schema: pl.Schema) -> pl.LazyFrame:
    """Return the scan that stands for input `number` in a fragment."""
    return pl.scan_parquet(input_path(number), schema=schema, glob=False)


def apply(raw: Raw, inputs: Sequence[pl.LazyFrame]) -> pl.LazyFrame:
    """Return a node of the user's plan, applied to other inputs.

    Parameters
    ----------
    raw
        The node as polars wrote it; its own inputs are not looked at.
    inputs
        New inputs, in the order of the node's own.
    """
    arena = Arena()
    numbers = [arena.append(Arena.of(lf)) for lf in inputs]
    arena.root = arena.add(arena.with_inputs(raw, numbers))
    return arena.lazy()


def tasks_of(relation: Relation) -> int:
    """Return the number of tasks of a relation's stage: that of its partitioned inputs, else one."""
    if relation.tasks is not None:
        return relation.tasks
    for leaf in relation.leaves.values():
        if isinstance(leaf, ScanSource) and relation.is_single:
            continue
        if (tasks := leaf_tasks(leaf)) is not None:
            return tasks
    return 1


def leaf_tasks(leaf: Leaf) -> int | None:
    """Return the number of tasks that a leaf has parts for; None when every task reads all of it."""
    match leaf:
        case ScanSource():
            return len(leaf.splits)
        case InlineSource():
            return len(leaf.blocks)
        case ExchangeLeaf(read="partition"):
            return leaf.exchange.partitions
        case ExchangeLeaf(read="range"):
            return max(1, leaf.exchange.partitions // RANGE_BLOCKS_PER_PARTITION)
        case ExchangeLeaf(read="task"):
            return tasks_of(leaf.exchange.producer)
        case ExchangeLeaf():
            return None
