"""Stopping the server: what runs gets its grace, and clients their results."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import polars as pl
import pytest

from frazil_coordinator.api.server import _listen, serve
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.retention import SMALL_RESULT_BYTES
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, decode_status
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, Gate, plan_in_stages
from support.polling import eventually_async

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()


@asynccontextmanager
async def served(
    folder: Path, *, grace_s: float
) -> AsyncIterator[tuple[httpx.AsyncClient, Coordinator, Gate, asyncio.Task[None]]]:
    store = FolderStore(folder)
    platform = FragmentPlatform(store)
    platform.before = gate = Gate()
    coordinator = Coordinator(settings=Settings(), platform=platform, store=store, planner=plan_in_stages(1))
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        server = group.create_task(serve(coordinator, port=0, grace_s=grace_s, on_started=url.set_result))
        async with httpx.AsyncClient(base_url=await url, timeout=60.0) as client:
            yield client, coordinator, gate, server
        server.cancel()


async def submit(client: httpx.AsyncClient, gate: Gate) -> str:
    location = (await client.post("/v1/queries", content=PLAN)).headers["location"]
    await gate.reached.wait()
    return str(location)


async def test_a_query_that_ends_within_the_grace_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path, grace_s=60) as (client, _, gate, server):
        location = await submit(client, gate)
        os.kill(os.getpid(), signal.SIGTERM)
        while (await client.get("/readyz")).status_code != 503:
            pass
        assert (await client.post("/v1/queries", content=PLAN)).status_code == 503
        gate.open.set()
        assert decode_status((await client.get(location, params={"wait_s": 20})).content).state is QueryState.SUCCEEDED
        result = await client.get(f"{location}/result")
        assert pl.read_ipc_stream(io.BytesIO(result.content))["a"].to_list() == [1, 2, 3]
        await server


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]], ids=["SIGINT", "SIGTERM twice"])
async def test_who_is_in_a_hurry_ends_what_runs(tmp_path: Path, signals: list[signal.Signals]) -> None:
    async with served(tmp_path, grace_s=60) as (client, coordinator, gate, server):
        await submit(client, gate)
        for one in signals:
            os.kill(os.getpid(), one)
            await asyncio.sleep(0)
        await server
        assert [status.state for status in coordinator.list()] == [QueryState.CANCELLED]


async def test_what_runs_when_the_grace_is_over_is_cancelled_and_waiting_clients_are_told(tmp_path: Path) -> None:
    async with served(tmp_path, grace_s=0.05) as (client, _, gate, server):
        location = await submit(client, gate)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(client.get(location, params={"wait_s": 60}))
            events = group.create_task(client.get(f"{location}/events"))
            await eventually_async(lambda: True, "")
            os.kill(os.getpid(), signal.SIGTERM)
        assert decode_status(waiting.result().content).state is QueryState.CANCELLED
        assert events.result().text.rstrip().rpartition("\n")[2].startswith('data: {"kind":"state"')
        await server


async def test_a_result_that_is_cut_off_by_the_end_breaks_its_connection_without_a_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large = pl.LazyFrame({"a": range(6 * SMALL_RESULT_BYTES // 8)}).serialize()
    async with served(tmp_path, grace_s=0.05) as (client, _, gate, server):
        gate.open.set()
        location = (await client.post("/v1/queries", content=large)).headers["location"]
        assert decode_status((await client.get(location, params={"wait_s": 20})).content).state is QueryState.SUCCEEDED
        async with client.stream("GET", f"{location}/result") as response:
            chunks = response.aiter_raw()
            await anext(chunks)
            os.kill(os.getpid(), signal.SIGTERM)
            await eventually_async(lambda: not list(tmp_path.rglob("exchange/*/*/*/*/*")), "its objects are deleted")
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in chunks:
                    pass
        await server
    assert "a result broke off" in caplog.messages
    assert [record for record in caplog.records if record.exc_info] == []


async def test_a_port_that_is_taken_is_an_error_of_the_system(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    coordinator = Coordinator(settings=Settings(), platform=FragmentPlatform(store), store=store)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve(coordinator, port=taken.getsockname()[1])
    await coordinator.aclose()


def test_the_body_of_an_answer_does_not_wait_for_its_head_to_be_acknowledged() -> None:
    with _listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
