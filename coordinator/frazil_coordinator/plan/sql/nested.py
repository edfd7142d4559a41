"""Queries inside the conditions and columns of a SELECT, as polars lowers them: semi and anti joins, and single values.

Next: :mod:`~frazil_coordinator.plan.sql.query`, which builds the inner queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import from_expr, kind_of, members, plain_column
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.sql.correlated import CORRELATED, VALUE, Correlation, side_of
from frazil_coordinator.plan.sql.dialect import Unclear, has_aggregate, to_polars
from frazil_coordinator.plan.sql.scope import Scope

__all__ = ["Nested", "given_value", "holds_query"]

_TEMPORARY: Final = "_POLARS_TMP_SQL_"
_Build: TypeAlias = Callable[[exp.Expr], pl.LazyFrame]
_Open: TypeAlias = Callable[[exp.Select], Scope]
_From: TypeAlias = Callable[[exp.Select], tuple[Scope, list[exp.Expr]]]
_OF_MANY: Final = (exp.Any, exp.All, exp.In, exp.Exists)
_PLAIN: Final = frozenset({"expressions", "from_", "joins", "where"})


def given_value(raw: RawExpr) -> RawExpr | None:
    """Return a literal for a value that a query gives every row alike, as polars reads it; None for any other part."""
    inner = members(members(raw)) if kind_of(raw) == "Agg" and kind_of(members(raw)) == "First" else None
    name = None if inner is None else plain_column(inner)
    return from_expr(pl.lit(None)) if name is not None and name.startswith(_TEMPORARY) else None


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
    numbers
        Gives names of temporary columns their numbers.
    mirror
        Whether to build exactly what polars builds; else a single value comes by a cross join, which is distributed.
    """

    def __init__(self, build: _Build, filtered: _Open, tables: _From, numbers: Iterator[int], *, mirror: bool) -> None:
        self._build = build
        self._filtered = filtered
        self._tables = tables
        self._mirror = mirror
        self._numbers = numbers

    def keep(self, scope: Scope, conditions: Sequence[exp.Expr]) -> None:
        """Keep the rows for which all of some conditions with queries are true.

        Raises
        ------
        Unclear
            When the lowering of one is not known.
        """
        rest: list[exp.Expr] = []
        for condition in sorted(conditions, key=lambda one: not self._compares_row(scope, one)):
            if self._compares_row(scope, condition):
                self._filter(scope, condition)
            elif not self._joined(scope, condition):
                rest.append(condition)
        if rest:
            self._filter(scope, exp.and_(*rest))

    def _filter(self, scope: Scope, condition: exp.Expr) -> None:
        names = scope.lf.collect_schema().names()
        (found,) = self.with_values(scope, [condition])
        scope.lf = scope.lf.filter(scope.expr(found))
        if not any(
            column.name.startswith(CORRELATED) and column.name.endswith(VALUE) for column in found.find_all(exp.Column)
        ):
            scope.lf = scope.lf.select(names)

    def _joined(self, scope: Scope, condition: exp.Expr) -> bool:
        """Keep the rows of a condition that is a semi or anti join; return whether it is one."""
        negated = isinstance(condition, exp.Not)
        inner = (condition.this if negated else condition).unnest()
        query = inner.args.get("query") if isinstance(inner, exp.In) else None
        if isinstance(inner, exp.EQ) and isinstance(inner.right, exp.Any) and not negated:
            query, tested = inner.right.this, inner.left
        else:
            tested = inner.this
        if query is not None and not holds_query(tested):
            self._keep_members(scope, scope.expr(tested), query.unnest(), negated=negated)
        elif isinstance(inner, exp.Exists) and (correlation := self._exists(scope, inner.this.unnest())) is not None:
            self._keep_existing(scope, correlation, negated=negated)
        elif not negated and isinstance(inner, exp.EQ) and self._is_single(inner.right) and not holds_query(inner.left):
            value = self._value(inner.right.unnest(), None)
            scope.lf = scope.lf.join(value, left_on=scope.expr(inner.left), right_on=pl.all(), how="semi")
        else:
            return False
        return True

    def _compares_row(self, scope: Scope, condition: exp.Expr) -> bool:
        """Return whether a condition holds a single value that depends on the row, which polars computes first."""
        values = [part for part in condition.find_all(exp.Subquery) if not isinstance(part.parent, _OF_MANY)]
        return any(one.parent_select is condition.parent_select and self._correlation(scope, one.unnest()) for one in values)

    def beside(self, scope: Scope, nodes: Sequence[exp.Expr]) -> tuple[list[exp.Expr], list[pl.LazyFrame]]:
        """Return expressions whose queries are replaced by plain columns, and these: each a frame of one row.

        Raises
        ------
        Unclear
            When a query is not one of a single value that looks at no row outside.
        """
        holder = exp.Tuple(expressions=[node.copy() for node in nodes])
        values: list[pl.LazyFrame] = []
        queries = [part for part in holder.find_all(exp.Query, exp.Exists, bfs=False) if part.parent_select is None]
        for query in [part for part in queries if not isinstance(part.parent, exp.Subquery)]:
            if not isinstance(query, exp.Subquery) or isinstance(query.parent, _OF_MANY):
                raise Unclear("a query of more than one value beside an aggregate")
            name = self._name()
            values.append(self._value(query.unnest(), name))
            query.replace(_column(name))
        rows = [scope.lf, *values]
        scope.lf = pl.concat(rows, how="horizontal") if self._mirror else rows[0]
        if not self._mirror:
            for value in values:
                scope.lf = scope.lf.join(value, how="cross", maintain_order="left")
        return list(holder.expressions), values

    def with_values(self, scope: Scope, nodes: Sequence[exp.Expr], *, grouped: bool = False) -> list[exp.Expr]:
        """Return expressions whose queries are replaced by columns, which the rows are given.

        Parameters
        ----------
        scope
            The rows.
        nodes
            The expressions.
        grouped
            Whether they are evaluated for groups of rows.

        Raises
        ------
        Unclear
            When a query stands where more than one value may.
        """
        holder = exp.Tuple(expressions=[node.copy() for node in nodes])
        values: list[pl.LazyFrame] = []
        for exists in [part for part in holder.find_all(exp.Exists, bfs=False) if part.parent_select is None]:
            correlation = self._exists(scope, exists.this.unnest())
            if correlation is not None:
                exists.replace(_column(correlation.flag()))
                continue
            name = self._name()
            rows = self._filtered(exists.this.unnest()).lf.select(pl.len() > 0)
            values.append(rows.select(pl.all().item(allow_empty=True).alias(name)))
            exists.replace(self._given(name, grouped=grouped))
        for member in [part for part in holder.find_all(exp.In, bfs=False) if part.parent_select is None and not grouped]:
            if member.args.get("query") is not None and not holds_query(member.this):
                name = self._name()
                values.append(self._member(scope, scope.expr(member.this), member.args["query"].unnest(), name))
                member.replace(_column(name))
        found = [part for node in holder.expressions for part in node.find_all(exp.Subquery, bfs=False)]
        for query in [part for part in found if part.parent_select is None]:
            if isinstance(query.parent, _OF_MANY):
                raise Unclear("a query of more than one value inside an expression")
            correlation = None if grouped else self._correlation(scope, query.unnest())
            if correlation is not None:
                (item,) = query.unnest().expressions
                query.replace(_column(correlation.value(item.this if isinstance(item, exp.Alias) else item)))
                continue
            name = self._name()
            values.append(self._value(query.unnest(), name))
            query.replace(self._given(name, grouped=grouped))
        if self._mirror and values:
            scope.lf = pl.concat([scope.lf, *values], how="horizontal")
        else:
            for value in values:
                scope.lf = scope.lf.join(value, how="cross", maintain_order="left")
        return list(holder.expressions)

    def _given(self, name: str, *, grouped: bool) -> exp.Expr:
        """Return what reads a value that every row has alike."""
        column = _column(name)
        return exp.Anonymous(this="FIRST", expressions=[column]) if self._mirror or grouped else column

    def _member(self, scope: Scope, tested: pl.Expr, query: exp.Expr, name: str) -> pl.LazyFrame:
        """Let a name stand for whether a value is among those of a query; return what the rows must be given for that.

        Of no values it is false. A null is not known to be among others, nor anything else to be none of those with a null.
        """
        unknown, no = pl.lit(None).cast(pl.Boolean), pl.lit(value=False)
        if self._mirror:
            lf = self._build(query)
            held = self._name()
            among = pl.col(held).first()
            known = tested.is_in(among) | (among.list.contains(pl.lit(None)) & unknown)
            scope.formulas[name] = from_expr(pl.when(among.list.len() == pl.lit(0, pl.UInt32)).then(no).otherwise(known))
            (column,) = lf.collect_schema().names()
            return lf.select(pl.col(column).implode().alias(held))
        right, key = self._column(query)
        hit, rows, nulls = (f"{name}_{part}" for part in ("hit", "rows", "nulls"))
        keys = right.select(key.alias(hit)).drop_nulls().unique().with_columns(pl.lit(value=True).alias(name))
        scope.lf = scope.lf.join(keys, left_on=tested, right_on=hit, how="left", maintain_order="left")
        other = pl.when(pl.col(nulls) > 0).then(unknown).otherwise(no)
        found = pl.when(pl.col(name).is_not_null()).then(pl.lit(value=True)).otherwise(other)
        known = pl.when(tested.is_null()).then(unknown).otherwise(found)
        scope.formulas[name] = from_expr(pl.when(pl.col(rows) == 0).then(no).otherwise(known))
        return right.select(pl.len().alias(rows), key.null_count().alias(nulls))

    def _value(self, query: exp.Expr, name: str | None) -> pl.LazyFrame:
        """Return the single value of a query, as a column."""
        lf = self._build(query)
        column = pl.col(lf.collect_schema().names()[0]).item(allow_empty=True)
        return lf.select(column if name is None else column.alias(name))

    def _is_single(self, node: exp.Expr) -> bool:
        """Return whether a part of a condition is a query of its own that gives one value."""
        if not isinstance(node, exp.Subquery) or not isinstance(node.this, exp.Select):
            return False
        return self._looks_only_inside(node.this)

    def _looks_only_inside(self, query: exp.Select) -> bool:
        inner, found = self._tables(query)
        return all(side_of(one, inner, inner) in ("inner", "none") for one in found)

    def _correlation(self, scope: Scope, query: exp.Expr) -> Correlation | None:
        """Return how a query of one value looks at the row outside; None when it does not."""
        if not isinstance(query, exp.Select) or len(query.expressions) != 1:
            return None
        if {name for name, value in query.args.items() if value and name not in _PLAIN}:
            return None
        return Correlation.of(scope, *self._tables(query), next(self._numbers))

    def _exists(self, scope: Scope, query: exp.Expr) -> Correlation | None:
        if not isinstance(query, exp.Select) or {n for n, value in query.args.items() if value and n not in _PLAIN}:
            raise Unclear("an EXISTS of another kind")
        return Correlation.of(scope, *self._tables(query), next(self._numbers))

    def _name(self) -> str:
        return f"{_TEMPORARY}{next(self._numbers)}"

    def _keep_members(self, scope: Scope, tested: pl.Expr, query: exp.Expr, *, negated: bool) -> None:
        correlation = self._correlation(scope, query)
        if correlation is not None:
            self._keep_correlated_members(scope, tested, query, correlation, negated=negated)
            return
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

    def _keep_correlated_members(
        self, scope: Scope, tested: pl.Expr, query: exp.Expr, correlation: Correlation, *, negated: bool
    ) -> None:
        if negated or correlation.others:
            raise Unclear("a correlated NOT IN, or an IN that compares otherwise than by equality")
        (item,) = query.expressions
        key = correlation.inner.expr(item.this if isinstance(item, exp.Alias) else item)
        left_on = [tested, *(to_polars(mine, scope.column) for mine, _ in correlation.keys)]
        right_on = [key, *(to_polars(theirs, correlation.inner.column) for _, theirs in correlation.keys)]
        scope.lf = scope.lf.join(correlation.inner.lf, left_on=left_on, right_on=right_on, how="semi")

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

    def _keep_existing(self, scope: Scope, correlation: Correlation, *, negated: bool) -> None:
        if correlation.others:
            correlation.keep(negated=negated)
            return
        left_on = [to_polars(mine, scope.column) for mine, _ in correlation.keys]
        right_on = [to_polars(theirs, correlation.inner.column) for _, theirs in correlation.keys]
        how: Literal["anti", "semi"] = "anti" if negated else "semi"
        scope.lf = scope.lf.join(correlation.inner.lf, left_on=left_on, right_on=right_on, how=how)


def _column(name: str) -> exp.Column:
    return exp.column(exp.to_identifier(name, quoted=True))
