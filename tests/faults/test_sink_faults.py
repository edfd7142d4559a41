"""Sinks while attempts are lost, delivered twice, cancelled, and while the coordinator dies: all of the files or none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import cast

import polars as pl
import pytest

import frazil
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.platform.base import Platform
from frazil_coordinator.platform.knative import KnativePlatform
from frazil_coordinator.platform.local import LocalPlatform
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.storage import open_store
from frazil_functions.task import Started, TaskEvent, TaskRequest
from support.fault_table import Row, Strikes, rows
from support.faults import faulty_ingress
from support.functions import KEY, function_process, never_done
from support.parity import assert_same
from support.polling import eventually

TINY = Settings(
    start_small=False, max_rows_per_split=10, inline_limit_bytes=0, retry_backoff_s=0.01, max_platform_failures=4
)
ROWS = 60


@pytest.fixture
def table(tmp_path: Path) -> pl.LazyFrame:
    pl.DataFrame({"n": range(ROWS), "k": [n % 3 for n in range(ROWS)]}).write_parquet(tmp_path / "t.parquet")
    (tmp_path / "out").mkdir()
    return pl.scan_parquet(tmp_path / "t.parquet")


@pytest.fixture
def slow(table: pl.LazyFrame) -> pl.LazyFrame:
    """The same rows, but a task takes some 100 ms before it writes."""
    heavy = table.with_columns(i=pl.int_ranges(0, 300_000)).explode("i")
    return heavy.filter(pl.col("i").sqrt() == 0).select("n", "k")


class _SharedDisk(KnativePlatform):
    """Functions behind a URL that are on this machine after all."""

    @property
    def shares_files(self) -> bool:
        return True


class _Killing(LocalPlatform):
    """Kills the function of the first attempts of some tasks of the stage that writes, as soon as they have started."""

    victims: frozenset[int] = frozenset()
    attempts = 1
    hits = 0

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        hit = request.sink is not None and request.task in self.victims and request.attempt < self.attempts
        async with contextlib.aclosing(super().invoke(never_done(request) if hit else request)) as events:
            async for event in events:
                if hit and isinstance(event, Started):
                    self.hits += 1
                    (pid,) = self.pids()
                    os.kill(pid, signal.SIGKILL)
                yield event


@contextlib.asynccontextmanager
async def _coordinator(platform: Platform, folder: Path) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(settings=TINY, platform=platform, store=open_store(str(folder)), sweep_after_s=(0.05, 0.3))
    try:
        yield coordinator
    finally:
        await coordinator.aclose()


@contextlib.asynccontextmanager
async def _killing(folder: Path, victims: set[int], attempts: int = 1) -> AsyncIterator[tuple[Coordinator, _Killing]]:
    platform = _Killing(max_functions=1, store_url=str(folder))
    platform.victims, platform.attempts = frozenset(victims), attempts
    try:
        async with _coordinator(platform, folder) as coordinator:
            yield coordinator, platform
    finally:
        await platform.aclose()


async def _run(coordinator: Coordinator, query: pl.LazyFrame) -> tuple[QueryStatus, Profile]:
    accepted = await coordinator.submit(query.serialize())
    status = await coordinator.wait(accepted.id, timeout_s=90.0)
    return status, cast("Profile", coordinator.profile(accepted.id))


def _lake(folder: Path) -> str:
    return f"file://{folder}/out/lake/"


def left(folder: Path) -> list[Path]:
    """Return what is below the folder that holds the target, staged files too."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "t.parquet" and "store" not in path.parts]


@pytest.mark.parametrize("target", ["folder", "keys"])
async def test_a_function_killed_while_it_writes_costs_an_attempt_and_its_files_are_not_seen(
    tmp_path: Path, slow: pl.LazyFrame, target: str
) -> None:
    place = _lake(tmp_path) if target == "folder" else pl.PartitionBy(tmp_path / "out" / "lake", key="k")
    async with _killing(tmp_path / "store", {0, 1}) as (coordinator, platform):
        status, profile = await _run(coordinator, slow.sink_parquet(place, lazy=True))
        assert status.state is QueryState.SUCCEEDED, status.error
        assert platform.hits >= 1
        last = profile["stages"][-1]
        assert last["attempts"] == last["tasks"] + platform.hits
    read = pl.read_parquet(f"{tmp_path}/out/lake/")
    assert_same(read, slow.collect(engine="streaming"), ordered=target == "folder")
    assert {path.parent.name for path in left(tmp_path)} == ({"lake"} if target == "folder" else {"k=0", "k=1", "k=2"})


