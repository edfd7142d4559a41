"""Whole queries on real function processes, while attempts are lost: the answer stays, only the count of attempts grows."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import cast, get_args

import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.platform.base import Platform, PlatformStatus
from frazil_coordinator.platform.knative import KnativePlatform
from frazil_coordinator.platform.local import LocalPlatform
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.errors import FunctionLostError
from frazil_functions.storage import open_store
from frazil_functions.task import Started, TaskEvent, TaskRequest
from support.faults import Fault, faulty_ingress
from support.functions import KEY, function_process
from support.parity import assert_same

TINY = Settings(
    start_small=False,
    max_rows_per_split=10,
    broadcast_limit_bytes=0,
    inline_limit_bytes=0,
    retry_backoff_s=0.01,
    max_platform_failures=4,
)


@pytest.fixture
def query(tmp_path: Path) -> pl.LazyFrame:
    """Scan, shuffle, aggregate, sort: three stages of several tasks."""
    pl.DataFrame({"k": [n % 7 for n in range(50)], "x": range(50)}).write_parquet(tmp_path / "t.parquet")
    table = pl.scan_parquet(tmp_path / "t.parquet")
    return table.group_by("k").agg(pl.col("x").sum(), pl.col("x").median().alias("m")).sort("k")


@pytest.fixture
def slow(query: pl.LazyFrame, tmp_path: Path) -> pl.LazyFrame:
    """The same with tasks of some 100 ms, so that a function told of is killed before it can answer."""
    table = pl.scan_parquet(tmp_path / "t.parquet").with_columns(y=pl.col("x").repeat_by(500_000)).explode("y")
    return table.group_by("k").agg((pl.col("y").sqrt() % 11).sum()).sort("k")


@contextlib.asynccontextmanager
async def _coordinator(platform: Platform, folder: Path) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(settings=TINY, platform=platform, store=open_store(str(folder)))
    try:
        yield coordinator
    finally:
        await coordinator.aclose()


async def _run(coordinator: Coordinator, query: pl.LazyFrame) -> tuple[QueryStatus, int, int]:
    """Run `query` to its end; return its status, its tasks and its attempts."""
    accepted = await coordinator.submit(query.serialize())
    status = await coordinator.wait(accepted.id, timeout_s=60.0)
    stages = cast("Profile", coordinator.profile(accepted.id))["stages"]
    return status, sum(stage["tasks"] for stage in stages), sum(stage["attempts"] for stage in stages)


async def _answer(coordinator: Coordinator, status: QueryStatus) -> pl.DataFrame:
    return pl.concat([block async for block in coordinator.result(status.id)])


def _objects(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class _Killing:
    """A local platform that kills the function of the first attempt of some tasks, as soon as it has started."""

    def __init__(self, inner: LocalPlatform, victims: set[tuple[int, int]], attempts: int = 1) -> None:
        self._inner = inner
        self._victims = victims
        self._attempts = attempts
        self.lost = 0
        """Attempts that ended with their function."""

    @property
    def shares_files(self) -> bool:
        return True

    @property
    def max_in_flight(self) -> int:
        return self._inner.max_in_flight

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        hit = (request.stage, request.task) in self._victims and request.attempt < self._attempts
        try:
            async with contextlib.aclosing(self._inner.invoke(request)) as events:
                async for event in events:
                    if hit and isinstance(event, Started):
                        (pid,) = self._inner.pids()
                        os.kill(pid, signal.SIGKILL)
                    yield event
        except FunctionLostError:
            self.lost += 1
            raise

    def status(self) -> PlatformStatus:
        return self._inner.status()

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextlib.asynccontextmanager
async def _killing(
    folder: Path, victims: set[tuple[int, int]], attempts: int = 1
) -> AsyncIterator[tuple[Coordinator, _Killing]]:
    inner = LocalPlatform(max_functions=1, store_url=str(folder))
    platform = _Killing(inner, victims, attempts)
    try:
        async with _coordinator(platform, folder) as coordinator:
            yield coordinator, platform
    finally:
        await inner.aclose()


async def test_killing_a_function_in_the_middle_of_a_query_costs_one_attempt(tmp_path: Path, slow: pl.LazyFrame) -> None:
    folder = tmp_path / "store"
    async with _killing(folder, {(0, 1), (0, 3)}) as (coordinator, platform):
        status, tasks, attempts = await _run(coordinator, slow)
        assert status.state == QueryState.SUCCEEDED
        assert platform.lost == 2
        assert attempts == tasks + 2
        assert_same(await _answer(coordinator, status), slow.collect(), ordered=True)
    assert _objects(folder) == []


async def test_a_task_that_kills_every_function_fails_with_its_history_and_leaves_nothing(
    tmp_path: Path, slow: pl.LazyFrame
) -> None:
    folder = tmp_path / "store"
    async with _killing(folder, {(0, 3)}, attempts=1000) as (coordinator, _):
        status, _, _ = await _run(coordinator, slow)
        assert status.state == QueryState.FAILED
        assert status.error is not None
        assert status.error.kind == "function_lost"
        assert "attempt" in status.error.message
    assert _objects(folder) == []


@pytest.mark.parametrize("fault", get_args(Fault))
async def test_faults_of_network_and_platform_change_nothing_but_the_attempts(
    tmp_path: Path, query: pl.LazyFrame, fault: Fault
) -> None:
    folder = tmp_path / "store"
    hit: set[str] = set()

    def hits(event: str) -> bool:
        """Pick the first attempt of every second task."""
        _, stage, task, attempt = event.split("/")
        if attempt != "0" or (int(stage) + int(task)) % 2:
            return False
        hit.add(event)
        return True

    with contextlib.ExitStack() as stack:
        env = {"FRAZIL_STORE_URL": str(folder)}
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        pods = [stack.enter_context(function_process(tmp_path / name, env=env)) for name in ("one", "two")]
        urls = [f"http://127.0.0.1:{pod.port}/" for pod in pods]
        async with contextlib.AsyncExitStack() as stack_async:
            url = await stack_async.enter_async_context(faulty_ingress(urls, fault, hits))
            platform = KnativePlatform(url, (KEY,), max_in_flight=2)
            stack_async.push_async_callback(platform.aclose)
            coordinator = await stack_async.enter_async_context(_coordinator(platform, folder))
            status, tasks, attempts = await _run(coordinator, query)
            assert status.state == QueryState.SUCCEEDED, status.error
            assert len(hit) >= tasks // 2
            assert attempts == tasks + (0 if fault == "delivered twice" else len(hit))
            assert_same(await _answer(coordinator, status), query.collect(), ordered=True)
    assert _objects(folder) == []
