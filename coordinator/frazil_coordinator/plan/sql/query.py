"""Build a LazyFrame clause by clause, as polars lowers SQL (``polars-sql/src/context.rs``).

Next: :mod:`~frazil_coordinator.plan.sql.groups` for ``GROUP BY``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final, TypeAlias

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import from_expr, kind_of, substitute, walk
from frazil_coordinator.plan.sql.catalogs import relation_of
from frazil_coordinator.plan.sql.correlated import CORRELATED
from frazil_coordinator.plan.sql.dialect import Unclear, has_aggregate, with_named_windows
from frazil_coordinator.plan.sql.groups import Projection, group_by
from frazil_coordinator.plan.sql.hoisting import Hoisting
from frazil_coordinator.plan.sql.nested import Nested, given_value, holds_query
from frazil_coordinator.plan.sql.order import Order, sort_rows
from frazil_coordinator.plan.sql.scope import Scope, conditions
from frazil_coordinator.plan.sql.sets import combined
from frazil_coordinator.plan.sql.tables import is_values, spelled_out, with_names

__all__ = ["QueryBuilder"]

_Tables: TypeAlias = Mapping[str, pl.LazyFrame]
_OF_A_SELECT: Final = frozenset(
    {
        "expressions", "from_", "joins", "where", "group", "having", "order", "limit", "offset", "distinct", "with_",
        "qualify", "windows",
    }
)  # fmt: skip
_OF_A_SET: Final = frozenset({"this", "expression", "distinct", "by_name", "order", "limit", "offset", "with_"})
_FIRST_NUMBER: Final = 9000
"""Of temporary columns: away from the numbers that polars gives."""

_INDEX: Final = "__PL_INDEX"
_QUALIFIED: Final = "__POLARS_QUALIFY__POLARS_TMP_SQL_0"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    offset: int
    length: int | None

    def of(self, lf: pl.LazyFrame) -> pl.LazyFrame:
        return lf.slice(self.offset, self.length)


class QueryBuilder:
    """Builds the LazyFrame of a parsed query.

    Parameters
    ----------
    relations
        Table name → LazyFrame.
    mirror
        Whether to build exactly what polars builds. Otherwise what is equal and better to distribute: ``LIMIT`` follows
        ``ORDER BY`` at once, and ``UNION`` keeps its order.
    """

    def __init__(self, relations: _Tables, *, mirror: bool) -> None:
        self._relations = relations
        self._mirror = mirror
        self._numbers = count(_FIRST_NUMBER)

    def build(self, node: exp.Expr) -> pl.LazyFrame:
        """Return the LazyFrame of a query.

        Raises
        ------
        Unclear
            When it holds what is not surely understood.
        polars.exceptions.PolarsError
            When polars refuses a part of it.
        """
        return self._query(node, self._relations)

    def _query(self, node: exp.Expr, tables: _Tables) -> pl.LazyFrame:
        tables = self._with(node, tables)
        if isinstance(node, exp.Select):
            _only(node, _OF_A_SELECT)
            return self._select(node, tables)
        if isinstance(node, exp.SetOperation):
            _only(node, _OF_A_SET)
            return self._set(node, tables)
        if isinstance(node, exp.Subquery) and not node.alias:
            _only(node, frozenset({"this"}))
            return self._query(node.this, tables)
        raise Unclear(f"a statement of the kind {node.key}")

    def _with(self, node: exp.Expr, tables: _Tables) -> _Tables:
        clause = node.args.get("with_")
        if clause is None:
            return tables
        _only(clause, frozenset({"expressions"}))
        found = dict(tables)
        for one in clause.expressions:
            _only(one, frozenset({"this", "alias"}))
            if one.alias in found:
                raise Unclear("a WITH that hides")
            values = one.this.args["from_"].this if is_values(one.this) else None
            lf = self._query(one.this, found) if values is None else spelled_out(values)
            lf = with_names(lf, one.args["alias"])
            uses = sum(isinstance(part, exp.Table) and part.name == one.alias for part in node.walk())
            found[one.alias] = lf.cache() if uses > 1 else lf
        return found

    def _set(self, node: exp.SetOperation, tables: _Tables) -> pl.LazyFrame:
        first, second = (self._query(part, tables) for part in (node.this, node.expression))
        lf = combined(node, first, second, mirror=self._mirror)
        if order := Order.of(node):
            lf = sort_rows(lf, order, Scope.of("", lf).expr, lf.collect_schema().names())
        limit = _range(node)
        return lf if limit is None else limit.of(lf)

    def _table(self, node: exp.Expr, tables: _Tables) -> tuple[str, pl.LazyFrame]:
        alias = node.args.get("alias")
        if isinstance(node, exp.Table):
            _only(node, frozenset({"this", "db", "catalog", "alias", "joins"}))
            name = relation_of(node)
            if name is None or name not in tables or (alias is not None and alias.columns):
                raise Unclear(f"the table {node.name}")
            return node.alias or node.name, tables[name]
        if isinstance(node, exp.Subquery):
            _only(node, frozenset({"this", "alias", "joins"}))
            return node.alias, with_names(self._query(node.this, tables), alias)
        if isinstance(node, exp.Values):
            _only(node, frozenset({"expressions", "alias", "joins"}))
            return node.alias, with_names(spelled_out(node), alias)
        raise Unclear(f"a table of the kind {node.key}")

    def _from(self, node: exp.Select, tables: _Tables, *, pairs: bool = False) -> tuple[Scope, list[exp.Expr]]:
        """Return the joined tables, and the conditions that rows must still meet: with `pairs`, all of WHERE."""
        clause = node.args.get("from_")
        if clause is None:
            raise Unclear("a SELECT without FROM")
        scope = Scope.of(*self._table(clause.this, tables), mirror=self._mirror)
        where = node.args.get("where")
        left = conditions(where.this) if where is not None else []
        for join in [*(clause.this.args.get("joins") or []), *(node.args.get("joins") or [])]:
            if not any((join.kind, join.side, *(join.args.get(name) for name in ("on", "using", "method")))):
                rest = scope.join_listed([] if pairs else left, *self._table(join.this, tables))
                left = left if pairs else rest
            else:
                scope.join(join, *self._table(join.this, tables))
        # Polars filters by the whole WHERE when the joins use all of it.
        return scope, left or (conditions(where.this) if where is not None else [])

    def _nested(self, tables: _Tables) -> Nested:
        return Nested(
            lambda query: self._query(query, tables),
            lambda select: self._filtered(select, tables),
            lambda select: self._from(select, tables, pairs=self._mirror),
            self._numbers,
            mirror=self._mirror,
        )

    def _filtered(self, node: exp.Select, tables: _Tables) -> Scope:
        """Return the joined tables with the rows that WHERE keeps."""
        scope, left = self._from(node, tables)
        plain = [condition for condition in left if not holds_query(condition)]
        if plain:
            predicate = scope.expr(exp.and_(*plain, copy=False))
            if self._mirror and len(plain) == 1 < len(left) and isinstance(plain[0], (exp.Between, exp.Not)):
                # Polars makes sure that it is Boolean, after which it stays one filter.
                predicate = predicate.cast(pl.Boolean)
            scope.lf = scope.lf.filter(predicate)
        nested = self._nested(tables)
        nested.keep(scope, [condition for condition in left if holds_query(condition)])
        return scope

    def _select(self, node: exp.Select, tables: _Tables) -> pl.LazyFrame:
        node = with_named_windows(node)
        scope = self._filtered(node, tables)
        items = _unnested(node.expressions, scope)
        hoisting = Hoisting(scope, self._numbers)
        if any(map(holds_query, items)):
            if any(_is_star(item) for item in items):
                raise Unclear("a query beside *")
            if not node.args.get("group") and any(map(hoisting.aggregates_beside_queries, items)):
                return self._one_row(node, items, scope, hoisting, self._nested(tables))
            items = self._nested(tables).with_values(scope, items, grouped=bool(node.args.get("group")))
        if node.args.get("group"):
            projections = _grouped(items, scope, hoisting)
        else:
            projections = _distinct_names([one for item in items for one in _projections(item, scope)])
        if (having := node.args.get("having")) is not None and holds_query(having):
            node = node.copy()
            (condition,) = self._nested(tables).with_values(scope, [having.this], grouped=True)
            node.args["having"].set("this", condition)
        limit, distinct = _range(node), node.args.get("distinct")
        order = Order.of(node, [one.name for one in projections])
        qualify = node.args.get("qualify")
        late = distinct is not None or qualify is not None or self._mirror
        early = None if late else limit
        if node.args.get("group"):
            if qualify is not None:
                raise Unclear("QUALIFY after GROUP BY")
            lf = group_by(node, scope, projections, hoisting, order, early.of if early else _as_it_is)
        elif node.args.get("having"):
            raise Unclear("HAVING without GROUP BY")
        elif qualify is not None:
            lf = _qualified(qualify.this, items, scope, projections, order)
        else:
            lf = _plain(scope, projections, order, early)
        if distinct is not None and distinct.args.get("on") is not None:
            lf = _distinct_on(distinct.args["on"], lf, order)
        elif distinct is not None:
            lf = lf.unique(keep="any", maintain_order=True)
        return lf if limit is None or early is not None else limit.of(lf)

    def _one_row(
        self, node: exp.Select, items: Sequence[exp.Expr], scope: Scope, hoisting: Hoisting, nested: Nested
    ) -> pl.LazyFrame:
        """SELECT of aggregates of all rows, and of single values of other queries beside them."""
        if any(node.args.get(name) for name in ("having", "order", "limit", "offset", "distinct", "qualify")):
            raise Unclear("aggregates beside a query, and more")
        rows, columns = scope.lf, scope.lf.collect_schema().names()
        items, values = nested.beside(scope, items)
        projections = _grouped(items, scope, hoisting)
        given = {name for value in values for name in value.collect_schema().names()}
        inside = {name for one in hoisting.aggregates for name in one.meta.root_names()}
        if not inside <= {*columns, *given}:
            raise Unclear("aggregates of other columns")
        late = [one.expr for one in projections if one.name in hoisting.late or not has_aggregate(one.bare)]
        if not late:
            return scope.lf.select([one.expr for one in projections])
        names = [one.name for one in projections]
        lf = (scope.lf if self._mirror or inside & given else rows).select(hoisting.aggregates)
        if not self._mirror:
            for value in values:
                lf = lf.join(value, how="cross", maintain_order="left")
            return lf.with_columns(late).select(names)
        lf = pl.concat([lf, *values], how="horizontal").with_columns(late)
        return lf.with_columns([pl.col(name) for name in names]).select(names).select(names)


def _unnested(items: Sequence[exp.Expr], scope: Scope) -> list[exp.Expr]:
    """Return the columns of a SELECT list, with the rows written out for the lists of those that are ``UNNEST(list)``."""
    names: list[str] = []
    found: list[exp.Expr] = []
    for item in items:
        call = item.this if isinstance(item, exp.Alias) else item
        if not isinstance(call, exp.Anonymous) or call.name.upper() != "UNNEST":
            found.append(item)
            continue
        if len(call.expressions) != 1 or not isinstance(call.expressions[0], exp.Column):
            raise Unclear("an UNNEST of another kind")
        column = call.expressions[0]
        names.append(scope.column(column))
        found.append(exp.alias_(column.copy(), item.args["alias"].copy()) if isinstance(item, exp.Alias) else column)
    if names:
        scope.lf = scope.lf.explode(list(dict.fromkeys(names)), empty_as_null=True, keep_nulls=True)
    return found


def _is_star(item: exp.Expr) -> bool:
    return isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star))


def _as_it_is(lf: pl.LazyFrame) -> pl.LazyFrame:
    return lf


def _only(node: exp.Expr, known: frozenset[str]) -> None:
    unknown = {name for name, value in node.args.items() if value and name not in known}
    if unknown:
        raise Unclear(f"{', '.join(sorted(unknown))} in a {node.key}")


def _range(node: exp.Expr) -> _Range | None:
    numbers: dict[str, int | None] = {"limit": None, "offset": None}
    for name in numbers:
        clause = node.args.get(name)
        if clause is None:
            continue
        value = clause.args.get("count" if isinstance(clause, exp.Fetch) else "expression")
        options = clause.args.get("limit_options")
        if options is not None and (options.args.get("percent") or options.args.get("with_ties")):
            raise Unclear("a FETCH of another kind")
        if (
            not isinstance(clause, (exp.Limit, exp.Offset, exp.Fetch))
            or not isinstance(value, exp.Literal)
            or not value.name.isdigit()
        ):
            raise Unclear("a LIMIT that is not a number")
        if clause.args.get("expressions"):
            raise Unclear("a LIMIT of another kind")
        numbers[name] = int(value.name)
    limit, offset = numbers["limit"], numbers["offset"]
    return None if limit is None and offset is None else _Range(offset=offset or 0, length=limit)


def _projections(item: exp.Expr, scope: Scope) -> list[Projection]:
    if isinstance(item, exp.Star):
        left_out = {one.name for one in item.args.get("except_") or []} | scope.hidden
        names = [
            name for name in scope.lf.collect_schema().names() if name not in left_out and not name.startswith(CORRELATED)
        ]
        replaced = {one.alias: scope.expr(one.this).alias(one.alias) for one in item.args.get("replace") or []}
        renamed = {one.this.name: one.alias for one in item.args.get("rename") or []}
        if not {*replaced, *renamed} <= set(names):
            raise Unclear("a * that renames or replaces what is not there")
        columns = [replaced.get(name, pl.col(name)) for name in names]
        return [
            Projection(expr=column.alias(renamed[name]) if name in renamed else column, name=renamed.get(name, name))
            for name, column in zip(names, columns, strict=True)
        ]
    if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
        return [_projection(expr) for expr in scope.columns_of(item.table)]
    if isinstance(item, exp.Alias):
        return [replace(_projection(scope.expr(item.this).alias(item.alias)), named=True)]
    if isinstance(item, exp.Anonymous) and item.name.upper() == "COLUMNS":
        return [_projection(pl.col(name)) for name in scope.lf.select(scope.expr(item)).collect_schema().names()]
    return [_projection(scope.expr(item))]


def _grouped(items: Sequence[exp.Expr], scope: Scope, hoisting: Hoisting) -> list[Projection]:
    """Return the columns of a SELECT with GROUP BY, and tell what of them is computed for each group."""
    found: list[Projection] = []
    for item in items:
        if hoisting.is_needed(item):
            found += _projections(hoisting.rewritten(item), scope)
            continue
        for one in _projections(item, scope):
            found.append(one)
            if has_aggregate(one.bare):
                hoisting.add(one.bare, one.expr, one.name)
    return _distinct_names(found)


def _projection(expr: pl.Expr) -> Projection:
    if expr.meta.has_multiple_outputs():
        raise Unclear("an expression of several columns")
    return Projection(expr=expr, name=expr.meta.output_name())


def _distinct_names(projections: Sequence[Projection]) -> list[Projection]:
    """Add a number to names that are taken, except those that the query gives."""
    given = {one.name for one in projections if one.named}
    used: set[str] = set()
    found: list[Projection] = []
    for one in projections:
        name, number = one.name, 0
        while not one.named and (name in used or name in given):
            number += 1
            name = f"{one.name}:{number}"
        used.add(name)
        found.append(one if name == one.name else replace(one, expr=one.expr.alias(name), name=name))
    return found


def _plain(scope: Scope, projections: Sequence[Projection], order: Order | None, early: _Range | None) -> pl.LazyFrame:
    """SELECT without GROUP BY."""
    raws = [from_expr(one.expr) for one in projections]
    names = [one.name for one in projections]
    if len(set(names)) < len(names):
        raise Unclear("two columns of one name")
    raws = [substitute(raw, given_value) for raw in raws]
    aggregated = [has_aggregate(raw) for raw in raws]
    literal = not any(aggregated) and not any(kind_of(part) in ("Column", "Over") for raw in raws for part in walk(raw))
    exprs = [one.expr for one in projections]
    if order is None:
        lf = scope.lf.with_columns(exprs).select(names) if literal else scope.lf.select(exprs)
        return lf if early is None else early.of(lf)
    if any(aggregated) and all(
        one or not any(kind_of(part) == "Column" for part in walk(raw)) for one, raw in zip(aggregated, raws, strict=True)
    ):
        if not scope.mirror:
            return scope.lf.select(exprs)  # one row
        rows = scope.lf.cache()
        lf = rows.select(exprs).with_row_index(_INDEX).join(rows.with_row_index(_INDEX), on=_INDEX, how="left")
    else:
        lf = scope.lf.with_columns(exprs)
    lf = sort_rows(lf, order, scope.expr, names)
    return (lf if early is None else early.of(lf)).select(names)


def _qualified(
    condition: exp.Expr, items: Sequence[exp.Expr], scope: Scope, projections: Sequence[Projection], order: Order | None
) -> pl.LazyFrame:
    """SELECT with QUALIFY, which may name columns of the SELECT list."""
    named = {item.alias: item.this for item in items if isinstance(item, exp.Alias)}
    holder = exp.Paren(this=condition.copy())
    for column in list(holder.find_all(exp.Column)):
        if not column.table and column.name in named:
            column.replace(named[column.name].copy())
    kept = Projection(expr=scope.expr(holder.this).alias(_QUALIFIED), name=_QUALIFIED, named=True)
    lf = _plain(scope, [*projections, kept], order, None)
    return lf.filter(pl.col(_QUALIFIED)).select([one.name for one in projections])


def _distinct_on(on: exp.Expr, lf: pl.LazyFrame, order: Order | None) -> pl.LazyFrame:
    """DISTINCT ON: the first row of each key, in the order of ORDER BY."""
    if not all(isinstance(one, exp.Column) and not one.table for one in on.expressions):
        raise Unclear("a DISTINCT ON of expressions")
    if order is not None:
        lf = sort_rows(lf, order, Scope.of("", lf).expr, lf.collect_schema().names())
    return lf.unique([one.name for one in on.expressions], keep="first", maintain_order=True)
