"""How many rows a fragment yields, from how many rows it reads: bounds where the operators give them, guesses elsewhere.

A walk over the fragment's own nodes, so that no rule of distribution has to keep an account. No statistics are kept of
values, so a predicate keeps at most all rows, and a join is a guess. Next: :mod:`frazil_coordinator.plan.estimate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.exprs import is_row_wise, to_expr
from frazil_coordinator.plan.figures import NOTHING, UNKNOWN, Amount, total
from frazil_coordinator.plan.nodes import (
    Cache,
    DataFrameScan,
    Distinct,
    Filter,
    GroupBy,
    HStack,
    Join,
    MapFunction,
    Node,
    Scan,
    Select,
    Slice,
    Sort,
    Union,
)
from frazil_functions.arena import Arena
from frazil_functions.exchange.dtypes import instance

__all__ = ["Volume", "input_uses", "row_bytes", "volume"]

_KEEP_ROWS: Final = frozenset({"Rename", "RowIndex", "Unnest"})
_KEEP_AT_MOST: Final = frozenset({"DropNulls", "DropNans"})
_STRING_BYTES: Final = 24
"""A guess for the string or binary value of a row: 16 bytes of view, and some text beside it."""

_LIST_VALUES: Final = 4
"""A guess for the values of a list."""


@dataclass(slots=True)
class Volume:
    """What a fragment does with its rows, all of its tasks together."""

    rows: Amount
    """Rows that it yields."""

    schema: pl.Schema
    kinds: frozenset[str]
    """Kinds of its nodes."""

    uses: dict[int, int]
    """Input → how often the plan reads it; polars may do it once all the same."""

    whole: list[tuple[str, ...]] = field(default_factory=list)
    """Paths of the scans that were not cut into splits: each task reads them whole. Empty for a source that is not files."""


def volume(fragment: bytes, inputs: Sequence[Amount], tasks: int) -> Volume:
    """Return what a fragment does with rows.

    Parameters
    ----------
    fragment
        A stage's fragment.
    inputs
        Rows of each source, each row once, however many tasks read it.
    tasks
        Tasks that run the fragment.
    """
    arena = Arena.decode(fragment)
    sources = {node: inputs[number] for number, nodes in arena.placeholders().items() for node in nodes}
    rows: dict[int, Amount] = {}
    whole: list[tuple[str, ...]] = []
    for number in arena.reachable():
        node = decode_node(arena, number)
        if number in sources:
            rows[number] = sources[number]
        elif isinstance(node, DataFrameScan):
            rows[number] = _frame_rows(arena, number).times(tasks)
        elif not node.inputs:
            whole.append(node.paths if isinstance(node, Scan) else ())
            rows[number] = UNKNOWN
        else:
            rows[number] = _rows(node, [rows[child] for child in node.inputs], tasks)
    kinds = frozenset(arena.kind(number) for number in arena.reachable())
    return Volume(
        rows=rows[arena.root], schema=arena.lazy().collect_schema(), kinds=kinds, uses=input_uses(arena), whole=whole
    )


def input_uses(arena: Arena) -> dict[int, int]:
    """Return how many ways lead from the root of a fragment to each input."""
    ways = {arena.root: 1}
    for number in reversed(arena.reachable()):
        for child in arena.inputs(number):
            ways[child] = ways.get(child, 0) + ways[number]
    return {number: sum(ways.get(node, 0) for node in nodes) for number, nodes in arena.placeholders().items()}


def _frame_rows(arena: Arena, number: int) -> Amount:
    return Amount(value=arena.lazy(number).select(pl.len()).collect(engine="in-memory").item())


def _rows(node: Node, inputs: Sequence[Amount], tasks: int) -> Amount:
    """Return the rows that a node yields."""
    below = inputs[0] if inputs else UNKNOWN
    match node:
        case HStack() | Cache():
            return below
        case Sort():
            return below if node.limit is None else _capped(below, node.limit * tasks)
        case Filter() | Distinct():
            return below.at_most()
        case GroupBy():
            return below.at_most() if node.plain else below.about()
        case Select():
            return _selected(node, below, tasks)
        case Slice():
            return below.at_most() if node.length is None else _capped(below, node.length * tasks)
        case Join():
            return _joined(node, *inputs)
        case Union():
            return total(inputs)
        case MapFunction(function=function) if function in _KEEP_ROWS:
            return below
        case MapFunction(function=function) if function in _KEEP_AT_MOST:
            return below.at_most()
        case _:
            return max(inputs, key=lambda amount: amount.value, default=UNKNOWN).about()


def _capped(amount: Amount, most: int) -> Amount:
    """Return at most so many rows, however bad the estimate of the input is."""
    if amount.is_upper and amount.value <= most:
        return amount.at_most()
    return Amount(value=most, bound="at_most")


def _selected(node: Select, below: Amount, tasks: int) -> Amount:
    """Return one row a task where all is aggregated, and all rows where expressions are row-wise."""
    if node.exprs and all(map(_is_one_value, node.exprs)):
        return Amount(value=tasks)
    return below if all(map(is_row_wise, node.exprs)) else below.about()


def _is_one_value(raw: object) -> bool:
    """Return whether an expression is one column of one row; not of one that polars can't tell about without a schema."""
    try:
        meta = to_expr(raw).meta
        return not meta.has_multiple_outputs() and meta.is_scalar()
    except PolarsError:
        return False


def _joined(node: Join, left: Amount, right: Amount) -> Amount:
    both = max(left.value, right.value)
    match node.how:
        case "Semi" | "Anti":
            return left.at_most()
        case "Cross":
            return Amount(value=left.value * right.value, bound=total([left, right]).bound)
        case "Full" | "FullWhere":
            return Amount(value=left.value + right.value, bound=total([left.about(), right]).bound)
        case _:
            return Amount(value=both, bound=total([left.about(), right]).bound)


def row_bytes(schema: pl.Schema) -> Amount:
    """Return the in-memory bytes of a row; exact but for strings and lists, of which they are a guess."""
    return total(_value_bytes(dtype) for dtype in schema.dtypes()) if len(schema) else NOTHING


def _value_bytes(dtype: pl.DataType) -> Amount:
    match dtype:
        case pl.Struct():
            return total(_value_bytes(instance(member.dtype)) for member in dtype.fields)
        case pl.Array():
            return _value_bytes(instance(dtype.inner)).times(dtype.size)
        case pl.List():
            return Amount(value=8 + _LIST_VALUES * _value_bytes(instance(dtype.inner)).value, bound="about")
        case pl.Categorical() | pl.Enum():
            return Amount(value=4, bound="about")  # and the dictionary, once a block
        case _:
            width = next((width for width, kinds in _WIDTHS.items() if isinstance(dtype, kinds)), None)
            return Amount(value=_STRING_BYTES, bound="about") if width is None else Amount(value=width)


_WIDTHS: Final = {
    1: (pl.Boolean, pl.Null, pl.Int8, pl.UInt8),
    2: (pl.Int16, pl.UInt16, pl.Float16),
    4: (pl.Int32, pl.UInt32, pl.Float32, pl.Date),
    8: (pl.Int64, pl.UInt64, pl.Float64, pl.Datetime, pl.Duration, pl.Time),
    16: (pl.Int128, pl.UInt128, pl.Decimal),
}
