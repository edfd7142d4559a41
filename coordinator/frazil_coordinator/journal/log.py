"""Appending to the journal of one query: group commit, and the fence against a coordinator that was replaced.

A segment is written by a conditional PUT of the next number. So there is one order of all segments, whoever writes them, and
who is told that the next number is taken knows that another coordinator goes on with the query: it acts no more
(`DeposedError`). Records that come while a segment is on its way wait for the next one; so do records that nobody is in a
hurry for, until they are `ENOUGH`, or the first has waited for five times `group_s`, and until `group_s` after the segment
before. Requests: one PUT a segment, and one GET where an answer was lost.

Next: :mod:`frazil_coordinator.journal.records` for what is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from frazil_coordinator.journal.records import Record, encode_segment
from frazil_coordinator.schedule.commits import StageLaidOut, TaskCommitted, TaskDivided
from frazil_functions.errors import BlockError, DeposedError, FrazilError, JournalError, StorageError
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store

__all__ = ["ENOUGH", "GROUP_S", "QueryLog", "create_once", "segment_key"]

GROUP_S: Final = 0.05
"""Seconds from one segment to the next, at least, when nobody is in a hurry (group commit)."""

_COMPANY_GROUPS: Final = 5
"""Times `group_s` for which an answer that nobody is in a hurry for waits for company: so much of what the tasks of a killed
coordinator did last is done again. A query with few tasks a second would else write a segment for each of them."""

ENOUGH: Final = 10
"""Records that wait for no more company."""

_FIRST_PAUSE_S: Final = 0.05
_MAX_PAUSE_S: Final = 2.0
_PATIENCE_S: Final = 60.0
"""Seconds for which a store that fails is tried again before the query is given up."""

_LOGGER = logging.getLogger(__name__)


def segment_key(folder: str, number: int) -> str:
    """Return the key of a segment; keys sort by number."""
    return f"{folder}/{number:08d}"


def create_once(store: Store, key: str, data: bytes) -> bool:
    """Create an object that nobody else writes alike; return False when another one is under `key`. Blocking.

    One conditional PUT. When its answer is lost the object may be there all the same: then it is read back.

    Raises
    ------
    StorageError
        When the store fails, and the object is not there.
    """
    try:
        if store.create(key, data):
            return True
    except StorageError:
        try:
            return store.get(key) == data
        except BlockError:
            pass  # it is not there: what the store said of the PUT stands
        raise
    return store.get(key) == data  # a retry inside the client may have met what it had written itself


@dataclass(slots=True)
class _Waiting:
    record: Record
    then: Callable[[], None] | None


class QueryLog:
    """The journal of one query, as one coordinator writes it; it is a `frazil_coordinator.schedule.commits.CommitLog`.

    Parameters
    ----------
    store, folder
        Where its segments lie.
    query
        The query.
    writer
        Random name of this process.
    next_segment
        Number of the first segment to write.
    group_s
        See :data:`GROUP_S`.
    on_append
        Called with the seconds until a segment was durable.

    Notes
    -----
    All methods belong to one event loop. After a failure nothing is written any more, and nobody who waits is called.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        query: QueryId,
        *,
        writer: str,
        next_segment: int = 0,
        group_s: float = GROUP_S,
        on_append: Callable[[float], None] | None = None,
    ) -> None:
        self.query = query
        self.failed = asyncio.Event()
        """Set when it can't be written any more; :attr:`error` says why."""

        self.error: FrazilError | None = None
        self.segments = next_segment
        """Segments that there are."""

        self._store = store
        self._folder = folder
        self._writer = writer
        self._group_s = group_s
        self._on_append = on_append
        self._waiting: list[_Waiting] = []
        self._waits_since = 0.0
        self._hurry = asyncio.Event()
        self._more = asyncio.Event()
        """Set when it is time to look whether a segment is due."""

        self._flushing: asyncio.Task[None] | None = None
        self._written_at = float("-inf")

    def note(self, commit: StageLaidOut | TaskDivided) -> None:
        """Append a decision; it is durable before what is appended after it."""
        self._append(commit, None, urgent=False)

    def commit(self, commit: TaskCommitted, then: Callable[[], None], *, urgent: bool) -> None:
        """Append an answer, and call `then` when it is durable."""
        self._append(commit, then, urgent=urgent)

    def add(self, record: Record) -> None:
        """Append a record that nobody waits for."""
        self._append(record, None, urgent=False)

    async def write(self, record: Record) -> None:
        """Append a record, and return when it is durable.

        Raises
        ------
        DeposedError
            When another coordinator goes on with the query.
        JournalError
            When the store failed for too long.
        """
        durable = asyncio.Event()
        self._append(record, durable.set, urgent=True)
        waits = [asyncio.ensure_future(one.wait()) for one in (durable, self.failed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not durable.is_set() and self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        """Write what waits, and end; a second call has no effect."""
        self._hurry.set()
        self._more.set()
        if self._flushing is not None:
            await asyncio.wait({self._flushing})

    def _append(self, record: Record, then: Callable[[], None] | None, *, urgent: bool) -> None:
        if self.error is not None:
            return
        if not self._waiting:
            self._waits_since = asyncio.get_running_loop().time()
        self._waiting.append(_Waiting(record, then))
        if urgent:
            self._hurry.set()
        if urgent or len(self._waiting) == ENOUGH:
            self._more.set()
        if self._flushing is None:
            # Held here, and awaited by aclose: it outlives the call that starts it.
            self._flushing = asyncio.create_task(self._flush(), name=f"journal {self.query}")

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._for_company()
                self._hurry.clear()
                group, self._waiting = self._waiting, []
                await self._write([one.record for one in group])
                for one in group:
                    if one.then is not None:
                        one.then()
        except FrazilError as error:
            self._fail(error)
        except Exception as error:
            _LOGGER.exception("the journal failed", extra={"query": self.query})
            self._fail(JournalError(f"the journal of query {self.query} failed: {error!r}"))
        finally:
            self._flushing = None

    async def _for_company(self) -> None:
        """Wait until a segment is due, or somebody is in a hurry."""
        await self._unless_hurried(self._written_at + self._group_s)
        if any(one.then is not None for one in self._waiting):
            await self._unless_hurried(self._waits_since + _COMPANY_GROUPS * self._group_s, or_enough=True)

    async def _unless_hurried(self, until: float, *, or_enough: bool = False) -> None:
        """Wait until a time of the loop's clock, or until somebody is in a hurry, or enough wait."""
        while not self._hurry.is_set() and not (or_enough and len(self._waiting) >= ENOUGH):
            left_s = until - asyncio.get_running_loop().time()
            if left_s <= 0:
                return
            self._more.clear()
            with contextlib.suppress(TimeoutError):  # nobody was in a hurry
                async with asyncio.timeout(left_s):
                    await self._more.wait()

    def _fail(self, error: FrazilError) -> None:
        self.error = error
        self._waiting.clear()
        self.failed.set()

    async def _write(self, records: list[Record]) -> None:
        key, data = segment_key(self._folder, self.segments), encode_segment(self._writer, records)
        self._written_at = asyncio.get_running_loop().time()
        if not await self._created(partial(create_once, self._store, key, data)):
            raise DeposedError(f"another coordinator goes on with query {self.query}")
        self.segments += 1
        if self._on_append is not None:
            self._on_append(asyncio.get_running_loop().time() - self._written_at)

    async def _created(self, create: Callable[[], bool]) -> bool:
        loop, pause_s = asyncio.get_running_loop(), _FIRST_PAUSE_S
        give_up_at = loop.time() + _PATIENCE_S
        while True:
            try:
                return await asyncio.to_thread(create)
            except StorageError as error:
                if loop.time() + pause_s > give_up_at:
                    raise JournalError(f"the journal of query {self.query} can't be written: {error.message}") from error
                _LOGGER.warning("journal not written, trying again", extra={"query": self.query, "error": error.message})
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _MAX_PAUSE_S)
