"""The app: who is let in, what is answered, and what becomes of a task nobody listens to."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import polars as pl
import pytest

from frazil_functions.app import FunctionApp
from frazil_functions.cloudevent import SIGNATURE_HEADER, encode_task, sign
from frazil_functions.run import run_task
from frazil_functions.settings import FunctionSettings
from frazil_functions.storage import FolderStore
from frazil_functions.task import Failed, Heartbeat, Output, Started, Succeeded, TaskLimits, TaskRequest
from support.functions import KEY, AppCall, GatedStore, exchange_of, placeholder, rows_of, task, whole_file
from support.polling import eventually_async

FRAME = pl.DataFrame({"a": range(10)})
INLINE = Output(kind="single")


class Site:
    """An app, its store, and a task whose reads wait at a gate."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.store = GatedStore(folder / "store")
        self.ended: list[int] = []
        known = FunctionSettings(task_keys=(KEY, "old"), store_url="unused", **settings)  # type: ignore[arg-type]
        self.app = FunctionApp(known, self.store, end_process=self.ended.append)
        FRAME.write_parquet(folder / "x.parquet")
        self.scan = whole_file(folder / "x.parquet", FRAME.height)
        self._written = run_task(task(placeholder(FRAME.schema), self.scan), store=FolderStore(folder / "store"))

    def quick(self) -> TaskRequest:
        return task(placeholder(FRAME.schema), self.scan, output=INLINE)

    def gated(self, *, heartbeat_s: float = 60.0, deadline_unix_s: float | None = None) -> TaskRequest:
        limits = TaskLimits(heartbeat_s=heartbeat_s)
        return task(
            placeholder(FRAME.schema), exchange_of(self._written), limits=limits, deadline_unix_s=deadline_unix_s, attempt=1
        )

    def call(self, request: TaskRequest, *, key: str = KEY) -> AppCall:
        headers, body = encode_task(request, keys=[key], source="/test")
        return AppCall(self.app, headers, body)

    def published(self) -> list[str]:
        return [info.key for info in self.store.list("") if info.key != self._written.key]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_a_task_is_answered_by_what_it_did(site: Site) -> None:
    call = await site.call(site.quick()).run()
    assert call.status == 200
    assert call.headers["content-type"] == "application/x-ndjson"
    first, last = call.events()
    assert first == Started(cold_start=True)
    assert isinstance(last, Succeeded)
    assert rows_of(site.store, last.descriptor).equals(FRAME)


async def test_only_the_first_task_of_a_process_is_a_cold_start(site: Site) -> None:
    await site.call(site.quick()).run()
    call = await site.call(site.quick()).run()
    assert call.events()[0] == Started(cold_start=False)


async def test_a_failed_task_is_still_an_answer(site: Site) -> None:
    call = await site.call(task(placeholder(FRAME.schema).select("zz"), site.scan)).run()
    assert call.status == 200
    last = call.events()[-1]
    assert isinstance(last, Failed)
    assert (last.error.kind, last.error.exception) == ("query", "ColumnNotFoundError")
    assert last.stats.seconds > 0


def changed(request: TaskRequest, header: str, value: str, *, resign: bool) -> tuple[dict[str, str], bytes]:
    headers, body = encode_task(request, keys=[KEY], source="/test")
    headers[header] = value
    if resign:
        headers[SIGNATURE_HEADER] = sign(KEY, headers, body)
    return headers, body


@pytest.mark.parametrize(
    ("header", "value", "resign", "status"),
    [
        (SIGNATURE_HEADER, "v1=00", False, 401),
        ("ce-id", "q/2/5/9", False, 401),
        ("ce-time", "2020-01-01T00:00:00Z", True, 401),
        ("ce-time", "soon", True, 401),
        ("ce-frazildeadline", "2020-01-01T00:00:00Z", True, 408),
        ("ce-type", "dev.frazil.other.v1", True, 400),
        ("ce-id", "q/2/5/9", True, 400),
        ("content-type", "application/json", True, 400),
    ],
)
async def test_what_is_not_a_valid_task_is_refused(site: Site, header: str, value: str, resign: bool, status: int) -> None:
    headers, body = changed(site.quick(), header, value, resign=resign)
    call = await AppCall(site.app, headers, body).run()
    assert call.status == status
    assert msgspec.json.decode(call.body)["message"]
    assert site.app.running == 0


async def test_a_copy_of_an_event_is_not_run_again_and_an_equal_task_is(site: Site) -> None:
    headers, body = encode_task(site.quick(), keys=[KEY], source="/test")
    assert (await AppCall(site.app, headers, body).run()).status == 200
    copy = await AppCall(site.app, headers, body).run()
    assert (copy.status, site.app.running) == (425, 0)
    assert "already" in msgspec.json.decode(copy.body)["message"]
    assert (await site.call(site.quick()).run()).status == 200


async def test_an_event_that_was_refused_because_the_function_was_busy_may_come_again(site: Site) -> None:
    headers, body = encode_task(site.quick(), keys=[KEY], source="/test")
    async with asyncio.TaskGroup() as group:
        group.create_task(site.call(site.gated()).run())
        await eventually_async(site.store.waiting.is_set, "the first task reads")
        assert (await AppCall(site.app, headers, body).run()).status == 503
        site.store.gate.set()
    assert (await AppCall(site.app, headers, body).run()).status == 200


async def test_a_signed_body_that_is_no_task_is_refused(site: Site) -> None:
    headers, _ = encode_task(site.quick(), keys=[KEY], source="/test")
    body = b"\x93\x01\x02\x03"
    headers[SIGNATURE_HEADER] = sign(KEY, headers, body)
    assert (await AppCall(site.app, headers, body).run()).status == 400


