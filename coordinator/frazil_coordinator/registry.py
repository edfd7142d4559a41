"""The queries that a coordinator remembers, and the bounds on what it remembers of them.

Everything here is in memory and belongs to one event loop. A :class:`QueryRecord` is the one mutable place of a query;
:mod:`frazil_coordinator.execution` changes it while the query runs, :mod:`frazil_coordinator.coordinator` shows it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import polars as pl

from frazil_coordinator.journal.log import QueryLog
from frazil_coordinator.plan.report import Report
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.schedule.told import Told
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryEvent, QueryState, QueryStatus, StageProgress, Wanted
from frazil_coordinator.tenancy import DEFAULT_TENANT
from frazil_functions.errors import FrazilError, JournalError, RequestError, to_wire
from frazil_functions.ids import QueryId
from frazil_functions.task import BlockRef

__all__ = ["MAX_RESULT_MEMORY_BYTES", "QueryRecord", "Registry", "Submission", "TooManyQueriesError", "UnknownQueryError"]

MAX_RESULT_MEMORY_BYTES: Final = 256 * 1024 * 1024
"""Encoded bytes of results that all ended queries together keep in memory; the oldest is dropped first."""


class UnknownQueryError(RequestError):
    """There is no such query: it never was, or it is forgotten (`Settings.max_queries`)."""

    @classmethod
    def of(cls, query: QueryId) -> UnknownQueryError:
        """Return the error for `query`; one that may not be seen has the same, so that nobody can tell."""
        return cls(f"there is no query {query!r}; ended ones are forgotten after a time")


class TooManyQueriesError(RequestError):
    """All queries that may be remembered are still running (`Settings.max_queries`)."""


class RunningQuery(Protocol):
    """What a record needs of the driver of its query."""

    def cancel(self) -> None:
        """Stop the query."""
        ...

    def profile(self) -> Profile:
        """Return what the query used until now."""
        ...

    @property
    def told(self) -> Told:
        """What its tasks are sent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """By what a query that is submitted twice is known."""

    key: str
    """What the client called it; empty when it has no name, and is a new query each time."""

    digest: str
    """SHA-256 of the plan, or of the statement that it was made of."""

    @classmethod
    def of(cls, plan: bytes, key: str) -> Submission:
        """Return the submission of a plan under a key."""
        return cls(key=key, digest=hashlib.sha256(plan).hexdigest() if key else "")


_UNNAMED: Final = Submission(key="", digest="")


