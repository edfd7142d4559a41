"""What depends on all rows before a row, or on all after it: row numbers, running sums, the last value that is not null.

Each task knows its own rows only. The tasks' totals go to one task, which adds them up in task order; every task then
gets the total of the tasks before it and adds it to what it has (a parallel prefix sum; Blelloch, "Prefix Sums and Their
Applications", 1990). Rows stay in their order and in their tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import kind_of, members, operands, to_expr
from frazil_coordinator.plan.looks import first_row_index
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import ANY, Relation
from frazil_coordinator.plan.rules.base import combine
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["carried_columns", "number_rows"]

_BEFORE: Final = "__frazil_before"
_MAP, _ROW = ROW_TAG_COLUMNS


@dataclass(slots=True)
class _Prefixes:
    """Totals of the tasks before (or behind) each task, by the column that will hold them."""

    totals: dict[str, pl.Expr] = field(default_factory=dict)
    """Column → aggregate over the rows of one task."""

    running: dict[str, pl.Expr] = field(default_factory=dict)
    """Column → that aggregate over all tasks before, from the totals in task order."""

    def add(self, total: pl.Expr, running: pl.Expr) -> pl.Expr:
        """Add a total, and return the column of the total before; `running` is made for the column :meth:`own`."""
        name = f"{_BEFORE}{len(self.totals)}"
        self.totals[name] = total.alias(name)
        self.running[name] = running
        return pl.col(name)

    def own(self) -> pl.Expr:
        """Return the column of the total that is added next."""
        return pl.col(f"{_BEFORE}{len(self.totals)}")


def carried_columns(exprs: Mapping[str, RawExpr], before: Relation, rows: Relation, context: Context) -> Relation:
    """Return the rows with expressions of the class ``CARRIED`` as columns.

    Parameters
    ----------
    exprs
        Column → expression over the columns of `before`.
    before
        Rows with row tags, of which the totals are made.
    rows
        The same rows in the same tasks, perhaps with more columns.
    context
        Inserts exchanges.

    Raises
    ------
    NotDistributedError
        When the state can't be carried on for the dtype of an expression.
    """
    prefixes = _Prefixes()
    columns = [_continued(raw, before, prefixes).alias(name) for name, raw in exprs.items()]
    wide = _with_prefixes(context, before, rows, prefixes)
    return wide.then(wide.lf.with_columns(columns).drop(list(prefixes.totals)))


def _with_prefixes(context: Context, before: Relation, rows: Relation, prefixes: _Prefixes) -> Relation:
    """Return the rows with their tags and the columns of `prefixes`."""
    totals = before.then(before.lf.group_by(_MAP).agg(prefixes.totals.values()), "TOTALS OF THE TASK", kind="aggregate")
    gathered = context.gather(totals, kind="aggregate")
    ordered = gathered.lf.sort(_MAP)
    added = ordered.select(_MAP, *(expr.alias(name) for name, expr in prefixes.running.items()))
    carried = context.broadcast(gathered.then(added, "TOTALS OF THE TASKS BEFORE"))
    joined = rows.lf.join(carried.lf, on=_MAP, how="left", maintain_order="left")
    return combine([rows, carried]).then(joined, "WITH TOTALS BEFORE", distribution=ANY, kind="map")


def number_rows(context: Context, rows: Relation, *, name: str, offset: int) -> Relation:
    """Return the rows with their number, from `offset` on, in a first column `name`."""
    prefixes = _Prefixes()
    before = _rows_before(prefixes)
    tagged = context.tagged(rows)
    numbered = _with_prefixes(context, tagged, tagged, prefixes)
    index = (before + pl.col(_ROW).cast(pl.Int64) + offset).cast(pl.get_index_type()).alias(name)
    return numbered.then(numbered.lf.select(index, *map(pl.col, rows.schema.names())), "ROW INDEX")


def _rows_before(prefixes: _Prefixes) -> pl.Expr:
    return prefixes.add(pl.len().cast(pl.Int64), prefixes.own().cum_sum().shift(1, fill_value=0))


def _continued(raw: RawExpr, rows: Relation, prefixes: _Prefixes) -> pl.Expr:
    """Return an expression of one task's rows, started from the state of the tasks before."""
    local = to_expr(raw)
    (dtype,) = rows.lf.select(local).collect_schema().dtypes()
    if (first := first_row_index(raw)) is not None:
        return (_rows_before(prefixes) + pl.col(_ROW).cast(pl.Int64) + first).cast(dtype)
    values = to_expr(operands(raw)[0])
    function = cast("Raw", cast("Raw", members(raw))["function"])
    kind, body = kind_of(function), members(function)
    if kind == "FillNullWithStrategy":
        return _fill(local, values, prefixes, forward=kind_of(body) == "Forward")
    reverse = bool(cast("Raw", body)["reverse"])
    if kind == "CumCount":
        return (local + prefixes.add(values.count(), _before(prefixes.own().cum_sum(reverse=reverse), reverse, 0))).cast(
            dtype
        )
    if kind == "CumSum":
        before = prefixes.add(values.cast(dtype).sum(), _before(prefixes.own().cum_sum(reverse=reverse), reverse))
        return pl.coalesce(local + before, local).cast(dtype)
    if kind == "CumProd":
        before = prefixes.add(values.cast(dtype).product(), _before(prefixes.own().cum_prod(reverse=reverse), reverse))
        return pl.coalesce(local * before, local).cast(dtype)
    if kind in ("CumMax", "CumMin"):
        return _extreme(local, values, dtype, prefixes, largest=kind == "CumMax", reverse=reverse)
    raise NotDistributedError("its state can't be carried on", raw)


def _before(running: pl.Expr, reverse: bool, fill: int | None = None) -> pl.Expr:
    """Return the running totals of the tasks before each, or behind it."""
    return running.shift(-1 if reverse else 1, fill_value=fill)


def _fill(local: pl.Expr, values: pl.Expr, prefixes: _Prefixes, *, forward: bool) -> pl.Expr:
    own = prefixes.own()
    nearest = values.drop_nulls().last() if forward else values.drop_nulls().first()
    running = own.forward_fill().shift(1) if forward else own.backward_fill().shift(-1)
    before = prefixes.add(nearest, running)
    return pl.when(local.is_null()).then(before).otherwise(local)


def _extreme(
    local: pl.Expr, values: pl.Expr, dtype: pl.DataType, prefixes: _Prefixes, *, largest: bool, reverse: bool
) -> pl.Expr:
    """Return a running maximum or minimum. It is null where the value is, and NaN only as long as all values are."""
    own = prefixes.own()
    running = own.cum_max(reverse=reverse) if largest else own.cum_min(reverse=reverse)
    filled = running.backward_fill() if reverse else running.forward_fill()
    before = prefixes.add(values.max() if largest else values.min(), _before(filled, reverse))
    is_better = before > local if largest else before < local
    if dtype.is_float():
        is_better = before.is_not_nan() & (is_better | local.is_nan())
    return pl.when(local.is_not_null() & is_better).then(before).otherwise(local)
