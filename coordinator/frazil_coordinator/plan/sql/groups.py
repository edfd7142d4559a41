"""GROUP BY, with HAVING and the ORDER BY that follows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import alias_of, from_expr, kind_of, plain_column, serialised, substitute, to_expr, walk
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.sql.dialect import Unclear, has_aggregate
from frazil_coordinator.plan.sql.order import Order, ordinal
from frazil_coordinator.plan.sql.scope import Scope

__all__ = ["Projection", "group_by"]

_TEMPORARY: Final = "_POLARS_TMP_SQL_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A column of the result."""

    expr: pl.Expr
    name: str
    named: bool = False
    """Whether the query gives the name (``AS``)."""

    @property
    def bare(self) -> RawExpr:
        """The expression without its alias."""
        return _strip(from_expr(self.expr))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    expr: pl.Expr
    bare: RawExpr
    name: str
    """In the grouped frame; temporary for one that is computed."""

    @property
    def is_computed(self) -> bool:
        return plain_column(self.bare) is None

    @property
    def column(self) -> pl.Expr:
        """What the rows are grouped by."""
        return pl.col(self.name) if plain_column(self.bare) in (None, self.name) else self.expr.alias(self.name)


def _strip(raw: RawExpr) -> RawExpr:
    aliased = alias_of(raw)
    return raw if aliased is None else aliased[0]


def _keys(node: exp.Select, scope: Scope, projections: Sequence[Projection]) -> list[_Key]:
    clause = node.args["group"]
    every = clause.args.get("all") is True and not clause.expressions
    if any(value for name, value in clause.args.items() if name not in ("expressions", "all")):
        raise Unclear("a GROUP BY of another kind")
    if not every and (clause.args.get("all") or not clause.expressions):
        raise Unclear("a GROUP BY of another kind")
    schema = scope.lf.collect_schema()
    found = [_key(item, scope, projections, schema) for item in clause.expressions]
    if every:
        found = [one.expr for one in projections if not has_aggregate(one.bare)]
    keys: list[_Key] = []
    for raw in map(from_expr, found):
        bare = _strip(raw)
        if has_aggregate(bare, window=True) or not any(kind_of(part) == "Column" for part in walk(bare)):
            raise Unclear("a key that is no column")
        renamed = alias_of(raw)
        column = plain_column(bare)
        name = f"{_TEMPORARY}{len(keys)}" if column is None else column if renamed is None else renamed[1]
        if all(serialised(bare) != serialised(known.bare) for known in keys):
            keys.append(_Key(expr=to_expr(bare), bare=bare, name=name))
    return keys


def _key(item: exp.Expr, scope: Scope, projections: Sequence[Projection], schema: pl.Schema) -> pl.Expr:
    if isinstance(item, exp.Literal):
        if ordinal(item, [one.name for one in projections]) is None:
            raise Unclear("an ordinal that is none")
        return projections[int(item.name) - 1].expr
    if isinstance(item, exp.Column) and not item.table and item.name not in schema:
        for one in projections:
            if one.name == item.name:
                return one.expr
    return scope.expr(item)


