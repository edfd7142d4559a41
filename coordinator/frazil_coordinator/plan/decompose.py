"""Split aggregates into a partial step, run by each task over its own rows, and a final step over the partial results.

``sum(x) / len()`` becomes the partial aggregates ``p0 = sum(x)``, ``p1 = len()`` and the final expression
``sum(p0) / sum(p1)``. Means and variances are merged by Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm
for Computing Sample Variances" (1979). Whatever has no exact decomposition makes :func:`decompose` return None, and the
caller shuffles whole groups instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.exprs import (
    expand,
    from_expr,
    is_literal,
    is_row_wise,
    is_separable,
    kind_of,
    members,
    operands,
    serialised,
    to_expr,
    with_operands,
)
from frazil_coordinator.plan.looks import Shape, literal_int, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.placed import Parts, placed
from frazil_functions.arena import Raw

__all__ = ["Decomposition", "decompose"]

_PREFIX: Final = "__frazil_p"
_FEW: Final = 1_000_000
"""Values of each task that may be brought into one."""

_DAY_US: Final = 86_400_000_000
"""Microseconds of a day."""

_SAME_AGAIN: Final = frozenset({"Product", "Bitwise"})
"""Functions that merge their own results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """Aggregates in two steps."""

    partial: tuple[pl.Expr, ...]
    """Named aggregates over the rows of one task."""

    final: tuple[pl.Expr, ...]
    """Aggregates over the partial results, named as the original ones."""


