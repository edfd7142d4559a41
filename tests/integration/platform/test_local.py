"""The pool of function processes: how many there are, which one is taken, and when they go. Real processes throughout."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.platform.local import LocalPlatform
from frazil_functions.errors import (
    CancelledQueryError,
    FunctionLostError,
    OutOfMemoryError,
    ProtocolError,
    QueryError,
    from_wire,
)
from frazil_functions.task import Failed, Output, Started, Succeeded
from support.polling import eventually_async
from support.processes import alive
from support.tasks import descriptor_of, endless_plan, events_of, task_request


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[LocalPlatform]:
    one = LocalPlatform(max_functions=2, store_url=str(tmp_path / "store"), log_dir=tmp_path / "log")
    yield one
    await one.aclose()


async def error_of(platform: LocalPlatform, plan: pl.LazyFrame) -> None:
    """Raise the error of a task, whether the function told of it or the platform found out."""
    (*_, last) = await events_of(platform, task_request(plan))
    assert isinstance(last, Failed)
    raise from_wire(last.error)


async def test_nothing_starts_before_the_first_task(platform: LocalPlatform, tmp_path: Path) -> None:
    assert platform.status() == PlatformStatus(functions=0, busy=0, started_total=0, died_total=0)
    assert platform.max_in_flight == 2
    assert not (tmp_path / "log").exists()


async def test_a_warm_process_is_used_again(platform: LocalPlatform) -> None:
    first = await events_of(platform, task_request())
    second = await events_of(platform, task_request())
    assert (first[0], second[0]) == (Started(cold_start=True), Started(cold_start=False))
    assert platform.status() == PlatformStatus(functions=1, busy=0, started_total=1, died_total=0)


async def test_the_process_used_last_is_taken_first_so_that_the_others_can_end(tmp_path: Path) -> None:
    platform = LocalPlatform(max_functions=2, store_url=str(tmp_path), idle_s=0.5)
    try:
        async with asyncio.TaskGroup() as group:
            for task in range(2):
                group.create_task(events_of(platform, task_request(task=task)))
        # Taken in turn, each would be used again before its time is up, and both would stay for ever.
        async with asyncio.timeout(30):
            while platform.status().functions == 2:
                await descriptor_of(platform, task_request())
        await descriptor_of(platform, task_request())
        assert platform.status() == PlatformStatus(functions=1, busy=0, started_total=2, died_total=0)
    finally:
        await platform.aclose()


async def test_there_are_never_more_processes_than_allowed(platform: LocalPlatform) -> None:
    most = 0

    async def run(task: int) -> None:
        nonlocal most
        async for _ in platform.invoke(task_request(task=task)):
            most = max(most, len(platform.pids()), platform.status().busy)

    async with asyncio.TaskGroup() as group:
        for task in range(20):
            group.create_task(run(task))
    assert most == 2
    assert platform.status() == PlatformStatus(functions=2, busy=0, started_total=2, died_total=0)


async def test_a_process_is_free_again_before_its_last_event_is_read(platform: LocalPlatform) -> None:
    held = platform.invoke(task_request())
    assert [type(await anext(held)), type(await anext(held))] == [Started, Succeeded]
    assert platform.status().busy == 0
    await held.aclose()


async def test_a_cancelled_task_frees_its_slot_for_the_next_one(tmp_path: Path) -> None:
    platform = LocalPlatform(max_functions=1, store_url=str(tmp_path))
    try:
        events = platform.invoke(task_request(endless_plan()))
        await anext(events)
        (cancelled,) = platform.pids()
        await events.aclose()
        await descriptor_of(platform, task_request())
        assert not alive(cancelled)
        assert platform.status() == PlatformStatus(functions=1, busy=0, started_total=2, died_total=0)
    finally:
        await platform.aclose()


async def test_idle_processes_end_and_come_back_on_demand(tmp_path: Path) -> None:
    platform = LocalPlatform(max_functions=2, store_url=str(tmp_path), idle_s=0.05)
    try:
        async with asyncio.TaskGroup() as group:
            for task in range(2):
                group.create_task(events_of(platform, task_request(task=task)))
        pids = platform.pids()
        await eventually_async(lambda: platform.status().functions == 0, "no process when idle")
        assert not any(alive(pid) for pid in pids)
        assert platform.status().died_total == 0
        assert (await events_of(platform, task_request()))[0] == Started(cold_start=True)
    finally:
        await platform.aclose()


async def test_closing_ends_all_processes_even_with_tasks_running_and_twice_at_once(platform: LocalPlatform) -> None:
    events = platform.invoke(task_request(endless_plan()))
    await anext(events)
    await events_of(platform, task_request())
    pids = platform.pids()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(platform.aclose())
    await platform.aclose()
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)
    assert platform.status().functions == 0
    with pytest.raises((CancelledQueryError, FunctionLostError)):
        async for _ in events:  # a heartbeat may have come before the end
            pass


async def test_a_closed_platform_takes_no_task(platform: LocalPlatform) -> None:
    await platform.aclose()
    with pytest.raises(CancelledQueryError, match="closed"):
        await events_of(platform, task_request())


async def test_tasks_that_wait_for_a_slot_end_when_the_platform_is_closed(tmp_path: Path) -> None:
    platform = LocalPlatform(max_functions=1, store_url=str(tmp_path))
    running = platform.invoke(task_request(endless_plan()))
    await anext(running)
    waiting = asyncio.ensure_future(events_of(platform, task_request(task=1)))
    await asyncio.sleep(0)
    await platform.aclose()
    with pytest.raises((CancelledQueryError, FunctionLostError)):
        await anext(running)
    with pytest.raises(CancelledQueryError, match="closed"):
        await waiting


async def test_a_failing_query_does_not_cost_the_process(platform: LocalPlatform) -> None:
    with pytest.raises(QueryError, match="strict integer parsing failed"):
        await error_of(platform, pl.LazyFrame({"x": ["a"]}).select(pl.col("x").str.to_integer()))
    await descriptor_of(platform, task_request())
    assert platform.status().started_total == 1


async def test_a_task_over_its_memory_limit_fails_as_such_and_costs_the_process(tmp_path: Path) -> None:
    platform = LocalPlatform(max_functions=1, store_url=str(tmp_path), memory_limit_bytes=300 * 2**20)
    try:
        numbers = pl.LazyFrame({"x": [0]}).select(pl.int_range(0, 300_000_000, dtype=pl.Int64).alias("x"))
        large = numbers.select(pl.col("x").reverse().sort(), pl.col("x").shuffle().alias("y"))
        with pytest.raises(OutOfMemoryError, match="memory"):
            await error_of(platform, large)
        assert (await events_of(platform, task_request()))[0] == Started(cold_start=True)
    finally:
        await platform.aclose()


async def test_a_process_that_cannot_start_is_an_error_with_its_own_words_and_no_endless_loop(tmp_path: Path) -> None:
    platform = LocalPlatform(max_functions=1, store_url="nonsense://bucket")
    try:
        for expected in (FunctionLostError, FunctionLostError, ProtocolError, ProtocolError):
            with pytest.raises(expected, match=r"(?s)ended before it answered: exit code \d+\n.*nonsense"):
                await events_of(platform, task_request())
        assert platform.status() == PlatformStatus(functions=0, busy=0, started_total=4, died_total=4)
    finally:
        await platform.aclose()


async def test_what_functions_write_goes_to_files_and_not_to_the_terminal(
    platform: LocalPlatform, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    await events_of(platform, task_request())
    await platform.aclose()
    assert len(list((tmp_path / "log").iterdir())) == 1
    assert capfd.readouterr() == ("", "")


async def test_temporary_logs_go_with_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folders() -> list[Path]:
        return list(tmp_path.glob("frazil-functions-*"))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    platform = LocalPlatform(max_functions=1, store_url=str(tmp_path / "store"))
    await events_of(platform, task_request())
    assert len(found := folders()) == 1
    await platform.aclose()
    assert (len(found), folders()) == (1, [])


def test_it_works_on_a_loop_of_another_thread(tmp_path: Path) -> None:
    async def main() -> PlatformStatus:
        platform = LocalPlatform(max_functions=1, store_url=str(tmp_path), idle_s=0.05)
        await descriptor_of(platform, task_request())
        await eventually_async(lambda: platform.status().functions == 0, "the idle process ends")
        await descriptor_of(platform, task_request())
        await platform.aclose()
        return platform.status()

    found: list[PlatformStatus] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(main())))
    thread.start()
    thread.join()
    assert found == [PlatformStatus(functions=0, busy=0, started_total=2, died_total=0)]


async def test_a_module_beside_the_user_does_not_replace_ours(
    platform: LocalPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "polars.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    await descriptor_of(platform, task_request())


async def test_large_outputs_go_to_the_store_and_not_into_the_answer(platform: LocalPlatform) -> None:
    plan = pl.LazyFrame({"x": range(100_000)})
    found = await descriptor_of(platform, task_request(plan, output=Output(kind="single", prefix="p")))
    assert found.key is not None
    assert found.inline is None
    assert sum(block.rows for block in found.blocks) == 100_000
