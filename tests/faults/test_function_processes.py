"""What goes wrong with function processes, done to real ones: killed, frozen, answering badly, orphaned, asked twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.platform import processes
from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.platform.local import LocalPlatform
from frazil_functions.errors import FunctionBusyError, FunctionLostError, PlatformError
from frazil_functions.storage import open_store
from frazil_functions.task import Descriptor, Heartbeat, Output, Started
from support.polling import eventually, eventually_async
from support.processes import alive
from support.tasks import descriptor_of, endless_plan, events_of, task_request


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[LocalPlatform]:
    one = LocalPlatform(max_functions=2, store_url=str(tmp_path / "store"))
    yield one
    await one.aclose()


async def kill_in_the_middle_of_a_task(platform: LocalPlatform) -> None:
    """Raise what the caller of a task sees whose process is killed."""
    async for event in platform.invoke(task_request(endless_plan(), heartbeat_s=0.5)):
        if isinstance(event, Heartbeat):
            (pid,) = platform.pids()
            os.kill(pid, signal.SIGKILL)


async def test_a_killed_process_is_a_lost_function_and_the_next_task_gets_a_new_one(platform: LocalPlatform) -> None:
    with pytest.raises(FunctionLostError, match="in the middle of a task: killed by SIGKILL, perhaps by the system"):
        await kill_in_the_middle_of_a_task(platform)
    assert platform.status() == PlatformStatus(functions=0, busy=0, started_total=1, died_total=1)
    assert (await events_of(platform, task_request()))[0] == Started(cold_start=True)
    assert platform.status() == PlatformStatus(functions=1, busy=0, started_total=2, died_total=1)


async def test_the_error_of_a_killed_process_names_its_memory_limit(tmp_path: Path) -> None:
    platform = LocalPlatform(max_functions=1, store_url=str(tmp_path), memory_limit_bytes=2**30)
    try:
        with pytest.raises(FunctionLostError, match="its limit is 1073741824 bytes"):
            await kill_in_the_middle_of_a_task(platform)
    finally:
        await platform.aclose()


async def test_a_process_killed_while_idle_is_replaced_without_an_error(platform: LocalPlatform) -> None:
    await events_of(platform, task_request())
    (pid,) = platform.pids()
    os.kill(pid, signal.SIGKILL)
    await eventually_async(lambda: platform.status().functions == 0, "its end is noticed")
    await descriptor_of(platform, task_request())
    assert platform.status() == PlatformStatus(functions=1, busy=0, started_total=2, died_total=1)


async def test_a_frozen_process_is_given_up_and_killed(platform: LocalPlatform) -> None:
    events = platform.invoke(task_request(endless_plan(), heartbeat_s=0.1))
    await anext(events)
    (pid,) = platform.pids()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(FunctionLostError, match="function was silent for"):
        async for _ in events:
            pass
    await eventually_async(lambda: not alive(pid), "the frozen process is killed")
    await descriptor_of(platform, task_request())


async def test_a_process_that_is_told_to_end_by_others_finishes_its_task_and_is_replaced(platform: LocalPlatform) -> None:
    events = platform.invoke(task_request(pl.LazyFrame({"x": range(1000)})))
    await anext(events)
    (pid,) = platform.pids()
    os.kill(pid, signal.SIGTERM)
    assert len([event async for event in events]) >= 1
    await eventually_async(lambda: not alive(pid), "the process ends after its task")
    await eventually_async(lambda: platform.status().functions == 0, "its end is noticed")
    await descriptor_of(platform, task_request())


async def test_one_process_killed_leaves_the_task_of_another_alone(platform: LocalPlatform) -> None:
    doomed, other = platform.invoke(task_request(endless_plan())), platform.invoke(task_request(task=1))
    await anext(doomed)
    (pid,) = platform.pids()
    await anext(other)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(FunctionLostError):
        await anext(doomed)
    assert len([event async for event in other]) >= 1


async def test_the_same_event_twice_gives_two_objects_with_the_same_content(platform: LocalPlatform, tmp_path: Path) -> None:
    request = task_request(
        pl.LazyFrame({"x": range(50_000)}), output=Output(kind="single", prefix="x", inline_limit_bytes=0)
    )
    first, second = await descriptor_of(platform, request), await descriptor_of(platform, request)
    store = open_store(str(tmp_path / "store"), {})

    def content(found: Descriptor) -> list[bytes]:
        assert found.key is not None
        return [bytes(store.get_range(found.key, block.offset, block.length)) for block in found.blocks]

    assert first.key != second.key
    assert first.blocks == second.blocks
    assert content(first) == content(second) != []


async def test_a_second_task_sent_to_a_busy_process_is_refused_with_503(platform: LocalPlatform) -> None:
    events = platform.invoke(task_request(endless_plan()))
    await anext(events)
    (function,) = platform._functions
    with pytest.raises(FunctionBusyError, match="busy") as caught:
        async for _ in platform._transport.send(function.url, task_request(task=1)):
            pass
    assert caught.value.where == {"retry_after_s": "1"}
    await events.aclose()


async def test_processes_are_counted_by_the_system_too_while_tasks_are_cancelled_and_killed(platform: LocalPlatform) -> None:
    seen: set[int] = set()
    most = 0

    def look() -> None:
        nonlocal most
        seen.update(platform.pids())
        most = max(most, sum(alive(pid) for pid in seen))

    async def run(task: int) -> None:
        events = platform.invoke(task_request(endless_plan(), task=task))
        await anext(events)
        look()
        await events.aclose()
        look()

    async with asyncio.TaskGroup() as group:
        for task in range(6):
            group.create_task(run(task))
    assert (len(seen), most) == (6, 2)


@pytest.mark.parametrize(
    ("behaviour", "expected", "words"),
    [
        ("busy", FunctionBusyError, "answered 503: this function is busy"),
        ("no-last-line", FunctionLostError, "ended without a last event"),
        ("reset", FunctionLostError, "stream broke"),
        ("silent", FunctionLostError, "silent for"),
        ("exits", FunctionLostError, r"in the middle of a task: exit code 3\ngiving up"),
    ],
)
async def test_a_process_that_misbehaves_is_replaced_and_the_next_task_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, expected: type[PlatformError], words: str
) -> None:
    program = ("-P", "-m", "support.fake_function", behaviour, str(tmp_path / "marker"))
    monkeypatch.setattr(processes, "_ARGUMENTS", program)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    platform = LocalPlatform(max_functions=1, store_url=str(tmp_path))
    try:
        with pytest.raises(expected, match=words):
            await events_of(platform, task_request(heartbeat_s=1.0 if behaviour == "silent" else 5.0))
        await descriptor_of(platform, task_request(attempt=1))
        died = int(behaviour == "exits")
        assert platform.status() == PlatformStatus(functions=1, busy=0, started_total=2, died_total=died)
    finally:
        await platform.aclose()


PARENT = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from frazil_coordinator.platform.local import LocalPlatform
from support.tasks import endless_plan, task_request

async def main() -> None:
    platform = LocalPlatform(max_functions=2, store_url=sys.argv[1])
    busy, idle = platform.invoke(task_request(endless_plan())), platform.invoke(task_request())
    await anext(busy)
    async for _ in idle:
        pass
    print(*platform.pids(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", PARENT, str(tmp_path), tests]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.kill()
    eventually(lambda: not any(alive(pid) for pid in pids), "functions end with their parent", within_s=3.0)
