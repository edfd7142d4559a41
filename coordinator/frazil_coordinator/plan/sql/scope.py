"""The tables of one SELECT, joined, and which column of the joined frame a name of the query means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import from_expr, plain_column, substitute, to_expr
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.sql.dialect import Unclear, to_polars
from frazil_coordinator.plan.sql.typed import Typed

__all__ = ["Scope", "conditions"]

_How: TypeAlias = Literal["inner", "left", "right", "full", "semi", "anti", "cross"]
_OUTER: Final[Mapping[_How, Literal["inner", "left", "right", "full"]]] = {
    "inner": "inner", "left": "left", "right": "right", "full": "full",
}  # fmt: skip
_HOWS: Final = ("inner", "left", "right", "full", "semi", "anti", "cross")


@dataclass(slots=True, kw_only=True)
class Scope:
    """Tables joined so far. Polars gives a right column whose name is taken the suffix ``:table``."""

    lf: pl.LazyFrame
    name: str
    """The first table's."""

    tables: dict[str, pl.Schema] = field(default_factory=dict)
    """Table name → its own columns."""

    mirror: bool = True
    """Whether joins are built exactly as polars builds them; else so that they can be distributed."""

    renamed: dict[str, dict[str, str]] = field(default_factory=dict)
    """Table name → its column → the name in the joined frame, where they differ."""

    formulas: dict[str, RawExpr] = field(default_factory=dict)
    """Names in rewritten conditions → the expressions that they stand for."""

    hidden: set[str] = field(default_factory=set)
    """Columns of the joined frame that ``*`` leaves out: the second ones of NATURAL joins."""

    @classmethod
    def of(cls, name: str, lf: pl.LazyFrame, *, mirror: bool = True) -> Scope:
        """Return the scope of one table."""
        return cls(lf=lf, name=name, tables={name: lf.collect_schema()}, mirror=mirror)

    def column(self, node: exp.Column) -> str:
        """Return the name of a column in the joined frame.

        Raises
        ------
        Unclear
            When the table is unknown, or the name has more than two parts.
        """
        if node.args.get("db") or node.args.get("catalog"):
            raise Unclear("a name of three parts")
        if not node.table:
            return node.name
        if node.table not in self.tables or node.name not in self.tables[node.table]:
            raise Unclear(f"the name {node.table}.{node.name}")
        return self.renamed.get(node.table, {}).get(node.name, node.name)

    def expr(self, node: exp.Expr) -> pl.Expr:
        """Return an expression over the joined frame; a renamed column keeps the name that the query has for it."""
        found = self._unnamed(node)
        for column in node.find_all(exp.Column):
            if self._field(column) is not None:
                continue
            name = self.column(column) if isinstance(column.this, exp.Identifier) else column.name
            if name != column.name and found.meta.output_name(raise_if_undetermined=False) == name:
                return found.alias(column.name)
        return found

    def _unnamed(self, node: exp.Expr) -> pl.Expr:
        found = self._plain(node)
        if not self.mirror:
            return found
        # Polars gives a renamed column back the name that the query has for it, wherever it stands.
        columns = [
            one for one in node.find_all(exp.Column) if isinstance(one.this, exp.Identifier) and self._field(one) is None
        ]
        named = {self.column(one): one.name for one in columns}
        given = {name: from_expr(pl.col(name).alias(own)) for name, own in named.items() if name != own}
        return to_expr(substitute(from_expr(found), lambda part: given.get(plain_column(part) or ""))) if given else found

    def _plain(self, node: exp.Expr) -> pl.Expr:
        """Return an expression over the joined frame, with the names that the frame has."""
        found = self._typed(node).expr()
        if not self.formulas:
            return found
        return to_expr(substitute(from_expr(found), lambda part: self.formulas.get(plain_column(part) or "")))

    def _typed(self, node: exp.Expr) -> Typed:
        return Typed(node, self.lf.collect_schema(), self.column, self._field)

    def _field(self, node: exp.Column) -> pl.Expr | None:
        """Return the field that ``struct.field`` or ``table.struct.field`` means; None when a name means a column."""
        if not isinstance(node.this, exp.Identifier) or not node.table or node.args.get("catalog"):
            return None
        table, struct = node.args.get("db"), node.table
        if table is None:
            name = None if struct in self.tables else struct
        else:
            name = self.column(exp.column(struct, table, quoted=True))
        if name is None or not isinstance(self.lf.collect_schema().get(name), pl.Struct):
            return None
        return pl.col(name).struct.field(node.name)

    def columns_of(self, table: str) -> list[pl.Expr]:
        """Return the columns that ``table.*`` stands for."""
        if table not in self.tables:
            raise Unclear(f"the table {table}")
        return [self.expr(exp.column(name, table, quoted=True)) for name in self.tables[table].names()]

    def join(self, node: exp.Join, name: str, right: pl.LazyFrame) -> None:
        """Join one more table.

        Raises
        ------
        Unclear
            When the join has no plain equalities.
        """
        if name in self.tables:
            raise Unclear("two tables of one name")
        how = _how(node)
        if how == "cross":
            self._add(name, right, self.lf.join(right, how="cross", suffix=f":{name}"))
            return
        found = conditions(node.args["on"]) if how in _OUTER and node.args.get("on") else []
        equal = self._equalities(found, name, right.collect_schema())
        if None in equal:
            self._add_where(name, right, found, equal, how)
        else:
            left_on, right_on = self._keys(node, name, right.collect_schema())
            common = [] if node.args.get("method") is None else [column.meta.output_name() for column in left_on]
            self._add_equal(name, right, left_on, right_on, how)
            self.hidden.update(f"{column}:{name}" for column in common)

    def join_listed(self, where: list[exp.Expr], name: str, right: pl.LazyFrame) -> list[exp.Expr]:
        """Join a table of ``FROM a, b`` by those conditions of WHERE that are about both; return the others."""
        if name in self.tables:
            raise Unclear("two tables of one name")
        left_on: list[pl.Expr] = []
        right_on: list[pl.Expr] = []
        rest: list[exp.Expr] = []
        for condition in where:
            if isinstance(condition, exp.EQ) and self._is_across(condition, name, right.collect_schema()):
                mine, other = self._sides(condition, name, right.collect_schema())
                left_on.append(mine)
                right_on.append(other)
            else:
                rest.append(condition)
        if left_on:
            self._add_equal(name, right, left_on, right_on, "inner")
        else:
            self._add(name, right, self.lf.join(right, how="cross", suffix=f":{name}"))
        return rest

    def _is_across(self, condition: exp.EQ, name: str, theirs: pl.Schema) -> bool:
        """Return whether an equality is of a column of a new table and one of the old tables."""
        sides = (condition.left, condition.right)
        return {self._side_of(side, name, theirs) for side in sides} == {"old", "new"}

    def _side_of(self, side: exp.Expr, name: str, theirs: pl.Schema) -> str:
        if not isinstance(side, exp.Column):
            return "none"
        if side.table:
            return "new" if side.table == name else "old" if side.table in self.tables else "none"
        ours = self.lf.collect_schema()
        if (side.name in ours) == (side.name in theirs):
            return "none"
        return "new" if side.name in theirs else "old"

    def _equalities(self, found: Sequence[exp.Expr], name: str, theirs: pl.Schema) -> list[tuple[exp.Expr, exp.Expr] | None]:
        """Return for each condition the side of the tables before and that of the new one, None where it is no equality."""
        pairs: list[tuple[exp.Expr, exp.Expr] | None] = []
        for one in found:
            sides = (one.left, one.right) if isinstance(one, exp.EQ) else (one, one)
            match tuple(self._side_of_all(side, name, theirs) for side in sides):
                case ("old", "new"):
                    pairs.append(sides)
                case ("new", "old"):
                    pairs.append((sides[1], sides[0]))
                case _:
                    pairs.append(None)
        return pairs

    def _side_of_all(self, side: exp.Expr, name: str, theirs: pl.Schema) -> str:
        found = {self._side_of(column, name, theirs) for column in side.find_all(exp.Column)}
        return found.pop() if len(found) == 1 else "none"

    def _add_where(
        self,
        name: str,
        right: pl.LazyFrame,
        found: Sequence[exp.Expr],
        equal: Sequence[tuple[exp.Expr, exp.Expr] | None],
        how: _How,
    ) -> None:
        """Join by conditions of any kind: pairs of rows, filtered, and what an outer join keeps without a pair."""
        before = self.lf
        self._add(name, right, before.join(right, how="cross", suffix=f":{name}"))
        expr = self._unnamed if how == "inner" else self._plain
        predicates = [expr(one) for one, pair in zip(found, equal, strict=True) if pair is None]
        # Equalities come last, as in polars.
        predicates += [expr(pair[0]) == expr(pair[1]) for pair in equal if pair is not None]
        if self.mirror and how == "inner":
            for predicate in predicates:
                self.lf = self.lf.filter(predicate)
        else:
            self.lf = before.join_where(right, *predicates, how=_OUTER[how], suffix=f":{name}")

    def _add_equal(self, name: str, right: pl.LazyFrame, left_on: list[pl.Expr], right_on: list[pl.Expr], how: _How) -> None:
        suffix = f":{name}"
        joined = self.lf.join(right, left_on=left_on, right_on=right_on, how=how, suffix=suffix, coalesce=False)
        self._add(name, right, joined)

    def _add(self, name: str, right: pl.LazyFrame, lf: pl.LazyFrame) -> None:
        theirs, ours, joined = right.collect_schema(), self.lf.collect_schema(), lf.collect_schema()
        self.renamed[name] = {n: f"{n}:{name}" for n in theirs.names() if n in ours and f"{n}:{name}" in joined}
        self.tables[name] = theirs
        self.lf = lf

    def _keys(self, node: exp.Join, name: str, theirs: pl.Schema) -> tuple[list[pl.Expr], list[pl.Expr]]:
        if using := node.args.get("using"):
            names = [pl.col(cast("exp.Expr", one).name) for one in using]
            return names, names
        if node.args.get("method"):
            names = [pl.col(column) for column in self.lf.collect_schema().names() if column in theirs]
            if not names:
                raise Unclear("a NATURAL join of tables without a common column")
            return names, names
        condition = node.args.get("on")
        if condition is None:
            raise Unclear("a join without a condition")
        left_on: list[pl.Expr] = []
        right_on: list[pl.Expr] = []
        for equality in conditions(condition):
            if not isinstance(equality, exp.EQ):
                raise Unclear("a join on something else than equalities")
            mine, other = self._sides(equality, name, theirs)
            left_on.append(mine)
            right_on.append(other)
        return left_on, right_on

    def _sides(self, equality: exp.EQ, name: str, theirs: pl.Schema) -> tuple[pl.Expr, pl.Expr]:
        """Return the side of an equality that is about the old tables, and the other."""
        sides = [equality.left, equality.right]
        right_side = [self._is_of(side, name, theirs) for side in sides]
        if right_side[0] == right_side[1]:
            raise Unclear("a join whose sides are not told apart")
        mine, other = sides if right_side[1] else reversed(sides)
        return to_polars(mine, self.column), to_polars(other, lambda column: column.name)

    def _is_of(self, side: exp.Expr, name: str, theirs: pl.Schema) -> bool:
        """Return whether one side of an equality is about the new table, or else about the old ones."""
        ours = self.lf.collect_schema()
        found: set[bool] = set()
        for column in side.find_all(exp.Column):
            if column.table:
                found.add(column.table == name)
            elif (column.name in theirs) == (column.name in ours):
                raise Unclear(f"the column {column.name} of a join")
            else:
                found.add(column.name in theirs)
        if len(found) != 1:
            raise Unclear("a join whose sides are not told apart")
        return found.pop()


def _how(node: exp.Join) -> _How:
    if node.args.get("method") not in (None, "NATURAL") or node.args.get("hint") or node.args.get("global_"):
        raise Unclear("a join of another kind")
    side, kind = node.side.lower(), node.kind.lower()
    if kind in ("semi", "anti") and side in ("", "left"):
        how = kind
    elif kind in ("", "outer", "inner", "cross") and not (side and kind in ("inner", "cross")):
        conditional = any(node.args.get(name) for name in ("on", "using", "method"))
        how = side or kind or ("inner" if conditional else "cross")
    else:
        how = ""
    if how not in _HOWS:
        raise Unclear("a join of another kind")
    return cast("_How", how)


def conditions(node: exp.Expr) -> list[exp.Expr]:
    """Return the conditions that AND joins."""
    node = node.unnest()
    if isinstance(node, exp.And):
        return [*conditions(node.left), *conditions(node.right)]
    return [node]
