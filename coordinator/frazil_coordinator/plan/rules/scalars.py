"""Aggregates of all rows as one row of scalars: in two steps, by position in sorted values, else in one task.

Next: :mod:`.lifting` puts the row beside the rows that look at it.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.decompose import decompose
from frazil_coordinator.plan.exprs import from_expr, kind_of, operands, to_expr
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import SINGLE, Relation
from frazil_coordinator.plan.rules.base import combine
from frazil_coordinator.plan.rules.errors import describe
from frazil_coordinator.plan.rules.quantiles import Quantile, quantile_of, quantile_row
from frazil_coordinator.plan.rules.vectors import vector

__all__ = ["scalar_row"]


def scalar_row(exprs: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    """Return one row, in one task, with aggregates of all rows.

    Parameters
    ----------
    exprs
        Column → aggregate over the columns of `rows`.
    rows
        The rows.
    context
        Inserts exchanges. An aggregate that can't be split gathers the columns that it looks at, with a reason.
    """
    in_steps: dict[str, RawExpr] = {}
    positions: dict[str, Quantile] = {}
    whole: dict[str, RawExpr] = {}
    pieces: list[Relation] = []
    for name, raw in exprs.items():
        if decompose([raw], rows.lf, grouped=False) is not None:
            in_steps[name] = raw
        elif (quantile := quantile_of(raw)) is not None:
            positions[name] = quantile
        elif (made := _over_values(raw, rows, context)) is not None:
            pieces.append(made.then(made.lf.select(pl.all().alias(name))))
        else:
            whole[name] = raw
    if in_steps:
        pieces.append(_in_two_steps(in_steps, rows, context))
    pieces += quantile_row(positions, rows, context)
    if whole:
        pieces.append(_in_one_task(whole, rows, context))
    first, *others = pieces
    lf = first.lf
    for piece in others:
        lf = lf.join(piece.lf, how="cross")
    return combine(pieces).then(lf.select(list(exprs)), distribution=SINGLE)


def _over_values(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    """Return an aggregate of values of another number than the rows (``mode().len()``), when there is a plan for them."""
    if kind_of(raw) == "Len":
        return None
    values = operands(raw)[0]
    if kind_of(raw) == "Gather":
        found = vector(raw, rows, context)
        return found if found is not None and found.is_single else None
    if shape_of(values) is not Shape.OTHER and kind_of(values) not in ("Sort", "SortBy"):
        return None
    found = vector(raw, rows, context)
    return found if found is not None and found.is_single else None


def _in_two_steps(exprs: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    aggs = [from_expr(to_expr(raw).alias(name)) for name, raw in exprs.items()]
    parts = decompose(aggs, rows.lf, grouped=False)
    if parts is None:  # each of them could be split
        return _in_one_task(exprs, rows, context)
    expected = rows.lf.select([to_expr(raw) for raw in aggs]).collect_schema()
    partial = rows.then(rows.lf.select(parts.partial), "AGGREGATE (partial)", kind="aggregate", divisible=True)
    gathered = context.gather(partial, kind="aggregate")
    casts = [pl.col(name).cast(dtype) for name, dtype in expected.items()]
    final = gathered.lf.select(parts.final).with_columns(casts)
    return gathered.then(final, "AGGREGATE (final)", distribution=SINGLE)


def _in_one_task(exprs: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    """Gather the columns that some aggregates look at; what polars can push down leaves the others behind."""
    shown = ", ".join(map(describe, exprs.values()))
    own = rows.then(rows.lf)  # an exchange of its own, of these columns only
    gathered = context.gather(own, f"an aggregate has no distributed form: {shown}")
    aggregated = gathered.lf.select(to_expr(raw).alias(name) for name, raw in exprs.items())
    return gathered.then(aggregated, f"AGGREGATE {shown}", distribution=SINGLE)
