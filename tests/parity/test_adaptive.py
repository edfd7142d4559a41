"""Tasks joined, cut and divided while a query runs: the answer stays that of Polars, and the layout is really another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages
from support.parity import assert_same

ROWS = 1_200
TINY = Settings(
    start_small=False, max_rows_per_split=200, shuffle_partitions=4, broadcast_limit_bytes=0, inline_limit_bytes=0
)
JOIN_ALL = replace(TINY, coalesce_bytes=1 << 30)
SKEWED = replace(TINY, skew_bytes=1, skew_factor=1.5)


def table() -> pl.DataFrame:
    """Half of the rows have one key; nulls and NaN are among the others."""
    numbers = range(ROWS)
    return pl.DataFrame(
        {
            "id": numbers,
            "k": [7 if n % 2 else (None if n % 10 == 0 else n % 23) for n in numbers],
            "x": [float("nan") if n % 31 == 0 else float(n * n % 101) for n in numbers],
            "s": [f"s{n % 13}" if n % 5 else None for n in numbers],
        }
    )


def right() -> pl.DataFrame:
    return pl.DataFrame({"k": [7, 7, 1, 2, None, 3, 99], "v": list("abcdefg")})


def paired(t: pl.LazyFrame) -> pl.LazyFrame:
    """A join without equalities, of two sides that are alike large."""
    few = t.select(y="id").filter(pl.col("y") % 3 == 0)
    return t.select("id", "k").join_where(few, pl.col("y") < pl.col("id"), pl.col("y") + 40 > pl.col("id"))


@dataclass(frozen=True)
class Case:
    build: Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]
    ordered: bool = False


CASES = {
    "whole groups": Case(lambda t, _: t.group_by("k").agg(pl.col("x").median(), pl.col("s").mode().sort())),
    "whole groups in order": Case(lambda t, _: t.group_by("k", maintain_order=True).agg(pl.col("id")), ordered=True),
    "two steps": Case(lambda t, _: t.group_by("k", "s").agg(pl.len(), pl.col("id").sum())),
    "unique": Case(lambda t, _: t.unique("s", keep="first", maintain_order=True), ordered=True),
    "window": Case(lambda t, _: t.with_columns(r=pl.col("x").rank().over("k")), ordered=True),
    "sort": Case(lambda t, _: t.sort("x", "s", descending=[True, False], maintain_order=True), ordered=True),
    "filter": Case(lambda t, _: t.filter(pl.col("x") > 30), ordered=True),
    "top": Case(lambda t, _: t.sort("x", maintain_order=True).head(11), ordered=True),
    "head": Case(lambda t, _: t.filter(pl.col("id") % 3 == 0).head(8), ordered=True),
    "tail": Case(lambda t, _: t.filter(pl.col("id") % 3 == 0).tail(8), ordered=True),
    "row index": Case(lambda t, _: t.filter(pl.col("x") > 30).with_row_index(), ordered=True),
    "union": Case(lambda t, _: pl.concat([t.group_by(n="s").len(), t.group_by(n=pl.col("id").cast(pl.String)).len()])),
    "join after join": Case(lambda t, r: t.join(r, on="k").join(t.select("k", y="id"), on="k", how="left").drop("id")),
    "any two rows": Case(lambda t, _: paired(t)),
    "any two rows, grouped": Case(lambda t, _: paired(t).group_by("k").agg(pl.len(), pl.col("y").sum())),
    "cross join": Case(lambda t, r: t.select("id").join(r, how="cross", maintain_order="left_right"), ordered=True),
    "cross join, summed": Case(
        lambda t, _: t.select("id").join(t.select(y="id"), how="cross").select(pl.col("id", "y").sum())
    ),
    "group after join": Case(lambda t, r: t.join(r, on="k").group_by("k").agg(pl.col("x").median())),
} | {
    f"{how} join": Case(lambda t, r, how=how: t.join(r, on="k", how=how))  # type: ignore[misc]  # a JoinStrategy
    for how in ("inner", "left", "right", "full", "semi", "anti")
}  # fmt: skip
FEW = {
    "few groups": Case(lambda t, _: t.filter(pl.col("k") < 3).group_by("k").agg(pl.col("x").median())),
    "few keys joined": Case(lambda t, r: t.filter(pl.col("k") < 3).join(r, on="k").select(pl.len(), pl.col("id").sum())),
    "few keys joined in full": Case(lambda t, r: t.filter(pl.col("k") < 3).join(r.head(3), on="k", how="full")),
    "few groups in order": Case(
        lambda t, _: t.filter(pl.col("k") < 3).group_by("k", maintain_order=True).agg(pl.col("id")), ordered=True
    ),
}
LAYOUTS: dict[str, tuple[Settings, int]] = {
    "joined": (JOIN_ALL, 0),
    "cut": (SKEWED, 0),
    "divided again": (TINY, 2),
    "joined, then divided": (JOIN_ALL, 1),
    "combined, then divided": (replace(TINY, two_level_requests=1), 1),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adaptive")
    table().write_parquet(folder / "table.parquet", row_group_size=150)
    right().write_parquet(folder / "right.parquet", row_group_size=3)
    return folder


def run(case: Case, settings: Settings, divisions: int, files: Path, place: Path) -> list[Layout]:
    """Run a case, check its answer, and return the layouts of its stages."""
    query = case.build(pl.scan_parquet(files / "table.parquet"), pl.scan_parquet(files / "right.parquet"))
    layouts: list[Layout] = []
    actual = answer_in_stages(query, settings, FolderStore(place), divisions=divisions, layouts=layouts)
    assert_same(actual, query.collect(), ordered=case.ordered)
    return layouts


@pytest.fixture
def combine_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Combine blocks however few requests that saves."""
    monkeypatch.setattr("frazil_coordinator.schedule.combine._WORTH", 0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("combine_anything")
def test_answer_is_that_of_polars_however_tasks_are_laid_out(name: str, layout: str, files: Path, tmp_path: Path) -> None:
    run(CASES[name], *LAYOUTS[layout], files, tmp_path)


def notes(name: str, layout: str, files: Path, tmp_path: Path) -> str:
    return "; ".join(note for one in run(CASES[name], *LAYOUTS[layout], files, tmp_path) for note in one.notes)


def test_small_partitions_are_read_by_one_task(files: Path, tmp_path: Path) -> None:
    assert "4 partitions joined into 1" in notes("whole groups", "joined", files, tmp_path)


@pytest.mark.parametrize("name", ["few groups", "few keys joined", "few keys joined in full", "few groups in order"])
def test_partitions_without_rows_have_no_task(name: str, files: Path, tmp_path: Path) -> None:
    layouts = run(FEW[name], replace(TINY, shuffle_partitions=8, coalesce_bytes=1), 0, files, tmp_path)
    left_out = [one for one in layouts if any("nothing to read" in note for note in one.notes)]
    assert left_out
    assert all(0 < len(one.order) < one.stage.tasks for one in left_out)


def test_one_task_is_left_when_no_partition_has_rows(files: Path, tmp_path: Path) -> None:
    nothing = Case(lambda t, _: t.filter(pl.col("s") == "s5a").group_by("k").agg(pl.col("id").median()))
    layouts = run(nothing, replace(TINY, coalesce_bytes=1), 0, files, tmp_path)
    assert len(layouts[-1].order) == 1


def test_a_sort_of_little_is_one_range(files: Path, tmp_path: Path) -> None:
    assert "1 ranges instead of 4" in notes("sort", "joined", files, tmp_path)


@pytest.mark.parametrize("how", ["inner", "left", "semi", "anti"])
def test_a_heavy_key_of_a_join_is_spread_over_tasks(how: str, files: Path, tmp_path: Path) -> None:
    layouts = run(CASES[f"{how} join"], SKEWED, 0, files, tmp_path)
    (joined,) = [one for one in layouts if one.stage.kind == "join"]
    assert len(joined.order) > 4
    assert any("cut into" in note for note in joined.notes)


def test_a_full_join_is_not_cut_because_unmatched_rows_would_come_twice(files: Path, tmp_path: Path) -> None:
    assert "cut into" not in notes("full join", "cut", files, tmp_path)


def test_groups_are_not_cut_between_blocks(files: Path, tmp_path: Path) -> None:
    layouts = run(CASES["group after join"], SKEWED, 0, files, tmp_path)
    assert not any("cut into" in note for one in layouts if one.stage.kind == "group_by" for note in one.notes)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("whole groups", "by a finer hash"),
        ("full join", "by a finer hash"),
        ("sort", "by a key in the middle of its range"),
        ("two steps", "by rows of its files"),
    ],
)
def test_a_task_without_memory_is_divided(name: str, how: str, files: Path, tmp_path: Path) -> None:
    assert f"divided {how}" in notes(name, "divided again", files, tmp_path)


