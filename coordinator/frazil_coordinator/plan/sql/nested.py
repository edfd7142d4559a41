"""Queries inside the conditions and columns of a SELECT, as polars lowers them: semi and anti joins, and single values.

Next: :mod:`~frazil_coordinator.plan.sql.query`, which builds the inner queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import from_expr
from frazil_coordinator.plan.sql.dialect import Unclear, has_aggregate, to_polars
from frazil_coordinator.plan.sql.scope import Scope

__all__ = ["Nested", "holds_query"]

_TEMPORARY: Final = "_POLARS_TMP_SQL_"
_FIRST_NAME: Final = 9000
"""Away from the numbers that polars gives."""

_Build: TypeAlias = Callable[[exp.Expr], pl.LazyFrame]
_Open: TypeAlias = Callable[[exp.Select], Scope]
_From: TypeAlias = Callable[[exp.Select], tuple[Scope, list[exp.Expr]]]
_PLAIN: Final = frozenset({"expressions", "from_", "joins", "where"})


def holds_query(node: exp.Expr) -> bool:
    """Return whether an expression holds a query."""
    return node.find(exp.Query, exp.Exists) is not None


class Nested:
    """Applies conditions that hold queries to the rows of a scope.

    Parameters
    ----------
    build
        Gives the LazyFrame of a query.
    filtered
        Gives the tables of a SELECT, filtered by its WHERE.
    tables
        Gives the tables of a SELECT, and its conditions.
    mirror
        Whether to build exactly what polars builds; else a single value comes by a cross join, which is distributed.
    """

    def __init__(self, build: _Build, filtered: _Open, tables: _From, *, mirror: bool) -> None:
        self._build = build
        self._filtered = filtered
        self._tables = tables
        self._mirror = mirror
        self._names = 0

    def keep(self, scope: Scope, condition: exp.Expr) -> None:
        """Keep the rows for which a condition with a query is true.

        Raises
        ------
        Unclear
            When its lowering is not known.
        """
        negated = isinstance(condition, exp.Not)
        inner = (condition.this if negated else condition).unnest()
        query = inner.args.get("query") if isinstance(inner, exp.In) else None
        if isinstance(inner, exp.EQ) and isinstance(inner.right, exp.Any) and not negated:
            query, tested = inner.right.this, inner.left
        else:
            tested = inner.this
        if query is not None and not holds_query(tested):
            self._keep_members(scope, scope.expr(tested), query.unnest(), negated=negated)
        elif isinstance(inner, exp.Exists):
            self._keep_existing(scope, inner.this.unnest(), negated=negated)
        else:
            names = scope.lf.collect_schema().names()
            predicate = scope.expr(self.with_values(scope, [condition])[0])
            scope.lf = scope.lf.filter(predicate).select(names)

    def with_values(self, scope: Scope, nodes: Sequence[exp.Expr]) -> list[exp.Expr]:
        """Return expressions whose queries are replaced by columns, which the rows are given.

        Raises
        ------
        Unclear
            When a query stands where more than one value may.
        """
        holder = exp.Tuple(expressions=[node.copy() for node in nodes])
        values: list[pl.LazyFrame] = []
        found = [part for node in holder.expressions for part in node.find_all(exp.Subquery, bfs=False)]
        for query in [part for part in found if part.parent_select is None]:
            if isinstance(query.parent, (exp.Any, exp.All, exp.In, exp.Exists)):
                raise Unclear("a query of more than one value inside an expression")
            lf, name = self._build(query.unnest()), self._name()
            values.append(lf.select(pl.col(lf.collect_schema().names()[0]).item(allow_empty=True).alias(name)))
            column = exp.column(exp.to_identifier(name, quoted=True))
            query.replace(exp.Anonymous(this="FIRST", expressions=[column]) if self._mirror else column)
        if self._mirror:
            scope.lf = pl.concat([scope.lf, *values], how="horizontal")
        else:
            for value in values:
                scope.lf = scope.lf.join(value, how="cross", maintain_order="left")
        return list(holder.expressions)

    def _name(self) -> str:
        self._names += 1
        return f"{_TEMPORARY}{_FIRST_NAME + self._names}"

    def _keep_members(self, scope: Scope, tested: pl.Expr, query: exp.Expr, *, negated: bool) -> None:
        right, key = self._column(query)
        if not negated:
            scope.lf = scope.lf.join(right, left_on=tested, right_on=key, how="semi")
            return
        # NOT IN is unknown where the value is null, and everywhere when the query yields a null; of no rows it is true.
        names, flag = scope.lf.collect_schema().names(), self._name()
        has_nulls = key.alias("").has_nulls() if self._mirror else key.null_count() > 0
        nulls = pl.when(pl.len() == 0).then(pl.lit(None).cast(pl.Boolean)).otherwise(has_nulls)
        lf = scope.lf.join(right, left_on=tested, right_on=key, how="anti").join(
            right.select(nulls.alias(flag)), how="cross"
        )
        known = pl.when(pl.col(flag)).then(pl.lit(value=False)).otherwise(tested.is_not_null())
        scope.lf = lf.filter(pl.when(pl.col(flag).is_null()).then(pl.lit(value=True)).otherwise(known)).select(names)

    def _column(self, query: exp.Expr) -> tuple[pl.LazyFrame, pl.Expr]:
        """Return the rows of a query of one column, and the column: an expression over them where polars leaves it one."""
        if isinstance(query, exp.Select) and len(query.expressions) == 1:
            plain = not {name for name, value in query.args.items() if value and name not in _PLAIN}
            (item,) = query.expressions
            if plain and not isinstance(item, exp.Star):
                scope = self._filtered(query)
                expr = scope.expr(item.this if isinstance(item, exp.Alias) else item)
                if not has_aggregate(from_expr(expr), window=True):
                    return scope.lf, expr
        lf = self._build(query)
        names = lf.collect_schema().names()
        if len(names) != 1:
            raise Unclear("a query of several columns inside an expression")
        return lf, pl.col(names[0])

    def _keep_existing(self, scope: Scope, query: exp.Expr, *, negated: bool) -> None:
        if not isinstance(query, exp.Select) or {n for n, value in query.args.items() if value and n not in _PLAIN}:
            raise Unclear("an EXISTS of another kind")
        inner, found = self._tables(query)
        left_on: list[pl.Expr] = []
        right_on: list[pl.Expr] = []
        for condition in found:
            equal = isinstance(condition, exp.EQ)
            one, two = (condition.left, condition.right) if isinstance(condition, exp.EQ) else (condition, condition)
            sides = (_side_of(one, scope, inner), _side_of(two, scope, inner))
            if equal and sides in (("inner", "outer"), ("outer", "inner")):
                mine, theirs = (one, two) if sides[0] == "outer" else (two, one)
                left_on.append(to_polars(mine, scope.column))
                right_on.append(to_polars(theirs, inner.column))
            elif _side_of(condition, scope, inner) == "inner" and not holds_query(condition):
                inner.lf = inner.lf.filter(inner.expr(condition))
            else:
                raise Unclear("an EXISTS that compares otherwise than by equality")
        if not left_on:
            raise Unclear("an EXISTS that does not look at the outer row")
        how = "anti" if negated else "semi"
        scope.lf = scope.lf.join(inner.lf, left_on=left_on, right_on=right_on, how=how)  # type: ignore[arg-type]  # one of two


def _side_of(node: exp.Expr, outer: Scope, inner: Scope) -> str:
    """Return whether all columns of an expression are those of the inner tables, or of the outer ones."""
    found: set[str] = set()
    for column in node.find_all(exp.Column):
        if column.table:
            found.add("inner" if column.table in inner.tables else "outer" if column.table in outer.tables else "nowhere")
        else:
            found.add("inner" if column.name in inner.lf.collect_schema() else "outer")
    return found.pop() if len(found) == 1 else "both"