class QueryRecord:
    """One query: its status, and what it holds while it runs and after.

    Parameters
    ----------
    query
        Its id.
    settings
        Those of the query.
    labels
        What the submitter calls it.
    discard_result
        Whether nobody wants its rows.
    submission
        By what it is known when it is submitted again by its tenant.
    tenant, priority
        Whose query it is, and its priority among theirs.
    """

    def __init__(
        self,
        query: QueryId,
        settings: Settings,
        labels: tuple[str, ...],
        *,
        discard_result: bool = False,
        submission: Submission = _UNNAMED,
        tenant: str = DEFAULT_TENANT,
        priority: int = 0,
    ) -> None:
        self.settings = settings
        self.submission = submission
        self.discard_result = discard_result
        self.sql = ""  # the statement that it was made of; empty when it came as a plan, or from a journal
        now = time.time()
        self.status = QueryStatus(
            id=query, state=QueryState.PLANNING, submitted_unix_s=now, labels=labels, tenant=tenant, priority=priority
        )
        self.version = 0
        """Number of the latest change."""

        self.error: FrazilError | None = None
        """Why it failed or was cancelled."""

        self.schema: pl.Schema | None = None
        """Of the result; None until it is planned."""

        self.report: Report | None = None
        """How it is cut into stages; None until it is planned."""

        self.driver: RunningQuery | None = None
        """None before and after it runs."""

        self.profile: dict[str, object] = {"query": query, "stages": []}
        """What it used, once it has ended."""

        self.blocks: tuple[BlockRef, ...] | None = None
        """The result; None before it succeeded and after it was dropped."""

        self.log: QueryLog | None = None
        """Its journal; None when nothing of it outlives the coordinator."""

        self.abandoned = False
        """Whether this coordinator does no more for it, although it has not ended: another one goes on, or will."""

        self.leave: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when this coordinator shall leave it to the next one."""

        self.readers = 0
        """Readers of the result at this moment; it is not dropped under them."""

        self.unread = asyncio.Event()
        """Set while nobody reads the result."""

        self.unread.set()
        self.was_read = False
        """Whether the result was read to its end."""

        self.stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the query shall stop."""

        self.accepted = asyncio.Event()
        """Set when it is durable, or will never be."""

        self.ended = asyncio.Event()
        self.settled = asyncio.Event()
        """Set when it has ended and there is nothing that somebody may still be about to fetch."""

        self._changed = asyncio.Event()

    @property
    def id(self) -> QueryId:
        """Its id."""
        return self.status.id

    @property
    def memory_bytes(self) -> int:
        """Encoded bytes of its result in memory."""
        return sum(block.length for block in self.blocks or () if block.data is not None)

    @property
    def has_objects(self) -> bool:
        """Whether its result lies in the exchange store."""
        return any(block.data is None for block in self.blocks or ())

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count a reader of the result while the context lasts."""
        self.readers += 1
        self.unread.clear()
        try:
            yield
        finally:
            self.readers -= 1
            if not self.readers:
                self.unread.set()

    def progress(self, stages: tuple[StageProgress, ...]) -> None:
        """Note how far it is; the first attempt makes it a running one."""
        if self.status.state.ended:
            return
        attempted = any(stage.attempts or stage.running or stage.done for stage in stages)
        queued = self.status.state is QueryState.QUEUED
        self.change(progress=stages, state=QueryState.RUNNING if queued and attempted else self.status.state)

    def change(self, **changes: object) -> None:
        """Replace fields of the status and wake who waits for a change."""
        self.status = msgspec.structs.replace(self.status, **changes)
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self, state: QueryState, error: FrazilError | None = None, **changes: object) -> None:
        """Note its end, and wake everybody."""
        self.error = error
        self.driver = None
        self.change(state=state, error=None if error is None else to_wire(error), **changes)
        self.ended.set()
        if state is not QueryState.SUCCEEDED:
            self.settled.set()

    def abandon(self, error: FrazilError | None = None) -> None:
        """Note that this coordinator does no more for it, and why, and wake everybody."""
        self.abandoned = True
        self.error = error
        self.driver = None
        self.change()
        self.ended.set()
        self.settled.set()

    def cancel(self) -> None:
        """Ask it to stop; no effect when it was asked or has ended."""
        if self.stop.done() or self.ended.is_set():
            return
        self.stop.set_result(None)
        if self.driver is not None:
            self.driver.cancel()

    def stop_here(self) -> None:
        """Let this coordinator do no more for it: with a journal it is left to the next one, without it is cancelled."""
        if self.log is None:
            self.cancel()
        elif not self.leave.done():
            self.leave.set_result(None)

    async def once_accepted(self) -> QueryStatus:
        """Return what is known of it when it is durable.

        Raises
        ------
        FrazilError
            Why it never will be.
        """
        await self.accepted.wait()
        if self.abandoned:
            raise self.error or JournalError("the query could not be made durable, and was not accepted; submit it again")
        return self.status

    async def changed_since(self, version: int) -> int:
        """Wait until there is a change after `version`, and return the number of the latest one."""
        while self.version == version:
            await self._changed.wait()
        return self.version

    async def events(self) -> AsyncGenerator[QueryEvent, None]:
        """Yield the present state, then changes until it has ended; who is slower than they are gets the latest only."""
        shown: QueryState | None = None
        while True:
            version, status = self.version, self.status
            yield QueryEvent(kind="progress" if status.state is shown else "state", status=status, number=version)
            if status.state.ended or self.abandoned:
                return
            shown = status.state
            await self.changed_since(version)


class Registry:
    """The records by id, oldest first.

    Parameters
    ----------
    max_queries
        Records that are kept. Only ended ones are forgotten, the oldest submitted first.
    max_memory_bytes
        See :data:`MAX_RESULT_MEMORY_BYTES`.
    """

    def __init__(self, max_queries: int, max_memory_bytes: int = MAX_RESULT_MEMORY_BYTES) -> None:
        self._max_queries = max_queries
        self._max_memory_bytes = max_memory_bytes
        self._records: dict[QueryId, QueryRecord] = {}

    def __iter__(self) -> Iterator[QueryRecord]:
        return iter(tuple(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, query: QueryId) -> QueryRecord:
        """Return the record of `query`.

        Raises
        ------
        UnknownQueryError
            When there is none.
        """
        try:
            return self._records[query]
        except KeyError:
            raise UnknownQueryError.of(query) from None

    def has(self, query: QueryId) -> bool:
        """Return whether there is a record of `query`."""
        return query in self._records

    def add(self, record: QueryRecord) -> tuple[QueryRecord, ...]:
        """Remember `record`, and return those that were forgotten for it; the caller deletes their objects.

        Raises
        ------
        TooManyQueriesError
            When nothing can be forgotten.
        """
        forgotten = []
        while len(self._records) >= self._max_queries:
            oldest = next((old for old in self if old.ended.is_set() and not old.readers), None)
            if oldest is None:
                raise TooManyQueriesError(f"{len(self._records)} queries are running, and no more are accepted; try later")
            del self._records[oldest.id]
            forgotten.append(oldest)
        self._records[record.id] = record
        return tuple(forgotten)

    def remove(self, record: QueryRecord) -> None:
        """Take back :meth:`add`: the query was not accepted, and who submitted it again must do so once more."""
        self._records.pop(record.id, None)
        record.abandon()
        record.accepted.set()

    def submitted(self, submission: Submission, tenant: str = DEFAULT_TENANT) -> QueryRecord | None:
        """Return the query that `tenant` submitted under the same key before; None when there is none.

        Raises
        ------
        RequestError
            When it has another plan.
        """
        if not submission.key:
            return None
        found = next((r for r in self if r.submission.key == submission.key and r.status.tenant == tenant), None)
        if found is not None and found.submission.digest != submission.digest:
            raise RequestError(
                f"another plan was submitted under the key {submission.key!r}: choose a new key for each query"
            )
        return found

    def result_keys(self) -> frozenset[str]:
        """Return the keys of the objects in which results lie; from any thread."""
        return frozenset(block.key for record in self for block in record.blocks or () if block.data is None)

    def trim(self) -> None:
        """Drop results from memory until they fit: first those that were read, then the oldest."""
        ended = sorted((r for r in self if r.memory_bytes and not r.readers), key=lambda record: not record.was_read)
        total = sum(record.memory_bytes for record in self)
        for record in ended:
            if total <= self._max_memory_bytes:
                return
            if not record.has_objects and record.log is None:
                total -= record.memory_bytes
                record.blocks = None

    def select(self, wanted: Wanted) -> tuple[QueryStatus, ...]:
        """Return the statuses of those that are wanted, newest first."""
        found = (record.status for record in reversed(self._records.values()) if wanted.has(record.status))
        return tuple(status for status, _ in zip(found, range(wanted.limit), strict=False))
