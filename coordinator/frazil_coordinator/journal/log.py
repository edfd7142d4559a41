"""Appending to the journal of one query: group commit, and the fence against a coordinator that was replaced.

A segment is written by a conditional PUT of the next number. So there is one order of all segments, whoever writes them, and
who is told that the next number is taken knows that another coordinator goes on with the query: it acts no more
(`DeposedError`). Records that come while a segment is on its way wait for the next one; so do records that nobody waits for
(docs/adr/0013-company-in-the-journal.md). Requests: one PUT a segment, and one GET where an answer was lost.

Next: :mod:`frazil_coordinator.journal.records` for what is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from frazil_coordinator.journal.records import Record, encode_segment
from frazil_coordinator.schedule.commits import Decision, TaskCommitted
from frazil_functions.errors import BlockError, DeposedError, FrazilError, JournalError, StorageError
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store

__all__ = ["GROUP_S", "QueryLog", "create_once", "segment_key"]

GROUP_S: Final = 0.05
"""Seconds between two segments, while nobody is in a hurry and there is company enough (group commit)."""

_COMPANY: Final = 16
"""Records that are company enough: more would save little."""

_PATIENT: Final = 5
"""How many times `group_s` few records wait for company, when nobody waits for them."""

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
        Seconds between two segments of at least 16 records that nobody waits for; fewer wait 5 times as long. What
        somebody waits for is written at once, with all that came before it.
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
        self._hurried = False
        self._looked = asyncio.Event()
        """Wakes who waits for company, to look again whether it has come."""

        self._flushing: asyncio.Task[None] | None = None
        self._written_at = float("-inf")

    def note(self, commit: Decision) -> None:
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
        self._hurry()
        if self._flushing is not None:
            await asyncio.wait({self._flushing})

    def _hurry(self) -> None:
        self._hurried = True
        self._looked.set()

    def _append(self, record: Record, then: Callable[[], None] | None, *, urgent: bool) -> None:
        if self.error is not None:
            return
        self._waiting.append(_Waiting(record, then))
        if urgent:
            self._hurry()
        elif len(self._waiting) == _COMPANY:
            self._looked.set()
        if self._flushing is None:
            # Held here, and awaited by aclose: it outlives the call that starts it.
            self._flushing = asyncio.create_task(self._flush(), name=f"journal {self.query}")

    async def _flush(self) -> None:
        try:
            while self._waiting:
                await self._for_company()
                self._hurried = False
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
        """Wait until there is company enough, or for as long as one waits for it, or until somebody is in a hurry."""
        while not self._hurried:
            self._looked.clear()
            patience_s = self._group_s if len(self._waiting) >= _COMPANY else _PATIENT * self._group_s
            left_s = self._written_at + patience_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                return
            try:
                async with asyncio.timeout(left_s):
                    await self._looked.wait()
            except TimeoutError:
                return

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
