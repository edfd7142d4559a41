"""Expressions that say the same as others for which there is a rule: run ids, fills, interpolation, statistics of moments.

They are made by polars itself, so that what is lifted out of them is an expression like the user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import polars as pl

from frazil_coordinator.plan.exprs import (
    from_expr,
    is_literal,
    is_row_wise,
    kind_of,
    members,
    operands,
    to_expr,
    with_operands,
)
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.rules.moments import correlation, covariance, entropy, kurtosis, rank_correlation, skewness
from frazil_functions.arena import Raw

if TYPE_CHECKING:
    from polars._typing import QuantileMethod

__all__ = ["in_simpler_terms", "is_member_of_lists"]


def in_simpler_terms(raw: RawExpr, schema: pl.Schema) -> RawExpr | None:
    """Return an expression of the same values for which there is a rule; None when there is none, or no need.

    Parameters
    ----------
    raw
        The expression.
    schema
        Columns that it is evaluated over.
    """
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict):
        return None
    name, parts = kind_of(inner["function"]), operands(raw)
    rule = _REWRITES.get(name)
    if rule is None or not parts or shape_of(parts[0]) is not Shape.COLUMN:
        return None
    found = rule(raw, schema)
    return None if found is None else from_expr(found)


def _body(raw: RawExpr) -> object:
    """Return the options of a function."""
    return members(cast("Raw", members(raw))["function"])


def _dtype(raw: RawExpr, schema: pl.Schema) -> pl.DataType:
    (dtype,) = pl.LazyFrame(schema=schema).select(to_expr(raw)).collect_schema().dtypes()
    return dtype


def _floats(raw: RawExpr, schema: pl.Schema) -> list[pl.Expr] | None:
    """Return the operands as floats; None when one of them is no number."""
    parts = operands(raw)
    dtypes = [_dtype(part, schema) for part in parts]
    if not all(dtype.is_numeric() or dtype == pl.Boolean for dtype in dtypes):
        return None
    return [to_expr(part).cast(pl.Float64) for part in parts]


def _run_id(raw: RawExpr, _: pl.Schema) -> pl.Expr:
    """Return how often the value has changed so far."""
    values = to_expr(operands(raw)[0])
    changed = values.ne_missing(values.shift(1)).cast(pl.get_index_type())
    # The row before the first one is null for `shift`: a first value that is not null would count as a change.
    return (changed.cum_sum() - values.first().is_not_null().cast(pl.get_index_type())).cast(pl.get_index_type())


def _fill(raw: RawExpr, schema: pl.Schema) -> pl.Expr | None:
    values, strategy = to_expr(operands(raw)[0]), kind_of(_body(raw))
    if strategy == "Min":
        return values.fill_null(values.min())
    if strategy == "Max":
        return values.fill_null(values.max())
    dtype = _dtype(operands(raw)[0], schema)
    return values.fill_null(values.mean().cast(dtype)) if strategy == "Mean" and _is_plain_number(dtype) else None


def _is_plain_number(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float()


def _interpolated(raw: RawExpr, schema: pl.Schema) -> pl.Expr | None:
    """Return values on the line between, or nearest to, the ones before and behind a gap; gaps at the ends stay."""
    values, dtype = to_expr(operands(raw)[0]), _dtype(operands(raw)[0], schema)
    index = pl.int_range(pl.len(), dtype=pl.Int64)
    place = pl.when(values.is_not_null()).then(index)
    since, until = index - place.forward_fill(), place.backward_fill() - index
    before, behind = values.forward_fill(), values.backward_fill()
    if _body(raw) == "Nearest":
        if not (dtype.is_numeric() or dtype.is_temporal()):
            return None
        made = pl.when(since.is_null() | until.is_null()).then(None).when(since < until).then(before).otherwise(behind)
        return pl.coalesce(values, made)
    if not _is_plain_number(dtype):  # others show how the line is rounded
        return None
    expected = _dtype(raw, schema)
    low, high = before.cast(expected), behind.cast(expected)
    line = low + since * ((high - low) / (since + until))
    return pl.when(values.is_not_null()).then(values).otherwise(line).cast(expected)


def _skew(raw: RawExpr, schema: pl.Schema) -> pl.Expr | None:
    floats = _floats(raw, schema)
    return None if floats is None else skewness(floats[0], bias=bool(_body(raw))).cast(_dtype(raw, schema))


def _kurtosis(raw: RawExpr, schema: pl.Schema) -> pl.Expr | None:
    floats = _floats(raw, schema)
    fisher, bias = cast("list[bool]", _body(raw))
    return None if floats is None else kurtosis(floats[0], fisher=fisher, bias=bias).cast(_dtype(raw, schema))


def _correlated(raw: RawExpr, schema: pl.Schema) -> pl.Expr | None:
    method = cast("Raw", _body(raw))["method"]
    if shape_of(operands(raw)[1]) is not Shape.COLUMN or (floats := _floats(raw, schema)) is None:
        return None
    if method == "Pearson":
        return correlation(*floats).cast(_dtype(raw, schema))
    if method == {"SpearmanRank": False}:  # no number is the largest
        return rank_correlation(*floats).cast(_dtype(raw, schema))
    ddof = cast("dict[str, int]", method).get("Covariance") if isinstance(method, dict) else None
    return None if ddof is None else covariance(*floats, ddof=ddof).cast(_dtype(raw, schema))


def _entropy(raw: RawExpr, schema: pl.Schema) -> pl.Expr | None:
    body, floats = cast("Raw", _body(raw)), _floats(raw, schema)
    if floats is None:
        return None
    return entropy(floats[0], base=cast("float", body["base"]), normalize=bool(body["normalize"])).cast(_dtype(raw, schema))


def _quantiles(raw: RawExpr, schema: pl.Schema) -> pl.Expr | None:
    """Return several quantiles as a list of single ones."""
    values, wanted = operands(raw)
    if not is_literal(wanted) or not isinstance(places := pl.select(to_expr(wanted)).item(), pl.Series) or not places.len():
        return None
    method = cast("QuantileMethod", str(cast("Raw", _body(raw))["method"]).lower())
    return pl.concat_list([to_expr(values).quantile(place, method) for place in places]).cast(_dtype(raw, schema))


def _member(raw: RawExpr, schema: pl.Schema) -> pl.Expr | None:
    """Return membership in a column as membership in the list of its values."""
    if kind_of(_body(raw)) != "IsIn":
        return None
    values, others = operands(raw)
    if shape_of(others) is Shape.SCALAR or kind_of(others) == "Literal" or _holds_lists(others, schema):
        return None
    return to_expr(with_operands(raw, [values, from_expr(to_expr(others).implode())]))


def is_member_of_lists(raw: RawExpr, schema: pl.Schema) -> bool:
    """Return whether an expression asks of each row whether a value is in the list beside it; its operands are row-wise."""
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict) or kind_of(inner["function"]) != "Boolean":
        return False
    parts = operands(raw)
    return kind_of(_body(raw)) == "IsIn" and all(map(is_row_wise, parts)) and _holds_lists(parts[1], schema)


def _holds_lists(raw: RawExpr, schema: pl.Schema) -> bool:
    return isinstance(_dtype(raw, schema), pl.List | pl.Array)


_REWRITES: Final[dict[str, Callable[[RawExpr, pl.Schema], pl.Expr | None]]] = {
    "Boolean": _member,
    "Correlation": _correlated,
    "Entropy": _entropy,
    "FillNullWithStrategy": _fill,
    "Interpolate": _interpolated,
    "Kurtosis": _kurtosis,
    "Quantile": _quantiles,
    "RLEID": _run_id,
    "Skew": _skew,
}
