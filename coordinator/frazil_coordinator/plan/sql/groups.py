"""GROUP BY, with HAVING and the ORDER BY that follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import (
    alias_of,
    from_expr,
    kind_of,
    members,
    plain_column,
    serialised,
    substitute,
    to_expr,
    walk,
)
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.sql.dialect import Unclear, has_aggregate
from frazil_coordinator.plan.sql.hoisting import Hoisting, whole_frame
from frazil_coordinator.plan.sql.order import Order, ordinal
from frazil_coordinator.plan.sql.rollup import GroupingSets
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
    while (aliased := alias_of(raw)) is not None:
        raw = aliased[0]
    return raw


def _keys(
    clause: exp.Expr, items: Sequence[exp.Expr], scope: Scope, projections: Sequence[Projection], numbers: Iterator[int]
) -> list[_Key]:
    every = clause.args.get("all") is True and not clause.expressions
    if any(value for name, value in clause.args.items() if name not in ("expressions", "all")):
        raise Unclear("a GROUP BY of another kind")
    if not every and (clause.args.get("all") or not clause.expressions):
        raise Unclear("a GROUP BY of another kind")
    schema = scope.lf.collect_schema()
    found = [_key(item, scope, projections, schema) for item in items]
    if every:
        found = [one.expr for one in projections if not has_aggregate(one.bare)]
    keys: list[_Key] = []
    for raw in map(from_expr, found):
        bare = _strip(raw)
        if has_aggregate(bare, window=True) or not any(kind_of(part) == "Column" for part in walk(bare)):
            raise Unclear("a key that is no column")
        renamed = alias_of(raw)
        column = plain_column(bare)
        name = f"{_TEMPORARY}{next(numbers)}" if column is None else column if renamed is None else renamed[1]
        if column is not None and any(known.name == name for known in keys):
            name = column  # two tables' columns of one name
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


def _is_aggregate(raw: RawExpr) -> bool:
    """Return whether the outermost step of an expression aggregates."""
    if kind_of(raw) in ("Cast", "Filter"):
        inner = members(raw)
        return (
            isinstance(inner, dict) and has_aggregate(raw) and _is_aggregate(inner["expr" if "expr" in inner else "input"])
        )
    return has_aggregate(raw) and (raw == "Len" or kind_of(raw) in ("Agg", "Function"))


def _of_rows(raw: RawExpr) -> RawExpr | None:
    """Return a list of a group's values without the case of a group without rows, which polars does not meet, either."""
    inner = members(raw) if kind_of(raw) == "Ternary" else None
    if not isinstance(inner, dict) or inner["predicate"] != from_expr(pl.len() > 0):
        return None
    return {"Ternary": {**inner, "predicate": from_expr(pl.lit(value=True))}}


class _Grouping:
    """The parts of the lowered GROUP BY."""

    def __init__(self, keys: Sequence[_Key], projections: Sequence[Projection], hoisting: Hoisting) -> None:
        self.keys = keys
        self.projections = projections
        self.hoisting = hoisting
        self.late: list[pl.Expr] = []
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
            return
        names = {plain_column(part) for part in walk(bare)} - {None}
        keys = {key.name for key in self.keys}
        late = one.name in self.hoisting.late
        if (late or has_aggregate(bare)) and one.name in keys:
            raise Unclear("an aggregate that is named as a key")
        if late:
            found = substitute(bare, self._stored)
            if not {plain_column(part) for part in walk(found)} - {None} <= keys | self.hoisting.names:
                raise Unclear("a window over what is neither a key nor an aggregate")
            self.late.append(to_expr(found).alias(one.name))
            self.output.append(pl.col(one.name))
        elif has_aggregate(bare):
            self.output.append(pl.col(one.name))
        else:
            if not names <= keys | self.hoisting.groupings.keys():
                raise Unclear("a column that is neither a key nor an aggregate")
            self.output.append(one.expr)

    def _stored(self, raw: RawExpr) -> RawExpr | None:
        """Return the column that holds a computed key, and the partition of a window that has none."""
        key = self.key_of(raw)
        return from_expr(pl.col(key.name)) if key is not None and key.is_computed else whole_frame(raw)

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
        return [*found, *map(pl.col, self.hoisting.groupings)]

    def of_groups(self, raw: RawExpr) -> RawExpr:
        """Return a condition of groups with the first of its keys' equal values in the place of each key."""

        def first(part: RawExpr) -> RawExpr | None:
            if _is_aggregate(part):
                return part
            key = self.key_of(part)
            return None if key is None else from_expr((pl.col(key.name) if key.is_computed else to_expr(part)).first())

        return substitute(raw, first)

    def resolve(self, raw: RawExpr, schema: pl.Schema) -> RawExpr:
        """Replace aliases of the SELECT list by what they name."""
        known = {one.name: one.bare for one in self.projections if one.name not in schema}
        return substitute(raw, lambda part: known.get(plain_column(part) or ""))


