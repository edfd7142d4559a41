"""What is row-wise and what is not, whatever stands at the top of the expression."""

from __future__ import annotations

import polars as pl
import polars.selectors as cs
import pytest

from frazil_coordinator.plan.exprs import expand, from_expr, is_row_wise, to_expr

A, S = pl.col("a"), pl.col("s")

ROW_WISE = {
    "arithmetic": A + 1,
    "column by name": A,
    "every column": pl.all() * 2,
    "selector": cs.numeric().round(1),
    "text function": S.str.split(","),
    "date part, cast": pl.col("d").dt.year().cast(pl.Int8),
    "membership in a list": A.is_in([1, 2]),
    "membership in a series": A.is_in(pl.Series([1, 2])),
    "when": pl.when(A > 1).then(2).otherwise(A),
    "struct": pl.struct("a", "s"),
    "evaluation inside lists": pl.col("l").list.eval(pl.element() + 1),
    "length of lists": pl.col("l").list.len(),
    "horizontal maximum": pl.max_horizontal("a", "b"),
    "coalesce": pl.coalesce("a", "b"),
    "renamed": A.name.suffix("_x"),
    "constant": pl.lit(1),
}

NOT_ROW_WISE = {
    "aggregate": A.sum(),
    "aggregate below arithmetic": A - A.mean(),
    "aggregate as an argument": A.clip(A.min(), 3),
    "aggregate in a condition": pl.when(A.mean() < A).then(1),
    "length": pl.len() + A,
    "window": A.sum().over("s"),
    "cumulative": A.cum_sum(),
    "shift": A.shift(),
    "rank": A.rank(),
    "rolling": A.rolling_mean(2),
    "fill from the row before": A.fill_null(strategy="forward"),
    "sort": A.sort(),
    "reverse": A.reverse(),
    "uniqueness": A.is_unique(),
    "first": A.first(),
    "head": A.head(2),
    "filter": A.filter(A > 1),
    "explode": pl.col("l").explode(),
    "random": A.sample(2),
    "row numbers": pl.int_range(pl.len()),
    "whole column as a literal": pl.lit(pl.Series([1, 2])),
    "gather": A.gather([0]),
}


@pytest.mark.parametrize("name", ROW_WISE)
def test_expression_is_row_wise(name: str) -> None:
    assert is_row_wise(from_expr(ROW_WISE[name]))


@pytest.mark.parametrize("name", NOT_ROW_WISE)
def test_expression_is_not_row_wise(name: str) -> None:
    assert not is_row_wise(from_expr(NOT_ROW_WISE[name]))


@pytest.mark.parametrize("name", ROW_WISE)
def test_raw_expression_comes_back_as_it_was(name: str) -> None:
    assert to_expr(from_expr(ROW_WISE[name])).meta.eq(ROW_WISE[name])


def test_selector_becomes_one_expression_a_column() -> None:
    schema = pl.Schema({"a": pl.Int64, "s": pl.String, "b": pl.Float64})
    names = [to_expr(raw).meta.output_name() for raw in expand(from_expr(cs.numeric().sum()), schema)]
    assert names == ["a", "b"]


def test_different_selectors_in_one_expression_are_not_expanded() -> None:
    schema = pl.Schema({"a": pl.Int64, "b": pl.Float64})
    with pytest.raises(ValueError, match="several selectors"):
        expand(from_expr(cs.integer() + cs.float()), schema)
