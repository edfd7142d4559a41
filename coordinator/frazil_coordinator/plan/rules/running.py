"""What depends on all rows before a row: row numbers and running sums, counts, minima and maxima.

Each task knows its own rows only. The tasks' totals go to one task, which adds them up in task order; every task then
gets the total of the tasks before it and adds it to what it has (a parallel prefix sum; Blelloch, "Prefix Sums and Their
Applications", 1990). Rows stay in their order and in their tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import expand, from_expr, is_row_wise, kind_of, members, serialised, substitute, to_expr
from frazil_coordinator.plan.nodes import HStack, RawExpr, Select
from frazil_coordinator.plan.relation import ANY, Relation
from frazil_coordinator.plan.rules.base import combine
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["number_rows", "over_running"]

_BEFORE: Final = "__frazil_before"
_MAP, _ROW = ROW_TAG_COLUMNS


@dataclass(slots=True)
class _Prefixes:
    """Totals of the tasks before each task, by the column that will hold them."""

    totals: dict[str, pl.Expr] = field(default_factory=dict)
    """Column → aggregate over the rows of one task."""

    running: dict[str, pl.Expr] = field(default_factory=dict)
    """Column → that aggregate over all tasks before, from the totals in task order."""

    def add(self, total: pl.Expr, running: pl.Expr) -> pl.Expr:
        """Add a total, and return the column of the total before."""
        name = f"{_BEFORE}{len(self.totals)}"
        self.totals[name] = total.alias(name)
        self.running[name] = running
        return pl.col(name)


def _with_prefixes(context: Context, rows: Relation, prefixes: _Prefixes) -> Relation:
    """Return the rows with their tags and the columns of `prefixes`."""
    tagged = context.tagged(rows)
    totals = tagged.then(tagged.lf.group_by(_MAP).agg(prefixes.totals.values()), "TOTALS OF THE TASK", kind="aggregate")
    gathered = context.gather(totals, kind="aggregate")
    ordered = gathered.lf.sort(_MAP)
    added = ordered.select(_MAP, *(expr.alias(name) for name, expr in prefixes.running.items()))
    before = context.broadcast(gathered.then(added, "TOTALS OF THE TASKS BEFORE"))
    joined = tagged.lf.join(before.lf, on=_MAP, how="left", maintain_order="left")
    return combine([tagged, before]).then(joined, "WITH TOTALS BEFORE", distribution=ANY, kind="map")


def number_rows(context: Context, rows: Relation, *, name: str, offset: int) -> Relation:
    """Return the rows with their number, from `offset` on, in a first column `name`."""
    prefixes = _Prefixes()
    before = prefixes.add(pl.len().cast(pl.Int64), _running_sum(prefixes))
    numbered = _with_prefixes(context, rows, prefixes)
    index = (before + pl.col(_ROW).cast(pl.Int64) + offset).cast(pl.get_index_type()).alias(name)
    return numbered.then(numbered.lf.select(index, *map(pl.col, rows.schema.names())), "ROW INDEX")


def _running_sum(prefixes: _Prefixes) -> pl.Expr:
    return pl.col(f"{_BEFORE}{len(prefixes.totals)}").cum_sum().shift(1, fill_value=0)


def over_running(node: Select | HStack, context: Context, rows: Relation, operator: str) -> Relation | None:
    """Return the relation of a node whose expressions are row-wise but for running aggregates; None when they are not."""
    prefixes = _Prefixes()
    try:
        exprs = [
            to_expr(_lifted(single, rows, prefixes)).alias(to_expr(single).meta.output_name())
            for raw in node.exprs
            for single in expand(raw, rows.schema)
        ]
    except (_NotRunningError, PolarsError, ValueError):
        return None
    if not prefixes.totals:
        return None
    wide = _with_prefixes(context, rows, prefixes)
    if isinstance(node, Select):
        return wide.then(wide.lf.select(exprs), operator)
    return wide.then(wide.lf.with_columns(exprs).drop(*ROW_TAG_COLUMNS, *prefixes.totals), operator)


class _NotRunningError(Exception):
    """An expression looks at several rows in another way."""


def _lifted(raw: RawExpr, rows: Relation, prefixes: _Prefixes) -> RawExpr:
    """Return the expression with its running aggregates started from the totals of the tasks before."""
    found: dict[bytes, RawExpr] = {}

    def continued(part: RawExpr) -> RawExpr | None:
        inner = members(part)
        if kind_of(part) != "Function" or not isinstance(inner, dict) or kind_of(inner["function"]) not in _RUNNING:
            return None
        key = serialised(part)
        if key not in found:
            found[key] = from_expr(_continued(part, cast("Raw", inner), rows, prefixes))
        return found[key]

    def stand_in(part: RawExpr) -> RawExpr | None:
        is_running = kind_of(part) == "Function" and kind_of(cast("Raw", members(part))["function"]) in _RUNNING
        return {"Column": _BEFORE} if is_running else None

    if not is_row_wise(substitute(raw, stand_in)):
        raise _NotRunningError
    return substitute(raw, continued)


_RUNNING: Final = frozenset({"CumSum", "CumCount", "CumMax", "CumMin"})


def _continued(raw: RawExpr, inner: Raw, rows: Relation, prefixes: _Prefixes) -> pl.Expr:
    """Return one running aggregate, started from the total of the tasks before."""
    (column,) = cast("list[RawExpr]", inner["input"])
    function = cast("Raw", inner["function"])
    (kind,) = function
    if cast("Raw", function[kind])["reverse"] or not is_row_wise(column):
        raise _NotRunningError
    local, values = to_expr(raw), to_expr(column)
    (dtype,) = rows.lf.select(local).collect_schema().dtypes()
    if kind == "CumCount":
        return (local + prefixes.add(values.count(), _running_sum(prefixes))).cast(dtype)
    if not dtype.is_integer() and not (kind == "CumSum" and dtype.is_float()):
        raise _NotRunningError  # NaN, durations and decimals have rules of their own
    if kind == "CumSum":
        return (local + prefixes.add(values.cast(dtype).sum(), _running_sum(prefixes))).cast(dtype)
    own = pl.col(f"{_BEFORE}{len(prefixes.totals)}")
    largest = kind == "CumMax"
    best = (own.cum_max() if largest else own.cum_min()).forward_fill().shift(1)
    before = prefixes.add(values.max() if largest else values.min(), best)
    both = pl.max_horizontal(local, before) if largest else pl.min_horizontal(local, before)
    return pl.when(local.is_not_null()).then(both).cast(dtype)
