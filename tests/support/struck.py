"""What the rows of the fault table strike inside of this process: a store, and a platform that runs tasks in threads."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from frazil_coordinator.platform.base import Platform, PlatformStatus
from frazil_functions.errors import (
    BlockError,
    FrazilError,
    FunctionBusyError,
    FunctionLostError,
    InternalError,
    ProtocolError,
    StorageError,
    from_wire,
    to_wire,
)
from frazil_functions.storage import PassingStore, Store
from frazil_functions.task import Failed, Started, Succeeded, TaskEvent, TaskRequest
from support.fault_table import DELAY_S, Attempt, Row, Strikes
from support.scanning import ScanPlatform

__all__ = ["ObservedPlatform", "StruckStore", "TaskPlatform", "attempt_of", "error_of", "struck_events"]


def attempt_of(request: TaskRequest) -> Attempt:
    """Return the place of an attempt."""
    return int(request.stage), int(request.task), request.attempt


def error_of(row: Row) -> FrazilError:
    """Return what the coordinator is told of a strike, as who tells it would put it."""
    kinds: dict[str, type[FrazilError]] = {
        error.kind: error
        for error in (BlockError, FunctionBusyError, FunctionLostError, InternalError, ProtocolError, StorageError)
    }
    return kinds[row.told](row.name)


class StruckStore(PassingStore):
    """A store whose requests for objects of the exchange, and for one segment of a journal, are struck.

    Parameters
    ----------
    store
        The store that does the work.
    strikes
        What is struck.
    record
        Number of the segment of the journal.
    die
        What a coordinator does that dies; None when none does.
    """

    def __init__(
        self, store: Store, strikes: Strikes, *, record: int = -1, die: Callable[[], NoReturn] | None = None
    ) -> None:
        super().__init__(store)
        self._strikes = strikes
        self._record = record
        self._die = die
        self.written = 0
        """Objects of tasks that were written."""

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        every = list(parts)
        row, hit = self._strikes.row, self._strikes.write(key)
        if hit and row.kind == "error":
            raise error_of(row)
        if hit and row.kind == "delay":
            time.sleep(DELAY_S)
        for _ in range(2 if hit and row.kind == "duplicate" else 1):
            self._store.put(key, every)
        self.written += key.startswith("exchange/")
        if hit and row.kind == "lost response":
            raise error_of(row)

    def create(self, key: str, data: bytes) -> bool:
        row, hit = self._strikes.row, self._strikes.record(key, self._record)
        if hit and row.kind == "delay":
            time.sleep(DELAY_S)
        created = self._store.create(key, data)
        return self._store.create(key, data) if hit and row.kind == "duplicate" else created

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if not self._strikes.read(key, f"{start}+{length}"):
            return self._store.get_range(key, start, length)
        match self._strikes.row.kind:
            case "error" | "missing":
                raise error_of(self._strikes.row)
            case "damaged":
                return bytes(byte ^ 1 for byte in self._store.get_range(key, start, length))
            case "delay":
                time.sleep(DELAY_S)
            case "duplicate":
                self._store.get_range(key, start, length)
            case other:
                raise AssertionError(f"no read is struck by {other}")
        return self._store.get_range(key, start, length)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        return [self.get_range(key, start, length) for start, length in ranges]


async def struck_events(
    row: Row, request: TaskRequest, run: Callable[[TaskRequest], AsyncGenerator[TaskEvent, None]]
) -> AsyncGenerator[TaskEvent, None]:
    """Yield what a coordinator is told of an attempt that the row strikes; `run` does the work of one delivery."""
    if row.strikes == "event" and row.kind in ("error", "lost response"):
        raise error_of(row)
    if row.is_a("answer", "error"):
        raise error_of(row)
    if row.is_a("event", "delay"):
        await asyncio.sleep(DELAY_S)
    if row.is_a("event", "duplicate"):
        async for _ in run(request):
            pass
    if row.strikes == "task":
        yield Started(cold_start=False)
        if row.kind == "error":
            yield Failed(error=to_wire(error_of(row)))
            return
        if row.kind == "silence":
            await asyncio.Event().wait()
        raise error_of(row)
    async with contextlib.aclosing(run(request)) as events:
        async for event in events:
            if row.kind in ("lost response", "torn stream") and isinstance(event, Succeeded | Failed):
                raise error_of(row)
            if row.is_a("answer", "delay") and isinstance(event, Succeeded | Failed):
                await asyncio.sleep(DELAY_S)
            yield event


@dataclass(kw_only=True)
class TaskPlatform(ScanPlatform):
    """Runs tasks in threads, over a store; the row strikes some of the attempts."""

    strikes: Strikes

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        hit = self.strikes.attempt(attempt_of(request))
        work = super().invoke
        run = struck_events(self.strikes.row, request, work) if hit else work(request)
        async with contextlib.aclosing(run) as events:
            async for event in events:
                yield event


@dataclass
class ObservedPlatform:
    """A platform that passes everything on, and remembers what was sent and what the coordinator learned."""

    inner: Platform
    strikes: Strikes | None = None
    """Whose reads are struck until an attempt has failed."""

    sent: list[Attempt] = field(default_factory=list)
    told: list[FrazilError] = field(default_factory=list)
    given_up: int = 0
    """Attempts that were closed before their end: they were silent, or the query was at its end."""

    async def _events(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        """Yield the events of an attempt, and notice when it is closed before its end."""
        ended = False
        try:
            async with contextlib.aclosing(self.inner.invoke(request)) as events:
                async for event in events:
                    ended = isinstance(event, Succeeded | Failed)
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            if not ended:
                self.given_up += 1
            raise

    @property
    def max_in_flight(self) -> int:
        return self.inner.max_in_flight

    @property
    def shares_files(self) -> bool:
        return self.inner.shares_files

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        self.sent.append(attempt_of(request))
        try:
            async with contextlib.aclosing(self._events(request)) as events:
                async for event in events:
                    if isinstance(event, Failed):
                        self.told.append(from_wire(event.error))
                        if self.strikes is not None and self.strikes.row.strikes == "GET":
                            self.strikes.relent()
                    yield event
        except FrazilError as error:
            self.told.append(error)
            raise

    def status(self) -> PlatformStatus:
        return self.inner.status()

    async def aclose(self) -> None:
        await self.inner.aclose()
