"""Selects that look at the rows through single values only: ``int_range(0, x.max())``, ``repeat("a", len())``.

The single values are computed by their own rules; the rest has no rows to look at, and is made in one task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import SCALAR_PREFIX, kind_of, operands, shared_scalar, to_expr, with_operands
from frazil_coordinator.plan.looks import Shape, reads_rows, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import Relation
from frazil_coordinator.plan.rules.base import combine
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_coordinator.plan.rules.program import planned

__all__ = ["constants", "made_of_single_values"]


def constants(exprs: Sequence[pl.Expr], operator: str) -> Relation:
    """Return the relation, in one task, of expressions that look at no rows at all."""
    return replace(combine([]), lf=pl.LazyFrame().select(exprs), kind="scan", operators=(operator,))


def made_of_single_values(exprs: Sequence[RawExpr], rows: Relation, context: Context, operator: str) -> Relation | None:
    """Return the relation of a select whose expressions look at single values of the rows only; None of any other.

    Parameters
    ----------
    exprs
        Expressions without selectors.
    rows
        What they are evaluated over.
    context
        Inserts exchanges.
    operator
        The select, for EXPLAIN.
    """
    if all(shape_of(raw) is not Shape.OTHER for raw in exprs):
        return None
    values = _Values(context=context)
    try:
        made = [to_expr(values.replaced(raw)).alias(to_expr(raw).meta.output_name()) for raw in exprs]
    except NotDistributedError:
        return None
    if not values.exprs:
        return constants(made, operator)
    single = planned(lambda lf: lf.select(values.exprs), rows, context)
    return single.then(single.lf.select(made), operator) if single.is_single else None


@dataclass(slots=True)
class _Values:
    """Single values that expressions look at."""

    context: Context
    exprs: list[pl.Expr] = field(default_factory=list)

    def replaced(self, raw: RawExpr) -> RawExpr:
        """Return an expression with its single values replaced by columns of one row.

        Raises
        ------
        NotDistributedError
            When it looks at rows in another way.
        """
        if not reads_rows(raw):
            return raw
        if shape_of(raw) is Shape.SCALAR:
            name = f"{SCALAR_PREFIX}{self.context.number()}"
            self.exprs.append(to_expr(raw).alias(name))
            return {"Alias": [shared_scalar(name), to_expr(raw).meta.output_name()]}
        parts = operands(raw)
        if not parts or kind_of(raw) in ("Over", "Rolling"):
            raise NotDistributedError("it looks at rows", raw)
        return with_operands(raw, [self.replaced(part) for part in parts])
