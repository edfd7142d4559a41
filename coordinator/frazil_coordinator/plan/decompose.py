"""Split aggregates into a partial step, run by each task over its own rows, and a final step over the partial results.

``sum(x) / len()`` becomes the partial aggregates ``p0 = sum(x)``, ``p1 = len()`` and the final expression
``sum(p0) / sum(p1)``. Means and variances are merged by Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
for Computing Sample Variances" (1979). Whatever has no exact decomposition makes :func:`decompose` return None, and the
caller shuffles whole groups instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.exprs import expand, from_expr, is_literal, is_row_wise, kind_of, members, serialised, to_expr
from frazil_coordinator.plan.nodes import RawExpr
from frazil_functions.arena import Raw

__all__ = ["Decomposition", "decompose"]

_PREFIX: Final = "__frazil_p"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """Aggregates in two steps."""

    partial: tuple[pl.Expr, ...]
    """Named aggregates over the rows of one task."""

    final: tuple[pl.Expr, ...]
    """Aggregates over the partial results, named as the original ones."""


def decompose(
    aggs: Sequence[RawExpr], rows: pl.LazyFrame, *, grouped: bool, exclude: Sequence[str] = ()
) -> Decomposition | None:
    """Split aggregates into partial and final ones.

    Parameters
    ----------
    aggs
        The aggregates of a group_by, or the expressions of a select that aggregate all rows.
    rows
        What they aggregate, for its schema.
    grouped
        Whether they aggregate groups, which have at least one row each, or all rows, of which there may be none.
    exclude
        Columns that selectors leave out (the keys).

    Returns
    -------
    Decomposition or None
        None when one of them can't be split exactly.
    """
    schema = rows.collect_schema()
    visible = pl.Schema({name: dtype for name, dtype in schema.items() if name not in exclude})
    splitter = _Splitter(rows, grouped=grouped)
    final: list[pl.Expr] = []
    try:
        for agg in aggs:
            for single in expand(agg, visible):
                name = to_expr(single).meta.output_name()
                final.append(splitter.final(single).alias(name))
    except (_NotDecomposableError, PolarsError, ValueError):
        return None
    return Decomposition(partial=tuple(splitter.partial), final=tuple(final))


class _NotDecomposableError(Exception):
    """One of the aggregates has no exact decomposition."""


class _Splitter:
    """Collects partial aggregates, each once, while final expressions are made."""

    def __init__(self, rows: pl.LazyFrame, *, grouped: bool) -> None:
        self.partial: list[pl.Expr] = []
        self._names: dict[bytes, str] = {}
        self._rows = rows
        self._grouped = grouped

    def final(self, raw: RawExpr) -> pl.Expr:
        """Return the final expression of `raw`, an aggregate or row-wise functions over aggregates."""
        kind, inner = kind_of(raw), members(raw)
        if kind == "Literal" and is_literal(raw):
            return to_expr(raw)
        if kind == "Len":
            return self._add(raw).sum()
        if kind == "Alias":
            return self.final(cast("list[object]", inner)[0])
        if kind in ("KeepName", "RenameAlias"):
            return self.final(cast("Raw", inner)["expr"] if kind == "RenameAlias" else inner)
        if kind == "Agg":
            return self._agg(raw, cast("Raw", inner))
        if kind == "Function" and self._is_aggregating_function(cast("Raw", inner)):
            return self._function(raw, cast("Raw", inner))
        return self._over_aggregates(raw)

    def _over_aggregates(self, raw: RawExpr) -> pl.Expr:
        """Row-wise functions of aggregates: keep them, and replace the aggregates inside."""
        kind, inner = kind_of(raw), members(raw)
        if not isinstance(inner, dict):
            raise _NotDecomposableError
        if kind == "BinaryExpr":
            return to_expr({kind: {**inner, **self._replaced(inner, "left", "right")}})
        if kind == "Cast":
            return to_expr({kind: {**inner, **self._replaced(inner, "expr")}})
        if kind == "Ternary":
            return to_expr({kind: {**inner, **self._replaced(inner, "predicate", "truthy", "falsy")}})
        if kind == "Function":
            inputs = cast("list[RawExpr]", inner["input"])
            stand_ins = [{"Column": f"{_PREFIX}in{n}"} for n in range(len(inputs))]
            if not inputs or not is_row_wise({kind: {**inner, "input": stand_ins}}):
                raise _NotDecomposableError
            return to_expr({kind: {**inner, "input": [from_expr(self.final(part)) for part in inputs]}})
        raise _NotDecomposableError

    def _replaced(self, inner: Raw, *names: str) -> Raw:
        return {name: from_expr(self.final(inner[name])) for name in names}

    def _add(self, raw: RawExpr) -> pl.Expr:
        return self._add_expr(to_expr(raw))

    def _add_expr(self, expr: pl.Expr) -> pl.Expr:
        """Add a partial aggregate, and return the column that will hold it."""
        key = serialised(from_expr(expr))
        name = self._names.get(key)
        if name is None:
            name = self._names[key] = f"{_PREFIX}{len(self.partial)}"
            self.partial.append(expr.alias(name))
        return pl.col(name)

    def _agg(self, raw: RawExpr, inner: Raw) -> pl.Expr:
        (name,) = inner
        value = inner[name]
        if name == "Sum":
            self._check_rows(value)
            return self._add(raw).sum()
        if name in ("Min", "Max"):
            body = cast("Raw", value)
            self._check_rows(body["input"])
            return to_expr({"Agg": {name: {**body, "input": from_expr(self._add(raw))}}})
        if name == "Count":
            self._check_rows(cast("Raw", value)["input"])
            return self._add(raw).sum()
        if name == "Mean":
            return self._mean(value)
        if name in ("Std", "Var"):
            column, ddof = cast("list[object]", value)
            variance = self._variance(column, cast("int", ddof))
            return variance.sqrt() if name == "Std" else variance
        if name in ("First", "Last") and self._grouped and is_row_wise(value):
            return to_expr({"Agg": {name: from_expr(self._add(raw))}})
        if name == "NUnique" and not self._grouped:
            # By key, whole groups are shuffled instead: their distinct values need not pass through one task.
            self._check_rows(value)
            return self._add_expr(to_expr(value).unique().implode()).explode().n_unique()
        if name == "Implode" and not self._grouped and is_row_wise(cast("Raw", value)["input"]):
            return self._add_expr(to_expr(cast("Raw", value)["input"]).implode()).explode().implode()
        if name in ("FirstNonNull", "LastNonNull"):
            self._check_rows(value)
            return to_expr({"Agg": {name: from_expr(self._add(raw))}})
        raise _NotDecomposableError

    @staticmethod
    def _is_aggregating_function(inner: Raw) -> bool:
        function = inner["function"]
        if kind_of(function) == "Boolean":
            return kind_of(members(function)) in ("Any", "All")
        return function == "NullCount"

    def _function(self, raw: RawExpr, inner: Raw) -> pl.Expr:
        (column,) = cast("list[RawExpr]", inner["input"])
        self._check_rows(column)
        partial = self._add(raw)
        if inner["function"] == "NullCount":
            return partial.sum()
        return to_expr({"Function": {**inner, "input": [from_expr(partial)]}})

    def _mean(self, raw: RawExpr) -> pl.Expr:
        dtype = self._numeric(raw)
        values = to_expr(raw)
        total = self._add_expr(values.cast(pl.Float64).sum()).sum()
        count = self._add_expr(values.count()).sum()
        mean = pl.when(count > 0).then(total / count)
        return mean.cast(pl.Float32) if dtype == pl.Float32 else mean

    def _variance(self, raw: RawExpr, ddof: int) -> pl.Expr:
        dtype = self._numeric(raw)
        values = to_expr(raw).cast(pl.Float64)
        count = self._add_expr(values.count())
        mean = self._add_expr(values.mean())
        squares = self._add_expr(values.var(ddof=0) * values.count())
        total = count.sum()
        centre = (count * mean).sum() / total
        spread = squares.sum() + (count * (mean - centre) ** 2).sum()
        variance = pl.when(total > ddof).then(spread / (total - ddof))
        return variance.cast(pl.Float32) if dtype == pl.Float32 else variance

    def _numeric(self, raw: RawExpr) -> pl.DataType:
        self._check_rows(raw)
        (dtype,) = self._rows.select(to_expr(raw)).collect_schema().dtypes()
        if not (dtype.is_integer() or dtype.is_float() or dtype == pl.Boolean):
            raise _NotDecomposableError
        return dtype

    @staticmethod
    def _check_rows(raw: RawExpr) -> None:
        """Raise unless `raw` can be computed from any part of the rows: row-wise, perhaps filtered."""
        inner = members(raw)
        if kind_of(raw) == "Filter" and isinstance(inner, dict):
            if is_row_wise(inner["input"]) and is_row_wise(inner["by"]):
                return
        elif is_row_wise(raw) and not is_literal(raw):
            return
        raise _NotDecomposableError
