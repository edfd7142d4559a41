"""Comparing an answer to a PDS-H query with the answer of single-node Polars."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from polars.testing import assert_frame_equal

__all__ = ["difference"]

_RELATIVE_TOLERANCE = 1e-9
"""Sums of floats depend on the order of the rows in their last digits."""


def difference(actual: pl.DataFrame, expected: pl.DataFrame, *, order: Mapping[str, bool]) -> str | None:
    """Say how two answers differ; None when they are equal.

    Equal are answers with the same columns, dtypes and rows (floats within 1e-9 of each other), each in the order that the
    query asks for. Rows that tie in that order may come in any.

    Parameters
    ----------
    actual, expected
        Frazil's answer and Polars's.
    order
        Columns of the query's order, first to last, and whether each falls.
    """
    if actual.schema != expected.schema:
        return f"schema {dict(actual.schema)} instead of {dict(expected.schema)}"
    if actual.height != expected.height:
        return f"{actual.height:,} rows instead of {expected.height:,}"
    if order:
        keys = actual.select(*order)
        if not keys.equals(keys.sort(list(order), descending=list(order.values()))):
            return f"not in the order of {', '.join(order)}"
    try:
        assert_frame_equal(_canonical(actual), _canonical(expected), rel_tol=_RELATIVE_TOLERANCE, abs_tol=0.0)
    except AssertionError as error:
        return " ".join(str(error).split())
    return None


def _canonical(frame: pl.DataFrame) -> pl.DataFrame:
    """Order the rows by all columns, those first in which answers can't differ by rounding."""
    names = sorted(frame.columns, key=lambda name: frame.schema[name].is_float())
    return frame.sort(names, nulls_last=True)
