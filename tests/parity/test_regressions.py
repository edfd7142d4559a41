"""Plans that once gave another answer than Polars; most were found by tests/property."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import polars as pl
import pytest

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages, outcome
from support.parity import assert_same

Check = Callable[..., None]


@pytest.fixture
def same(tmp_path: Path) -> Check:
    """Return a function that writes a frame in small row groups, runs a query over it in stages, and compares."""

    def check(
        frame: pl.DataFrame,
        build: Callable[[pl.LazyFrame], pl.LazyFrame],
        *,
        ordered: bool = True,
        rows_per_split: int = 2,
        partitions: int = 3,
        broadcast: bool = False,
        files: bool = False,
        engine: Literal["auto", "in-memory"] = "auto",
    ) -> None:
        path = tmp_path / ("table*.parquet" if files else "table.parquet")
        for number, part in enumerate(frame.iter_slices(3) if files else [frame]):
            part.write_parquet(tmp_path / f"table{number or ''}.parquet", row_group_size=rows_per_split)
        settings = Settings(
            start_small=False,
            max_rows_per_split=rows_per_split,
            shuffle_partitions=partitions,
            broadcast_limit_bytes=1 << 30 if broadcast else 0,
        )
        query = build(pl.scan_parquet(path))
        actual = answer_in_stages(query, settings, FolderStore(tmp_path / "store"))
        assert_same(actual, query.collect(engine=engine), ordered=ordered)

    return check


def test_filter_after_a_head_sees_the_head_only(same: Check) -> None:
    same(pl.DataFrame({"x": range(9), "y": [1, 0] * 4 + [1]}), lambda t: t.head(3).filter(pl.col("y") == 0))


@pytest.mark.parametrize("how", ["semi", "anti"])
@pytest.mark.parametrize("order", ["left", "right", "left_right", "right_left"])
def test_semi_and_anti_joins_take_no_order_from_the_right_side(how: str, order: str, same: Check) -> None:
    other = pl.LazyFrame({"k": [3, 1, 3]})
    same(
        pl.DataFrame({"k": [1, 2, 3, 1, 2, 3]}),
        lambda t: t.join(other, on="k", how=how, maintain_order=order),
        ordered=order != "right",
    )


@pytest.mark.parametrize(("how", "order"), [("left", "right_left"), ("right", "left_right"), ("full", "left_right")])
def test_unmatched_rows_of_an_ordered_join_come_where_polars_puts_them(how: str, order: str, same: Check) -> None:
    other = pl.DataFrame({"k": [9, 3, 8, 1, 7, 3], "v": range(6)}).lazy()
    same(
        pl.DataFrame({"k": [6, 1, 5, 3, 4, 1, 3], "x": range(7)}),
        lambda t: t.join(other, on="k", how=how, maintain_order=order),
    )


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize("broadcast", [True, False])
def test_group_by_after_a_right_join_knows_which_columns_were_renamed(coalesce: bool, broadcast: bool, same: Check) -> None:
    left = pl.DataFrame({"k": [1, 2, 3, 1, 2, 3, None], "x": range(7)})
    right = pl.LazyFrame({"k": [9, 3, 8, 1, 7, 3, 9], "x": range(7)})
    for name in ("x", "x_right", "k"):
        same(
            left,
            lambda t, name=name: (
                t.join(right, left_on="k", right_on="x", how="right", coalesce=coalesce).group_by(name).agg(pl.len())
            ),
            ordered=False,
            broadcast=broadcast,
        )


def test_group_by_after_two_joins_knows_which_columns_were_renamed(same: Check) -> None:
    small = pl.LazyFrame({"k": [0, 1, 2], "x": [1, 1, 2]})

    def query(table: pl.LazyFrame) -> pl.LazyFrame:
        right = table.group_by("x").agg(pl.col("y").sum())
        return small.join(right, left_on="k", right_on="y", how="right").group_by("x").agg(pl.len())

    same(pl.DataFrame({"x": range(9), "y": [0, 1, 2] * 3}), query, ordered=False, broadcast=True)


def test_files_with_integers_of_128_bits_are_read_and_cut(same: Check) -> None:
    numbers = pl.Series("x", [None, 1, -(2**100), 2**100, 7], dtype=pl.Int128)
    same(pl.DataFrame([pl.Series("k", ["ARROW:schema", "a", "b", "a", None]), numbers]), lambda t: t.filter(pl.col("x") > 0))


@pytest.mark.parametrize("dtype", [pl.List(pl.Int64), pl.Struct({"f": pl.List(pl.Date)})])
def test_nulls_of_nested_columns_keep_their_dtype_when_they_are_reversed(dtype: pl.DataType, same: Check) -> None:
    other = pl.LazyFrame({"l": [None]}, schema={"l": dtype})
    # A reverse makes a Null of what is inside; Polars' optimizer takes both away, and Frazil runs them in different stages.
    same(
        pl.DataFrame({"n": range(24)}),
        lambda t: pl.concat([t, other], how="diagonal").select(pl.all().head(2)).reverse().reverse(),
    )


def test_a_number_of_intervals_is_of_the_whole_column(same: Check) -> None:
    x = pl.col("x")
    bins = [x.bin_intervals(3, labels=False).alias("count"), x.bin_intervals([0, 2], labels=False).alias("breaks")]
    same(pl.DataFrame({"x": [5, 1, None, -3, 9, 2, 2, 0, 7]}), lambda t: t.with_columns(bins))
    same(pl.DataFrame({"x": [5, 1, None, -3, 9, 2, 2, 0, 7]}), lambda t: t.filter(x.bin_intervals(3, labels=False) == 1))


def test_frames_of_different_heights_beside_each_other_are_the_same_error(tmp_path: Path) -> None:
    pl.DataFrame({"x": range(9)}).write_parquet(tmp_path / "table.parquet", row_group_size=2)
    table = pl.scan_parquet(tmp_path / "table.parquet")
    query = pl.concat([table, table.filter(pl.col("x") > 3).select(y="x")], how="horizontal")
    settings = Settings(start_small=False, max_rows_per_split=2)
    raised = outcome(lambda: answer_in_stages(query, settings, FolderStore(tmp_path / "store")))
    assert [raised, outcome(query.collect)] == ["ShapeError", "ShapeError"]


def test_the_least_of_a_group_of_null_enums_passes_between_stages(same: Check) -> None:
    levels = pl.Series("e", ["mid", None, None, None, "lo"] * 2, dtype=pl.Enum(["hi", "lo", "mid"]))
    same(
        pl.DataFrame([pl.Series("g", [0, 0, 1, 1, 2] * 2), levels]),
        lambda t: t.group_by("g").agg(pl.col("e").min()),
        ordered=False,
        partitions=1,
    )


@pytest.mark.parametrize("rows_per_split", [2, 9])
def test_a_part_of_a_table_beside_the_whole_table_leaves_the_whole_alone(same: Check, rows_per_split: int) -> None:
    queries: list[Callable[[pl.LazyFrame], pl.LazyFrame]] = [
        lambda t: pl.concat([t, t.head(2)]),
        lambda t: pl.concat([t.slice(3, 2), t]),
        lambda t: pl.concat([t.head(1), t.tail(1)]),
        lambda t: t.join(t.head(2), on="x", how="left", maintain_order="left"),
    ]
    for query in queries:
        for files in (False, True):
            same(pl.DataFrame({"x": range(7)}), query, rows_per_split=rows_per_split, files=files)


def test_an_aggregate_of_floats_that_is_read_twice_is_computed_once(tmp_path: Path) -> None:
    """Computed twice, in another order of the same parts, it may differ in its last digits, and not join with itself."""
    frame = pl.DataFrame({"x": [0.1 * n for n in range(12)]})
    frame.write_parquet(tmp_path / "table.parquet", row_group_size=2)
    row = pl.scan_parquet(tmp_path / "table.parquet").select(pl.col("x").var().alias("v"))
    query = row.join(row.group_by("v").agg(pl.len()), on="v", how="anti")
    graph = plan_query(query.serialize(), Settings(start_small=False, max_rows_per_split=2))
    assert sum(stage.operators.count("AGGREGATE (final)") for stage in graph.stages) == 1


@pytest.mark.parametrize(
    "subset",
    [
        pl.col("x") % 3,
        [pl.col("y"), pl.col("x") % 2],
        [pl.col("x") % 2, pl.col("x") % 3],
        pl.col("x") - pl.col("x").mean(),
        pl.col("x").cum_sum() % 4,
        pl.len().over("y"),
        pl.struct("y"),
        pl.col("x").sum(),
        pl.lit(1),
    ],
    ids=lambda subset: ", ".join(map(str, subset)) if isinstance(subset, list) else str(subset),
)
@pytest.mark.parametrize("keep", ["first", "last"])
def test_unique_by_what_is_computed_compares_that_and_not_the_column_of_its_name(
    subset: pl.Expr | list[pl.Expr], keep: Literal["first", "last"], same: Check
) -> None:
    frame = pl.DataFrame({"x": range(13), "y": [n % 3 if n % 5 else None for n in range(13)]})
    same(frame, lambda t: t.unique(subset, keep=keep, maintain_order=True))
    same(frame, lambda t: t.unique(subset, keep=keep).sort("x"))
    same(frame, lambda t: t.unique(subset, keep=keep).group_by("y").agg(pl.len()), ordered=False)


def test_nan_is_filled_with_an_aggregate_in_many_tasks(same: Check, plans: list[StageGraph]) -> None:
    frame = pl.DataFrame({"x": range(9), "y": [1.0, float("nan"), None] * 3, "z": [float("nan")] * 9})
    same(frame, lambda t: t.fill_nan(pl.col("y").drop_nans().mean()))
    same(frame, lambda t: t.sort("x", descending=True).fill_nan(pl.col("x").first()))
    same(
        frame,
        lambda t: t.sort("x", descending=True).fill_nan(pl.col("x").first()).group_by("y").agg(pl.len()),
        ordered=False,
    )
    assert not any(graph.fallbacks for graph in plans)


@pytest.mark.parametrize("how", ["inner", "left", "semi"])
def test_a_slice_cuts_off_rows_in_the_order_that_a_join_keeps(tmp_path: Path, how: Literal["inner", "left", "semi"]) -> None:
    """Also where nobody looks at the order afterwards: there Polars takes it from the join, and its sum varies."""
    pl.DataFrame({"k": range(24)}).write_parquet(tmp_path / "left.parquet", row_group_size=3)
    pl.DataFrame({"k": range(23, -1, -1)}).write_parquet(tmp_path / "right.parquet", row_group_size=5)
    left, right = pl.scan_parquet(tmp_path / "left.parquet"), pl.scan_parquet(tmp_path / "right.parquet")
    query = left.join(right, on="k", how=how, maintain_order="left").head(5).select(pl.col("k").sum())
    settings = Settings(start_small=False, max_rows_per_split=4, broadcast_limit_bytes=0, shuffle_partitions=3)
    assert answer_in_stages(query, settings, FolderStore(tmp_path / "store")).item() == 0 + 1 + 2 + 3 + 4


@pytest.mark.parametrize("start_small", [True, False])
@pytest.mark.parametrize("rows", [1, 7])
def test_columns_of_all_rows_are_made_before_a_slice_cuts_rows_off(tmp_path: Path, start_small: bool, rows: int) -> None:
    """One task of several files read only those that the slice touches, and counted only their rows."""
    for number in range(3):
        pl.DataFrame({"x": [number, number]}).write_parquet(tmp_path / f"{number}.parquet")
    table = pl.scan_parquet(tmp_path / "*.parquet")
    settings = Settings(start_small=start_small, max_rows_per_split=rows)
    wide = table.with_columns(n=pl.len(), s=pl.col("x").sum(), c=pl.col("x").cum_sum().over(pl.col("x") % 2))
    for query in (
        wide.head(1),
        wide.tail(2),
        wide.slice(3, 2),
        wide.rename({"n": "m"}).head(1),
        table.with_row_index().tail(1),
    ):
        assert_same(answer_in_stages(query, settings, FolderStore(tmp_path / "store")), query.collect(), ordered=True)


def test_sorted_runs_are_those_of_the_in_memory_engine(same: Check) -> None:
    """Polars' streaming engine forgets the names of their fields."""
    frame = pl.DataFrame({"x": [3, 3, 1, 2, 2, 2, 5, 1]})
    same(frame, lambda t: t.select(r=pl.col("x").rle()).sort("r"), engine="in-memory")


def test_sorted_runs_crossed_with_a_table_are_those_of_the_in_memory_engine(same: Check) -> None:
    other = pl.LazyFrame({"y": ["a", "b"]})
    same(
        pl.DataFrame({"x": [3, 3, 1, 2, 2, 2, 5, 1]}),
        lambda t: t.select(r=pl.col("x").rle()).sort("r").join(other, how="cross"),
        ordered=False,
        engine="in-memory",
    )
