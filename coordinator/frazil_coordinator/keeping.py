"""How long an ended query is kept: its result and its journal go when their time is up, or when others need the room.

Between :mod:`frazil_coordinator.coordinator`, which says when a query has ended, and :mod:`frazil_coordinator.retention` and
:mod:`frazil_coordinator.journal`, which delete.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TypeAlias

from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.replays import NOTHING_KEPT, Replays, kept_of
from frazil_coordinator.retention import Results
from frazil_functions.errors import FrazilError
from frazil_functions.ids import QueryId

__all__ = ["Keeper", "Spawn"]

Spawn: TypeAlias = Callable[[Coroutine[None, None, None], str], None]
"""Run something beside, under a name."""

_LOGGER = logging.getLogger(__name__)


class Keeper:
    """The timers of ended queries.

    Parameters
    ----------
    results
        Drops results.
    replays
        Forgets what is kept of tasks.
    journal
        Forgets journals; None when there are none.
    ttl_s
        Seconds for which an ended query is kept.
    spawn
        How what takes time is done.
    """

    def __init__(self, results: Results, replays: Replays, journal: Journal | None, ttl_s: float, spawn: Spawn) -> None:
        self._results = results
        self._replays = replays
        self._journal = journal
        self._ttl_s = ttl_s
        self._spawn = spawn
        self._timers: dict[QueryId, asyncio.TimerHandle] = {}
        self._forgetting: set[QueryId] = set()

    def forgets(self, query: QueryId) -> bool:
        """Return whether a query is being forgotten: what is still found of it is about to be deleted."""
        return query in self._forgetting

    def keep(self, record: QueryRecord) -> None:
        """Keep an ended query for the rest of its time; no effect when nothing of it is kept."""
        if record.blocks is not None or record.log is not None or kept_of(record) != NOTHING_KEPT:
            ended_unix_s = record.status.ended_unix_s or time.time()
            self._expire_in(record, max(0.0, self._ttl_s - (time.time() - ended_unix_s)))

    def forget(self, record: QueryRecord) -> Coroutine[None, None, None]:
        """Delete what is kept of a query, which is known as one that is forgotten from now on."""
        self._forgetting.add(record.id)
        return self._forget(record)

    async def _forget(self, record: QueryRecord) -> None:
        if (timer := self._timers.pop(record.id, None)) is not None:
            timer.cancel()
        try:
            await self._results.drop(record)
            await self._replays.forget(record)
            await self._forget_journal(record)
        finally:
            self._forgetting.discard(record.id)

    def close(self) -> None:
        """Delete nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _expire_in(self, record: QueryRecord, seconds: float) -> None:
        self._timers[record.id] = asyncio.get_running_loop().call_later(
            seconds, lambda: self._spawn(self._expire(record), f"expire {record.id}")
        )

    async def _expire(self, record: QueryRecord) -> None:
        self._timers.pop(record.id, None)
        if await self._results.drop(record):
            await self._replays.forget(record)
            await self._forget_journal(record)
        else:  # somebody reads it
            self._expire_in(record, self._ttl_s)

    async def _forget_journal(self, record: QueryRecord) -> None:
        """Delete the journal of an ended query; when that fails, the next coordinator does it."""
        if self._journal is None or record.log is None:
            return
        try:
            await asyncio.to_thread(self._journal.forget, record.id)
        except FrazilError as error:
            _LOGGER.warning("journal not deleted", extra={"query": record.id, "error": error.message})
