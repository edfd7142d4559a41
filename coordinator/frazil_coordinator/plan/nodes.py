"""The nodes of a plan as typed values; expressions inside them stay raw.

Only the members that planning looks at are typed. :class:`Opaque` stands for every kind that has no distributed form here,
known or not: it runs in one task. :mod:`~frazil_coordinator.plan.decode` makes them from an arena.
"""

from __future__ import annotations

from dataclasses import dataclass

from frazil_functions.arena import Raw

__all__ = [
    "AsofJoin",
    "Cache",
    "DataFrameScan",
    "Distinct",
    "Filter",
    "Gather",
    "GroupBy",
    "HConcat",
    "HStack",
    "Join",
    "MapFunction",
    "MatchToSchema",
    "MergeSorted",
    "Node",
    "Opaque",
    "Pivot",
    "RawExpr",
    "Scan",
    "Select",
    "Slice",
    "Sort",
    "Union",
]

RawExpr = object
"""An expression as decoded from MessagePack: ``{kind: members}``, or a bare string such as ``"Len"``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the plan."""

    number: int
    """Its number in the arena."""

    inputs: tuple[int, ...]
    """Numbers of the nodes that it reads."""

    raw: Raw
    """The node as polars wrote it, to be applied again to other inputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Node):
    """A scan of files."""

    paths: tuple[str, ...]
    """What the user named: files, globs, directories; empty for sources that are not paths."""

    format: str
    """``Parquet``, ``Csv``, ``Ipc``, ``NDJson``, …."""

    buffers: int = 0
    """Bytes of files that came with the plan instead of paths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFrameScan(Node):
    """An in-memory frame that travelled with the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(Node):
    """Rows for which a predicate is true."""

    predicate: RawExpr


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Node):
    """Columns computed from the input, and nothing else."""

    exprs: tuple[RawExpr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HStack(Node):
    """The input's columns and computed ones (``with_columns``)."""

    exprs: tuple[RawExpr, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupBy(Node):
    """Aggregates by key."""

    keys: tuple[RawExpr, ...]
    aggs: tuple[RawExpr, ...]
    predicates: tuple[RawExpr, ...]
    """``having``."""

    maintain_order: bool
    plain: bool
    """Whether it is neither dynamic nor rolling, has no slice and applies no Python function."""

    mapped: bool = False
    """Whether it gives whole groups to a Python function (``map_groups``) and does nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Join(Node):
    """A join of two inputs."""

    how: str
    """``Inner``, ``Left``, ``Right``, ``Full``, ``Semi``, ``Anti``, ``Cross``; ``Where`` for an inner join by predicates,
    ``LeftWhere``, ``RightWhere`` and ``FullWhere`` for outer ones; an as-of join is :class:`AsofJoin`."""

    left_on: tuple[RawExpr, ...]
    right_on: tuple[RawExpr, ...]
    predicates: tuple[RawExpr, ...] = ()
    """Of a join by predicates: on the columns of both sides."""

    maintain_order: str
    """``None``, ``Left``, ``Right``, ``LeftRight``, ``RightLeft``."""

    validation: str
    """``ManyToMany`` when nothing is checked."""

    nulls_equal: bool = False
    """Whether a null key meets a null key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsofJoin(Node):
    """A join of each row of the left side with the nearest one of the right side."""

    left_on: tuple[RawExpr, ...]
    right_on: tuple[RawExpr, ...]
    left_by: tuple[str, ...]
    """Columns that must be equal; none when any two rows may be paired."""

    right_by: tuple[str, ...]
    check_sortedness: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort(Node):
    """Rows in the order of some keys."""

    by: tuple[RawExpr, ...]
    descending: tuple[bool, ...]
    nulls_last: tuple[bool, ...]
    maintain_order: bool
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice(Node):
    """A range of rows; a negative offset counts from the end."""

    offset: int
    length: int | None
    """None is unbounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct(Node):
    """Unique rows by some columns."""

    subset: tuple[RawExpr, ...] | None
    maintain_order: bool
    keep: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Union(Node):
    """Rows of several inputs, one after the other."""

    maintain_order: bool = True
    """Whether the rows of one input come before those of the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HConcat(Node):
    """Columns of several inputs, side by side, row by row."""

    strict: bool
    """Whether the inputs must have the same number of rows; else the shorter ones are filled up with nulls."""

    broadcasts: bool
    """Whether an input of one row is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSorted(Node):
    """Rows of two inputs that are sorted by some columns, merged by them."""

    key: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pivot(Node):
    """Aggregates by key, with a column for each of some given values."""

    index: RawExpr
    """Selector of the keys."""

    agg: RawExpr
    """The aggregate of an ``Element``."""

    maintain_order: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Gather(Node):
    """Rows of the first input, at the numbers that the second one holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchToSchema(Node):
    """Columns brought to a given schema."""

    defaults: tuple[RawExpr, ...]
    """What missing columns are filled with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapFunction(Node):
    """One of polars' built-in frame functions."""

    function: str
    """``Rename``, ``Explode``, ``Unnest``, ``RowIndex``, …."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache(Node):
    """A mark by polars or the user that the input should be computed once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque(Node):
    """Any other node."""

    kind: str
