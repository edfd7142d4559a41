"""ORDER BY."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.sql.dialect import Unclear

__all__ = ["Order", "ordinal", "sort_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The keys of an ORDER BY."""

    keys: tuple[exp.Expr, ...]
    descending: tuple[bool, ...]
    nulls_last: tuple[bool, ...]

    @classmethod
    def of(cls, node: exp.Expr) -> Order | None:
        """Return the ORDER BY of a query; None when it has none.

        Raises
        ------
        Unclear
            For ``ORDER BY ALL`` and other extensions.
        """
        clause = node.args.get("order")
        if clause is None:
            return None
        for one in clause.expressions:
            if not isinstance(one, exp.Ordered) or one.args.get("with_fill") or one.this.name.upper() == "ALL":
                raise Unclear("an ORDER BY of another kind")
        return cls(
            keys=tuple(one.this for one in clause.expressions),
            descending=tuple(bool(one.args.get("desc")) for one in clause.expressions),
            nulls_last=tuple(not one.args.get("nulls_first") for one in clause.expressions),
        )

    def sort(self, lf: pl.LazyFrame, by: Sequence[pl.Expr]) -> pl.LazyFrame:
        """Sort by expressions that stand for the keys."""
        return lf.sort(list(by), descending=list(self.descending), nulls_last=list(self.nulls_last))


def sort_rows(lf: pl.LazyFrame, order: Order, expr: Callable[[exp.Expr], pl.Expr], selected: Sequence[str]) -> pl.LazyFrame:
    """Sort by names, expressions and ordinals.

    Parameters
    ----------
    lf
        What is sorted.
    order
        The ORDER BY.
    expr
        Translates an expression.
    selected
        The columns that ordinals count.
    """
    by: list[pl.Expr] = []
    for key in order.keys:
        counted = ordinal(key, selected)
        by.append(expr(key) if counted is None else counted)
    return order.sort(lf, by)


def ordinal(key: exp.Expr, selected: Sequence[str]) -> pl.Expr | None:
    """Return the column that an ordinal counts to; None when `key` isn't a literal."""
    if not isinstance(key, exp.Literal):
        return None
    if key.is_string or not key.name.isdigit() or not 1 <= int(key.name) <= len(selected):
        raise Unclear("an ordinal that is none")
    return pl.col(selected[int(key.name) - 1])
