"""Tasks for functions, in the same process or in one of their own, and what comes back of them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from frazil_functions import PROTOCOL_VERSION
from frazil_functions.app import FunctionApp
from frazil_functions.cloudevent import encode_task, parse_line
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.storage import FolderStore, Store
from frazil_functions.task import (
    BlockRef,
    Descriptor,
    ExchangeInput,
    Output,
    ScanInput,
    Split,
    Started,
    Succeeded,
    TaskEvent,
    TaskInput,
    TaskLimits,
    TaskRequest,
    input_path,
)
from support.polling import eventually
from support.processes import free_ports, run_process

__all__ = [
    "KEY",
    "AppCall",
    "Function",
    "GatedStore",
    "blocks_of",
    "exchange_of",
    "function_process",
    "never_done",
    "placeholder",
    "rows_of",
    "slow_plan",
    "task",
    "whole_file",
]

KEY = "a test's secret"


def placeholder(schema: Mapping[str, Any], number: int = 0) -> pl.LazyFrame:
    """Return the scan that stands for input `number` in a fragment."""
    return pl.scan_parquet(input_path(number), schema=dict(schema), glob=False)


def task(
    plan: pl.LazyFrame | bytes,
    *inputs: TaskInput,
    output: Output | None = None,
    limits: TaskLimits | None = None,
    deadline_unix_s: float | None = None,
    attempt: int = 0,
    polars_version: str = pl.__version__,
    protocol_version: int = PROTOCOL_VERSION,
) -> TaskRequest:
    """Return the request to run `plan`; its output goes to the store, never inline, unless `output` says so."""
    return TaskRequest(
        query=QueryId("q"),
        stage=StageId(2),
        task=TaskIndex(5),
        attempt=attempt,
        fragment=plan if isinstance(plan, bytes) else plan.serialize(),
        inputs=inputs,
        output=output or Output(kind="single", prefix="ab/q/2/5", inline_limit_bytes=0),
        limits=limits or TaskLimits(),
        deadline_unix_s=deadline_unix_s,
        polars_version=polars_version,
        protocol_version=protocol_version,
    )


def whole_file(path: Path, rows: int) -> ScanInput:
    """Return the input that scans all of one file."""
    return ScanInput(splits=(Split(path=str(path), offset=0, rows=rows, whole=True),))


def blocks_of(descriptor: Descriptor, *, map_index: int = 0) -> tuple[BlockRef, ...]:
    """Return the blocks of a finished task, as its consumers are given them."""
    inline = descriptor.inline
    return tuple(
        BlockRef(
            key=descriptor.key or "",
            offset=block.offset,
            length=block.length,
            rows=block.rows,
            crc32c=block.crc32c,
            codec=block.codec,
            map_index=map_index,
            data=None if inline is None else inline[block.offset : block.offset + block.length],
        )
        for block in descriptor.blocks
    )


def exchange_of(descriptor: Descriptor) -> ExchangeInput:
    """Return the input that reads all that a finished task wrote."""
    return ExchangeInput(blocks=blocks_of(descriptor))


def rows_of(store: Store, descriptor: Descriptor) -> pl.DataFrame:
    """Return the rows that a finished task wrote."""
    return pl.concat(list(read_exchange(store, exchange_of(descriptor))))


def slow_plan(factor: int) -> pl.LazyFrame:
    """Return a plan without inputs that yields one row after some `factor` times 10 ms of CPU."""
    rows = pl.LazyFrame({"x": range(3000)})
    pairs = rows.join(rows, how="cross", suffix="_a").join(rows.head(factor), how="cross", suffix="_b")
    return pairs.select(((pl.col("x") * pl.col("x_a") + pl.col("x_b")) % 7).sum())


def never_done(request: TaskRequest) -> TaskRequest:
    """Return an attempt that would take 20 seconds of CPU: whoever strikes its function comes in time."""
    fragment = pl.LazyFrame.deserialize(io.BytesIO(request.fragment))
    endless = fragment.join(slow_plan(2000).rename({"x": "__slow"}), how="cross").drop("__slow")
    return msgspec.structs.replace(request, fragment=endless.serialize())


class GatedStore(FolderStore):
    """A folder whose reads wait until the test opens the gate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = threading.Event()
        self.waiting = threading.Event()
        """Set when a read has come to the gate."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.waiting.set()
        assert self.gate.wait(timeout=30), "the test never opened the gate"
        return super().get_range(key, start, length)


class AppCall:
    """One request to an app in this process, and what it has answered so far."""

    def __init__(
        self,
        app: FunctionApp,
        headers: Mapping[str, str],
        body: bytes,
        *,
        method: str = "POST",
        path: str = "/",
        more_body: bool = False,
    ) -> None:
        self._app = app
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more_body})
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False

    async def run(self) -> AppCall:
        """Send the request and wait for the end of the answer."""
        await self._app(self.scope, self._incoming.get, self._send)
        return self

    def disconnect(self) -> None:
        """Go away."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    def events(self) -> list[TaskEvent]:
        """Return the events of the answer so far."""
        return [parse_line(line) for line in self.body.splitlines()]

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]
            self.ended = not message["more_body"]


class Function:
    """A function process and how to talk to it."""

    def __init__(self, port: int, pid: int, store: FolderStore) -> None:
        self.port = port
        self.pid = pid
        self.store = store

    @contextlib.contextmanager
    def posted(
        self, request: TaskRequest, *, key: str = KEY, now_unix_s: float | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """Send an attempt; yield the answer, of which only the head has been read. Leaving closes the connection."""
        headers, body = encode_task(request, keys=[key], source="/test", now_unix_s=now_unix_s)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/", body, headers)
            with connection.getresponse() as response:
                yield response
        finally:
            connection.close()

    def events(self, request: TaskRequest) -> list[TaskEvent]:
        """Run an attempt and return all its events."""
        with self.posted(request) as response:
            assert response.status == 200, response.read()
            return [parse_line(line, attempt=request.id) for line in response]

    def descriptor(self, request: TaskRequest) -> Descriptor:
        """Run an attempt that must succeed, and return its descriptor."""
        events = self.events(request)
        assert isinstance(events[0], Started)
        assert isinstance(events[-1], Succeeded), events[-1]
        return events[-1].descriptor

    def status(self, path: str = "/healthz") -> int:
        """Return the status of a GET; 0 when nothing listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except ConnectionError:
            return 0
        finally:
            connection.close()


@contextlib.contextmanager
def function_process(
    folder: Path, *, env: Mapping[str, str] | None = None, command: Sequence[str] = ("-m", "frazil_functions")
) -> Iterator[Function]:
    """Run a function process on a port of loopback, its store and its log in `folder`."""
    (port,) = free_ports(1)
    settings = {
        "FRAZIL_FUNCTION_HOST": "127.0.0.1",
        "PORT": str(port),
        "FRAZIL_STORE_URL": str(folder / "store"),
        "FRAZIL_TASK_KEYS": f"{KEY},an old secret",
        "RUST_BACKTRACE": "0",
        **(env or {}),
    }
    with run_process([sys.executable, *command], log=folder / "log", env=settings, grace_s=0.5) as process:
        function = Function(port, process.pid, FolderStore(folder / "store"))
        eventually(lambda: process.poll() is not None or function.status() == 200, "the function answers")
        assert process.poll() is None, (folder / "log").read_text()
        yield function
