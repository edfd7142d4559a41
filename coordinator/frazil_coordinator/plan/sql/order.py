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
    def of(cls, node: exp.Expr, names: Sequence[str] = ()) -> Order | None:
        """Return the ORDER BY of a query; None when it has none.

        Parameters
        ----------
        node
            The query.
        names
            Its columns, which ``ORDER BY ALL`` stands for.

        Raises
        ------
        Unclear
            For extensions.
        """
        clause = node.args.get("order")
        if clause is None:
            return None
        keys: list[tuple[exp.Expr, exp.Ordered]] = []
        for one in clause.expressions:
            if not isinstance(one, exp.Ordered) or one.args.get("with_fill"):
                raise Unclear("an ORDER BY of another kind")
            if not isinstance(one.this, exp.Column) or one.this.name.upper() != "ALL":
                keys.append((one.this, one))
            elif len(clause.expressions) == 1 and names:
                keys = [(exp.column(exp.to_identifier(name, quoted=True)), one) for name in names]
            else:
                raise Unclear("an ORDER BY ALL beside other keys")
        return cls(
            keys=tuple(key for key, _ in keys),
            descending=tuple(bool(one.args.get("desc")) for _, one in keys),
            nulls_last=tuple(not one.args.get("nulls_first") for _, one in keys),
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
