"""Sums and means with weights that fade (``ewm_sum``, ``ewm_mean``): each task goes on from the faded sums of those before.

A sum whose weights fade by a factor with every row is, at a row, the task's own sum and the sum at the end of the tasks
before, faded once for each row since. A mean is such a sum of the values over one of ones. Polars computes the tasks' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import kind_of, members, operands, to_expr
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import ANY, Relation
from frazil_coordinator.plan.rules.base import combine
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["decaying_columns", "is_decaying"]

_SUM: Final = "__frazil_sum"
_WEIGHT: Final = "__frazil_weight"
_STEPS: Final = "__frazil_steps"
_SEEN: Final = "__frazil_seen"
_START: Final = "__frazil_start"
_END: Final = "__frazil_end"
_OTHER: Final = "__frazil_other"
_MAP, _ROW = ROW_TAG_COLUMNS


def is_decaying(raw: RawExpr, schema: pl.Schema) -> bool:
    """Return whether an expression is such a sum or mean, of values over `schema` that are computed as 64-bit floats.

    A mean that is not adjusted has weights that depend on where its nulls are, and has no rule.
    """
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict):
        return False
    if kind_of(inner["function"]) not in ("EwmSum", "EwmMean") or not _options(raw)["adjust"]:
        return False
    (dtype,) = pl.LazyFrame(schema=schema).select(to_expr(operands(raw)[0])).collect_schema().dtypes()
    return dtype.is_integer() or dtype == pl.Float64


def _options(raw: RawExpr) -> Raw:
    return cast("Raw", cast("Raw", members(cast("Raw", members(raw))["function"]))["options"])


def decaying_columns(exprs: Mapping[str, RawExpr], before: Relation, rows: Relation, context: Context) -> Relation:
    """Return the rows with faded sums and means as columns.

    Parameters
    ----------
    exprs
        Column → expression over the columns of `before`, of which :func:`is_decaying` holds.
    before
        Rows with row tags, of which the sums of the tasks are made.
    rows
        The same rows in the same tasks, perhaps with more columns.
    context
        Inserts exchanges.
    """
    for name, raw in exprs.items():
        rows = _decayed(name, raw, before, rows, context)
    return rows


def _decayed(name: str, raw: RawExpr, before: Relation, rows: Relation, context: Context) -> Relation:
    options = _options(raw)
    factor = 1 - cast("float", options["alpha"])
    is_mean = _kind(raw) == "EwmMean"
    local, values = to_expr(_from_the_first_value(raw)), to_expr(operands(raw)[0])
    own = _of_one_task(raw)
    carried = context.broadcast(_at_the_ends(own, factor, before, context))
    joined = rows.lf.join(carried.lf, on=_MAP, how="left", maintain_order="left").with_columns(own)
    faded = pl.lit(factor).pow(pl.col(_STEPS))
    total = pl.col(_SUM) + _faded(pl.col(f"{_SUM}{_END}"), faded).fill_null(0.0)
    if is_mean:
        before_it = pl.col(f"{_WEIGHT}{_END}")
        mean = total / (pl.col(_WEIGHT) + faded * before_it)
        # Behind an infinite value polars has no number.
        known = pl.when(pl.col(f"{_SUM}{_END}").is_infinite()).then(float("nan")).otherwise(mean)
        total = pl.when(before_it > 0).then(known).otherwise(local)
    enough = pl.col(_SEEN) + pl.col(f"{_SEEN}{_END}").fill_null(0) >= cast("int", options["min_periods"])
    done = joined.with_columns(pl.when(values.is_not_null() & enough).then(total).alias(name))
    kept = done.select(*rows.schema.names(), name)
    return combine([rows, carried]).then(kept, "WITH FADED SUMS BEFORE", distribution=ANY, kind="map")


def _kind(raw: RawExpr) -> str:
    return kind_of(cast("Raw", members(raw))["function"])


def _from_the_first_value(raw: RawExpr) -> RawExpr:
    """Return the expression with values from the first row on, however many it asks for."""
    inner = cast("Raw", members(raw))
    return {"Function": {**inner, "function": {_kind(raw): {"options": {**_options(raw), "min_periods": 1}}}}}


def _of_one_task(raw: RawExpr) -> list[pl.Expr]:
    """Return the faded sum, its weight, the number of values, and how often the sums before have faded, at each row."""
    options = _options(raw)
    alpha, skips_nulls = cast("float", options["alpha"]), bool(options["ignore_nulls"])
    local, values = to_expr(_from_the_first_value(raw)), to_expr(operands(raw)[0])
    weight = pl.when(values.is_not_null()).then(1.0).ewm_sum(alpha=alpha, ignore_nulls=skips_nulls)
    seen = values.is_not_null().cast(pl.Int64).cum_sum()
    steps = seen if skips_nulls else pl.col(_ROW).cast(pl.Int64) + 1
    total = local * weight if _kind(raw) == "EwmMean" else local
    return [total.alias(_SUM), weight.alias(_WEIGHT), seen.alias(_SEEN), steps.alias(_STEPS)]


def _faded(total: pl.Expr, factor: pl.Expr) -> pl.Expr:
    """Return a sum times a factor that may be so small that it counts as 0: what is infinite stays so."""
    return pl.when(total.is_infinite()).then(total).otherwise(total * factor)


def _at_the_ends(own: list[pl.Expr], factor: float, before: Relation, context: Context) -> Relation:
    """Return the sums, weights and numbers of values at the end of all tasks before each, for every task but the first."""
    last = pl.col(_STEPS).filter(pl.col(_SUM).is_not_null()).last()
    since = pl.lit(factor).pow(pl.col(_STEPS).last() - last)
    sums = [_faded(pl.col(part).drop_nulls().last(), since).alias(part) for part in (_SUM, _WEIGHT)]
    totals = before.lf.select(_MAP, *own).group_by(_MAP).agg(*sums, pl.col(_SEEN).last(), pl.col(_STEPS).last())
    gathered = context.gather(before.then(totals, "FADED SUMS OF THE TASK", kind="aggregate"), kind="aggregate")
    ends = gathered.lf.sort(_MAP).with_columns(pl.col(_STEPS).cum_sum().alias(_END))
    starts = ends.select(_MAP, (pl.col(_END) - pl.col(_STEPS)).alias(_START))
    pairs = starts.join(ends.rename({_MAP: _OTHER}), how="cross").filter(pl.col(_OTHER) < pl.col(_MAP))
    gap = pl.lit(factor).pow(pl.col(_START) - pl.col(_END))
    added = [_faded(pl.col(part), gap).sum().alias(f"{part}{_END}") for part in (_SUM, _WEIGHT)]
    before_each = pairs.group_by(_MAP).agg(*added, pl.col(_SEEN).sum().alias(f"{_SEEN}{_END}"))
    return gathered.then(before_each, "FADED SUMS BEFORE", kind="aggregate")
