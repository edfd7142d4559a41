"""Queries that look at the row outside of them: single values, and EXISTS where a semi join does not do.

Polars renames the columns of the inner tables, so that they can't clash with those of the row. A value becomes a column
by a left join with the values of all groups, EXISTS a count of the matches of each numbered row. What is distributed is
equal and simpler. Next: :mod:`~frazil_coordinator.plan.sql.nested`.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import from_expr, plain_column, substitute, to_expr
from frazil_coordinator.plan.sql.dialect import Unclear, has_aggregate, to_polars
from frazil_coordinator.plan.sql.scope import Scope

__all__ = ["CORRELATED", "VALUE", "Correlation", "side_of"]

CORRELATED: Final = "__POLARS_CORR_"
"""What the columns begin with that hold what a query inside of another one gives."""

VALUE: Final = "_res"
"""What those end with that hold a value."""

_COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_OPERATORS: Final = {
    exp.EQ: operator.eq, exp.NEQ: operator.ne, exp.LT: operator.lt, exp.LTE: operator.le, exp.GT: operator.gt,
    exp.GTE: operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Correlation:
    """The tables of an inner query, filtered, and how their rows are compared with the row outside."""

    outer: Scope
    inner: Scope
    keys: tuple[tuple[exp.Expr, exp.Expr], ...]
    """Equalities: the side of the row, and that of the inner tables."""

    others: tuple[exp.Expr, ...]
    """The other comparisons."""

    all: tuple[exp.Expr, ...]
    """Both, in the order of the text."""

    prefix: str

    @classmethod
    def of(cls, outer: Scope, inner: Scope, found: Sequence[exp.Expr], number: int) -> Correlation | None:
        """Return the correlation of an inner query; None when it does not look at the row outside.

        Parameters
        ----------
        outer
            The tables of the row.
        inner
            Those of the inner query; what concerns only them is filtered.
        found
            The conditions of the inner query.
        number
            Of the temporary columns.

        Raises
        ------
        Unclear
            When the row stands in a condition that is no comparison.
        """
        sides = [side_of(one, outer, inner) for one in found]
        if all(side in ("inner", "none") for side in sides):
            return None
        keys: list[tuple[exp.Expr, exp.Expr]] = []
        others: list[exp.Expr] = []
        compared: list[exp.Expr] = []
        for one, side in zip(found, sides, strict=True):
            if side == "inner":
                inner.lf = inner.lf.filter(inner.expr(one))
                continue
            if not isinstance(one, _COMPARISONS):
                raise Unclear("a query that looks at the row outside otherwise than by a comparison")
            match side_of(one.left, outer, inner), side_of(one.right, outer, inner):
                case ("outer", "inner") if isinstance(one, exp.EQ):
                    keys.append((one.left, one.right))
                case ("inner", "outer") if isinstance(one, exp.EQ):
                    keys.append((one.right, one.left))
                case ("outer", "inner") | ("inner", "outer"):
                    others.append(one)
                case _:
                    raise Unclear("a comparison of the row outside with itself")
            compared.append(one)
        prefix = f"{CORRELATED}_POLARS_TMP_SQL_{number}_"
        return cls(outer=outer, inner=inner, keys=tuple(keys), others=tuple(others), all=tuple(compared), prefix=prefix)

    def value(self, item: exp.Expr) -> str:
        """Give the row the single value of the inner query; return its column.

        Parameters
        ----------
        item
            The one column of the inner query.

        Raises
        ------
        Unclear
            When it is not an aggregate over equal rows.
        """
        expr = self.inner.expr(item)
        counted = isinstance(item, exp.Anonymous) and item.name.upper() == "COUNT"
        if self.others:
            raise Unclear("a value of rows that are compared with the row outside otherwise than by equality")
        if not has_aggregate(from_expr(expr), window=True):
            return self._only(expr)
        if not counted and any(one.name.upper() == "COUNT" for one in item.find_all(exp.Anonymous)):
            raise Unclear("a value computed of a count of rows equal to the row outside")
        result = f"{self.prefix[:-1]}{VALUE}"
        keys = [self._renamed(to_polars(theirs, self.inner.column)) for _, theirs in self.keys]
        values = self._inner_rows().group_by(keys).agg(self._renamed(expr).alias(result))
        left_on = [to_polars(mine, self.outer.column) for mine, _ in self.keys]
        lf = self.outer.lf.join(values, left_on=left_on, right_on=keys, how="left", coalesce=True, maintain_order="left")
        self.outer.lf = lf.with_columns(pl.col(result).fill_null(0)) if counted else lf
        return result

    def _only(self, expr: pl.Expr) -> str:
        """Give the row the value of the one inner row that is equal to it; return the column."""
        value, result = f"{self.prefix}val", f"{self.prefix[:-1]}{VALUE}"
        keys = [self._renamed(to_polars(theirs, self.inner.column)) for _, theirs in self.keys]
        left_on = [to_polars(mine, self.outer.column) for mine, _ in self.keys]
        names = {name: f"{self.prefix}c_{name}" for name in self.inner.lf.collect_schema().names()}
        rows = self.outer.lf.cache()
        inner = self.inner.lf.with_columns(expr.alias(value)).rename(names)
        # Rows that nobody looks at may be equal.
        asked = inner.join(rows.select(left_on), left_on=keys, right_on=left_on, how="semi")
        values = asked.group_by(keys).agg(pl.col(value).item(allow_empty=True).alias(result))
        self.outer.lf = rows.join(values, left_on=left_on, right_on=keys, how="left", coalesce=True, maintain_order="left")
        return result

    def flag(self) -> str:
        """Give the row whether the inner query has rows; return the column."""
        result, names = f"{self.prefix}exists", self.outer.lf.collect_schema().names()
        if self.outer.mirror:
            lf = self._counted().with_columns((self._count.fill_null(0) > 0).alias(result))
        else:
            on, hits, lf = self._hits()
            lf = lf.join(hits.with_columns(pl.lit(value=True).alias(result)), on=on, how="left", maintain_order="left")
            lf = lf.with_columns(pl.col(result).fill_null(value=False))
        self.outer.lf = lf.select([*names, result])
        return result

    def keep(self, *, negated: bool) -> None:
        """Keep the rows for which the inner query has rows, or has none."""
        names = self.outer.lf.collect_schema().names()
        if self.outer.mirror:
            lf = self._counted().with_columns(self._count.fill_null(0))
            lf = lf.filter(self._count == 0 if negated else self._count > 0)
        else:
            on, hits, lf = self._hits()
            lf = lf.join(hits, on=on, how="anti" if negated else "semi", maintain_order="left")
        self.outer.lf = lf.select(names)

    @property
    def _count(self) -> pl.Expr:
        return pl.col(f"{self.prefix}cnt")

    def _inner_rows(self) -> pl.LazyFrame:
        names = self.inner.lf.collect_schema().names()
        return self.inner.lf.rename({name: f"{self.prefix}c_{name}" for name in names})

    def _renamed(self, expr: pl.Expr) -> pl.Expr:
        names = {name: from_expr(pl.col(f"{self.prefix}c_{name}")) for name in self.inner.lf.collect_schema().names()}
        return to_expr(substitute(from_expr(expr), lambda part: names.get(plain_column(part) or ""))).meta.undo_aliases()

    def _predicates(self) -> list[pl.Expr]:
        """Return the comparisons, of columns of the row and renamed ones."""
        found = []
        for one in self.all:
            copy = one.copy()
            for column in copy.find_all(exp.Column):
                inside = side_of(column, self.outer, self.inner) == "inner"
                name = f"{self.prefix}c_{self.inner.column(column)}" if inside else self.outer.column(column)
                column.replace(exp.column(exp.to_identifier(name, quoted=True)))
            found.append(_compared(copy))
        return found

    def _counted(self) -> pl.LazyFrame:
        """Return the rows, numbered, and how often each is matched, as polars counts it."""
        index = f"{self.prefix}idx"
        rows = self.outer.lf.with_row_index(index).cache()
        matched = rows.join(self._inner_rows(), how="cross")
        for predicate in self._predicates():
            matched = matched.filter(predicate)
        counts = matched.group_by(index).agg(pl.len().alias(f"{self.prefix}cnt"))
        return rows.join(counts, on=index, how="left", coalesce=True, maintain_order="left")

    def _hits(self) -> tuple[list[str], pl.LazyFrame, pl.LazyFrame]:
        """Return by which columns rows are matched, the values of those that are, once each, and the rows."""
        if not self.others:
            names = [f"{self.prefix}k_{place}" for place in range(len(self.keys))]
            mine = [to_polars(one, self.outer.column).alias(name) for (one, _), name in zip(self.keys, names, strict=True)]
            theirs = [to_polars(one, self.inner.column).alias(name) for (_, one), name in zip(self.keys, names, strict=True)]
            return names, self.inner.lf.select(theirs).unique(), self.outer.lf.with_columns(mine)
        index = f"{self.prefix}idx"
        rows = self.outer.lf.with_row_index(index).cache()
        return [index], rows.join_where(self._inner_rows(), *self._predicates()).select(index).unique(), rows


def _compared(node: exp.Expr) -> pl.Expr:
    """Return a comparison; polars builds one of two columns without its SQL parser."""
    if isinstance(node, _COMPARISONS) and isinstance(node.left, exp.Column) and isinstance(node.right, exp.Column):
        return cast("pl.Expr", _OPERATORS[type(node)](pl.col(node.left.name), pl.col(node.right.name)))
    return to_polars(node, lambda column: column.name)


def side_of(node: exp.Expr, outer: Scope, inner: Scope) -> str:
    """Return whether all columns of an expression are those of the inner tables, or of the outer ones."""
    found: set[str] = set()
    names = inner.lf.collect_schema().names()
    for column in node.find_all(exp.Column):
        if column.table:
            found.add("inner" if column.table in inner.tables else "outer" if column.table in outer.tables else "nowhere")
        else:
            found.add("inner" if column.name in names else "outer")
    if not found:
        return "none"
    return found.pop() if len(found) == 1 else "both"
