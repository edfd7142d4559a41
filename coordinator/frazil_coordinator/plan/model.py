"""What planning yields: a graph of stages, as values.

A stage is a fragment between exchanges; its tasks run the same fragment over their own inputs. The graph is static; what
is known only when a stage has finished (where its blocks are, how a range is cut) is bound at the stage barrier by
:mod:`frazil_coordinator.schedule.bind`, the next module on the main path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import polars as pl

from frazil_coordinator.plan.figures import StageEstimate
from frazil_coordinator.plan.tables import Table
from frazil_functions.ids import StageId
from frazil_functions.task import BlockRef, ExchangeKind, SortKey, Split

__all__ = [
    "FILE_NUMBER",
    "INLINE_FRAGMENT_BYTES",
    "ExchangeSource",
    "ExchangeSpec",
    "InlineSource",
    "Partitions",
    "RuntimeFilter",
    "ScanSource",
    "Sink",
    "Source",
    "Stage",
    "StageGraph",
    "StageKind",
    "Switch",
]

INLINE_FRAGMENT_BYTES: Final = 64 * 1024
"""Fragments above this travel as an object, which each task gets, where there is a way to put one."""

StageKind: TypeAlias = Literal[
    "scan", "map", "group_by", "aggregate", "join", "sort", "top_k", "slice", "gather", "combine", "single"
]
"""What the stage mainly does, for people: EXPLAIN, progress, profile. ``combine`` copies blocks for the stage behind it,
``single`` is a fallback."""


Partitions: TypeAlias = Literal["all", "even", "skewed"]
"""Which partitions of a hash exchange a stage reads. Which of them are skewed is known when they are written; they are the
same ones for every stage (:mod:`frazil_coordinator.schedule.skew`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSource:
    """A table of files, cut into one group of splits a task."""

    splits: tuple[tuple[Split, ...], ...]
    """``splits[t]`` is what task `t` scans. When the stage has one task only, it has one group."""

    path: str = ""
    """What the user named, for people."""

    scan_type: bytes | None = None
    """See `frazil_functions.task.ScanInput`."""

    files: int = 0
    bytes: int = 0
    """Compressed bytes of the projected columns, as far as footers tell."""

    row_groups: int = 0
    """Row groups of Parquet files, as far as footers tell."""

    pruned: Mapping[str, int] = field(default_factory=dict)
    """What statistics and the names of folders left out: ``files``, ``row_groups``."""

    columns: int = 0
    """Columns that are read of each."""

    table_columns: int = 0
    """Columns that each has."""

    table: Table | None = field(default=None, repr=False)
    """Where the statistics of its files are."""

    @property
    def chunks(self) -> int:
        """Column chunks that are read."""
        return self.row_groups * self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeSource:
    """The output of another stage."""

    stage: StageId
    """The producer."""

    read: Literal["partition", "range", "all", "task"]
    """``partition``: task `t` reads partition `t` of a hash exchange. ``range``: task `t` reads the `t`-th of the
    consumer's key ranges. ``all``: every task reads every block, in map order (broadcast and single). ``task``: task `t`
    reads what the producer's task `t` wrote, whatever the partition."""

    first_task: int = 0
    """Task that reads partition, range or task 0; the tasks before it and those after the last one read nothing. In a
    union, each input has its own tasks."""

    tasks: int | None = None
    """Number of tasks that read a part; None is all of the stage's."""

    partitions: Partitions = "all"
    """Where `read` is ``partition``: which ones are read. Nothing is read of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineSource:
    """An in-memory table that came with the plan; its rows travel in the task requests."""

    blocks: tuple[tuple[BlockRef, ...], ...]
    """``blocks[t]`` is what task `t` reads; every block has its `data`."""

    rows: int = 0


Source: TypeAlias = ScanSource | ExchangeSource | InlineSource


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFilter:
    """A source whose rows without a partner in a join, and so without a part in the answer, may be left out.

    See :mod:`frazil_coordinator.plan.runtime_filters`.
    """

    source: int
    """Number of the source, which is files or a frame."""

    column: str
    """Column of the source; the rows that are needed have one of the keys in it."""

    build: StageId
    """The stage whose output has the keys."""

    key: str
    """Column of that output."""

    waits: bool
    """Whether the stage could start before `build` has finished."""

    table: Table | None = field(default=None, repr=False)
    """What files the source has, with their statistics."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """How a stage that is to be shuffled may become a part of the join that reads it, when the other side turns out small.

    See :mod:`frazil_coordinator.plan.switches`.
    """

    join: StageId
    """The stage that reads it, and nobody else does."""

    source: int
    """Number of the stage among the sources of `join`."""

    small: tuple[StageId, ...]
    """The other stages of whose output the tasks of `join` read a partition each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeSpec:
    """How the tasks of a stage write their output."""

    kind: ExchangeKind
    partitions: int = 1
    """See `frazil_functions.task.Output.partitions`."""

    hash_keys: tuple[bytes, ...] = ()
    """Serialised `pl.Expr`."""

    sort_keys: tuple[SortKey, ...] = ()
    row_tag: bool = False
    inline: bool = True
    """Whether small output may travel in the descriptor."""

    key_columns: tuple[str, ...] = ()
    """Columns whose values the tasks tell of, for the runtime filters of other stages."""

    final: bool = False
    """See `frazil_functions.task.Output.final`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A plan fragment between exchanges."""

    id: StageId
    kind: StageKind
    fragment: bytes
    """Serialised plan; its placeholder scans ``frazil-input:///<n>`` stand for ``sources[n]``."""

    sources: tuple[Source, ...]
    tasks: int
    """Number of tasks, > 0; of combiners, how many there are if they are needed."""

    output: ExchangeSpec
    operators: tuple[str, ...] = ()
    """The operators of the fragment, for EXPLAIN, e.g. ``("SCAN lineitem/*.parquet", "FILTER", "GROUP BY partial")``."""

    distribution: str = "any"
    """How the stage's rows lie over its tasks, for EXPLAIN, e.g. ``hash(l_orderkey)``."""

    fallbacks: tuple[str, ...] = ()
    """Reasons why the stage, or a part of it, runs in one task."""

    divisible: frozenset[int] = frozenset()
    """Numbers of the sources whose rows may be divided among more tasks, in order, each with all of the other sources: the
    answers of those tasks, one after the other, are the answer of the one. What every task reads is among them only where
    nobody looks at the order of the answers."""

    first_rows: int | None = None
    """Only so many rows of the stage's output, from the first task on, are looked at; None is all."""

    details: Mapping[str, str] = field(default_factory=dict)
    """More for EXPLAIN: what was pushed down, sizes."""

    unaggregated: bytes = b""
    """A fragment that does the same without aggregating rows first, for tasks of a stage where that does not make them
    fewer; empty when there is none."""

    filters: tuple[RuntimeFilter, ...] = ()
    """Filters of its sources by keys that other stages find."""

    switch: Switch | None = None
    """How it may be joined where it lies instead of shuffled."""

    combiner: StageId | None = None
    """The stage that copies the blocks which this one reads into fewer objects, if there are too many; else it has no task.
    See :mod:`frazil_coordinator.plan.combining`."""

    reserve: bool = False
    """Whether it has work only when a partition turns out skewed, and no task else: it reads nothing but skewed partitions,
    or what other stages in reserve wrote. See :mod:`frazil_coordinator.plan.rules.skewed`."""

    units: int | None = None
    """Number of tasks that its consumers count with; None is `tasks`."""

    notes: tuple[str, ...] = ()
    """How the stage itself was changed while the query ran, and why."""

    @property
    def producers(self) -> tuple[StageId, ...]:
        """Stages that must be finished before this one starts, each once, in order of use."""
        found = [source.stage for source in self.sources if isinstance(source, ExchangeSource)]
        return tuple(dict.fromkeys(found if self.combiner is None else [*found, self.combiner]))

    @property
    def awaits(self) -> tuple[StageId, ...]:
        """Stages that this one does better to let finish, for some time, although it needs nothing of them."""
        small = self.switch.small if self.switch is not None else ()
        return tuple(dict.fromkeys((*(one.build for one in self.filters if one.waits), *small)))


FILE_NUMBER: Final = "__frazil_file"
"""Column that says into which of a sink's numbered files a row goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """The files of the user's that the root stage writes (docs/sinks.md)."""

    node: bytes
    """The plan's sink node as polars wrote it, in MessagePack."""

    kind: Literal["file", "dataset", "partitioned", "numbered", "named"]
    """``file``: one file by one task. ``dataset``: one file a task. ``partitioned``: what `pl.PartitionBy` says, by each
    task for its own rows. ``numbered``: files by :data:`FILE_NUMBER`, which is not written. ``named``: files of a table,
    under names of Polars' own that no other file has."""

    format: str
    """``Parquet``, ``Csv``, ``Ipc``, ``NDJson``."""

    target: str
    """What the user named, for people."""

    store: str
    """Path or URL of the store that holds the target and the staged files."""

    base: str
    """Key in `store` of the folder under which files are staged, and to which `folder` is relative; may be empty."""

    folder: str
    """Key of the folder that the files shall be in, or below; may be empty."""

    name: str
    """Name of the one file; of a dataset and of numbered files, the ending of the files' names."""

    local: bool = False
    """Whether it is a folder of this machine."""

    cloud_options: object = None
    """Credentials and such, as decoded from the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageGraph:
    """The plan of a query."""

    stages: tuple[Stage, ...]
    """Producers before consumers; ``stages[i].id == i``; the last is the root. The result is the root's blocks, by task,
    in block order."""

    schema: pl.Schema
    """Schema of the result."""

    estimates: tuple[StageEstimate, ...] = ()
    """``estimates[i]`` is what stage `i` will read, need and cost; empty when nobody estimated it."""

    sink: Sink | None = None
    """Where the root's rows go instead; the result then has no rows and no columns."""

    @property
    def root(self) -> Stage:
        """The stage whose output is the result."""
        return self.stages[-1]

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Every reason why something runs in one task."""
        return tuple(reason for stage in self.stages for reason in stage.fallbacks)
