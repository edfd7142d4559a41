"""Expressions that say the same as others for which there is a rule: run ids, fills by an extreme.

They are made by polars itself, so that what is lifted out of them is an expression like the user's own.
"""

from __future__ import annotations

from typing import cast

import polars as pl

from frazil_coordinator.plan.exprs import from_expr, kind_of, members, operands, to_expr
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_functions.arena import Raw

__all__ = ["in_simpler_terms"]


def in_simpler_terms(raw: RawExpr) -> RawExpr | None:
    """Return an expression of the same values for which there is a rule; None when there is none, or no need."""
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict):
        return None
    name, parts = kind_of(inner["function"]), operands(raw)
    if not parts or shape_of(parts[0]) is not Shape.COLUMN:
        return None
    values = to_expr(parts[0])
    if name == "RLEID":
        return from_expr(_run_id(values))
    if name == "FillNullWithStrategy":
        strategy = kind_of(members(cast("Raw", inner["function"])))
        if strategy == "Min":
            return from_expr(values.fill_null(values.min()))
        if strategy == "Max":
            return from_expr(values.fill_null(values.max()))
    return None


def _run_id(values: pl.Expr) -> pl.Expr:
    """Return how often the value has changed so far."""
    changed = values.ne_missing(values.shift(1)).cast(pl.get_index_type())
    # The row before the first one is null for `shift`: a first value that is not null would count as a change.
    return (changed.cum_sum() - values.first().is_not_null().cast(pl.get_index_type())).cast(pl.get_index_type())