def group_by(
    node: exp.Select,
    scope: Scope,
    projections: Sequence[Projection],
    hoisting: Hoisting,
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
    hoisting
        What of them is computed for each group.
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
    clause = node.args["group"]
    sets = GroupingSets.of(clause.expressions)
    keys = _keys(clause, clause.expressions if sets is None else sets.keys, scope, projections, hoisting.numbers)
    grouping = _Grouping(keys, projections, hoisting)
    lf = scope.lf
    if computed := [key.expr.alias(key.name) for key in grouping.keys if key.is_computed]:
        lf = lf.with_columns(computed)
    by, sorted_aggregates = _order_keys(order, grouping, scope)
    having = node.args.get("having")
    kept = None if having is None else scope.expr(having.this if sets is None else hoisting.hoisted(having.this))
    aggregates = [*hoisting.aggregates, *sorted_aggregates]
    if sets is not None:
        lf = sets.aggregate(lf, _plain_names(sets, keys), aggregates, _asked(sets, hoisting))
        if having is not None and kept is not None:
            # Polars makes sure that a conjunction is Boolean, after which it stays one filter.
            lf = lf.filter(
                kept.cast(pl.Boolean, strict=False) if scope.mirror and isinstance(having.this, exp.And) else kept
            )
    else:
        if hoisting.groupings:
            raise Unclear("GROUPING without grouping sets")
        groups = lf.group_by([key.column for key in grouping.keys])
        if kept is not None:
            groups = groups.having(to_expr(grouping.of_groups(grouping.resolve(from_expr(kept), schema))))
        lf = groups.agg(*(to_expr(substitute(from_expr(one), _of_rows)) for one in aggregates))
    if grouping.late:
        lf = lf.with_columns(grouping.late)
    output = [*grouping.output, *(pl.col(one.meta.output_name()) for one in sorted_aggregates), *grouping.extra()]
    lf = lf.select(output) if sets is None else lf.with_columns(output).select([one.meta.output_name() for one in output])
    if order is not None:
        lf = order.sort(lf, by)
    return limit(lf).select(grouping.names)


def _plain_names(sets: GroupingSets, keys: Sequence[_Key]) -> list[str]:
    """Return the columns of the keys of grouping sets.

    Raises
    ------
    Unclear
        When a key is computed or renamed, or two are the same.
    """
    names = [key.name for key in keys if plain_column(key.bare) == key.name]
    if len(names) < len(sets.keys):
        raise Unclear("grouping sets of expressions")
    return names


def _asked(sets: GroupingSets, hoisting: Hoisting) -> dict[str, list[int]]:
    """Return the places of the keys that each call of GROUPING asks for."""
    if any(argument not in sets.keys for arguments in hoisting.groupings.values() for argument in arguments):
        raise Unclear("GROUPING of what is no key")
    return {name: [sets.keys.index(one) for one in arguments] for name, arguments in hoisting.groupings.items()}


def _order_keys(order: Order | None, grouping: _Grouping, scope: Scope) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """Return what the groups are sorted by, and the aggregates that only serve this."""
    by: list[pl.Expr] = []
    aggregates: list[pl.Expr] = []
    for key in order.keys if order is not None else ():
        if (counted := ordinal(key, grouping.names)) is not None:
            by.append(counted)
            continue
        if key.find(exp.Window) is not None:
            raise Unclear("groups sorted by a window")
        expr = scope.expr(grouping.hoisting.with_groupings(key.copy()))
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
