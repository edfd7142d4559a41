"""A coordinator that dies in the middle of a query of which a part is reused: the next one goes on, and repeats nothing."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.records import decode_segment
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.platform.local import LocalPlatform
from frazil_coordinator.schedule.commits import TaskCommitted
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store, open_store
from support.mortal import KEYS, DyingStore, When
from support.parity import assert_same

SETTINGS = Settings(
    start_small=False,
    max_rows_per_split=10,
    broadcast_limit_bytes=0,
    inline_limit_bytes=0,
    retry_backoff_s=0.01,
    reuse="tasks",
)


class _Dead(Exception):
    """What a store says to a coordinator that must not do anything any more."""


def _die() -> None:
    raise _Dead


def _coordinator(platform: LocalPlatform, store: Store) -> Coordinator:
    journal = Journal(store=store, sealer=Sealer.of(KEYS), group_s=0.0)
    return Coordinator(settings=SETTINGS, platform=platform, store=store, journal=journal, sweep_after_s=(0.01,))


def commits(folder: Path, query: QueryId) -> list[TaskCommitted]:
    segments = sorted((folder / "journal" / query).glob("[0-9]*"))
    records = [record for path in segments for record in decode_segment(path.read_bytes(), str(path))]
    return [record for record in records if isinstance(record, TaskCommitted)]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_query_of_which_a_part_was_reused_survives_its_coordinator(tmp_path: Path, when: When) -> None:
    pl.DataFrame({"k": [n % 7 for n in range(80)], "x": range(80)}).write_parquet(tmp_path / "t.parquet")
    query = pl.scan_parquet(tmp_path / "t.parquet").group_by("k").agg(pl.col("x").median(), n=pl.len()).sort("k")
    expected, folder = query.collect(), tmp_path / "store"
    store = open_store(str(folder))
    platform = LocalPlatform(max_functions=2, store_url=str(folder))
    seen_reused = seen_run = 0
    try:
        warm = _coordinator(platform, store)
        await warm.wait((await warm.submit(query.serialize())).id, 60.0)
        await warm.aclose()
        for number in (1, 2, 3, 4):
            for info in [one for one in store.list("kept") if "/tasks/" in one.key][:: number + 1]:
                store.delete([info.key])
            first = _coordinator(platform, DyingStore(store, number, when, _die))
            accepted = await first.submit(query.serialize())
            await first.wait(accepted.id, 60.0)
            await first.aclose()
            second = _coordinator(platform, store)
            if await second.recover() == (accepted.id,):
                status = await second.wait(accepted.id, 60.0)
                assert status.state is QueryState.SUCCEEDED, status.error
                answer = pl.concat([block async for block in second.result(accepted.id)])
                assert_same(answer, expected, ordered=True)
                done = commits(folder, accepted.id)
                assert len({(one.stage, one.task) for one in done}) == len(done), "a committed task ran again"
                profile = cast("Profile", second.profile(accepted.id))
                assert sum(stage["reused"] for stage in profile["stages"]) == sum(one.reused for one in done)
                seen_reused += sum(one.reused for one in done)
                seen_run += sum(not one.reused for one in done)
            await second.aclose()
    finally:
        await platform.aclose()
    assert seen_reused
    assert seen_run
