"""Which queries of a `collect_all` are sent as one, and how their answers are taken apart."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil._together import in_order, together

BASE = pl.LazyFrame({"k": [1, 2, 1, None], "x": [1.0, None, 3.0, float("nan")], "s": ["a", "b", None, "a"]})
SUMS = BASE.group_by("k", maintain_order=True).agg(pl.col("x").sum(), pl.col("s").first().cast(pl.Categorical))


def numbers(lfs: list[pl.LazyFrame]) -> list[tuple[int, ...]]:
    return [group.numbers for group in together(lfs)]


def test_queries_over_the_same_aggregate_are_sent_as_one() -> None:
    assert numbers([SUMS, BASE.filter(pl.col("k") > 1), SUMS.filter(pl.col("k") > 1), SUMS.select("x")]) == [(0, 2, 3), (1,)]


def test_queries_that_only_read_the_same_rows_are_not() -> None:
    assert numbers([BASE, BASE.filter(pl.col("k") > 1), BASE.select("s")]) == [(0,), (1,), (2,)]


def test_a_query_ties_groups_together_that_it_shares_work_with() -> None:
    ordered = BASE.sort("x")
    assert numbers([SUMS, ordered, SUMS.join(ordered, on="k", how="left")]) == [(0, 1, 2)]


def test_a_sink_is_sent_by_itself(tmp_path: object) -> None:
    assert numbers([SUMS, SUMS.sink_parquet(f"{tmp_path}/x.parquet", lazy=True)]) == [(0,), (1,)]


def test_one_query_stays_as_it_is() -> None:
    (group,) = together([SUMS])
    assert group.lf is SUMS


@pytest.mark.parametrize(
    "lfs",
    [
        [SUMS, SUMS.filter(pl.col("k") > 1), SUMS.select(pl.col("x").max())],
        [SUMS.clear(), SUMS],
        [
            SUMS.filter(pl.col("k") > 5),
            SUMS.select(n=pl.lit(None)),
            BASE,
            SUMS.with_columns(pl.struct("k", "x").alias("st")),
        ],
        [SUMS.sort("x", descending=True), SUMS.sort("x", descending=True).head(1), SUMS],
    ],
)
def test_each_answer_is_that_of_its_query(lfs: list[pl.LazyFrame]) -> None:
    groups = together(lfs)
    assert len(groups) < len(lfs)
    answers = in_order(groups, [group.lf.collect(engine="in-memory") for group in groups])
    for answer, lf in zip(answers, lfs, strict=True):
        assert_frame_equal(answer, lf.collect(engine="in-memory"))
