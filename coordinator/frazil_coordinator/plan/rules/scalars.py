"""Rows and aggregates in one expression (``x - x.mean()``): the aggregates first, then one broadcast row joined to all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.decompose import decompose
from frazil_coordinator.plan.exprs import (
    expand,
    from_expr,
    is_row_wise,
    kind_of,
    members,
    serialised,
    to_expr,
)
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import ExchangeLeaf, Relation
from frazil_coordinator.plan.rules.base import combine
from frazil_functions.arena import Raw

__all__ = ["Lifted", "lift", "reads_a_column", "with_scalars"]

_PREFIX: Final = "__frazil_scalar"


@dataclass(slots=True)
class Lifted:
    """Expressions whose aggregates were replaced by columns, and the aggregates."""

    exprs: list[pl.Expr] = field(default_factory=list)
    """Row-wise, under their original names, over the input's columns and those of `scalars`."""

    scalars: dict[str, RawExpr] = field(default_factory=dict)
    """Column → the aggregate over all rows that it stands for."""


class _NotLiftableError(Exception):
    """An expression looks at several rows in another way than by an aggregate."""


def lift(exprs: Sequence[RawExpr], rows: pl.LazyFrame) -> Lifted | None:
    """Take the aggregates out of expressions.

    Parameters
    ----------
    exprs
        Expressions of a select, with_columns or filter.
    rows
        What they are evaluated over.

    Returns
    -------
    Lifted or None
        None when an expression looks at several rows in another way, or when none of its aggregates can be computed in two
        steps.
    """
    schema = rows.collect_schema()
    lifted = Lifted()
    names: dict[bytes, str] = {}

    def column(raw: RawExpr) -> RawExpr:
        if decompose([raw], rows, grouped=False) is None:
            raise _NotLiftableError
        key = serialised(raw)
        if key not in names:
            names[key] = f"{_PREFIX}{len(names)}"
            lifted.scalars[names[key]] = raw
        return {"Column": names[key]}

    def replaced(raw: RawExpr) -> RawExpr:
        if is_row_wise(raw):
            return raw
        kind, inner = kind_of(raw), members(raw)
        if kind in ("Agg", "Len"):
            return column(raw)
        if kind == "Alias":
            return replaced(cast("list[object]", inner)[0])
        if not isinstance(inner, dict):
            raise _NotLiftableError
        if kind in _ROW_WISE_OVER:
            return {kind: {**inner, **{name: replaced(inner[name]) for name in _ROW_WISE_OVER[kind]}}}
        if kind == "Function":
            return _function(raw, inner)
        raise _NotLiftableError

    def _function(raw: RawExpr, inner: Raw) -> RawExpr:
        inputs = cast("list[RawExpr]", inner["input"])
        stand_ins = [part if is_row_wise(part) else {"Column": "x"} for part in inputs]
        if is_row_wise({"Function": {**inner, "input": stand_ins}}):
            return {"Function": {**inner, "input": [replaced(part) for part in inputs]}}
        return column(raw)

    try:
        for expr in exprs:
            for single in expand(expr, schema):
                name = to_expr(single).meta.output_name()
                lifted.exprs.append(to_expr(replaced(single)).alias(name))
    except (_NotLiftableError, PolarsError, ValueError):
        return None
    return lifted if lifted.scalars else None


_ROW_WISE_OVER: Final = {
    "BinaryExpr": ("left", "right"),
    "Cast": ("expr",),
    "Ternary": ("predicate", "truthy", "falsy"),
}


def with_scalars(lifted: Lifted, context: Context, rows: Relation) -> Relation | None:
    """Return `rows` with the lifted aggregates as columns, in the same order; None when it can't be done.

    Rows that come out of an exchange are computed once: sums in another order would make ``x == x.max()`` miss.
    """
    if any(isinstance(leaf, ExchangeLeaf) for leaf in rows.leaves.values()):
        rows = context.once(rows)
    aggs = [from_expr(to_expr(raw).alias(name)) for name, raw in lifted.scalars.items()]
    parts = decompose(aggs, rows.lf, grouped=False)
    if parts is None:
        return None
    expected = rows.lf.select([to_expr(raw) for raw in aggs]).collect_schema()
    partial = rows.then(rows.lf.select(parts.partial), "AGGREGATE (partial)", kind="aggregate", divisible=True)
    gathered = context.gather(partial, kind="aggregate")
    final = gathered.lf.select(parts.final)
    casts = [pl.col(name).cast(dtype) for name, dtype in expected.items()]
    scalars = context.broadcast(gathered.then(final.with_columns(casts), "AGGREGATE (final)"))
    joined = rows.lf.join(scalars.lf, how="cross", maintain_order="left")
    return combine([rows, scalars]).then(joined, "WITH AGGREGATES", distribution=rows.distribution)


def reads_a_column(expr: pl.Expr, columns: Sequence[str]) -> bool:
    """Return whether an expression looks at a column of the input, so that its length is that of the input."""
    return bool(set(expr.meta.root_names()) & set(columns))
