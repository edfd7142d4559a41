"""A double of what Knative puts before functions: ingress, activator, autoscaler and queue-proxy, in one HTTP server.

It behaves as they do where we depend on it: a request waits for a pod when there is none, a pod has one request at a time,
pods come in steps as the autoscaler sees requests, and at once up to min-scale; too many requests overflow (503), a wait
that is too long ends (504), a request that is too long is cancelled in its pod and its stream torn, a pod that dies before
its answer is a 502 and after it a torn stream, a pod that is told to end finishes what it has and gets nothing more, and an
ingress may send a request twice. Bodies are plain text, as theirs are. Seconds are a test's: those of a cluster are longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from frazil_functions.app import FunctionApp

__all__ = ["AppPod", "DataPath", "Downstream", "LostPodError", "Pod", "ProcessPod", "data_path"]

OVERFLOW = "upstream connect error or disconnect/reset before headers. reset reason: overflow"
_TARGET = 0.7


class Downstream:
    """The answer to one request, on its way back."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response: web.StreamResponse | None = None

    async def head(self, status: int, headers: dict[str, str]) -> None:
        """Begin it."""
        self.response = web.StreamResponse(status=status, headers=headers)
        await self.response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        """Go on."""
        assert self.response is not None
        if data:
            await self.response.write(data)


class Pod(Protocol):
    """Something that runs a function."""

    async def serve(self, headers: dict[str, str], body: bytes, answer: Downstream) -> None:
        """Answer one request; cancelled when the request is."""
        ...

    async def stop(self) -> None:
        """End it: SIGTERM; what runs has ended."""
        ...


class LostPodError(Exception):
    """The pod has died."""


@dataclass
class AppPod:
    """A function's app in this process."""

    app: FunctionApp
    served: int = 0
    cancelled: int = 0

    async def serve(self, headers: dict[str, str], body: bytes, answer: Downstream) -> None:
        self.served += 1
        gone, sent = asyncio.Event(), False
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope: dict[str, Any] = {"type": "http", "path": "/", "method": "POST", "headers": raw}

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if gone.is_set():
                return
            if message["type"] == "http.response.start":
                found = {name.decode(): value.decode() for name, value in message["headers"]}
                await answer.head(message["status"], found)
            else:
                await answer.write(message.get("body", b""))

        running = asyncio.ensure_future(self.app(scope, receive, send))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            self.cancelled += 1
            gone.set()  # the client has gone: the app ends the task
            await asyncio.wait({running})
            raise

    async def stop(self) -> None:
        self.app.drain()


@dataclass
class ProcessPod:
    """A function process behind a port."""

    url: str
    on_stop: Callable[[], None] = lambda: None
    session: aiohttp.ClientSession = field(
        default_factory=lambda: aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)
    )

    async def serve(self, headers: dict[str, str], body: bytes, answer: Downstream) -> None:
        try:
            async with self.session.post(self.url, data=body, headers=headers) as response:
                kept = {name: value for name, value in response.headers.items() if name.lower() != "transfer-encoding"}
                await answer.head(response.status, kept)
                async for chunk in response.content.iter_any():
                    await answer.write(chunk)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise LostPodError from error

    async def stop(self) -> None:
        self.on_stop()
        await self.session.close()


@dataclass
class _Place:
    """A pod, and what it does."""

    revision: int
    pod: Pod | None = None
    """None while it starts."""

    busy: bool = False
    draining: bool = False
    gone: bool = False