async def test_a_task_of_another_version_is_refused(site: Site) -> None:
    plan = placeholder(FRAME.schema)
    polars = await site.call(task(plan, site.scan, polars_version="0.1.0")).run()
    protocol = await site.call(task(plan, site.scan, protocol_version=99)).run()
    assert (polars.status, protocol.status) == (409, 409)
    assert b"polars 0.1.0" in polars.body
    assert b"protocol 99" in protocol.body


async def test_a_key_that_is_being_rotated_out_still_signs(site: Site) -> None:
    assert (await site.call(site.quick(), key="old").run()).status == 200


async def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, max_body_bytes=1000)
    headers, _ = encode_task(site.quick(), keys=[KEY], source="/test")
    slightly = await AppCall(site.app, headers, b"x" * 1001).run()
    announced = await AppCall(site.app, {**headers, "content-length": "1000000"}, b"").run()
    assert (slightly.status, announced.status) == (413, 413)
    assert slightly.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("POST", "/healthz", 405), ("GET", "/", 405), ("GET", "/metrics", 404)],
)
async def test_every_answer_carries_the_marker(site: Site, method: str, path: str, status: int) -> None:
    call = await AppCall(site.app, {}, b"", method=method, path=path).run()
    assert (call.status, call.headers["frazil-function"]) == (status, "1")


async def test_refusals_and_streams_carry_the_marker(site: Site) -> None:
    calls = [await AppCall(site.app, {}, b"").run(), await site.call(site.quick()).run()]
    assert [call.headers["frazil-function"] for call in calls] == ["1", "1"]


async def test_a_busy_function_says_so_and_takes_the_next_task_when_it_is_free(site: Site) -> None:
    first = site.call(site.gated())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(first.run())
        await eventually_async(site.store.waiting.is_set, "the first task reads")
        refused = await site.call(site.quick()).run()
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["frazil-function"] == "1"
        site.store.gate.set()
        await running
    assert isinstance(first.events()[-1], Succeeded)
    assert (await site.call(site.quick()).run()).status == 200


async def test_as_many_tasks_run_at_once_as_the_setting_says(tmp_path: Path) -> None:
    site = Site(tmp_path, concurrency=2)
    calls = [site.call(site.gated()) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call.run())
        await eventually_async(lambda: site.app.running == 2, "both run")
        assert (await site.call(site.quick()).run()).status == 503
        site.store.gate.set()
    assert all(isinstance(call.events()[-1], Succeeded) for call in calls)


async def test_a_long_task_sends_heartbeats(site: Site) -> None:
    call = site.call(site.gated(heartbeat_s=0.01))
    async with asyncio.TaskGroup() as group:
        group.create_task(call.run())
        await eventually_async(lambda: call.body.count(b"heartbeat.v1") >= 2, "two heartbeats")
        site.store.gate.set()
    beats = [event for event in call.events() if isinstance(event, Heartbeat)]
    assert all(beat.memory_bytes > 10_000_000 for beat in beats)
    assert isinstance(call.events()[-1], Succeeded)


async def test_a_client_that_goes_away_cancels_and_the_slot_is_free_when_the_work_has_ended(site: Site) -> None:
    call = site.call(site.gated())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(call.run())
        await eventually_async(site.store.waiting.is_set, "the task reads")
        call.disconnect()
        await running
    assert site.app.running == 1
    assert (await site.call(site.quick()).run()).status == 503
    site.store.gate.set()
    await eventually_async(lambda: site.app.running == 0, "the slot is free")
    assert site.published() == []
    assert (await site.call(site.quick()).run()).status == 200
    assert site.ended == []


async def test_a_client_that_goes_away_while_sending_starts_nothing(site: Site) -> None:
    headers, _ = encode_task(site.quick(), keys=[KEY], source="/test")
    call = AppCall(site.app, headers, b"", more_body=True)
    call.disconnect()
    await call.run()
    assert (call.status, site.app.running) == (0, 0)


async def test_a_cancelled_task_that_does_not_stop_costs_the_process(tmp_path: Path) -> None:
    site = Site(tmp_path, cancel_grace_s=0.01)
    call = site.call(site.gated())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(call.run())
        await eventually_async(site.store.waiting.is_set, "the task reads")
        call.disconnect()
        await running
    await eventually_async(lambda: site.ended == [0], "the process is ended")
    site.store.gate.set()
    await eventually_async(lambda: site.app.running == 0, "the thread has ended")


async def test_a_task_whose_time_is_up_is_answered_before_its_work_has_ended(site: Site) -> None:
    call = await site.call(site.gated(deadline_unix_s=time.time() + 0.3)).run()
    last = call.events()[-1]
    assert isinstance(last, Failed)
    assert last.error.kind == "deadline"
    assert site.app.running == 1
    site.store.gate.set()
    await eventually_async(lambda: site.app.running == 0, "the slot is free")
    assert site.published() == []


async def test_a_draining_function_finishes_what_runs_and_refuses_the_rest(site: Site) -> None:
    call = site.call(site.gated())
    async with asyncio.TaskGroup() as group:
        group.create_task(call.run())
        await eventually_async(site.store.waiting.is_set, "the task reads")
        site.app.drain()
        refused = await site.call(site.quick()).run()
        health = await AppCall(site.app, {}, b"", method="GET", path="/healthz").run()
        assert (refused.status, health.status) == (503, 503)
        site.store.gate.set()
    assert isinstance(call.events()[-1], Succeeded)
    assert site.app.wait_idle(1.0)


async def test_other_protocols_than_http_are_not_served(site: Site) -> None:
    call = AppCall(site.app, {}, b"")
    call.scope["type"] = "websocket"
    with pytest.raises(NotImplementedError):
        await call.run()