def test_a_join_divided_again_is_cut_the_other_way(files: Path, tmp_path: Path) -> None:
    told = notes("inner join", "divided again", files, tmp_path)
    assert "divided by a finer hash" in told
    assert "divided between blocks of its input" in told


def test_what_a_task_joins_with_itself_is_not_divided_on_both_sides(files: Path, tmp_path: Path) -> None:
    own = Case(lambda _, r: r.select("k", w="v").join(r, on="k"))
    assert "divided by rows" not in "; ".join(
        note for one in run(own, replace(TINY, max_rows_per_split=None), 1, files, tmp_path) for note in one.notes
    )


def test_a_task_that_sees_all_rows_is_not_divided(files: Path, tmp_path: Path) -> None:
    query = pl.scan_parquet(files / "table.parquet").select(pl.col("x").sort().implode())
    layouts: list[Layout] = []
    answer_in_stages(query, TINY, FolderStore(tmp_path), layouts=layouts)
    assert layouts[-1].divided(0) is None


def test_partitions_that_would_not_fit_into_memory_are_cut_beforehand(files: Path, tmp_path: Path) -> None:
    layouts = run(CASES["whole groups"], replace(TINY, function_memory_bytes=60_000), 0, files, tmp_path)
    (grouped,) = [one for one in layouts if one.stage.kind == "group_by"]
    assert len(grouped.order) > 4
    assert any("by a finer hash: it would need" in note for note in grouped.notes)


