"""The ASGI app of a function: a signed task event in, a stream of events out.

Bare ASGI, because a web framework doubles the time to the first answer. It decides who may run what, and how many at once;
running a task is :mod:`frazil_functions.run`, the next module on the main path, in a worker thread. The wire is in
docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeAlias

import msgspec
import polars as pl

from frazil_functions import PROTOCOL_VERSION
from frazil_functions.cloudevent import (
    EVENT_LINES_TYPE,
    MARKER_HEADER,
    MAX_SKEW_S,
    SIGNATURE_HEADER,
    check_fresh,
    decode_task,
    encode_line,
    verify,
)
from frazil_functions.copies import Copies
from frazil_functions.errors import (
    CancelledQueryError,
    DeadlineError,
    FrazilError,
    InternalError,
    OutOfMemoryError,
    ProtocolError,
    to_wire,
)
from frazil_functions.run import CancelToken, TaskRun
from frazil_functions.settings import FunctionSettings
from frazil_functions.storage import Store
from frazil_functions.storage_hedged import Hedging, is_near
from frazil_functions.task import Failed, Started, Succeeded, TaskEvent, TaskRequest

__all__ = ["FunctionApp"]

Message: TypeAlias = MutableMapping[str, Any]  # Any: what ASGI itself promises
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_MARKER: Final = (MARKER_HEADER.encode(), b"1")
_RETRY_AFTER: Final = (b"retry-after", b"1")
_STOP_GRACE_S: Final = 1.0
"""Seconds that a task which should stop has to say so itself, before its stream is ended for it."""

_DYING_GRACE_S: Final = 0.05
"""The same when memory is short: the process may end any moment (:mod:`frazil_functions.memory`)."""

_DISCARD_FACTOR: Final = 2
"""Times the largest body that is read and thrown away before the connection is closed instead."""

logger = logging.getLogger(__name__)


class _Refused(Exception):  # noqa: N818  # an answer, not a failure
    """An answer other than 200."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class _Disconnected(Exception):  # noqa: N818  # the client's doing
    """The client went away before its request was complete."""