def decompose(
    aggs: Sequence[RawExpr],
    rows: pl.LazyFrame,
    *,
    grouped: bool,
    exclude: Sequence[str] = (),
    known: Callable[[RawExpr], pl.Expr | None] | None = None,
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
    known
        Returns the final expression of an aggregate that the caller computes otherwise; None for any other.

    Returns
    -------
    Decomposition or None
        None when one of them can't be split exactly.
    """
    schema = rows.collect_schema()
    visible = pl.Schema({name: dtype for name, dtype in schema.items() if name not in exclude})
    splitter = _Splitter(rows, grouped=grouped, known=known)
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

    def __init__(
        self, rows: pl.LazyFrame, *, grouped: bool, known: Callable[[RawExpr], pl.Expr | None] | None = None
    ) -> None:
        self.partial: list[pl.Expr] = []
        self._names: dict[bytes, str] = {}
        self._rows = rows
        self._grouped = grouped
        self._known = known

    def final(self, raw: RawExpr) -> pl.Expr:
        """Return the final expression of `raw`, an aggregate or row-wise functions over aggregates."""
        kind, inner = kind_of(raw), members(raw)
        if self._known is not None and (other := self._known(raw)) is not None:
            return other
        if kind == "Literal" and is_literal(raw):
            return to_expr(raw)
        if kind == "Len":
            return self._add(raw).sum()
        if kind == "Alias":
            return self.final(cast("list[object]", inner)[0])
        if kind in ("KeepName", "RenameAlias"):
            return self.final(cast("Raw", inner)["expr"] if kind == "RenameAlias" else inner)
        if not self._grouped and (found := placed(raw, Parts(add=self._add_expr, collected=self._collected))) is not None:
            return found
        if kind == "Agg":
            few = None if self._grouped else self._of_few(raw)
            return self._agg(raw, cast("Raw", inner)) if few is None else few
        if kind == "Function" and self._is_aggregating_function(cast("Raw", inner)):
            return self._function(raw, cast("Raw", inner))
        if not self._grouped and (rebuilt := self._of_few(raw)) is not None:
            return rebuilt
        return self._over_aggregates(raw)

    def _of_few(self, raw: RawExpr) -> pl.Expr | None:
        """Return values of which each task gives only as many as can be among the result's; None for others.

        They are put together again, so an aggregate of them is the original one.
        """
        kind, inner, parts = kind_of(raw), members(raw), operands(raw)
        if kind == "Slice":
            return self._slice(raw, parts)
        if kind == "Gather" and cast("Raw", inner)["returns_scalar"]:
            index = literal_int(parts[1])
            values = None if index is None else self._ends(parts[0], -index if index < 0 else index + 1, last=index < 0)
            return None if values is None else to_expr(with_operands(raw, [from_expr(values), parts[1]]))
        if kind == "Function" and kind_of(cast("Raw", inner)["function"]) in ("TopK", "TopKBy") and is_literal(parts[1]):
            if not all(map(is_row_wise, parts)) or not all(
                shape_of(part) is Shape.COLUMN for part in (parts[0], *parts[2:])
            ):
                return None
            columns = [parts[0], *parts[2:]]
            kept = [self._collected(to_expr(with_operands(raw, [part, *parts[1:]]))) for part in columns]
            return to_expr(with_operands(raw, [from_expr(kept[0]), parts[1], *map(from_expr, kept[1:])]))
        if kind == "Function" and kind_of(cast("Raw", inner)["function"]) == "Unique" and is_separable(parts[0]):
            return to_expr(with_operands(raw, [from_expr(self._collected(to_expr(raw)))]))
        if kind in ("Agg", "Function") and shape_of(parts[0]) is Shape.OTHER and all(map(is_literal, parts[1:])):
            values = self._of_few(parts[0])
            return None if values is None else to_expr(with_operands(raw, [from_expr(values), *parts[1:]]))
        return None

    def _slice(self, raw: RawExpr, parts: list[RawExpr]) -> pl.Expr | None:
        offset, length = literal_int(parts[1]), literal_int(parts[2])
        if offset is None or (offset >= 0 and length is None):
            return None
        values = self._ends(parts[0], -offset if offset < 0 else offset + (length or 0), last=offset < 0)
        return None if values is None else to_expr(with_operands(raw, [from_expr(values), *parts[1:]]))

    def _ends(self, raw: RawExpr, count: int, *, last: bool) -> pl.Expr | None:
        """Return the first or last values of a column in its order, or in that of its values."""
        is_sort = kind_of(raw) == "Sort"
        rows = operands(raw)[0] if is_sort else raw
        if count > _FEW or not is_separable(rows) or shape_of(rows) is Shape.SCALAR:
            return None
        values = to_expr(raw)
        kept = self._collected(values.tail(count) if last else values.head(count))
        return to_expr(with_operands(raw, [from_expr(kept)])) if is_sort else kept

    def _collected(self, values: pl.Expr) -> pl.Expr:
        """Return values of all tasks, one task's after the other's; a task without rows has none."""
        return self._add_expr(values.implode()).explode(empty_as_null=False)

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
            return to_expr({kind: {**inner, "input": [self._named(part) for part in inputs]}})
        raise _NotDecomposableError

    def _named(self, raw: RawExpr) -> RawExpr:
        """Return the final expression of an operand under the operand's name: a struct has its fields by it."""
        return from_expr(self.final(raw).alias(to_expr(raw).meta.output_name()))

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
        if name in ("First", "Last"):
            if not self._grouped:  # a task may have no rows
                self._check_rows(value)
                ends = to_expr(value).head(1) if name == "First" else to_expr(value).tail(1)
                return to_expr({"Agg": {name: from_expr(self._collected(ends))}})
            if is_row_wise(value):
                return to_expr({"Agg": {name: from_expr(self._add(raw))}})
        if name == "NUnique" and not self._grouped:
            # By key, whole groups are shuffled instead: their distinct values need not pass through one task.
            self._check_rows(value)
            return self._collected(to_expr(value).unique()).n_unique()
        if name == "Implode" and not self._grouped and is_row_wise(cast("Raw", value)["input"]):
            return self._collected(to_expr(cast("Raw", value)["input"])).implode()
        if name in ("FirstNonNull", "LastNonNull"):
            self._check_rows(value)
            return to_expr({"Agg": {name: from_expr(self._add(raw))}})
        raise _NotDecomposableError

    @staticmethod
    def _is_aggregating_function(inner: Raw) -> bool:
        function = inner["function"]
        if kind_of(function) == "Boolean":
            return kind_of(members(function)) in ("Any", "All", "HasNulls")
        return function == "NullCount" or kind_of(function) in _SAME_AGAIN

    def _function(self, raw: RawExpr, inner: Raw) -> pl.Expr:
        (column,) = cast("list[RawExpr]", inner["input"])
        self._check_rows(column)
        partial = self._add(raw)
        if inner["function"] == "NullCount":
            return partial.sum()
        if kind_of(members(inner["function"])) == "HasNulls":
            return partial.any()
        return to_expr({"Function": {**inner, "input": [from_expr(partial)]}})

    def _mean(self, raw: RawExpr) -> pl.Expr:
        self._check_rows(raw)
        dtype, values = self._dtype(raw), to_expr(raw)
        if dtype == pl.Date:  # days are few enough to be added up exactly
            values = values.to_physical()
        elif not _is_number(dtype):
            raise _NotDecomposableError
        total = self._add_expr(values.cast(pl.Float64).sum()).sum()
        count = self._add_expr(values.count()).sum()
        mean = pl.when(count > 0).then(total / count)
        if dtype == pl.Date:
            return (mean * _DAY_US).cast(pl.Int64).cast(pl.Datetime("us"))
        return mean.cast(pl.Float32) if dtype == pl.Float32 else mean

    def _variance(self, raw: RawExpr, ddof: int) -> pl.Expr:
        self._check_rows(raw)
        dtype = self._dtype(raw)
        if not _is_number(dtype):
            raise _NotDecomposableError
        values = to_expr(raw).cast(pl.Float64)
        count = self._add_expr(values.count())
        mean = self._add_expr(values.mean())
        squares = self._add_expr(values.var(ddof=0) * values.count())
        total = count.sum()
        centre = (count * mean).sum() / total
        spread = squares.sum() + (count * (mean - centre) ** 2).sum()
        variance = pl.when(total > ddof).then(spread / (total - ddof))
        return variance.cast(pl.Float32) if dtype == pl.Float32 else variance

    def _dtype(self, raw: RawExpr) -> pl.DataType:
        (dtype,) = self._rows.select(to_expr(raw)).collect_schema().dtypes()
        return dtype

    @staticmethod
    def _check_rows(raw: RawExpr) -> None:
        """Raise unless `raw` can be computed from any part of the rows: row-wise, perhaps filtered."""
        if not is_separable(raw) or shape_of(raw) is Shape.SCALAR:
            raise _NotDecomposableError


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean
