"""Comparing an answer of Frazil with the answer of Polars."""

from __future__ import annotations

import polars as pl
from polars.testing import assert_frame_equal

__all__ = ["assert_same"]

_ORDER_DIGITS = 6


def _order_key(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return an expression that orders any dtype, and that differences in the last digits of a float do not disturb."""
    column = pl.col(name)
    if dtype.is_float():
        return column.round_sig_figs(_ORDER_DIGITS)
    if dtype.is_nested():
        # Whole columns: one by one, arrays come as objects that do not tell their values.
        return column.map_batches(_texts, return_dtype=pl.String)
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return column.cast(pl.String)
    if isinstance(dtype, pl.Object):
        return column.map_elements(repr, return_dtype=pl.String)
    return column


def _texts(column: pl.Series) -> pl.Series:
    return pl.Series([None if value is None else repr(_rounded(value)) for value in column.to_list()], dtype=pl.String)


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.{_ORDER_DIGITS}g}") + 0.0  # of -0.0 and 0.0, one
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    """Order rows by all columns: exact ones first, so that floats on the edge of rounding decide last."""
    schema = frame.schema
    names = sorted(schema, key=lambda name: schema[name].is_float() or schema[name].is_nested())
    if not names:
        return frame
    return frame.sort([_order_key(name, schema[name]) for name in names], nulls_last=True, maintain_order=True)


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame, *, ordered: bool, rel_tol: float = 1e-9) -> None:
    """Assert that two frames hold the same columns, dtypes and values.

    Parameters
    ----------
    actual, expected
        Frazil's answer and Polars's.
    ordered
        Whether the order of rows counts. Otherwise both are ordered by all their columns first.
    rel_tol
        Relative tolerance of floats; NaN equals NaN.

    Raises
    ------
    AssertionError
        When they differ; the message says where.
    """
    assert actual.columns == expected.columns, f"columns {actual.columns} instead of {expected.columns}"
    assert dict(actual.schema) == dict(expected.schema), f"schema {actual.schema} instead of {expected.schema}"
    assert actual.height == expected.height, f"{actual.height} rows instead of {expected.height}"
    if not ordered:
        actual, expected = _sorted(actual), _sorted(expected)
    assert_frame_equal(actual, expected, rel_tol=rel_tol, abs_tol=1e-12, categorical_as_str=True)
