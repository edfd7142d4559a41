"""Expressions that look at a few neighbours: every task borrows the nearest rows of the tasks beside it.

Each task gives away its first and last `k` rows (its borders, with row tags). All tasks read all borders, which are few,
take the `k` rows that come right before and right after their own ones (of several tasks, when these have fewer), compute,
and drop the borrowed rows. Rows stay in their order and in their tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import plain_column, to_expr, walk
from frazil_coordinator.plan.looks import reach_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import ANY, Relation, tasks_of
from frazil_coordinator.plan.rules.base import combine
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["near_columns"]

LARGEST_BORDERS: Final = 5_000_000
"""Rows of all borders together, which every task reads: above, one task is the better way."""

_OWN: Final = "__frazil_own"
_HERE: Final = "__frazil_here"
_MAP, _ROW = ROW_TAG_COLUMNS


def near_columns(exprs: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    """Return the rows with expressions of the class ``NEAR`` as columns.

    Parameters
    ----------
    exprs
        Column → expression over the columns of `rows`.
    rows
        Rows with row tags.
    context
        Inserts exchanges.

    Raises
    ------
    NotDistributedError
        When the borders would be too large.
    """
    reach = max(reach_of(raw) or 0 for raw in exprs.values())
    if 2 * reach * tasks_of(rows) > LARGEST_BORDERS:
        raise NotDistributedError("it looks too far", next(iter(exprs.values())))
    before, after, borders = _neighbours(exprs, rows, context, max(1, reach))
    own = rows.lf.with_columns(pl.lit(value=True).alias(_OWN))
    extended = pl.concat([before, own, after], how="diagonal")
    computed = extended.with_columns(to_expr(raw).alias(name) for name, raw in exprs.items())
    kept = computed.filter(pl.col(_OWN)).select(*rows.schema.names(), *exprs)
    return combine([rows, borders]).then(kept, f"WITH {reach} NEIGHBOURS", distribution=ANY, kind="map")


def _neighbours(
    exprs: Mapping[str, RawExpr], rows: Relation, context: Context, reach: int
) -> tuple[pl.LazyFrame, pl.LazyFrame, Relation]:
    """Return the rows right before and right after those of a task, and the relation of the borders."""
    names = {name for raw in exprs.values() for part in walk(raw) if (name := plain_column(part)) is not None}
    row = pl.col(_ROW).cast(pl.Int64)
    at_border = (row < reach) | (row >= pl.len().cast(pl.Int64) - reach)
    first_and_last = rows.lf.filter(at_border).select(*ROW_TAG_COLUMNS, *sorted(names))
    borders = context.broadcast(rows.then(first_and_last, f"BORDERS OF {reach} ROWS"))
    here = rows.lf.select(pl.col(_MAP).first().alias(_HERE))
    around = borders.lf.join(here, how="cross", maintain_order="left")
    before = around.filter(pl.col(_MAP) < pl.col(_HERE)).tail(reach).drop(_HERE)
    after = around.filter(pl.col(_MAP) > pl.col(_HERE)).head(reach).drop(_HERE)
    return before, after, borders
