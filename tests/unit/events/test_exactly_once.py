"""Each object is in the output exactly once: whatever notifications do, and wherever the coordinator crashes."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import polars as pl
import pytest

from frazil_functions.errors import StandbyError
from support.polling import eventually_async
from support.triggering import NAME, TENANT, Writes, trigger_world

POINTS = ("looked", "submitted", "ran", "checked", "committed", "published")


async def test_a_thousand_objects_in_random_order_told_of_up_to_three_times_each_come_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put(window={"count": 50, "seconds": 0.0})
        seen = {"steps": 0}

        def crash(_: object) -> bool:
            seen["steps"] += 1
            return seen["steps"] % 11 == 0  # each kind of step is struck, since there are six of them

        world.crash_at = crash
        paths = [world.write(f"{number % 10}/{number:04d}.parquet", number) for number in range(1000)]
        told = [path for path in paths for _ in range(chance.randint(0, 3))]
        chance.shuffle(told)
        for start in range(0, len(told), 100):
            world.tell(*told[start : start + 100])
            await world.is_busy()
        world.list_now()  # finds those that nobody told of
        await world.has_rows(range(1000), within_s=60.0)
        await world.is_idle()
        assert world.status().objects == 1000
        assert world.status().dead_letters == 0
        assert world.crashes > len(POINTS)
        assert world.waiting() == []


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_after_any_step_of_a_window_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        world.write("a.parquet", 1, 2)
        world.crash_at = lambda passed: passed == point and world.crashes < 2
        await world.put()
        await world.has_rows([1, 2])
        world.tell(world.write("b.parquet", 3))
        await world.has_rows([1, 2, 3])
        await world.is_idle()
        assert world.crashes == 2
        assert world.status().objects == 2
        assert world.waiting() == []


async def _two_windows(folder: Path, monkeypatch: pytest.MonkeyPatch, writes: Writes) -> None:
    async with trigger_world(folder, monkeypatch, writes) as world:
        world.write("a.parquet", 1, 2)
        await world.put()
        await world.has_rows([1, 2])
        await world.is_idle()
        writes.armed = True
        paths = [world.write("b.parquet", 3), world.write("c.parquet", 4)]
        world.tell(*paths)
        await world.has_rows([1, 2, 3, 4])
        await world.is_idle()
        world.list_now()
        await world.listed()
        assert world.rows() == [1, 2, 3, 4]
        assert world.waiting() == []
        assert world.status().objects == 3
        assert writes.crashed == (writes.at >= 0)


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_before_or_after_any_write_neither_loses_nor_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    clean = Writes()
    await _two_windows(tmp_path / "clean", monkeypatch, clean)
    assert clean.seen >= 3  # the commit, a file that gets its name, the folder that is deleted
    for number in range(clean.seen):
        await _two_windows(tmp_path / str(number), monkeypatch, Writes(at=number, after=after))


async def test_what_one_coordinator_has_committed_another_neither_repeats_nor_undoes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two run the same trigger, as when one slept through the loss of its lease: only one can take the next number."""
    async with trigger_world(tmp_path, monkeypatch) as first:
        await first.put()
        async with trigger_world(tmp_path, monkeypatch) as second:
            paths = [first.write(f"{number}.parquet", number) for number in range(6)]
            for path in paths:
                for world in (first, second):
                    world.tell(path)
            await first.has_rows(range(6))
            for world in (first, second):
                world.list_now()
                await world.listed()
                await world.is_idle()
            assert first.rows() == list(range(6))


async def test_a_commit_that_slept_through_a_takeover_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked that its files are there, and sleeps; whoever takes over sweeps them away; then it wakes."""
    writes = Writes()
    async with trigger_world(tmp_path, monkeypatch, writes) as first:
        await first.put()
        await first.listed()
        writes.held = threading.Event()
        first.tell(first.write("a.parquet", 1))
        await eventually_async(writes.holding.is_set, "the commit sleeps")
        await first.triggers.pause(TENANT, NAME, paused=True)  # of both, so that the other one takes no number but for this
        async with trigger_world(tmp_path, monkeypatch) as second:
            await second.listed()
            assert first.waiting() == []
            writes.held.set()
            writes.held = None
            await first.listed()
            assert first.status().objects == 0
            await second.triggers.pause(TENANT, NAME, paused=False)
            await second.has_rows([1])


async def test_dropping_finishes_what_was_committed_and_leaves_nothing_but_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        world.crash_at = lambda passed: passed == "committed"  # again and again, so that no file ever gets its name
        await world.put()
        world.tell(world.write("a.parquet", 1))
        await eventually_async(lambda: world.crashes > 0, "it is committed")
        await world.triggers.drop(TENANT, NAME)
        assert world.rows() == [1]
        assert world.waiting() == []
        left = [path for path in (tmp_path / "store" / "triggers").rglob("*") if path.is_file()]
        assert [path.parent.name for path in left] == ["definitions"]
        assert await world.triggers.list(TENANT) == ()


async def test_a_trigger_that_is_put_anew_with_another_output_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put()
        world.tell(world.write("a.parquet", 1))
        await world.has_rows([1])
        await world.put(world.lf().filter(pl.col("v") < 3))  # another query over the same objects goes on
        world.tell(world.write("b.parquet", 2), world.write("c.parquet", 3))
        await world.has_rows([1, 2])
        await world.put(sink="other/")
        await eventually_async(lambda: world.status().objects == 3, "all objects are new to another output")
        assert world.rows() == [1, 2]
        logs = {path.parts[-3] for path in (tmp_path / "store" / "triggers").rglob("commits/*")}
        assert len(logs) == 1


async def test_only_a_coordinator_that_leads_runs_triggers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put()
        world.tell(world.write("a.parquet", 1))
        await world.has_rows([1])
        world.coordinator._took_over = False
        await eventually_async(lambda: not world.triggers.started, "it stands by")
        world.tell(world.write("b.parquet", 2))  # told to one that stands by: lost, and found by a listing
        with pytest.raises(StandbyError, match="try again"):
            world.list_now()
        assert world.rows() == [1]
        world.coordinator._took_over = True
        await world.has_rows([1, 2])


async def test_pausing_and_resuming_keeps_what_is_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put()
        await world.triggers.pause(TENANT, NAME, paused=True)
        world.tell(world.write("a.parquet", 1))
        await world.pending(1)
        assert world.status().state == "paused"
        assert world.rows() == []
        await world.triggers.pause(TENANT, NAME, paused=False)
        await world.has_rows([1])
