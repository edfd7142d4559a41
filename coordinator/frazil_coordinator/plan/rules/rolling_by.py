"""Rolling windows by another column (``rolling_mean_by``, …): spans of that column in one task each (:mod:`.spans`).

Polars sorts by the column itself, so the rows may come in any order. They go back into their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import kind_of, members, operands, serialised, to_expr
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import Relation
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_coordinator.plan.rules.spans import SPAN, Reach, copied_into_spans, is_in_span, most_ticks, ticks, with_ends
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["is_rolling_by", "rolling_by_columns"]

_BY: Final = "__frazil_by"


def is_rolling_by(raw: RawExpr) -> bool:
    """Return whether an expression is a rolling window by another column; polars can't rank inside of groups."""
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict) or kind_of(inner["function"]) != "RollingExprBy":
        return False
    return kind_of(cast("Raw", members(inner["function"]))["function_by"]) != "RankBy"


def rolling_by_columns(exprs: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    """Return the rows, in their order, with rolling windows as columns.

    Parameters
    ----------
    exprs
        Column → rolling window whose operands are row-wise over the columns of `rows`.
    rows
        The rows, without row tags.
    context
        Inserts exchanges.

    Raises
    ------
    NotDistributedError
        When windows are by something that has no ticks.
    """
    by_column: dict[bytes, dict[str, RawExpr]] = {}
    for name, raw in exprs.items():
        by_column.setdefault(serialised(operands(raw)[1]), {})[name] = raw
    for windows in by_column.values():
        rows = _rolled(windows, rows, context)
    return rows


def _rolled(windows: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    names = rows.schema.names()
    by = to_expr(operands(next(iter(windows.values())))[1])
    tagged = context.tagged(rows)
    keyed = tagged.then(tagged.lf.with_columns(by.alias(_BY)))
    dtype = keyed.schema[_BY]
    if dtype not in (pl.Int32, pl.Int64, pl.UInt32, pl.Date) and not isinstance(dtype, pl.Datetime):
        raise NotDistributedError(f"its windows are by {dtype}", next(iter(windows.values())))
    tick = ticks(pl.col(_BY), dtype)
    reach = Reach(before=max(most_ticks(_window(raw), dtype) for raw in windows.values()), after=0)
    known = with_ends(_BY, keyed, context, ordered=False)
    spans = copied_into_spans(tick, reach, known, context, [*names, _BY, *ROW_TAG_COLUMNS])
    rolled = spans.lf.with_columns(to_expr(raw).over(SPAN).alias(name) for name, raw in windows.items())
    own = rolled.filter(is_in_span(tick) | pl.col(_BY).is_null()).select(*names, *windows, *ROW_TAG_COLUMNS)
    return context.restore_order(spans.then(own, "ROLLING WINDOWS"))


def _window(raw: RawExpr) -> Raw:
    function = cast("Raw", cast("Raw", members(raw))["function"])
    options = cast("Raw", cast("Raw", members(function))["options"])
    return cast("Raw", options["window_size"])
