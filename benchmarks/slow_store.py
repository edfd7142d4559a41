"""An S3 server as far away as a cloud's, for each function by itself: a proxy with latency and a capped bandwidth.

It forwards bytes and changes none, so signatures stay valid. What it adds:

* **latency**: each GET waits before it is sent on, for a time drawn from a log-normal distribution with a seed;
* **bandwidth**: the bytes of a process's answers and requests pass at no more than so many a second, over all its
  connections. Which process a connection is of, the kernel says (``/proc``): so functions need not be told apart by address
  or credential, and each has a network card of its own, as pods have.

It is a process of its own, so that it has no share of the interpreter of whoever measures: :func:`run_slow_store` starts
it. Used by :mod:`benchmarks.scaling`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

__all__ = ["Distance", "SlowStore", "log_normal", "main", "run_slow_store"]

_CHUNK: Final = 256 * 1024
_P99: Final = 2.3263478740408408
"""Standard deviations of a normal distribution below which 99 of 100 draws lie."""

_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far away the store is."""

    bytes_s: float = 20e6
    """Bytes a second of one process, both ways together."""

    median_s: float = 0.027
    """Latency of a GET, in the median."""

    p99_s: float = 0.106
    """Latency that one GET of a hundred has at least."""


@dataclass(kw_only=True)
class SlowStore:
    """A running proxy; what it saw is known when it has ended."""

    endpoint: str
    """Where clients send their requests."""

    gets: dict[int, int] = field(default_factory=dict)
    """GETs by id of the process that asked."""

    bytes_sent: dict[int, int] = field(default_factory=dict)
    """Bytes of answers by process."""


def log_normal(distance: Distance, source: random.Random) -> Callable[[], float]:
    """Return what draws latencies, in seconds."""
    sigma = math.log(distance.p99_s / distance.median_s) / _P99
    return lambda: source.lognormvariate(math.log(distance.median_s), sigma)


class _Line:
    """The network card of one process: bytes pass one after the other."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s
        self._free_at = 0.0

    async def passes(self, size: int) -> None:
        """Return when so many bytes have passed."""
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + size / self._bytes_s
        await asyncio.sleep(self._free_at - loop.time())


class _Proxy:
    """Forwards connections."""

    def __init__(self, target: str, distance: Distance, seed: int) -> None:
        parts = urlsplit(target)
        self._host, self._port = parts.hostname, parts.port
        self._distance = distance
        self._draw = log_normal(distance, random.Random(seed))
        self._lines: dict[int, _Line] = {}
        self.gets: Counter[int] = Counter()
        self.bytes_sent: Counter[int] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, both ways."""
        process = _process_of(writer.get_extra_info("peername")[1], writer.get_extra_info("sockname")[1])
        self._lines.setdefault(process, _Line(self._distance.bytes_s))
        there, back = await asyncio.open_connection(self._host, self._port)
        with contextlib.suppress(asyncio.CancelledError):  # a connection that is idle when the server ends
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask(reader, back, process))
                group.create_task(self._answer(there, writer, process))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, process: int) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                if data.startswith(b"GET "):  # clients send the next request when they have the answer, never two at once
                    self.gets[process] += 1
                    await asyncio.sleep(self._draw())
                await self._lines[process].passes(len(data))
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, process: int) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                self.bytes_sent[process] += len(data)
                await self._lines[process].passes(len(data))
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()


def _process_of(port: int, server_port: int) -> int:
    """Return the id of the process that connected from a port of loopback; 0 when it has gone.

    Raises
    ------
    RuntimeError
        Where there is no ``/proc``.
    """
    table = Path("/proc/net/tcp")
    if not table.exists():
        raise RuntimeError("which function a connection is of is read from /proc: this benchmark needs Linux")
    ends = (f"0100007F:{port:04X}", f"0100007F:{server_port:04X}")
    inode = next((row[9] for row in map(str.split, table.read_text().splitlines()) if (row[1], row[2]) == ends), None)
    if inode is None:
        return 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _holds(folder, inode):
            return int(folder.name)
    return 0


def _holds(process: Path, inode: str) -> bool:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        for name in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                found = _SOCKET.fullmatch(str(name.readlink()))
                if found is not None and found[1] == inode:
                    return True
    return False


@contextlib.contextmanager
def run_slow_store(target: str, distance: Distance, seed: int = 1) -> Iterator[SlowStore]:
    """Run a proxy before the server at the URL `target` while the context lasts; then fill in what it saw."""
    told = json.dumps({"target": target, "seed": seed, **asdict(distance)})
    command = [sys.executable, "-m", "benchmarks.slow_store", told]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            slow = SlowStore(endpoint=f"http://127.0.0.1:{int(process.stdout.readline())}")
            yield slow
            process.stdin.close()  # which ends it
            saw = json.loads(process.stdout.readline())
            slow.gets = {int(one): count for one, count in saw["gets"].items()}
            slow.bytes_sent = {int(one): size for one, size in saw["bytes_sent"].items()}
        finally:
            process.terminate()


async def _serve(target: str, seed: int, distance: Distance) -> None:
    proxy = _Proxy(target, distance, seed)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=2 * _CHUNK)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"gets": proxy.gets, "bytes_sent": proxy.bytes_sent}), flush=True)
    os._exit(0)  # connections that clients keep open would be waited for


def main() -> None:
    """Serve until standard input ends, then say what was seen."""
    told = json.loads(sys.argv[1])
    asyncio.run(_serve(told.pop("target"), told.pop("seed"), Distance(**told)))


if __name__ == "__main__":
    main()
