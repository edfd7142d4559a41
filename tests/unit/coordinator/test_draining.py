"""Results that are read while the coordinator ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.retention import SMALL_RESULT_BYTES, ResultGoneError
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState
from frazil_functions.storage import CountingStore, FolderStore
from support.fragments import FragmentPlatform, Gate, plan_in_stages

LARGE = pl.LazyFrame({"a": range(3 * SMALL_RESULT_BYTES // 8)})
"""A query whose result lies in the store."""


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(FolderStore(tmp_path))


@asynccontextmanager
async def opened(store: CountingStore) -> AsyncIterator[tuple[Coordinator, FragmentPlatform]]:
    platform = FragmentPlatform(store)
    settings = Settings(inline_limit_bytes=0)
    coordinator = Coordinator(settings=settings, platform=platform, store=store, planner=plan_in_stages(2), sweep_after_s=())
    try:
        yield coordinator, platform
    finally:
        await coordinator.aclose()
        assert list(store.list("exchange")) == []


async def test_a_result_that_is_being_read_is_read_to_its_end_before_draining_ends(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.draining._FETCH_GRACE_S", 0.0)
    async with opened(store) as (coordinator, _):
        query = (await coordinator.submit(LARGE.serialize())).id
        frames = coordinator.result(query)
        read = [await anext(frames)]
        draining = asyncio.create_task(coordinator.drain(60))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not draining.done()
        read += [frame async for frame in frames]
        await draining
        assert_frame_equal(pl.concat(read), LARGE.collect())


async def test_a_result_that_nobody_fetches_holds_up_draining_only_for_its_grace(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.draining._FETCH_GRACE_S", 0.0)
    async with opened(store) as (coordinator, platform):
        platform.before = gate = Gate()
        query = (await coordinator.submit(LARGE.serialize())).id
        await gate.reached.wait()
        draining = asyncio.create_task(coordinator.drain(60))
        gate.open.set()
        await draining
        assert coordinator.status(query).state is QueryState.SUCCEEDED


async def test_closing_under_a_reader_tells_it_so(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        query = (await coordinator.submit(LARGE.serialize())).id
        frames = coordinator.result(query)
        assert (await anext(frames)).height
        await coordinator.aclose()
        assert list(store.list("exchange")) == []
        with pytest.raises(ResultGoneError, match="the coordinator ended while the result"):
            _ = [frame async for frame in frames]  # what was fetched before is still given
