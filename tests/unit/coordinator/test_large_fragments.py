"""Fragments that are too large for a request lie in the store while the query runs, where nobody else can read them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import TaskRequest
from support.fragments import FragmentPlatform, plan_in_stages

SECRET = b"the user's password"
WIDE = pl.LazyFrame({"a": range(100_000)}).with_columns(b=pl.lit(SECRET.decode()))


async def test_a_large_fragment_travels_as_an_object_that_only_its_tasks_can_read(tmp_path: Path) -> None:
    store = CountingStore(FolderStore(tmp_path))
    platform = FragmentPlatform(store)
    stored: dict[str, bytes] = {}

    async def look(request: TaskRequest) -> None:
        assert request.fragment == b""
        assert request.fragment_key is not None
        stored[request.fragment_key] = store.get(request.fragment_key)

    platform.before = look
    coordinator = Coordinator(
        settings=Settings(inline_limit_bytes=0), platform=platform, store=store, planner=plan_in_stages(2)
    )
    try:
        query = (await coordinator.submit(WIDE.serialize())).id
        assert_frame_equal(pl.concat([frame async for frame in coordinator.result(query)]), WIDE.collect())
        assert len(stored) == len({request.stage for request in platform.requests})
        assert SECRET in WIDE.serialize()
        for data in stored.values():
            assert len(data) > 100_000
            assert SECRET not in data
    finally:
        await coordinator.aclose()
    assert [found.key for found in store.list("exchange")] == []
