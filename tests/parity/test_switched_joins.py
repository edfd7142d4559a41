"""Joins by hash that became broadcasts while the query ran: the answer stays that of Polars, one side is not shuffled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages
from support.parity import assert_same

ROWS = 1_000
SETTINGS = Settings(start_small=False, max_rows_per_split=250, shuffle_partitions=3, broadcast_limit_bytes=20_000)
"""Tables of the test are larger than the limit, and what is left of them behind a filter is not."""


def long_text(column: str) -> pl.Expr:
    """Return text that no codec makes small."""
    return pl.concat_str(pl.col(column).hash(seed) for seed in range(10))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts with few different keys, null among them, and parts: doubled, null, and some that no fact has."""
    folder = tmp_path_factory.mktemp("switched")
    facts, parts = pl.int_range(ROWS, eager=True), pl.int_range(400, eager=True)
    pl.DataFrame({"n": facts}).with_columns(
        k=pl.when(pl.col("n") % 17 != 0).then(pl.col("n") % 211),
        x=pl.when(pl.col("n") % 19 == 0).then(float("nan")).otherwise(pl.col("n") * 0.5),
        s=long_text("n"),
    ).write_parquet(folder / "facts.parquet", row_group_size=250)
    pl.DataFrame({"p": parts}).with_columns(
        k=pl.when(pl.col("p") % 13 != 0).then(pl.col("p") // 2 + 100), t=long_text("p")
    ).sort(pl.col("p").hash(3)).write_parquet(folder / "parts.parquet", row_group_size=100)
    return folder


Build = Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]


def run(build: Build, settings: Settings, tables: Path, place: Path) -> list[Layout]:
    """Run a query, check its answer, and return the layouts of its stages."""
    query = build(pl.scan_parquet(tables / "facts.parquet"), pl.scan_parquet(tables / "parts.parquet"))
    layouts: list[Layout] = []
    actual = answer_in_stages(query, settings, FolderStore(place), layouts=layouts)
    assert_same(actual, query.collect(), ordered=False)
    return layouts


def told(layouts: list[Layout]) -> str:
    return "; ".join(note for one in layouts for note in one.notes)


def few(parts: pl.LazyFrame) -> pl.LazyFrame:
    return parts.filter(pl.col("p") < 20, pl.col("t").str.len_bytes() > 3)


SWITCHED: dict[str, Build] = {
    "inner": lambda f, p: f.join(few(p), on="k"),
    "inner, the small side left": lambda f, p: few(p).join(f, on="k"),
    "left": lambda f, p: f.join(few(p), on="k", how="left"),
    "right": lambda f, p: few(p).join(f, on="k", how="right"),
    "semi": lambda f, p: f.join(few(p), on="k", how="semi"),
    "anti": lambda f, p: f.join(few(p), on="k", how="anti"),
    "nulls that are equal": lambda f, p: f.join(few(p), on="k", how="left", nulls_equal=True),
    "where": lambda f, p: f.join_where(few(p), pl.col("k") == pl.col("k_right"), pl.col("n") > pl.col("p")),
    "nothing is left": lambda f, p: f.join(p.filter(pl.col("t").str.contains("x")), on="k", how="left"),
    "an aggregate": lambda f, p: (
        f.join(p.group_by(k=pl.col("k") // 50 + 99).agg(pl.len(), pl.col("t").max()), on="k", how="left")
    ),
    "columns that nobody needs": lambda f, p: f.join(few(p), on="k", how="left").select("s", "t").filter(pl.col("s") > "5"),
    "then grouped": lambda f, p: f.join(few(p), on="k").group_by("p").agg(pl.len(), pl.col("s").max()),
    "then summed": lambda f, p: f.join(few(p), on="k", how="left").select(pl.col("s").max(), pl.col("t").count()),
    "then sorted": lambda f, p: f.join(few(p), on="k", how="left").sort("n", "p"),
    "then joined": lambda f, p: (
        f.join(few(p), on="k", how="left").join(p.filter(pl.col("p") < 9), left_on="n", right_on="p", how="left")
    ),
    "of what was aggregated": lambda f, p: f.group_by("k", "n").agg(pl.col("s").max()).join(few(p), on="k", how="left"),
}  # fmt: skip


@pytest.mark.parametrize("name", SWITCHED)
def test_the_large_side_is_joined_where_it_lies(name: str, tables: Path, tmp_path: Path) -> None:
    layouts = run(SWITCHED[name], SETTINGS, tables, tmp_path)
    assert "broadcast instead of shuffled" in told(layouts)
    assert any(not one.shares for one in layouts), "the shuffle was not left out"


KEPT: dict[str, Build] = {
    "full": lambda f, p: f.join(few(p), on="k", how="full"),
    "all parts": lambda f, p: f.join(p, on="k"),
    "too much is left": lambda f, p: f.join(p.filter(pl.col("p") >= 0), on="k"),
    "groups of the key": lambda f, p: f.join(few(p), on="k", how="left").group_by("k").agg(pl.col("n").median()),
    "an order that is kept": lambda f, p: f.join(few(p), on="k", how="left", maintain_order="left"),
    "unique keys are asked for": lambda f, p: f.join(few(p).group_by("k").agg(pl.col("t").max()), on="k", validate="m:1"),
    "the large side is kept whole": lambda f, p: few(p).join(f, on="k", how="left"),
}


@pytest.mark.parametrize("name", KEPT)
def test_both_sides_are_shuffled_where_a_broadcast_would_not_do(name: str, tables: Path, tmp_path: Path) -> None:
    assert "broadcast instead" not in told(run(KEPT[name], SETTINGS, tables, tmp_path))


def test_nothing_is_broadcast_when_it_is_switched_off(tables: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, broadcast_limit_bytes=0)
    assert "broadcast instead" not in told(run(SWITCHED["inner"], settings, tables, tmp_path))
