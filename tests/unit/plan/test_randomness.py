"""Each place of a plan that draws random numbers is an evaluation of its own, as in Polars."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.randomness import draws, set_apart
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages

_ROWS = 100
_DRAWN = {
    "shuffle": pl.col("b").shuffle(),
    "sample": pl.col("b").sample(fraction=1.0, shuffle=True),
    "rank": pl.col("a").rank(method="random").cast(pl.Int64),
    "list.sample": pl.col("l").list.sample(n=1).list.first(),
    "rolling_rank": pl.col("a").rolling_rank(50, method="random", min_samples=1).cast(pl.Int64),
}
_NOT_DRAWN = {
    "shuffle with a seed": pl.col("a").shuffle(seed=7),
    "sample with a seed": pl.col("a").sample(n=2, seed=7),
    "list.sample with a seed": pl.col("l").list.sample(n=1, seed=7),
    "rank": pl.col("a").rank("ordinal"),
    "rolling_rank": pl.col("a").rolling_rank(5, method="average"),
    "hash": pl.col("a").hash(),
}


@pytest.fixture
def table(tmp_path: Path) -> pl.LazyFrame:
    path = tmp_path / "table.parquet"
    frame = pl.DataFrame({"a": [row % 10 for row in range(_ROWS)], "b": range(_ROWS), "l": [list(range(50))] * _ROWS})
    frame.write_parquet(path, row_group_size=10)
    return pl.scan_parquet(path)


def _answer(lf: pl.LazyFrame, folder: Path) -> pl.DataFrame:
    settings = Settings(start_small=False, max_rows_per_split=10, shuffle_partitions=3)
    return answer_in_stages(lf, settings, FolderStore(folder / "exchange"))


@pytest.mark.parametrize("name", _DRAWN)
def test_a_part_that_draws_is_computed_for_each_place_where_it_stands(
    name: str, table: pl.LazyFrame, tmp_path: Path
) -> None:
    drawn = table.select(x=_DRAWN[name])
    answer = _answer(pl.concat([drawn, drawn]), tmp_path)
    assert answer.height == 2 * _ROWS
    assert not answer.head(_ROWS).equals(answer.tail(_ROWS))


@pytest.mark.parametrize("name", _DRAWN)
def test_a_part_that_draws_is_computed_once_where_a_cache_holds_it(name: str, table: pl.LazyFrame, tmp_path: Path) -> None:
    drawn = table.select(x=_DRAWN[name]).cache()
    answer = _answer(pl.concat([drawn, drawn.filter(pl.col("x") >= 0)]), tmp_path)
    assert answer.head(_ROWS).equals(answer.tail(_ROWS))


@pytest.mark.parametrize("name", _DRAWN)
def test_what_is_computed_from_a_drawn_column_and_its_sum_sees_one_draw(
    name: str, table: pl.LazyFrame, tmp_path: Path
) -> None:
    drawn = table.select(x=_DRAWN[name])
    answer = _answer(drawn.select("x", sum=pl.col("x").sum(), above=pl.col("x") - pl.col("x").min()), tmp_path)
    assert answer["sum"].unique().to_list() == [answer["x"].sum()]
    assert answer["above"].min() == 0


def test_a_sub_plan_above_a_draw_is_computed_for_each_place_too(table: pl.LazyFrame, tmp_path: Path) -> None:
    groups = table.select("a", x=pl.col("b").shuffle()).group_by("a").agg(pl.col("x").sum()).sort("a")
    answer = _answer(groups.join(groups, on="a", how="left", maintain_order="left"), tmp_path)
    assert answer["x"].sum() == answer["x_right"].sum()
    assert answer["x"].to_list() != answer["x_right"].to_list()


def test_what_lies_below_a_draw_stays_shared(table: pl.LazyFrame) -> None:
    below = table.group_by("a").agg(pl.col("b").sum())
    drawn = below.select(pl.col("b").shuffle())
    arena = Arena.of(pl.concat([drawn, drawn]))
    set_apart(arena)
    kinds = [arena.kind(number) for number in arena.reachable()]
    assert (kinds.count("Select"), kinds.count("GroupBy"), kinds.count("Scan")) == (2, 1, 1)
    digests = arena.digests()
    assert len({digests[number] for number in arena.reachable() if arena.kind(number) == "Select"}) == 2


def test_a_plan_that_draws_nothing_stays_as_it_is(table: pl.LazyFrame) -> None:
    seeded = table.select(pl.col("b").shuffle(seed=1))
    arena = Arena.of(pl.concat([seeded, seeded]))
    before = (arena.root, len(arena.nodes), arena.digest())
    set_apart(arena)
    assert (arena.root, len(arena.nodes), arena.digest()) == before


@pytest.mark.parametrize("name", _NOT_DRAWN)
def test_expressions_with_a_seed_or_without_use_for_one_draw_nothing(name: str, table: pl.LazyFrame) -> None:
    arena = Arena.of(table.select(_NOT_DRAWN[name]))
    assert not draws(arena.payload(arena.root)["expr"])


def test_a_column_or_a_value_named_seed_is_no_draw(table: pl.LazyFrame) -> None:
    arena = Arena.of(table.select(seed=pl.col("a"), other=pl.struct(seed=pl.lit(None))))
    assert not draws(arena.payload(arena.root)["expr"])