class DataPath:
    """One Service.

    Parameters
    ----------
    make
        Makes a pod; what it takes is part of the cold start.
    max_scale
        Most pods.
    min_scale
        Returns the least, as its PodAutoscaler says now.
    cold_start_s
        Seconds until a pod is ready.
    tick_s
        Seconds between two looks of the autoscaler.
    start_timeout_s, timeout_s
        responseStartTimeoutSeconds and timeoutSeconds.
    overflow
        Requests at once that the ingress takes.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Pod]],
        *,
        max_scale: int = 50,
        min_scale: Callable[[], int] = lambda: 0,
        cold_start_s: float = 0.01,
        tick_s: float = 0.01,
        start_timeout_s: float = 30.0,
        timeout_s: float = 30.0,
        overflow: int = 1024,
    ) -> None:
        self.make = make
        self.max_scale, self.min_scale = max_scale, min_scale
        self.cold_start_s, self.tick_s = cold_start_s, tick_s
        self.start_timeout_s, self.timeout_s = start_timeout_s, timeout_s
        self.overflow = overflow
        self.replays = 0
        """Requests that are yet to be sent twice."""

        self.url = ""
        self.requests = self.in_flight = self.most_in_flight = self.most_pods = 0
        self.answers: dict[int, int] = {}
        """Answers of the platform's own, by status."""

        self._places: list[_Place] = []
        self._waiting: deque[asyncio.Future[_Place]] = deque()
        self._revision = 1
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pods(self) -> list[Pod]:
        """Those that are ready."""
        return [each.pod for each in self._places if each.pod is not None and not each.gone]

    # What a cluster does

    def roll(self, make: Callable[[], Awaitable[Pod]]) -> None:
        """Let another Revision take the traffic: its pods are new, those of the one before end when they are done."""
        self.make = make
        self._revision += 1
        for place in self._places:
            self._drain(place)
        self._scale()

    def kill(self, pod: Pod) -> None:
        """End a pod as the kubelet does: nothing new, what runs may end, then SIGTERM."""
        self._drain(next(each for each in self._places if each.pod is pod))
        self._scale()

    def look(self) -> None:
        """Let the autoscaler look now."""
        self._scale()

    # Requests

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.requests += 1
        if self.in_flight >= self.overflow:
            return self._own(503, OVERFLOW)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            body = await request.read()
            if not self.replays:
                return await self._served(request, body)
            self.replays -= 1
            place = await self._sent_and_lost(request, body)
            try:
                return await self._served(request, body)  # by another pod: this one is not free yet
            finally:
                self._give_back(place)
        finally:
            self.in_flight -= 1

    async def _served(self, request: web.Request, body: bytes) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self.start_timeout_s):
                place = await self._free()
        except TimeoutError:
            return self._own(504, "activator request timeout")
        answer = Downstream(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        try:
            assert place.pod is not None
            async with asyncio.timeout(self.timeout_s):
                await place.pod.serve(headers, body, answer)
        except TimeoutError:
            if answer.response is None:
                return self._own(504, "request timeout")
            return self._torn(request, answer)
        except LostPodError:
            place.gone = True
            if answer.response is None:
                return self._own(502, "bad gateway")
            return self._torn(request, answer)
        finally:
            self._give_back(place)
        assert answer.response is not None
        await answer.response.write_eof()
        return answer.response

    async def _sent_and_lost(self, request: web.Request, body: bytes) -> _Place:
        """Send a request to a pod whose answer gets lost, as when a connection breaks before its first byte."""
        place = await self._free()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        assert place.pod is not None
        await place.pod.serve(headers, body, _Nowhere(request))
        return place

    def _torn(self, request: web.Request, answer: Downstream) -> web.StreamResponse:
        assert answer.response is not None
        if request.transport is not None:
            request.transport.abort()
        return answer.response

    def _own(self, status: int, words: str) -> web.Response:
        self.answers[status] = self.answers.get(status, 0) + 1
        return web.Response(status=status, text=words)

    # Pods

    async def _free(self) -> _Place:
        """Return a pod without a request, when there is one: who came first is first."""
        self._scale()
        for place in self._places:
            if place.pod is not None and not place.busy and not place.draining and not place.gone:
                place.busy = True
                return place
        waiting: asyncio.Future[_Place] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self._give_back(waiting.result())
            raise

    def _give_back(self, place: _Place) -> None:
        place.busy = False
        if place.draining or place.gone:
            self._end(place)
            self._scale()
            return
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                place.busy = True
                waiting.set_result(place)
                return

    def _scale(self) -> None:
        if self._closed:
            return
        there = [each for each in self._places if not each.draining and not each.gone]
        wanted = min(self.max_scale, math.ceil(self.in_flight / _TARGET))
        # From zero one pod, then twice as many at each look; min-scale is there at once.
        steps = min(wanted, max(1, 2 * len([each for each in there if each.pod is not None])))
        missing = max(steps if wanted else 0, min(self.min_scale(), self.max_scale)) - len(there)
        for _ in range(missing):
            place = _Place(self._revision)
            self._places.append(place)
            task = asyncio.ensure_future(self._start(place))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.most_pods = max(self.most_pods, len([each for each in self._places if not each.gone]))

    async def _start(self, place: _Place) -> None:
        await asyncio.sleep(self.cold_start_s)
        place.pod = await self.make()
        place.draining |= self._closed
        self._give_back(place)

    def _drain(self, place: _Place) -> None:
        place.draining = True
        if not place.busy and place.pod is not None:
            self._end(place)

    def _end(self, place: _Place) -> None:
        if place in self._places:
            self._places.remove(place)
        if place.pod is not None:
            task = asyncio.ensure_future(place.pod.stop())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def run(self) -> None:
        """Let the autoscaler look again and again, until cancelled."""
        while True:
            await asyncio.sleep(self.tick_s)
            self._scale()

    async def aclose(self) -> None:
        """End all pods."""
        self._closed = True
        for place in tuple(self._places):
            self._end(place)
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))


class _Nowhere(Downstream):
    """An answer that nobody gets."""

    async def head(self, status: int, headers: dict[str, str]) -> None:
        self.response = web.StreamResponse(status=status)

    async def write(self, data: bytes) -> None:
        return


@contextlib.asynccontextmanager
async def data_path(path: DataPath) -> AsyncIterator[DataPath]:
    """Serve a Service on a free port of loopback."""
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/", path.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    path.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    looking = asyncio.ensure_future(path.run())
    try:
        yield path
    finally:
        looking.cancel()
        await asyncio.wait({looking})
        await runner.cleanup()
        await path.aclose()
