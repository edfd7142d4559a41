"""The consumed set of an object store is bounded by a horizon of times, which forgets nothing that is not consumed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from support.polling import eventually_async
from support.triggering import NAME, TENANT, TriggerWorld, trigger_world

HOUR = 3600.0


def _write(world: TriggerWorld, name: str, age_s: float, value: int) -> Path:
    """Write an object that was last modified some time ago."""
    path, when = world.write(name, value), time.time() - age_s
    os.utime(path, (when, when))
    return path


async def test_entries_behind_the_horizon_are_dropped_and_their_objects_stay_consumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.events.sources.is_remote", lambda _: True)
    async with trigger_world(tmp_path, monkeypatch) as world:
        for number in range(5):
            _write(world, f"old{number}.parquet", 2 * HOUR, number)
        _write(world, "new.parquet", 0.0, 9)
        await world.put(lateness_s=HOUR)
        await world.has_rows([0, 1, 2, 3, 4, 9])
        await world.listed()
        assert world.status().consumed_exactly == 1
        assert time.time() - 1.1 * HOUR < world.status().consumed_before_unix_s < time.time() - 0.9 * HOUR
        world.tell(*world.source.iterdir())
        await world.listed()
        await world.is_idle()
        assert world.status().objects == 6
        await world.triggers.replay(TENANT, NAME, time.time() - 1.5 * HOUR)  # behind the old ones
        await world.has_rows([0, 1, 2, 3, 4, 9, 9])


async def test_the_horizon_waits_for_an_old_object_that_is_not_consumed_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.events.sources.is_remote", lambda _: True)
    async with trigger_world(tmp_path, monkeypatch) as world:
        _write(world, "older.parquet", 3 * HOUR, 1)
        _write(world, "old.parquet", 2 * HOUR, 2)
        await world.put(lateness_s=HOUR, window={"seconds": 1000.0})
        await world.triggers.pause(TENANT, NAME, paused=True)
        await world.listed()
        await world.pending(2)
        assert world.status().consumed_before_unix_s <= time.time() - 3 * HOUR
        await world.triggers.pause(TENANT, NAME, paused=False)
        world.list_now()
        await world.has_rows([1, 2])
        await world.listed()
        await eventually_async(lambda: world.status().consumed_exactly == 0, "now it goes on")


async def test_a_folder_has_no_horizon_because_files_are_moved_in_with_old_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put(lateness_s=HOUR)
        _write(world, "a.parquet", 2 * HOUR, 1)
        world.list_now()
        await world.has_rows([1])
        await world.listed()
        _write(world, "b.parquet", 20 * HOUR, 2)
        world.list_now()
        await world.has_rows([1, 2])
        assert world.status().consumed_exactly == 2
