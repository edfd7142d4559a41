"""How many tasks a second one coordinator sends and takes up, over HTTP, when functions answer at once.

::

    python -m benchmarks.dispatch [--tasks 20000] [--in-flight 64] [--profile FILE]

Real are admission, slots, driver, state machine, layouts, journal (in memory, 30 ms a request), registry, and the whole way
of an event: codec, signature, HTTP over loopback, the stream of the answer. The functions are one process that answers each
event at once with what real ones say, so nobody waits for work. CPU is that of the coordinator's thread.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.processes import free_ports
from benchmarks.simulated.world import SimulatedPlatform, World, answer_of
from benchmarks.simulation import plan_of
from frazil_coordinator.platform.transport import FunctionTransport
from frazil_functions.cloudevent import EVENT_LINES_TYPE, MARKER_HEADER, encode_line
from frazil_functions.task import Started, TaskEvent, TaskRequest, decode_request

__all__ = ["main", "serve"]

_KEY: Final = "a key of the benchmark"
_HEAD: Final = (
    f"HTTP/1.1 200 OK\r\ncontent-type: {EVENT_LINES_TYPE}\r\n{MARKER_HEADER}: 1\r\ncontent-length: "  # then the length
).encode()
_MS: Final = 1000.0


class _Function(asyncio.Protocol):
    """Answers each request of a connection at once."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep where answers go."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete."""
        self._pending += data
        while (end := self._pending.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._pending[:end]).lower()
            start = head.index(b"content-length:") + len(b"content-length:")
            length = int(head[start:].split(b"\r\n", 1)[0])
            if len(self._pending) < end + 4 + length:
                return
            body = bytes(self._pending[end + 4 : end + 4 + length])
            del self._pending[: end + 4 + length]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        request, now = decode_request(body), time.time()
        events: tuple[TaskEvent, ...] = (Started(cold_start=False), answer_of(request, 0.001))
        lines = b"".join(
            encode_line(event, attempt=request.id, sequence=number, source="/function", now_unix_s=now)
            for number, event in enumerate(events)
        )
        assert self._transport is not None
        self._transport.write(b"%b%d\r\n\r\n%b" % (_HEAD, len(lines), lines))


async def serve(port: int) -> None:
    """Answer events on a port of loopback, until the process is ended."""
    server = await asyncio.get_running_loop().create_server(_Function, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def _functions(port: int) -> Iterator[None]:
    """Run :func:`serve` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.dispatch", "--serve", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait()


class _OverHttp(SimulatedPlatform):
    """Sends tasks to the process that answers."""

    def __init__(self, port: int, in_flight: int) -> None:
        super().__init__(in_flight, lambda _: 0.0)
        self._url = f"http://127.0.0.1:{port}/"
        self._transport = FunctionTransport([_KEY], source="/frazil/coordinator")

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        """Send one attempt, and yield what is answered."""
        self.count(request, 1)
        try:
            async with contextlib.aclosing(self._transport.send(self._url, request)) as events:
                async for event in events:
                    yield event
        finally:
            self.count(request, -1)
        self.tasks += 1

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


async def _drive(folder: Path, port: int, tasks: int, in_flight: int) -> str:
    graph = plan_of(folder, tasks)
    platform = _OverHttp(port, in_flight)
    world = World(platform, lambda _: graph)
    try:
        began, cpu = time.perf_counter(), time.thread_time()
        await world.query()
        seconds, cpu_s = time.perf_counter() - began, time.thread_time() - cpu
    finally:
        await platform.aclose()
    sent = platform.tasks
    rows = {
        "tasks": f"{sent:,}",
        "in flight": f"{in_flight}",
        "tasks a second": f"{sent / seconds:,.0f}",
        "CPU of the coordinator, ms a task": f"{cpu_s / sent * _MS:.2f}",
    }
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dispatch", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--profile", type=Path, help="file for a profile of the coordinator's thread (pstats)")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve is not None:
        asyncio.run(serve(options.serve))
        return
    (port,) = free_ports(1)
    profiler = cProfile.Profile() if options.profile else None
    with tempfile.TemporaryDirectory() as name, _functions(port):
        if profiler is not None:
            profiler.enable()
        print(asyncio.run(_drive(Path(name), port, options.tasks, options.in_flight)))
        if profiler is not None:
            profiler.disable()
            profiler.dump_stats(options.profile)


if __name__ == "__main__":
    main()