class _Grouping:
    """The parts of the lowered GROUP BY."""

    def __init__(self, keys: Sequence[_Key], projections: Sequence[Projection]) -> None:
        self.keys = keys
        self.projections = projections
        self.aggregates: list[pl.Expr] = []
        self.output: list[pl.Expr] = []
        self.names = [one.name for one in projections]
        if len(set(self.names)) < len(self.names):
            raise Unclear("two columns of one name")
        for one in projections:
            self._place(one)

    def key_of(self, raw: RawExpr) -> _Key | None:
        """Return the key that an expression without alias is."""
        return next((key for key in self.keys if serialised(key.bare) == serialised(raw)), None)

    def aggregate_name(self, raw: RawExpr) -> str | None:
        """Return the name of the column of the result that an expression without alias is."""
        return next((one.name for one in self.projections if serialised(one.bare) == serialised(raw)), None)

    def _place(self, one: Projection) -> None:
        bare = one.bare
        key = self.key_of(bare)
        if key is not None:
            column = pl.col(key.name)
            self.output.append(column if key.name == one.name else column.alias(one.name))
        elif has_aggregate(bare):
            if any(kind_of(part) == "Over" for part in walk(bare)):
                raise Unclear("a window over groups")
            if any(one.name == key.name for key in self.keys):
                raise Unclear("an aggregate that is named as a key")
            self.aggregates.append(one.expr)
            self.output.append(pl.col(one.name))
        else:
            names = {plain_column(part) for part in walk(bare)} - {None}
            if not names <= {key.name for key in self.keys}:
                raise Unclear("a column that is neither a key nor an aggregate")
            self.output.append(one.expr)

    def extra(self) -> list[pl.Expr]:
        """Return the keys that a later ORDER BY may still name."""
        found: list[pl.Expr] = []
        for key in self.keys:
            if key.name not in self.names:
                found.append(pl.col(key.name))
            elif plain_column(key.bare) == key.name:
                (one,) = [one for one in self.projections if one.name == key.name]
                if plain_column(one.bare) != key.name:
                    found.append(pl.col(key.name).alias(f"__POLARS_ORIG_{key.name}"))
        return found

    def resolve(self, raw: RawExpr, schema: pl.Schema) -> RawExpr:
        """Replace aliases of the SELECT list by what they name."""
        known = {one.name: one.bare for one in self.projections if one.name not in schema}
        return substitute(raw, lambda part: known.get(plain_column(part) or ""))


def group_by(
    node: exp.Select,
    scope: Scope,
    projections: Sequence[Projection],
    order: Order | None,
    limit: Callable[[pl.LazyFrame], pl.LazyFrame],
) -> pl.LazyFrame:
    """Return the LazyFrame of a SELECT with GROUP BY.

    Parameters
    ----------
    node
        The SELECT.
    scope
        Its tables, filtered.
    projections
        Its columns.
    order
        Its ORDER BY.
    limit
        Applied to the sorted rows.

    Raises
    ------
    Unclear
        When the lowering is not known.
    """
    schema = scope.lf.collect_schema()
    grouping = _Grouping(_keys(node, scope, projections), projections)
    lf = scope.lf
    if computed := [key.expr.alias(key.name) for key in grouping.keys if key.is_computed]:
        lf = lf.with_columns(computed)
    by, sorted_aggregates = _order_keys(order, grouping, scope)
    groups = lf.group_by([key.column for key in grouping.keys])
    if having := node.args.get("having"):
        groups = groups.having(to_expr(grouping.resolve(from_expr(scope.expr(having.this)), schema)))
    lf = groups.agg(*grouping.aggregates, *sorted_aggregates)
    lf = lf.select(*grouping.output, *(pl.col(one.meta.output_name()) for one in sorted_aggregates), *grouping.extra())
    if order is not None:
        lf = order.sort(lf, by)
    return limit(lf).select(grouping.names)


def _order_keys(order: Order | None, grouping: _Grouping, scope: Scope) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """Return what the groups are sorted by, and the aggregates that only serve this."""
    by: list[pl.Expr] = []
    aggregates: list[pl.Expr] = []
    for key in order.keys if order is not None else ():
        if (counted := ordinal(key, grouping.names)) is not None:
            by.append(counted)
            continue
        expr = scope.expr(key)
        raw = _strip(from_expr(expr))
        if has_aggregate(raw) and (named := grouping.aggregate_name(raw)) is not None:
            by.append(pl.col(named))
        elif has_aggregate(raw, window=True):
            name = f"__POLARS_ORDERAGG_{len(aggregates)}"
            aggregates.append(to_expr(raw).alias(name))
            by.append(pl.col(name))
        elif (same := grouping.key_of(raw)) is not None and same.is_computed:
            by.append(pl.col(same.name))
        else:
            by.append(to_expr(raw))
    return by, aggregates
