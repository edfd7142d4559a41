"""The comparison that all parity tests lean on finds what differs, and nothing else."""

from __future__ import annotations

import math

import polars as pl
import pytest

from support.parity import assert_same

FRAME = pl.DataFrame(
    {
        "text": ["b", "a", None, "a"],
        "number": [1.0, math.nan, None, 2.5],
        "many": [[1.0, 2.0], [], None, [3.5]],
        "record": [{"x": 1.5, "y": "a"}, {"x": None, "y": "b"}, {"x": 2.0, "y": None}, {"x": 0.0, "y": ""}],
        "kind": pl.Series(["u", "v", None, "u"], dtype=pl.Categorical),
        "raw": [b"\x00", b"", None, b"z"],
        "fixed": pl.Series([[1, 2], [3, 4], None, [5, 6]], dtype=pl.Array(pl.Int8, 2)),
    }
)


def test_the_order_of_rows_counts_only_where_it_shall() -> None:
    assert_same(FRAME.reverse(), FRAME, ordered=False)
    with pytest.raises(AssertionError):
        assert_same(FRAME.reverse(), FRAME, ordered=True)


def test_differences_in_the_last_digits_of_floats_neither_count_nor_reorder() -> None:
    expected = pl.DataFrame({"x": [0.1 + 0.2, 0.3, 0.1 + 0.2, 0.3], "y": [1, 2, 3, 4]})
    actual = pl.DataFrame({"x": [0.3, 0.1 + 0.2, 0.3, 0.1 + 0.2], "y": [1, 2, 3, 4]})
    assert_same(actual.reverse(), expected, ordered=False)


@pytest.mark.parametrize(
    "other",
    [
        pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}),
        pl.DataFrame({"b": ["x", "y", "y"], "a": [1, 2, 2]}),
        pl.DataFrame({"a": [1, 2, 2], "b": ["x", "y", "z"]}),
        pl.DataFrame({"a": [1, 1, 2], "b": ["x", "y", "y"]}),
        pl.DataFrame({"a": [1.0, 2.0, 2.0], "b": ["x", "y", "y"]}),
        pl.DataFrame({"a": [1, 2, None], "b": ["x", "y", "y"]}),
    ],
    ids=["rows", "order of columns", "value", "multiplicity", "dtype", "null"],
)
def test_every_other_difference_is_found(other: pl.DataFrame) -> None:
    expected = pl.DataFrame({"a": [1, 2, 2], "b": ["x", "y", "y"]})
    with pytest.raises(AssertionError):
        assert_same(other, expected, ordered=False)


def test_a_float_that_differs_by_more_than_the_tolerance_is_found() -> None:
    expected = pl.DataFrame({"x": [1.0]})
    assert_same(pl.DataFrame({"x": [1.0 + 1e-12]}), expected, ordered=True)
    with pytest.raises(AssertionError):
        assert_same(pl.DataFrame({"x": [1.0 + 1e-6]}), expected, ordered=True)


def test_frames_without_rows_or_columns_are_compared_too() -> None:
    assert_same(FRAME.clear(), FRAME.clear(), ordered=False)
    assert_same(pl.DataFrame(), pl.DataFrame(), ordered=False)
    with pytest.raises(AssertionError):
        assert_same(FRAME.clear(), pl.DataFrame(), ordered=False)
