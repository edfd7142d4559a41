"""Partial aggregates of single rows: what a task sends when aggregating its own rows does not make them fewer.

A group_by in two steps sends one row a group of each task. When nearly every row is a group of its own, the first step costs
a hash table and spares nothing; then each row is sent as if it were a group, with the same columns and dtypes, and the
second step does not see the difference. :mod:`frazil_coordinator.schedule.preaggregation` decides when, from what the first
tasks did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import polars as pl

from frazil_coordinator.plan.exprs import alias_of, from_expr, is_row_wise, kind_of, members, to_expr
from frazil_coordinator.plan.nodes import RawExpr
from frazil_functions.arena import Raw

__all__ = ["row_states"]


def row_states(
    rows: pl.LazyFrame, keys: Sequence[pl.Expr], partial: Sequence[pl.Expr], expected: pl.Schema
) -> pl.LazyFrame | None:
    """Return the rows as partial aggregates; None when an aggregate has no certain form for one row.

    Parameters
    ----------
    rows
        The rows.
    keys, partial
        Keys of the group_by, and its named partial aggregates: ``rows.group_by(keys).agg(partial)``.
    expected
        Schema of the partial aggregates, which is that of the result.
    """
    states = [_state(from_expr(one), expected) for one in partial]
    known = [state for state in states if state is not None]
    if len(known) < len(states):
        return None
    found = rows.select(*keys, *known)
    return found if found.collect_schema() == expected else None


def _state(raw: RawExpr, expected: pl.Schema) -> pl.Expr | None:
    """Return an aggregate of one row, under the aggregate's name."""
    aliased = alias_of(raw)
    if aliased is None:
        return None
    inner, name = aliased
    dtype = expected[name]
    if inner == "Len":
        return pl.lit(1, dtype=dtype).alias(name)
    if kind_of(inner) != "Agg":
        return None
    ((kind, value),) = cast("Raw", members(inner)).items()
    column = value["input"] if isinstance(value, dict) and "input" in value else value
    if not is_row_wise(column):
        return None
    of_row = to_expr(column)
    if kind == "Sum" and (dtype.is_integer() or dtype.is_float()):
        return of_row.cast(dtype).fill_null(0).alias(name)
    if kind == "Count" and isinstance(value, dict):
        counted = pl.lit(1, dtype=dtype) if value["include_nulls"] else of_row.is_not_null().cast(dtype)
        return counted.alias(name)
    if kind in ("Min", "Max", "First", "Last"):
        return of_row.alias(name)
    return None
