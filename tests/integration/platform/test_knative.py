"""The Knative platform against real function processes behind one URL, as an ingress would give it.

The ingress here is a small TCP proxy that sends each connection to the next process; what only a cluster can do (starting
pods, queueing) is answered by a fake function in the words that Knative uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.platform.knative import KnativePlatform
from frazil_functions.errors import FunctionBusyError, FunctionLostError, ProtocolError
from frazil_functions.task import Descriptor, Heartbeat, Output, Started
from support.fake_function import Conversation, fake_function
from support.processes import run_process
from support.tasks import descriptor_of, endless_plan, events_of, task_request

KEY = secrets.token_hex(16)


@contextlib.contextmanager
def pod(folder: Path, name: str) -> Iterator[tuple[int, int]]:
    """Run a function process with a pod's environment; give its pid and port. Requests wait until it serves."""
    with contextlib.ExitStack() as stack:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            env = {
                "FRAZIL_FUNCTION_FD": str(listening.fileno()),
                "FRAZIL_STORE_URL": str(folder / "store"),
                "FRAZIL_TASK_KEYS": f"{KEY},an-older-key",
                "POLARS_MAX_THREADS": "1",
            }
            command = [sys.executable, "-P", "-m", "frazil_functions"]
            inherited = (listening.fileno(),)
            run = run_process(command, log=folder / f"{name}.log", env=env, pass_fds=inherited, grace_s=2.0)
            process = stack.enter_context(run)
            port = int(listening.getsockname()[1])
        yield process.pid, port


@contextlib.asynccontextmanager
async def ingress(ports: list[int]) -> AsyncIterator[str]:
    """Give one URL for all `ports`, each connection going to the next."""
    turn = 0

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        port, turn = ports[turn % len(ports)], turn + 1
        try:
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            writer.transport.abort()
            return
        await asyncio.gather(copy(reader, behind_writer), copy(behind_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@contextlib.asynccontextmanager
async def knative(url: str, keys: tuple[str, ...] = (KEY,)) -> AsyncIterator[KnativePlatform]:
    platform = KnativePlatform(url, keys, max_in_flight=4)
    try:
        yield platform
    finally:
        await platform.aclose()


async def kill_in_the_middle_of_a_task(platform: KnativePlatform, pid: int) -> None:
    async for event in platform.invoke(task_request(endless_plan(), heartbeat_s=0.5)):
        if isinstance(event, Heartbeat):
            os.kill(pid, signal.SIGKILL)


async def test_tasks_run_in_the_pods_behind_one_url_and_meet_in_the_store(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        ports = [stack.enter_context(pod(tmp_path, name))[1] for name in ("one", "two")]
        platform = await stack.enter_async_context(knative(await stack.enter_async_context(ingress(ports))))
        output = Output(kind="single", prefix="x", inline_limit_bytes=0)
        found: list[Descriptor] = []

        async def run(task: int) -> None:
            found.append(await descriptor_of(platform, task_request(task=task, output=output)))

        async with asyncio.TaskGroup() as group:
            for task in range(2):
                group.create_task(run(task))
        assert all(each.key is not None and (tmp_path / "store" / each.key).exists() for each in found)
        assert platform.status() == PlatformStatus(functions=0, busy=0, started_total=2, died_total=0)
        assert platform.max_in_flight == 4


async def test_a_killed_pod_is_a_lost_function_and_another_takes_the_next_task(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        (pid, first), (_, second) = (stack.enter_context(pod(tmp_path, name)) for name in ("one", "two"))
        platform = await stack.enter_async_context(knative(await stack.enter_async_context(ingress([first, second]))))
        with pytest.raises(FunctionLostError, match="stream broke"):
            await kill_in_the_middle_of_a_task(platform, pid)
        assert platform.status() == PlatformStatus(functions=0, busy=0, started_total=1, died_total=1)
        assert (await events_of(platform, task_request()))[0] == Started(cold_start=True)


async def test_a_coordinator_with_another_key_is_refused(tmp_path: Path) -> None:
    with pod(tmp_path, "one") as (_, port):
        async with knative(f"http://127.0.0.1:{port}/", keys=("stranger",)) as platform:
            with pytest.raises(ProtocolError, match=r"answered 401.*not signed"):
                await events_of(platform, task_request())
        async with knative(f"http://127.0.0.1:{port}/", keys=("an-older-key",)) as platform:
            await descriptor_of(platform, task_request())


async def test_a_full_queue_of_knative_means_come_back_later() -> None:
    async def full(conversation: Conversation) -> None:
        await conversation.answer(503, b"pending request queue full", {})

    async with fake_function(full) as fake, knative(fake.url) as platform:
        with pytest.raises(FunctionBusyError, match="platform answered 503: pending request queue full"):
            await events_of(platform, task_request())
        assert platform.status().died_total == 0


async def test_a_timeout_of_knative_means_a_lost_function() -> None:
    async def timed_out(conversation: Conversation) -> None:
        await conversation.answer(504, b"activator request timeout", {})

    async with fake_function(timed_out) as fake, knative(fake.url) as platform:
        with pytest.raises(FunctionLostError, match="platform answered 504: activator request timeout"):
            await events_of(platform, task_request())


async def test_status_counts_what_is_in_flight(tmp_path: Path) -> None:
    with pod(tmp_path, "one") as (_, port):
        async with knative(f"http://127.0.0.1:{port}/") as platform:
            events = platform.invoke(task_request())
            await anext(events)
            assert platform.status().busy == 1
            await events.aclose()
            assert platform.status().busy == 0
