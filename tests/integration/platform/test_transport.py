"""What the transport makes of every answer a function or a platform can give, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import polars as pl
import pytest

from frazil_coordinator.platform.transport import FunctionTransport
from frazil_functions.errors import (
    DeadlineError,
    FrazilError,
    FunctionBusyError,
    FunctionLostError,
    PlatformError,
    ProtocolError,
    WireError,
)
from frazil_functions.task import Descriptor, Failed, Heartbeat, Started, Succeeded, TaskEvent, decode_request
from support.fake_function import Conversation, FakeFunction, fake_function, line, succeed
from support.processes import free_ports
from support.tasks import task_request

DONE = Succeeded(descriptor=Descriptor(key=None, blocks=()))


@pytest.fixture
async def fake() -> AsyncIterator[FakeFunction]:
    async with fake_function() as function:
        yield function


@pytest.fixture
async def transport() -> AsyncIterator[FunctionTransport]:
    one = FunctionTransport(("first", "second"), source="/test", start_timeout_s=5.0)
    yield one
    await one.aclose()


async def send(transport: FunctionTransport, url: str, heartbeat_s: float = 5.0) -> list[TaskEvent]:
    async with aclosing(transport.send(url, task_request(heartbeat_s=heartbeat_s))) as events:
        return [event async for event in events]


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[Conversation], Awaitable[None]]:
    async def behave(conversation: Conversation) -> None:
        await conversation.answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return behave


async def test_the_events_of_a_task_arrive_in_order(fake: FakeFunction, transport: FunctionTransport) -> None:
    async def behave(conversation: Conversation) -> None:
        await conversation.head()
        for event in (Started(cold_start=True), Heartbeat(rows=1, bytes=2, memory_bytes=3), DONE):
            await conversation.event(event)
        await conversation.end()

    fake.behave = behave
    assert await send(transport, fake.url) == [Started(cold_start=True), Heartbeat(rows=1, bytes=2, memory_bytes=3), DONE]


async def test_a_task_of_several_megabytes_is_sent_whole_and_without_a_warning(
    fake: FakeFunction, transport: FunctionTransport
) -> None:
    received: list[int] = []

    async def behave(conversation: Conversation) -> None:
        received.append(len(conversation.body))
        await succeed(conversation)

    fake.behave = behave
    request = task_request(pl.LazyFrame({"x": range(500_000)}))
    async with aclosing(transport.send(fake.url, request)) as events:
        assert isinstance([event async for event in events][-1], Succeeded)
    assert received[0] > len(request.fragment) > 2_000_000


async def test_a_failed_task_is_an_event_and_not_an_exception(fake: FakeFunction, transport: FunctionTransport) -> None:
    failed = Failed(error=WireError(kind="block", message="gone"))

    async def behave(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.event(failed)
        await conversation.end()

    fake.behave = behave
    assert await send(transport, fake.url) == [failed]


async def test_the_request_is_a_binary_cloudevent_with_the_task_as_its_body(
    fake: FakeFunction, transport: FunctionTransport
) -> None:
    await send(transport, fake.url)
    (received,) = fake.requests
    assert received.headers["ce-specversion"] == "1.0"
    assert received.headers["ce-type"] == "dev.frazil.task.v1"
    assert received.headers["ce-id"] == "q/0/0/0"
    assert received.headers["ce-source"] == "/test"
    assert decode_request(received.body) == task_request()


async def test_events_cut_anywhere_on_the_wire_are_put_together_again(
    fake: FakeFunction, transport: FunctionTransport
) -> None:
    async def behave(conversation: Conversation) -> None:
        await conversation.head()
        wire = line(Started(cold_start=False), "q/0/0/0") + b"\n" + line(DONE, "q/0/0/0")
        for start in range(0, len(wire), 7):
            await conversation.raw(wire[start : start + 7])
        await conversation.end()

    fake.behave = behave
    assert await send(transport, fake.url) == [Started(cold_start=False), DONE]


async def test_a_line_far_longer_than_any_buffer_is_read_whole(fake: FakeFunction, transport: FunctionTransport) -> None:
    long = Succeeded(descriptor=Descriptor(key=None, blocks=(), inline=bytes(24 * 1024 * 1024)))

    async def behave(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.event(long)
        await conversation.end()

    fake.behave = behave
    assert await send(transport, fake.url) == [long]


async def test_a_connection_is_used_again_after_a_whole_answer(fake: FakeFunction, transport: FunctionTransport) -> None:
    for _ in range(5):
        await send(transport, fake.url)
    assert (len(fake.requests), fake.connections) == (5, 1)


async def test_closing_the_generator_closes_the_connection_at_once(fake: FakeFunction, transport: FunctionTransport) -> None:
    gone = asyncio.Event()

    async def behave(conversation: Conversation) -> None:
        await conversation.head()
        await conversation.event(Started(cold_start=False))
        await conversation.gone()
        gone.set()

    fake.behave = behave
    events = transport.send(fake.url, task_request())
    assert await anext(events) == Started(cold_start=False)
    await events.aclose()
    async with asyncio.timeout(5):
        await gone.wait()


async def test_cancelling_the_caller_closes_the_connection_at_once(fake: FakeFunction, transport: FunctionTransport) -> None:
    started, gone = asyncio.Event(), asyncio.Event()

    async def behave(conversation: Conversation) -> None:
        started.set()
        await conversation.gone()
        gone.set()

    fake.behave = behave
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        caller = group.create_task(send(transport, fake.url))
        await started.wait()
        caller.cancel()
        await gone.wait()
    assert caller.cancelled()


async def _torn_before_the_head(conversation: Conversation) -> None:
    conversation.reset()


async def _torn_in_a_line(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.raw(b'{"specversion": "1.0", "id"')
    conversation.reset()


async def _torn_between_lines(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.event(Started(cold_start=False))
    conversation.reset()


async def _whole_but_without_a_last_event(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.event(Started(cold_start=False))
    await conversation.end()


async def _whole_but_its_last_line_is_cut(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.raw(line(DONE, "q/0/0/0")[:-9])
    await conversation.end()


async def _silent_after_the_head(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.event(Started(cold_start=False))
    await conversation.gone()


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (_torn_before_the_head, "no answer from the function"),
        (_torn_in_a_line, "stream broke"),
        (_torn_between_lines, "stream broke"),
        (_whole_but_without_a_last_event, "without a last event"),
        (_whole_but_its_last_line_is_cut, "without a last event"),
        (_silent_after_the_head, "silent for 0.2 s"),
    ],
)
async def test_a_stream_that_does_not_end_as_it_should_means_a_lost_function(
    fake: FakeFunction, transport: FunctionTransport, behave: Callable[[Conversation], Awaitable[None]], words: str
) -> None:
    fake.behave = behave
    with pytest.raises(FunctionLostError, match=words):
        await send(transport, fake.url, heartbeat_s=0.05 if behave is _silent_after_the_head else 5.0)


async def test_nobody_listening_means_a_lost_function(transport: FunctionTransport) -> None:
    with pytest.raises(FunctionLostError, match="no answer from the function"):
        await send(transport, f"http://127.0.0.1:{free_ports(1)[0]}/")


async def test_a_function_that_never_answers_is_given_up(fake: FakeFunction) -> None:
    fake.behave = Conversation.gone
    transport = FunctionTransport(("key",), source="/test", start_timeout_s=0.1)
    try:
        with pytest.raises(FunctionLostError, match="no answer from the function"):
            await send(transport, fake.url)
    finally:
        await transport.aclose()


OURS = {"frazil_function": "1"}
PROBLEM = json.dumps({"kind": "protocol", "message": "the event has expired"}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (400, OURS, ProtocolError),
        (401, OURS, ProtocolError),
        (409, OURS, ProtocolError),
        (413, OURS, ProtocolError),
        (408, OURS, DeadlineError),
        (408, {}, FunctionLostError),
        (429, OURS, FunctionBusyError),
        (503, OURS, FunctionBusyError),
        (500, OURS, FunctionLostError),
        (425, OURS, FunctionLostError),
        (429, {}, FunctionBusyError),
        (503, {}, FunctionBusyError),
        (502, {}, FunctionLostError),
        (504, {}, FunctionLostError),
        (500, {}, FunctionLostError),
        (404, {}, FunctionLostError),
        (302, {"Location": "http://127.0.0.1:1/"}, FunctionLostError),
        (200, {}, FunctionLostError),
    ],
)
async def test_each_status_means_one_error_and_keeps_the_words_of_its_body(
    fake: FakeFunction, transport: FunctionTransport, status: int, headers: dict[str, str], expected: type[FrazilError]
) -> None:
    fake.behave = answering(status, PROBLEM, **headers)
    with pytest.raises(FrazilError, match=f"answered {status}: the event has expired") as caught:
        await send(transport, fake.url)
    assert type(caught.value) is expected


async def test_retry_after_is_kept(fake: FakeFunction, transport: FunctionTransport) -> None:
    fake.behave = answering(503, b"draining", frazil_function="1", Retry_After="3")
    with pytest.raises(FunctionBusyError, match="draining") as caught:
        await send(transport, fake.url)
    assert caught.value.where == {"retry_after_s": "3"}


async def test_after_a_failure_the_next_task_gets_through(fake: FakeFunction, transport: FunctionTransport) -> None:
    for behave in (_torn_in_a_line, _silent_after_the_head, answering(503)):
        fake.behave = behave
        with pytest.raises(PlatformError):
            await send(transport, fake.url, heartbeat_s=0.05 if behave is _silent_after_the_head else 5.0)
        fake.behave = succeed
        assert (await send(transport, fake.url))[-1] == DONE


async def test_closing_the_transport_ends_what_is_being_sent(fake: FakeFunction) -> None:
    transport = FunctionTransport(("key",), source="/test")
    fake.behave = _silent_after_the_head
    events = transport.send(fake.url, task_request())
    await anext(events)
    await transport.aclose()
    with pytest.raises(FunctionLostError, match="stream broke"):
        await anext(events)
    with pytest.raises(FunctionLostError, match="closed"):
        await send(transport, fake.url)


async def test_a_hundred_tasks_are_in_flight_at_once(fake: FakeFunction, transport: FunctionTransport) -> None:
    all_here = asyncio.Barrier(100)

    async def behave(conversation: Conversation) -> None:
        await all_here.wait()
        await succeed(conversation)

    fake.behave = behave
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        senders = [group.create_task(send(transport, fake.url)) for _ in range(100)]
    assert all(sender.result()[-1] == DONE for sender in senders)