async def test_a_task_that_kills_every_function_leaves_nothing_to_see(tmp_path: Path, slow: pl.LazyFrame) -> None:
    async with _killing(tmp_path / "store", {3}, attempts=1000) as (coordinator, _):
        status, _ = await _run(coordinator, slow.sink_parquet(_lake(tmp_path), lazy=True))
        assert status.state is QueryState.FAILED
    assert left(tmp_path) == []
    assert not (tmp_path / "out" / "lake").exists()


@pytest.mark.parametrize(
    "row", [row for row in rows("processes") if row.at == "invoke" and row.objects and row.victims == "every second"]
)
async def test_what_networks_do_to_attempts_is_not_seen_in_the_files(tmp_path: Path, table: pl.LazyFrame, row: Row) -> None:
    """Of the fault table, the rows in which a file is written twice."""
    with contextlib.ExitStack() as stack:
        env = {"FRAZIL_STORE_URL": str(tmp_path / "store")}
        for name in ("one", "two"):
            (tmp_path / "pods" / name).mkdir(parents=True)
        pods = [stack.enter_context(function_process(tmp_path / "pods" / name, env=env)) for name in ("one", "two")]
        urls = [f"http://127.0.0.1:{pod.port}/" for pod in pods]
        async with contextlib.AsyncExitStack() as stack_async:
            ingress = await stack_async.enter_async_context(faulty_ingress(urls))
            ingress.strikes = Strikes(row)
            platform = _SharedDisk(ingress.url, (KEY,), max_in_flight=2)
            stack_async.push_async_callback(platform.aclose)
            coordinator = await stack_async.enter_async_context(_coordinator(platform, tmp_path / "store"))
            status, _ = await _run(coordinator, table.sink_csv(_lake(tmp_path), lazy=True))
            assert status.state is QueryState.SUCCEEDED, status.error
            assert ingress.strikes.struck
    assert_same(pl.read_csv(f"{tmp_path}/out/lake/*.csv"), table.collect(), ordered=True)
    assert len([path for path in left(tmp_path) if path.suffix == ".csv"]) == 6


async def test_a_cancelled_sink_leaves_nothing_also_of_attempts_that_end_later(tmp_path: Path, slow: pl.LazyFrame) -> None:
    platform = LocalPlatform(max_functions=2, store_url=str(tmp_path / "store"))
    try:
        async with _coordinator(platform, tmp_path / "store") as coordinator:
            accepted = await coordinator.submit(slow.sink_parquet(_lake(tmp_path), lazy=True).serialize())
            async for event in coordinator.events(accepted.id):
                if any(stage.done for stage in event.status.progress):
                    break
            status = await coordinator.cancel(accepted.id)
            assert status.state is QueryState.CANCELLED
            assert not (tmp_path / "out" / "lake").exists()
            await asyncio.to_thread(eventually, lambda: not left(tmp_path), "nothing is staged")
    finally:
        await platform.aclose()
    assert left(tmp_path) == []


DIES = """
import os, signal, sys
import polars as pl
import frazil
from frazil_functions.storage import FolderStore

install, left = FolderStore.install, int(sys.argv[3])

def dying(self, source, target, size):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    install(self, source, target, size)

if __name__ == "__main__":
    FolderStore.install = dying
    import frazil_coordinator.publication.pending as pending
    pending._AT_ONCE = 1
    settings = frazil.Settings(start_small=False, max_rows_per_split=10)
    with frazil.local(1, settings=settings) as engine:
        pl.scan_parquet(sys.argv[1]).sink_parquet(sys.argv[2], engine=engine)
"""


@pytest.mark.parametrize("installed", [0, 3])
def test_a_coordinator_killed_after_the_commit_is_finished_by_the_next_sink_beside_it(
    tmp_path: Path, table: pl.LazyFrame, installed: int
) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    lake = tmp_path / "out" / "lake"
    command = [sys.executable, str(tmp_path / "dies.py"), str(tmp_path / "t.parquet"), f"{lake}/", str(installed)]
    assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
    assert len(list(lake.glob("*"))) == installed
    (manifest,) = (tmp_path / "out").glob(".frazil-staging/*/manifest.json")
    (tmp_path / "out" / "other").mkdir()
    with frazil.local(1) as engine:
        table.head(1).sink_parquet(f"{tmp_path}/out/other/x.parquet", engine=engine)
    assert not manifest.exists()
    assert not (tmp_path / "out" / ".frazil-staging").exists()
    assert_same(pl.read_parquet(f"{lake}/"), table.collect(), ordered=True)
