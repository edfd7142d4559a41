"""Objects that fail the query are isolated and given up with a reason; what is nobody's fault is tried again."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.events.failing import verdict_of
from frazil_coordinator.refusals import ForbiddenError, QueueFullError
from frazil_functions.errors import (
    CapError,
    FrazilError,
    PlanError,
    QueryError,
    QuotaError,
    SourceError,
    StorageError,
)
from support.polling import eventually_async
from support.triggering import NAME, TENANT, TriggerWorld, trigger_world

GARBAGE = b"PAR1 this is no Parquet file PAR1"


def _spoil(world: TriggerWorld, name: str) -> Path:
    path = world.source / name
    path.write_bytes(GARBAGE)
    return path


async def test_a_bad_object_is_given_up_with_its_reason_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.events.backlog._FIRST_PAUSE_S", 0.0)
    async with trigger_world(tmp_path, monkeypatch) as world:
        for number in range(20):
            world.write(f"{number:02d}.parquet", number)
        bad = [_spoil(world, "07.parquet"), _spoil(world, "13.parquet")]
        await world.put(max_attempts=2)
        await world.has_rows(set(range(20)) - {7, 13})
        await eventually_async(lambda: world.status().dead_letters == 2, "dead letters")
        letters = world.triggers.dead(TENANT, NAME)
        assert sorted(letter.object.url for letter in letters) == [str(path) for path in bad]
        assert {letter.attempts for letter in letters} == {2}
        assert all("parquet" in letter.reason.lower() for letter in letters)
        world.list_now()
        await world.listed()
        assert world.status().objects == 18  # a listing does not find them again

        world.write("07.parquet", 7)  # another version is another object
        await world.triggers.revive(TENANT, NAME)
        await world.has_rows(set(range(20)) - {13})
        await eventually_async(lambda: world.status().dead_letters == 1, "still bad")


@pytest.mark.parametrize("is_sql", [False, True])
async def test_a_bad_object_is_isolated_in_mode_incremental_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_sql: bool
) -> None:
    monkeypatch.setattr("frazil_coordinator.events.backlog._FIRST_PAUSE_S", 0.0)
    async with trigger_world(tmp_path, monkeypatch) as world:
        rows = pl.scan_parquet(f"{world.source}/*.parquet")
        statement = pl.SQLContext(t=rows).execute("SELECT SUM(v) AS v FROM t")
        await world.put(statement if is_sql else rows.select(pl.col("v").sum()), sink="out/sum.parquet", mode="incremental")
        for number in range(5):
            world.write(f"{number}.parquet", number)
        _spoil(world, "bad.parquet")
        world.list_now()
        await eventually_async(lambda: world.status().objects == 5, "the good ones are in")
        await eventually_async(lambda: world.status().dead_letters == 1, "the bad one is given up")
        assert world.rows() == [10]
        assert world.status().state == "idle"


async def test_a_query_that_no_object_survives_halts_the_trigger_until_somebody_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.events.backlog._FIRST_PAUSE_S", 0.0)
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put(max_attempts=1)
        for number in range(30):
            _spoil(world, f"{number:02d}.parquet")
        world.list_now()
        await eventually_async(lambda: world.status().state == "halted", "halted")
        assert "10 objects in a row failed" in world.status().reason
        assert world.status().dead_letters == 10
        assert world.status().lag.pending_objects == 20
        for number in range(30):
            world.write(f"{number:02d}.parquet", number)
        await world.triggers.pause(TENANT, NAME, paused=False)
        world.list_now()
        await world.has_rows(range(30))


async def test_replaying_from_a_point_takes_up_again_what_was_modified_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        await world.put()
        world.tell(world.write("a.parquet", 1))
        await world.has_rows([1])
        late = world.write("b.parquet", 2)
        world.tell(late)
        await world.has_rows([1, 2])
        await world.triggers.replay(TENANT, NAME, late.stat().st_mtime - 0.0001)
        await world.has_rows([1, 2, 2])
        await world.triggers.replay(TENANT, NAME, 0.0)
        await world.has_rows([1, 1, 2, 2, 2])


async def test_without_backfill_what_was_there_before_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trigger_world(tmp_path, monkeypatch) as world:
        world.write("old.parquet", 1)
        await world.put(backfill=False)
        world.tell(world.source / "old.parquet", world.write("new.parquet", 2))
        await world.has_rows([2])
        await world.listed()
        assert world.status().objects == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (QueryError("no such column"), "data"),
        (SourceError("the file was replaced"), "data"),
        (CapError("too much"), "data"),
        (SourceError("can't list s3://b/"), "later"),
        (StorageError("unreachable"), "later"),
        (QueueFullError("full"), "later"),
        (QuotaError("used up", where={"retry_after_s": "7"}), "later"),
        (PlanError("no plan"), "query"),
        (ForbiddenError("not yours"), "query"),
    ],
)
def test_whose_fault_an_error_is(error: FrazilError, outcome: str) -> None:
    assert verdict_of(error).outcome == outcome
    assert verdict_of(error).pause_s == (7.0 if isinstance(error, QuotaError) else None)