@pytest.mark.parametrize("name", ["any two rows", "any two rows, grouped", "cross join, summed"])
def test_a_side_of_a_join_that_would_not_fit_into_memory_goes_to_tasks_in_parts(
    name: str, files: Path, tmp_path: Path
) -> None:
    layouts = run(CASES[name], replace(TINY, function_memory_bytes=20_000), 0, files, tmp_path)
    (joined,) = [one for one in layouts if any("what every task reads" in note for note in one.notes)]
    assert len(joined.order) > joined.stage.tasks
    assert "divided between blocks of its input" in notes(name, "divided again", files, tmp_path)


def test_a_side_of_a_join_whose_order_is_looked_at_stays_whole(files: Path, tmp_path: Path) -> None:
    layouts = run(CASES["cross join"], replace(TINY, function_memory_bytes=1), 0, files, tmp_path)
    assert not any("what every task reads" in note for one in layouts for note in one.notes)


@pytest.mark.usefixtures("combine_anything")
@pytest.mark.parametrize("name", ["whole groups in order", "sort", "full join", "window"])
def test_blocks_are_combined_and_combiners_divided(name: str, files: Path, tmp_path: Path) -> None:
    told = notes(name, "combined, then divided", files, tmp_path)
    assert "reads blocks that were combined" in told
    assert "divided between blocks of its input" in told
