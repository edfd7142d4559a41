"""Values at places that are computed: slices whose bounds, and gathers whose places, are expressions.

The values are numbered over all tasks. Bounds are one row that every task gets; places are joined with the numbers.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.relation import ANY, Relation
from frazil_coordinator.plan.rules.base import beside
from frazil_coordinator.plan.rules.program import planned, planned_of_several
from frazil_coordinator.plan.rules.running import number_rows

__all__ = ["gathered_at", "sliced_by"]

_FIRST: Final = "__frazil_first"
_COUNT: Final = "__frazil_count"
_TOTAL: Final = "__frazil_total"
_INDEX: Final = "__frazil_index"
_PLACE: Final = "__frazil_place"
_FOUND: Final = "__frazil_found"


def sliced_by(offset: pl.Expr, length: pl.Expr, values: Relation, rows: Relation, context: Context) -> Relation | None:
    """Return a slice of rows, in their order and in their tasks; None when its bounds have no distributed form.

    Parameters
    ----------
    offset, length
        One value each, over the columns of `rows`. As in polars' streaming engine, an offset that is null counts as 0, and
        a length that is null or negative as all.
    values
        What is sliced.
    rows
        What the bounds are computed from.
    context
        Inserts exchanges.
    """
    bounds = planned(
        lambda lf: lf.select(offset.cast(pl.Int64).alias(_FIRST), length.cast(pl.Int64).alias(_COUNT)), rows, context
    )
    if not bounds.is_single:
        return None
    numbered, total = _numbered(values, context)
    known = beside(beside(numbered, context.broadcast(bounds)), total)
    first, count, all_rows = pl.col(_FIRST).fill_null(0), pl.col(_COUNT), pl.col(_TOTAL)
    start = pl.when(first < 0).then(first + all_rows).otherwise(first)
    # An end beyond the last row would overflow for lengths near the largest number.
    is_before_end = count.is_null() | (count < 0) | (pl.col(_INDEX) - start < count)
    kept = known.lf.filter((pl.col(_INDEX) >= start) & is_before_end)
    return known.then(kept.select(values.schema.names()), "SLICE BY COMPUTED BOUNDS")


def _numbered(rows: Relation, context: Context) -> tuple[Relation, Relation]:
    """Return the rows with their number, and a row with how many there are, for every task."""
    whole = rows if rows.is_single else context.once(rows)
    total = planned(lambda lf: lf.select(pl.len().cast(pl.Int64).alias(_TOTAL)), whole, context)
    if whole.is_single:
        numbered = whole.then(whole.lf.with_row_index(_INDEX), "ROW INDEX")
    else:
        numbered = number_rows(context, whole, name=_INDEX, offset=0)
    return numbered.then(numbered.lf.with_columns(pl.col(_INDEX).cast(pl.Int64))), context.broadcast(total)


def gathered_at(values: Relation, places: Relation, context: Context, *, null_on_oob: bool) -> Relation | None:
    """Return the values at some places, in the order of the places; None when these are no whole numbers.

    Parameters
    ----------
    values
        Columns to be gathered from.
    places
        Row numbers in one column, from 0 on, negative ones from the end; null gives null.
    context
        Inserts exchanges.
    null_on_oob
        Whether a place beyond the values gives null; else the task that has it raises polars' error.
    """
    ((place, dtype),) = places.schema.items()
    if not dtype.is_integer():
        return None
    numbered, total = _numbered(values, context)
    counted = beside(places, total)
    number = pl.col(place).cast(pl.Int64)
    at = pl.when(number < 0).then(number + pl.col(_TOTAL)).otherwise(number).alias(_PLACE)
    wanted = counted.then(counted.lf.select(at), "PLACES")
    marked = numbered.then(numbered.lf.with_columns(pl.lit(value=True).alias(_FOUND)))
    joined = planned_of_several(
        lambda lfs: lfs[0].join(lfs[1], left_on=_PLACE, right_on=_INDEX, how="left", maintain_order="left"),
        [wanted, marked],
        context,
    )
    if places.is_single:
        joined = context.gather(joined)
    columns = [pl.col(name) for name in values.schema.names()]
    if not null_on_oob:
        is_there = (pl.col(_PLACE).is_null() | pl.col(_FOUND).is_not_null()).all()
        # Polars itself says what is wrong with a place behind the last row.
        own = pl.when(is_there).then(pl.int_range(pl.len(), dtype=pl.Int64)).otherwise(pl.len().cast(pl.Int64))
        columns = [column.gather(own) for column in columns]
    distribution = None if joined.is_single else ANY
    return joined.then(joined.lf.select(columns), "GATHER BY PLACE", distribution=distribution)
