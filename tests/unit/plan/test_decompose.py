"""Partial and final aggregates together equal the aggregate, however the rows are split."""

from __future__ import annotations

from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frazil_coordinator.plan.decompose import decompose
from frazil_coordinator.plan.exprs import from_expr
from support.parity import assert_same

X, Y, B = pl.col("x"), pl.col("y"), pl.col("b")

AGGREGATES = [
    X.sum().alias("sum"), X.min().alias("min"), X.max().alias("max"), X.mean().alias("mean"), X.count().alias("count"),
    pl.len().alias("len"), X.std().alias("std"), Y.var(ddof=0).alias("var"), Y.mean().alias("float_mean"),
    Y.var().alias("float_var"), B.any().alias("any"), B.all().alias("all"), B.any(ignore_nulls=False).alias("kleene"),
    X.null_count().alias("nulls"), X.first(ignore_nulls=True).alias("first"), X.last(ignore_nulls=True).alias("last"),
    (X.sum() + pl.len()).alias("sum_of_two"), X.filter(B).max().alias("filtered"), (X * 2 + Y).sum().alias("inner"),
    Y.cast(pl.Float32).mean().alias("single"), X.cast(pl.Int8).sum().alias("small"),
]  # fmt: skip

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.none() | st.integers(-100, 100),
        st.none() | st.floats(-100, 100, width=32),
        st.none() | st.booleans(),
    ),
    max_size=30,
)


def _frame(rows: list[tuple[int, int | None, float | None, bool | None]]) -> pl.DataFrame:
    schema = {"g": pl.Int64, "x": pl.Int64, "y": pl.Float64, "b": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _parts(frame: pl.DataFrame, cuts: list[int]) -> list[pl.LazyFrame]:
    borders = [0, *sorted(min(cut, frame.height) for cut in cuts), frame.height]
    return [frame.slice(low, high - low).lazy() for low, high in pairwise(borders)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_two_steps_equal_one_by_key(rows: list[tuple[int, int | None, float | None, bool | None]], cuts: list[int]) -> None:
    frame = _frame(rows)
    parts = decompose([from_expr(agg) for agg in AGGREGATES], frame.lazy(), grouped=True)
    assert parts is not None
    partial = pl.concat([part.group_by("g").agg(parts.partial) for part in _parts(frame, cuts)])
    actual = partial.group_by("g").agg(parts.final).collect()
    expected = frame.lazy().group_by("g").agg(AGGREGATES).collect(engine="in-memory")
    assert_same(actual.cast(expected.schema), expected, ordered=False, rel_tol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_two_steps_equal_one_over_all_rows(
    rows: list[tuple[int, int | None, float | None, bool | None]], cuts: list[int]
) -> None:
    frame = _frame(rows)
    aggregates = [*AGGREGATES, X.n_unique().alias("distinct"), B.implode().alias("all_rows")]
    parts = decompose([from_expr(agg) for agg in aggregates], frame.lazy(), grouped=False)
    assert parts is not None
    partial = pl.concat([part.select(parts.partial) for part in _parts(frame, cuts)])
    actual = partial.select(parts.final).collect()
    expected = frame.lazy().select(aggregates).collect(engine="in-memory")
    assert_same(actual.cast(expected.schema), expected, ordered=True, rel_tol=1e-6)


@pytest.mark.parametrize(
    "agg",
    [X.median(), X.n_unique(), X.quantile(0.5), X.implode(), X, X.sort().first(), X.cum_sum().max(), X.mode(), X.skew()],
    ids=str,
)
def test_aggregate_without_an_exact_decomposition_is_left_whole(agg: pl.Expr) -> None:
    assert decompose([from_expr(agg)], _frame([]).lazy(), grouped=True) is None


def test_part_without_rows_gives_no_first_value() -> None:
    rows = _frame([(0, None, None, None), (1, 5, None, None)])
    parts = decompose([from_expr(X.first()), from_expr(X.last().alias("z"))], rows.lazy(), grouped=False)
    assert parts is not None
    partial = pl.concat([part.select(parts.partial) for part in (rows.lazy().head(0), rows.lazy(), rows.lazy().head(0))])
    assert partial.select(parts.final).collect().row(0) == (None, 5)


def test_equal_partial_aggregates_are_computed_once() -> None:
    parts = decompose(
        [from_expr(X.sum().alias("a")), from_expr((X.sum() / pl.len()).alias("b"))], _frame([]).lazy(), grouped=True
    )
    assert parts is not None
    assert len(parts.partial) == 2
