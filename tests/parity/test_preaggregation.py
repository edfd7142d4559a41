"""Some tasks of a group_by aggregate their rows before the shuffle and some do not: the answer stays that of Polars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages
from support.parity import assert_same

SETTINGS = Settings(start_small=False, max_rows_per_split=100, shuffle_partitions=2)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the keys come once; nulls, NaN, -0.0 and small dtypes among the values."""
    path = tmp_path_factory.mktemp("preaggregation") / "table.parquet"
    numbers = range(400)
    pl.DataFrame(
        {
            "k": [None if n % 50 == 0 else n if n % 2 else n % 7 for n in numbers],
            "s": [None if n % 11 == 0 else f"s{n % 5}" for n in numbers],
            "x": [float("nan") if n % 31 == 0 else None if n % 13 == 0 else -0.0 if n % 4 == 0 else n / 3 for n in numbers],
            "small": pl.Series([None if n % 9 == 0 else n % 120 for n in numbers], dtype=pl.Int8),
            "flag": [None if n % 7 == 0 else n % 3 == 0 for n in numbers],
            "none": pl.Series([None] * 400, dtype=pl.Int64),
        }
    ).write_parquet(path, row_group_size=100)
    return path


Build = Callable[[pl.LazyFrame], pl.LazyFrame]

CASES: dict[str, Build] = {
    "counts": lambda t: t.group_by("k").agg(pl.len(), n=pl.col("x").count(), m=pl.col("s").len()),
    "sums": lambda t: t.group_by("k").agg(pl.col("x", "small", "flag", "none").sum()),
    "ends": lambda t: t.group_by("k").agg(pl.col("x", "s", "small").min(), pl.col("x", "s", "flag").max().name.suffix("_")),
    "means": lambda t: t.group_by("k", "s").agg(pl.col("x", "small", "none").mean()),
    "first and last": lambda t: t.group_by("k").agg(pl.col("x").first(), pl.col("s").last()),
    "of computed values": lambda t: t.group_by(q=pl.col("k") // 3).agg((pl.col("x") * 2 + 1).sum(), pl.len() + 1),
    "behind a filter, and filtered": lambda t: t.filter(pl.col("x") > 1).group_by("k").agg(pl.len()).filter(pl.col("k") > 5),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_that_are_not_aggregated_first_make_the_same_groups(name: str, table: Path, tmp_path: Path) -> None:
    query = CASES[name](pl.scan_parquet(table))
    assert any(stage.unaggregated for stage in plan_query(query.serialize(), SETTINGS).stages)
    actual = answer_in_stages(query, SETTINGS, FolderStore(tmp_path), unaggregated=True)
    assert_same(actual, query.collect(), ordered=False)


WHOLE: dict[str, Build] = {
    "variances": lambda t: t.group_by("k").agg(pl.col("x").var()),
    "an order that is kept": lambda t: t.group_by("k", maintain_order=True).agg(pl.len()),
    "logic": lambda t: t.group_by("k").agg(pl.col("flag").any()),
    "whole groups": lambda t: t.group_by("k").agg(pl.col("x").median()),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_has_no_certain_form_for_one_row_is_always_aggregated(name: str, table: Path) -> None:
    query = WHOLE[name](pl.scan_parquet(table))
    assert not any(stage.unaggregated for stage in plan_query(query.serialize(), SETTINGS).stages)
