"""Deleting what a query left in the exchange store.

After a query has ended, its exchange prefix is empty, but for the blocks of a result that nobody has read yet. An attempt
that was given up may finish its upload after that (a PUT under way can't be called back), so the prefixes of queries with
such attempts are swept again later. Requests: one LIST and the deletes a sweep; none for a query that wrote no object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final

from frazil_coordinator.schedule.bind import query_prefixes
from frazil_functions.errors import FrazilError
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store

__all__ = ["SWEEP_AFTER_S", "Cleaner"]

SWEEP_AFTER_S: Final = (1.0, 10.0, 60.0)
"""Seconds after the end of a query at which it is swept again when attempts were given up."""

_LOGGER = logging.getLogger(__name__)


class Cleaner:
    """Deletes exchange objects; failures are logged and tried again, never raised.

    Parameters
    ----------
    store
        The exchange store.
    exchange_prefix
        Key prefix of all exchange objects.
    sweep_after_s
        See :data:`SWEEP_AFTER_S`.
    """

    def __init__(self, store: Store, exchange_prefix: str, sweep_after_s: Sequence[float] = SWEEP_AFTER_S) -> None:
        self._store = store
        self._exchange_prefix = exchange_prefix
        self._sweep_after_s = tuple(sweep_after_s)
        self._sweeps: dict[QueryId, asyncio.Task[None]] = {}
        self._kept: dict[QueryId, frozenset[str] | None] = {}
        """Keys that stay, by query; None: all of it."""

        self._others: dict[QueryId, Callable[[], None]] = {}

    async def clear(
        self,
        query: QueryId,
        *,
        keep: Collection[str] = (),
        keep_all: bool = False,
        again: bool = False,
        other: Callable[[], None] | None = None,
    ) -> None:
        """Delete the objects of `query`.

        Parameters
        ----------
        query
            The query.
        keep
            Keys of objects that stay, because they are the result; until the next call.
        keep_all
            Whether all objects stay, because tasks may be run again; until the next call. Then only `other` is called.
        again
            Whether attempts were given up that may still write: then it is swept again later.
        other
            Deletes, blocking, what the query left in another store (staged files of a sink); called with each sweep.
        """
        if other is not None:
            self._others[query] = other
        self._kept.pop(query, None)
        if keep or keep_all:
            self._kept[query] = None if keep_all else frozenset(keep)
        done = await self._delete(query)
        if (again or not done) and query not in self._sweeps:
            # Held in the dict until it is done, and ended by aclose: a task group can't outlive its block.
            self._sweeps[query] = asyncio.create_task(self._sweep(query), name=f"sweep {query}")
        elif query not in self._sweeps:
            self._others.pop(query, None)

    async def aclose(self) -> None:
        """End the sweeps that are planned, doing each once more."""
        sweeps, self._sweeps = self._sweeps, {}
        for query, task in sweeps.items():
            task.cancel()
            await asyncio.wait({task})
            await self._delete(query)

    async def _sweep(self, query: QueryId) -> None:
        before = 0.0
        try:
            for after_s in self._sweep_after_s:
                await asyncio.sleep(after_s - before)
                before = after_s
                await self._delete(query)
        finally:
            if self._sweeps.pop(query, None) is not None:  # else aclose sweeps once more
                self._others.pop(query, None)

    async def _delete(self, query: QueryId) -> bool:
        """Delete what may be deleted now; return whether it worked."""
        kept = self._kept.get(query, frozenset())
        try:
            if kept is not None:
                for prefix in query_prefixes(self._exchange_prefix, query):
                    await asyncio.to_thread(_delete_but, self._store, prefix, kept)
            if (other := self._others.get(query)) is not None:
                await asyncio.to_thread(other)
        except (FrazilError, OSError) as error:
            _LOGGER.warning("exchange objects not deleted", extra={"query": query, "error": type(error).__name__})
            return False
        return True


def _delete_but(store: Store, prefix: str, kept: Collection[str]) -> None:
    if not kept:
        store.delete_prefix(prefix)  # takes unfinished writes of killed functions along
        return
    store.delete([found.key for found in store.list(prefix) if found.key not in kept])
