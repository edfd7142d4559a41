"""Columns of a GROUP BY that look at whole groups from outside: windows over groups, and aggregates beside keys.

Polars computes their aggregates with the groups, gives them names, and the rest over the rows that come out. Which part
is which is told in the text, because polars marks the aggregates of an expression that is parsed by itself, and a marked
expression can't be read. Next: :mod:`~frazil_coordinator.plan.sql.groups`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import from_expr, plain_column, serialised
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.sql.dialect import Unclear, has_aggregate
from frazil_coordinator.plan.sql.scope import Scope

__all__ = ["Hoisting", "whole_frame"]

_HOISTED: Final = "__POLARS_HOISTED_AGG__POLARS_TMP_SQL_"
_GROUPING: Final = "__POLARS_GROUPING__POLARS_TMP_SQL_"
_WHOLE: Final = "__POLARS_WHOLE_FRAME"


class Hoisting:
    """What is computed for each group of one SELECT, in the order in which polars computes it.

    Parameters
    ----------
    scope
        The tables of the SELECT, filtered.
    numbers
        Gives names of temporary columns their numbers.
    """

    def __init__(self, scope: Scope, numbers: Iterator[int]) -> None:
        self._scope = scope
        self.numbers = numbers
        self._known: list[tuple[bytes, str]] = []
        self.aggregates: list[pl.Expr] = []
        """The aggregates of the groups, named."""

        self.groupings: dict[str, tuple[exp.Expr, ...]] = {}
        """Name → the arguments of a call of GROUPING, which is a column of the groups."""

        self.late: set[str] = set()
        """The columns of the result that are computed over the groups."""

    @property
    def names(self) -> frozenset[str]:
        """The columns of the groups that are no keys."""
        return frozenset({*self.groupings, *(name for _, name in self._known)})

    def add(self, bare: RawExpr, expr: pl.Expr, name: str) -> None:
        """Add a column of the SELECT list that is an aggregate."""
        self.aggregates.append(expr)
        self._known.append((serialised(bare), name))

    def is_needed(self, item: exp.Expr) -> bool:
        """Return whether a column can't be computed with the groups alone."""
        if item.find(exp.Window) is not None or _calls_of_grouping(item):
            return True
        calls = self._aggregate_calls(item)
        inside = {id(part) for call in calls for part in call.walk()}
        return bool(calls) and any(id(column) not in inside for column in item.find_all(exp.Column))

    def aggregates_beside_queries(self, item: exp.Expr) -> bool:
        """Return whether a column has an aggregate outside of the queries in it."""
        holder = exp.Paren(this=item.copy())
        for query in [part for part in holder.find_all(exp.Query, exp.Exists) if part.parent_select is None]:
            query.replace(exp.null())
        return bool(self._aggregate_calls(holder))

    def rewritten(self, item: exp.Expr) -> exp.Expr:
        """Return a column with its aggregates, and the calls of GROUPING, replaced by columns of the groups.

        Raises
        ------
        Unclear
            When it has no name.
        """
        if not isinstance(item, exp.Alias):
            raise Unclear("a column over groups without a name")
        copy = self.with_groupings(item.copy())
        for window in copy.find_all(exp.Window):
            self.late.add(item.alias)
            if self._scope.mirror and not window.args.get("partition_by"):
                window.set("partition_by", [_column(_WHOLE)])
        if self._aggregate_calls(copy):
            self.late.add(item.alias)
        return self.hoisted(copy)

    def hoisted(self, node: exp.Expr) -> exp.Expr:
        """Return an expression with its aggregates replaced by columns of the groups."""
        holder = exp.Paren(this=node.copy())
        for call in self._aggregate_calls(holder):
            call.replace(_column(self.column(self._scope.expr(call))))
        return cast("exp.Expr", holder.this)

    def with_groupings(self, node: exp.Expr) -> exp.Expr:
        """Return an expression with the calls of GROUPING in it replaced by columns of the groups."""
        holder = exp.Paren(this=node)
        for call in _calls_of_grouping(holder):
            call.replace(_column(self._grouping(call)))
        return cast("exp.Expr", holder.this)

    def _grouping(self, call: exp.Anonymous) -> str:
        arguments = tuple(call.expressions)
        for name, known in self.groupings.items():
            if known == arguments:
                return name
        name = f"{_GROUPING}{next(self.numbers)}"
        self.groupings[name] = arguments
        return name

    def column(self, expr: pl.Expr) -> str:
        """Return the name of the column of the groups that holds an aggregate, which is added if none does yet."""
        raw = serialised(from_expr(expr))
        for known, name in self._known:
            if known == raw:
                return name
        name = f"{_HOISTED}{next(self.numbers)}"
        self._known.append((raw, name))
        self.aggregates.append(expr.alias(name))
        return name

    def _aggregate_calls(self, node: exp.Expr) -> list[exp.Expr]:
        """Return the innermost calls of aggregates, in the order of the text; the function of a window is none."""
        if isinstance(node, exp.Filter):
            return [node]
        parts = list(node.iter_expressions())
        if isinstance(node, exp.Window):
            parts = [*node.this.iter_expressions(), *parts[1:]]
        found = [call for part in parts for call in self._aggregate_calls(part)]
        if found or not isinstance(node, exp.Anonymous) or isinstance(node.parent, exp.Window):
            return found
        return [node] if has_aggregate(from_expr(self._scope.expr(node))) else []


def whole_frame(raw: RawExpr) -> RawExpr | None:
    """Return what polars has for the partition of a window that has none; None for any other part of an expression."""
    return from_expr(pl.lit(1, dtype=pl.Int32)) if plain_column(raw) == _WHOLE else None


def _calls_of_grouping(node: exp.Expr) -> list[exp.Anonymous]:
    return [call for call in node.find_all(exp.Anonymous, bfs=False) if call.name.upper() == "GROUPING"]


def _column(name: str) -> exp.Column:
    return exp.column(exp.to_identifier(name, quoted=True))