class FunctionApp:
    """The app. One per process, for one event loop.

    Parameters
    ----------
    settings
        The process's settings.
    store
        The exchange store.
    end_process
        Ends the process when a cancelled task does not stop within ``settings.cancel_grace_s``.
    """

    def __init__(self, settings: FunctionSettings, store: Store, *, end_process: Callable[[int], object] = os._exit) -> None:
        self._settings = settings
        self._store = store
        self._hedging = Hedging() if settings.hedge and not is_near(store, settings.store_options) else None
        self._end_process = end_process
        self._pool = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="frazil-task")
        self._source = f"/frazil/functions/{os.uname().nodename}/{os.getpid()}"
        self._lock = threading.Lock()
        self._running = 0
        self._draining = False
        self._cold = True
        # An event may be from a clock that is ahead, and so be accepted for that much longer.
        self._copies = Copies(settings.max_age_s + MAX_SKEW_S)

    @property
    def running(self) -> int:
        """Tasks that run; one whose client went away counts until its thread has ended."""
        with self._lock:
            return self._running

    def drain(self) -> None:
        """Refuse new tasks from now on. Safe to call in a signal handler."""
        self._draining = True

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no task runs; return whether that came true in time."""
        end_s = time.monotonic() + timeout_s
        while self.running:
            if time.monotonic() >= end_s:
                return False
            time.sleep(0.01)
        return True

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"this app serves HTTP only, not {scope['type']}")
        try:
            await self._route(scope, receive, send)
        except _Refused as refused:
            await _answer(send, refused.status, _problem(str(refused)), *refused.headers)
        except _Disconnected:
            logger.info("client went away while sending")

    async def _route(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        match scope["path"], scope["method"]:
            case "/healthz", "GET" | "HEAD":
                if self._draining:
                    raise _Refused(503, "this function is ending")
                await _answer(send, 200, b'{"status":"ok"}')
            case "/", "POST":
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
                body = await self._body(headers, receive)
                await self._task(self._accepted(headers, body), headers[SIGNATURE_HEADER], receive, send)
            case "/" | "/healthz", _:
                raise _Refused(405, f"{scope['method']} is not possible here: POST / runs a task, GET /healthz tells health")
            case _:
                raise _Refused(404, "unknown path: POST / runs a task, GET /healthz tells health")

    async def _body(self, headers: dict[str, str], receive: Receive) -> bytes:
        """Return the body. What is too large is read to its end, but not kept: who sends it can then hear the answer."""
        limit = self._settings.max_body_bytes
        length = headers.get("content-length", "")
        size = int(length) if length.isdecimal() else 0
        if size > limit * _DISCARD_FACTOR:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Disconnected
            part = message.get("body", b"")
            size += len(part)
            if size <= limit:
                parts.append(part)
            if size > limit * _DISCARD_FACTOR or (size > limit and not message.get("more_body", False)):
                raise _too_large(limit)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _accepted(self, headers: dict[str, str], body: bytes) -> TaskRequest:
        """Return the task of a request that may run here."""
        try:
            verify(self._settings.task_keys, headers, body)
            check_fresh(headers, now_unix_s=time.time(), max_age_s=self._settings.max_age_s)
        except DeadlineError as error:
            raise _Refused(408, error.message) from error
        except ProtocolError as error:
            raise _Refused(401, error.message) from error
        try:
            request = decode_task(headers, body)
        except ProtocolError as error:
            raise _Refused(400, error.message) from error
        if request.protocol_version != PROTOCOL_VERSION:
            raise _Refused(409, f"the task speaks protocol {request.protocol_version}, this function {PROTOCOL_VERSION}")
        if request.polars_version != pl.__version__:
            raise _Refused(409, f"the task needs polars {request.polars_version}, this function runs {pl.__version__}")
        return request

    async def _task(self, request: TaskRequest, signature: str, receive: Receive, send: Send) -> None:
        cold_start = self._take_slot(signature)
        loop = asyncio.get_running_loop()
        fired = asyncio.Event()
        token = CancelToken(request.deadline_unix_s, lambda _: loop.call_soon_threadsafe(fired.set))
        run = TaskRun(
            request,
            store=self._store,
            cancelled=token,
            memory_limit_bytes=self._settings.memory_limit_bytes,
            cold_start=cold_start,
            allow_udfs=self._settings.allow_udfs,
            hedging=self._hedging,
        )
        worker = self._pool.submit(_work, run, request.id)
        worker.add_done_callback(lambda _: self._free_slot())
        answer = _Answer(send, request.id, self._source)
        logger.info("task started attempt=%s cold_start=%s", request.id, cold_start)
        try:
            await answer.open(Started(cold_start=cold_start))
            async with asyncio.TaskGroup() as group:
                gone = group.create_task(_until_disconnected(receive))
                fire = group.create_task(fired.wait())
                await self._stream(request, run, worker, answer, gone, fire)
                gone.cancel()
                fire.cancel()
        finally:
            if not worker.done():
                token.cancel(CancelledQueryError("the client went away"))
                self._end_if_stuck(worker, request.id)

    async def _stream(
        self,
        request: TaskRequest,
        run: TaskRun,
        worker: Future[TaskEvent],
        answer: _Answer,
        gone: asyncio.Task[None],
        fire: asyncio.Task[bool],
    ) -> None:
        """Send heartbeats until the task has ended, should have ended, or nobody listens any more."""
        ended = asyncio.wrap_future(worker)
        try:
            while not ended.done():
                waits: set[asyncio.Future[Any]] = {ended, gone, fire}
                await asyncio.wait(waits, timeout=_patience_s(request), return_when=asyncio.FIRST_COMPLETED)
                if ended.done():
                    break
                if gone.done():
                    return
                if run.cancelled.is_set():
                    # Polars may be in the middle of a long batch. What has to be said is known: do not wait for its end.
                    out_of_memory = isinstance(run.cancelled.reason, OutOfMemoryError)
                    await asyncio.wait({ended}, timeout=_DYING_GRACE_S if out_of_memory else _STOP_GRACE_S)
                    break
                await answer.line(run.heartbeat())
            await answer.close(ended.result() if ended.done() else _stopped(run))
        finally:
            ended.cancel()

    def _take_slot(self, signature: str) -> bool:
        """Count one more running task, of the event with this signature; return whether it is the process's first."""
        with self._lock:
            if self._draining:
                raise _Refused(503, "this function is ending: it takes no more tasks", _RETRY_AFTER)
            if self._running >= self._settings.concurrency:
                raise _Refused(503, f"this function is busy: it runs {self._running} tasks", _RETRY_AFTER)
            if not self._copies.note(signature, time.monotonic()):
                raise _Refused(425, "this function has run that event already: this is a copy of it")
            self._running += 1
            cold, self._cold = self._cold, False
            return cold

    def _free_slot(self) -> None:
        with self._lock:
            self._running -= 1

    def _end_if_stuck(self, worker: Future[TaskEvent], attempt: str) -> None:
        """Give a cancelled task its grace; polars can't be interrupted, so that a stuck one costs the process."""

        def check() -> None:
            if not worker.done() and self.running == 1:
                logger.warning("cancelled task does not stop, ending the process attempt=%s", attempt)
                self._end_process(0)

        asyncio.get_running_loop().call_later(self._settings.cancel_grace_s, check)


