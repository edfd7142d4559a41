"""Medians and quantiles of all rows, by position in sorted values.

The values are sorted by a range exchange and numbered, and the two values around the position that is asked for are picked.
What is made of them is made by polars.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import is_literal, is_separable, kind_of, members, operands, serialised, to_expr
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import SINGLE, Relation
from frazil_coordinator.plan.rules.base import combine
from frazil_coordinator.plan.rules.running import number_rows
from frazil_functions.arena import Raw
from frazil_functions.task import SortKey

__all__ = ["Quantile", "quantile_of", "quantile_row"]

_VALUE: Final = "__frazil_value"
_INDEX: Final = "__frazil_index"
_COUNT: Final = "__frazil_count"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """One quantile of some values."""

    values: RawExpr
    q: float
    """Between 0 and 1."""

    method: str
    """As polars writes it: ``Nearest``, ``Linear``, …."""

    def position(self, count: pl.Expr) -> pl.Expr:
        """Return the position, perhaps between two, from 0 on, among so many sorted values without nulls."""
        if self.method == "Equiprobable":
            return pl.max_horizontal((count * self.q).ceil() - 1, pl.lit(0.0))
        return (count - 1) * self.q


def quantile_of(raw: RawExpr) -> Quantile | None:
    """Return the quantile that an expression is of values that each task can make of its rows; None for anything else."""
    inner = members(raw)
    if not isinstance(inner, dict):
        return None
    if kind_of(raw) == "Agg" and kind_of(inner) == "Median":
        q, method = 0.5, "Linear"
    elif kind_of(raw) == "Function" and kind_of(inner["function"]) == "Quantile":
        if not is_literal(operands(raw)[1]):
            return None
        found = pl.select(to_expr(operands(raw)[1])).item()
        if not isinstance(found, (int, float)) or not 0 <= found <= 1:
            return None
        q, method = float(found), str(cast("Raw", members(inner["function"]))["method"])
    else:
        return None
    values = operands(raw)[0]
    if not is_separable(values) or shape_of(values) is Shape.SCALAR:
        return None
    return Quantile(values=values, q=q, method=method)


def quantile_row(quantiles: Mapping[str, Quantile], rows: Relation, context: Context) -> list[Relation]:
    """Return rows, in one task, with quantiles as columns: one for all quantiles of the same values."""
    by_values: dict[bytes, dict[str, Quantile]] = {}
    for name, quantile in quantiles.items():
        by_values.setdefault(serialised(quantile.values), {})[name] = quantile
    return [_picked(group, rows, context) for group in by_values.values()]


def _picked(quantiles: Mapping[str, Quantile], rows: Relation, context: Context) -> Relation:
    values = to_expr(next(iter(quantiles.values())).values).alias(_VALUE)
    present = rows.then(rows.lf.select(values).drop_nulls(), "VALUES", kind="map")
    count = context.gather(present.then(present.lf.select(pl.len().cast(pl.Int64).alias(_COUNT)), "COUNT"), kind="aggregate")
    total = context.broadcast(count.then(count.lf.sum(), "COUNT", distribution=SINGLE))
    key = SortKey(column=_VALUE, descending=False, nulls_last=False)
    numbered = number_rows(context, context.sort(present, [key], stable=False), name=_INDEX, offset=0)
    beside = numbered.lf.join(total.lf, how="cross", maintain_order="left")
    wanted = pl.any_horizontal(_is_wanted(quantile) for quantile in quantiles.values())
    near = combine([numbered, total]).then(beside.filter(wanted), "PICK BY POSITION", distribution=numbered.distribution)
    gathered = context.gather(near, kind="aggregate")
    made = [_value(quantile).alias(name) for name, quantile in quantiles.items()]
    return gathered.then(gathered.lf.select(made), "QUANTILE", distribution=SINGLE)


def _is_wanted(quantile: Quantile) -> pl.Expr:
    index, position = pl.col(_INDEX).cast(pl.Float64), quantile.position(pl.col(_COUNT))
    return (index == position.floor()) | (index == position.ceil())


def _value(quantile: Quantile) -> pl.Expr:
    picked = pl.col(_VALUE).filter(_is_wanted(quantile))
    if quantile.q == 0.5 and quantile.method == "Linear":
        return picked.median()
    position = quantile.position(pl.col(_COUNT)).first()  # on all rows that were picked it is the same
    between = (position - position.floor()).fill_null(0.0)  # null when there are no values
    method = {"Equiprobable": "nearest"}.get(quantile.method, quantile.method.lower())
    return picked.quantile(between, method)  # type: ignore[arg-type]  # one of polars' names
