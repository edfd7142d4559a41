"""Whole queries on real function processes, while objects of the exchange vanish or rot in a folder and on SeaweedFS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.platform.local import LocalPlatform
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState
from frazil_functions.storage import Store, open_store
from frazil_functions.task import ExchangeInput, TaskEvent, TaskRequest
from support.parity import assert_same
from support.seaweed import SeaweedFS

TINY = Settings(
    start_small=False, max_rows_per_split=10, broadcast_limit_bytes=0, inline_limit_bytes=0, retry_backoff_s=0.01
)


class _Losing:
    """A local platform; before the second task of a stage is sent, an object that it reads is lost, once a stage."""

    shares_files = True

    def __init__(self, inner: LocalPlatform, store: Store, *, damaged: bool) -> None:
        self._inner = inner
        self._store = store
        self._damaged = damaged
        self._read: dict[int, int] = {}
        self.lost: list[str] = []

    @property
    def max_in_flight(self) -> int:
        return self._inner.max_in_flight

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        keys = [block.key for given in request.inputs if isinstance(given, ExchangeInput) for block in given.blocks]
        if keys:
            sent = self._read[request.stage] = self._read.get(request.stage, 0) + 1
            if sent == 2:
                self._lose(keys[0])
        async with contextlib.aclosing(self._inner.invoke(request)) as events:
            async for event in events:
                yield event

    def _lose(self, key: str) -> None:
        self.lost.append(key)
        data = self._store.get(key)
        self._store.delete([key])
        if self._damaged:
            self._store.put(key, [bytes(byte ^ 1 for byte in data)])

    def status(self) -> PlatformStatus:
        return self._inner.status()

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.fixture(params=["folder", "seaweed"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """URL of an exchange store, and its options."""
    if request.param == "folder":
        return str(tmp_path / "store"), {}
    server: SeaweedFS = request.getfixturevalue("seaweed")
    return server.url(f"lost-objects/{tmp_path.name}"), server.storage_options


@pytest.mark.parametrize("damaged", [False, True], ids=["gone", "damaged"])
@pytest.mark.parametrize("kind", ["sort", "groups"])
@pytest.mark.parametrize("reuse", ["off", "tasks"])
async def test_lost_objects_cost_the_tasks_that_wrote_them_and_the_answer_stays(
    tmp_path: Path, place: tuple[str, dict[str, str]], kind: str, damaged: bool, reuse: Literal["off", "tasks"]
) -> None:
    pl.DataFrame({"k": [n % 7 for n in range(50)], "x": [n * 7 % 50 for n in range(50)]}).write_parquet(
        tmp_path / "t.parquet"
    )
    table = pl.scan_parquet(tmp_path / "t.parquet")
    groups = table.group_by("k").agg(pl.col("x").sum(), pl.col("x").median().alias("m")).sort("k")
    query = table.sort("x") if kind == "sort" else groups
    url, options = place
    store = open_store(url, options)
    inner = LocalPlatform(max_functions=1, store_url=url, store_options=options)
    platform = _Losing(inner, store, damaged=damaged)
    coordinator = Coordinator(settings=replace(TINY, reuse=reuse), platform=platform, store=store)
    try:
        accepted = await coordinator.submit(query.serialize())
        status = await coordinator.wait(accepted.id, timeout_s=60.0)
        assert status.state == QueryState.SUCCEEDED, status.error
        profile = cast("Profile", coordinator.profile(accepted.id))
        assert sum(stage["lost"] for stage in profile["stages"]) == len(platform.lost) >= 1
        answer = pl.concat([block async for block in coordinator.result(status.id)])
        assert_same(answer, query.collect(), ordered=True)
    finally:
        await coordinator.aclose()
        await inner.aclose()
    assert store.list("exchange") == []