class _Answer:
    """The response stream of one task."""

    def __init__(self, send: Send, attempt: str, source: str) -> None:
        self._send = send
        self._attempt = attempt
        self._source = source
        self._sequence = 0

    async def open(self, event: TaskEvent) -> None:
        """Send the head of the response and the first line."""
        headers = [_MARKER, (b"content-type", EVENT_LINES_TYPE.encode()), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self.line(event)

    async def line(self, event: TaskEvent, *, last: bool = False) -> None:
        """Send one event."""
        line = encode_line(
            event, attempt=self._attempt, sequence=self._sequence, source=self._source, now_unix_s=time.time()
        )
        self._sequence += 1
        await self._send({"type": "http.response.body", "body": line, "more_body": not last})

    async def close(self, event: TaskEvent) -> None:
        """Send the last event, and end the response."""
        await self.line(event, last=True)


def _work(run: TaskRun, attempt: str) -> TaskEvent:
    """Run a task to its last event; never raises."""
    try:
        descriptor = run.run()
    except FrazilError as error:
        logger.warning("task failed attempt=%s kind=%s error=%s", attempt, error.kind, error)
        return Failed(error=to_wire(error), stats=run.stats())
    except BaseException as error:
        logger.exception("task failed unforeseen attempt=%s", attempt)
        return Failed(error=to_wire(InternalError(f"{type(error).__name__}: {error}")), stats=run.stats())
    logger.info(
        "task succeeded attempt=%s rows_out=%d bytes_out=%d seconds=%.3f peak_memory_bytes=%d",
        attempt,
        descriptor.stats.rows_out,
        descriptor.stats.bytes_out,
        descriptor.stats.seconds,
        descriptor.stats.peak_memory_bytes,
    )
    return Succeeded(descriptor=descriptor)


def _stopped(run: TaskRun) -> Failed:
    """Return the last event of a task that was told to stop and has not done so yet."""
    reason = run.cancelled.reason or InternalError("the task was told to stop without a reason")
    return Failed(error=to_wire(reason), stats=run.stats())


def _patience_s(request: TaskRequest) -> float:
    """Return the seconds until something has to be said: a heartbeat, or that the deadline has passed."""
    if request.deadline_unix_s is None:
        return request.limits.heartbeat_s
    return min(request.limits.heartbeat_s, max(0.0, request.deadline_unix_s - time.time()) + 0.001)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limit: int) -> _Refused:
    return _Refused(413, f"the body is larger than {limit} bytes", (b"connection", b"close"))


def _problem(message: str) -> bytes:
    return msgspec.json.encode({"message": message})


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    start = [_MARKER, (b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body, "more_body": False})
