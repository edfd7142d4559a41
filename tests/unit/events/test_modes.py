"""The modes of a trigger: what comes out is what Polars gives over all objects, and what it can't do is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_coordinator.events.model import ObjectRef
from frazil_coordinator.events.sources import ObjectSource
from frazil_functions.errors import RequestError
from support.polling import eventually_async
from support.triggering import NAME, TENANT, TriggerWorld, trigger_world

GROUPED = [
    pl.len().alias("n"),
    pl.col("v").sum().alias("sum"),
    pl.col("v").mean().alias("mean"),
    pl.col("v").std().alias("std"),
    pl.col("v").var(ddof=0).alias("var"),
    pl.col("v").min().alias("min"),
    pl.col("v").max().alias("max"),
    (pl.col("v").sum() / pl.len()).alias("ratio"),
    pl.col("v").filter(pl.col("v") > 2).count().alias("large"),
]


def _file(world: TriggerWorld) -> pl.DataFrame | None:
    path = world.folder / "res" / "out.parquet"
    return pl.read_parquet(path) if path.exists() else None


async def _becomes(world: TriggerWorld, lf: Callable[[], pl.LazyFrame], objects: int) -> None:
    await eventually_async(lambda: world.status().objects == objects, "all objects are in")
    await world.is_idle()
    found = _file(world)
    assert found is not None
    assert_frame_equal(found, lf().collect(), check_row_order=False)


@pytest.mark.parametrize("mode", ["incremental", "refresh"])
async def test_the_result_is_that_of_the_query_over_all_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:

        def query() -> pl.LazyFrame:
            rows = world.lf().filter(pl.col("v") != 5).with_columns(k=pl.col("v") % 3)
            return rows.group_by("k").agg(GROUPED).filter(pl.col("n") > 1).with_columns(twice=pl.col("sum") * 2)

        world.write("a.parquet", *range(10))
        await world.put(query(), sink="res/out.parquet", mode=mode)
        await _becomes(world, query, 1)
        for number in range(3):
            world.tell(world.write(f"b{number}.parquet", *range(number, 20 + number)))
            await _becomes(world, query, 2 + number)
        assert [path.name for path in world.waiting()] == (["state.parquet"] if mode == "incremental" else [])
        text = world.coordinator.metrics.render("")[0].decode()
        reused = sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("frazil_reused_tasks_total{"))
        # One object alone is read by the task that writes. Of two both are read, of three and four only the new one.
        assert reused == (2 + 3 if mode == "refresh" else 0)


async def test_aggregates_of_all_rows_are_merged_too_and_begin_anew_with_a_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:

        def query() -> pl.LazyFrame:
            return world.lf().select(GROUPED)

        await world.put(query(), sink="res/out.parquet", mode="incremental")
        for number in range(3):
            world.tell(world.write(f"{number}.parquet", number, 10 * number))
            await _becomes(world, query, 1 + number)
        (world.source / "0.parquet").unlink()  # what is kept does not know which rows were of it
        await world.triggers.replay(TENANT, NAME, 0.0)
        await _becomes(world, query, 5)


async def test_a_merged_object_is_never_counted_twice_wherever_it_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:

        def query() -> pl.LazyFrame:
            return world.lf().select(pl.col("v").sum(), pl.len())

        steps = 0

        def crash(_: object) -> bool:
            nonlocal steps
            steps += 1
            return steps % 9 == 0

        world.crash_at = crash
        await world.put(query(), sink="res/out.parquet", mode="incremental", window={"count": 1})
        for number in range(8):
            world.tell(world.write(f"{number}.parquet", number, 2**number))
        world.list_now()
        await _becomes(world, query, 8)
        assert world.crashes > 1


@pytest.mark.parametrize(
    ("query", "why"),
    [
        (lambda lf: lf.group_by(pl.col("v") % 2).agg(pl.col("v").median().alias("m")), "can't be merged"),
        (lambda lf: lf.select(pl.col("v").first()), "depend on the order"),
        (lambda lf: lf.with_row_index().select(pl.col("index").sum()), "several objects at once"),
        (lambda lf: lf.filter(pl.col("v") > 1), "needs a group_by|mode refresh"),
    ],
)
async def test_what_can_t_be_merged_is_refused_when_it_is_defined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: Callable[[pl.LazyFrame], pl.LazyFrame], why: str
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        world.write("a.parquet", 1)
        with pytest.raises(RequestError, match=why):
            await world.put(query(world.lf()), sink="res/out.parquet", mode="incremental")


async def test_a_trigger_that_can_t_be_is_refused_when_it_is_defined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        world.write("a.parquet", 1)
        refused: list[tuple[dict[str, Any], str]] = [
            ({"sink": "res/out.parquet"}, "mode append adds files to a folder"),
            ({"sink": "out/", "mode": "refresh"}, "mode refresh replaces its output"),
            ({"sink": "in/out/"}, "its own output for new objects"),
            ({"source": str(tmp_path / "elsewhere") + "/"}, "reads nothing below the source"),
            ({"source": "in/"}, "must be a folder or the beginning of keys"),
            ({"window": {"count": 0}}, "count must be from 1"),
            ({"max_attempts": 0}, "max_attempts must be"),
        ]
        for more, why in refused:
            with pytest.raises(RequestError, match=why):
                await world.put(**more)
        with pytest.raises(Exception, match="nosuch"):
            await world.put(world.lf().select("nosuch"))


async def test_a_trigger_may_be_defined_before_there_is_any_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put(pl.scan_parquet(f"{world.source}/*.parquet").filter(pl.col("v") > 1))
        world.tell(world.write("a.parquet", 1, 2))
        await world.has_rows([2])


async def test_partitioned_files_of_several_windows_lie_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        rows = world.lf().with_columns(k=pl.col("v") % 2)
        target = pl.PartitionBy(f"{world.folder}/out", key="k")
        await world.put(rows.sink_parquet(target, lazy=True, mkdir=True), sink=None)
        for number in range(2):
            world.tell(world.write(f"{number}.parquet", 2 * number, 2 * number + 1))
            await world.has_rows(range(2 * number + 2))
        files = sorted(path.relative_to(world.out).as_posix() for path in world.out.rglob("*.parquet"))
        assert files == [f"k={k}/t-{seq:012d}-{k:05d}.parquet" for k in range(2) for seq in range(2)]


async def test_times_may_be_coarser_when_an_object_is_asked_for_than_in_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = ObjectSource._head

    def to_the_second(source: ObjectSource, url: str) -> ObjectRef | None:
        found = exact(source, url)
        return found and msgspec.structs.replace(found, modified_unix_s=float(int(found.modified_unix_s)))

    monkeypatch.setattr(ObjectSource, "_head", to_the_second)
    async with trigger_world(tmp_path, monkeypatch) as world:
        world.write("a.parquet", 1)
        await world.put()
        await world.has_rows([1])
        world.tell(world.write("b.parquet", 2))
        await world.has_rows([1, 2])
        await world.listed()
        assert world.status().objects == 2
        assert world.points["submitted"] == 2  # neither was read a second time


async def test_hive_folders_of_a_source_stay_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        world.write("day=1/a.parquet", 1)
        await world.put(pl.scan_parquet(f"{world.source}/").select(v=pl.col("v") + 100 * pl.col("day")))
        await world.has_rows([101])
        world.tell(world.write("day=2/b.parquet", 2))
        await world.has_rows([101, 202])


async def test_an_object_that_is_replaced_is_another_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put()
        world.tell(world.write("a.parquet", 1))
        await world.has_rows([1])
        world.tell(world.write("a.parquet", 2))
        await world.has_rows([1, 2])


async def test_an_object_that_is_replaced_while_it_is_read_counts_once_as_what_it_is_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which version the query saw is not known, so that what it wrote is thrown away."""
    async with trigger_world(tmp_path, monkeypatch) as world:

        def replace_it(point: str) -> bool:
            if point == "ran" and world.points["ran"] == 1:
                world.write("a.parquet", 2)
            return False

        world.crash_at = replace_it
        await world.put()
        world.tell(world.write("a.parquet", 1))
        await world.has_rows([2])
        await world.listed()
        assert world.status().objects == 1
        assert world.waiting() == []


async def test_a_statement_is_merged_as_the_lazyframe_that_it_stands_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        aggregates = "v % 2 AS k, SUM(v) AS total, COUNT(*) AS n, AVG(v) AS mean"
        statement = f"SELECT {aggregates} FROM t WHERE v > 1 GROUP BY v % 2 ORDER BY k"
        context = pl.SQLContext(t=world.lf())
        world.write("a.parquet", *range(10))
        await world.put(context.execute(statement), sink="res/out.parquet", mode="incremental")
        world.tell(world.write("b.parquet", 3, 4, 100))
        await _becomes(world, lambda: context.execute(statement), 2)


async def test_objects_that_go_while_they_wait_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put(window={"count": 3})
        gone = world.write("gone.parquet", 1)
        world.tell(gone, world.write("stays.parquet", 2))
        await world.pending(2)
        gone.unlink()
        await world.triggers.pause(TENANT, NAME, paused=True)
        await world.listed()
        await world.pending(1)
        await world.triggers.pause(TENANT, NAME, paused=False)
        world.write("more.parquet", 3)
        world.list_now()
        await world.has_rows([2, 3])
