"""The owner of all reuse of one coordinator: what is kept, what flies, what is written in the background and collected.

:mod:`frazil_coordinator.execution` asks for a :class:`~frazil_coordinator.reuse.sharing.Sharing` for each query that may
reuse.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from frazil_coordinator.metrics import Metrics
from frazil_coordinator.reuse.flights import Flights
from frazil_coordinator.reuse.forms import KeptResult
from frazil_coordinator.reuse.kept import KeptAnswers, collect_kept
from frazil_coordinator.reuse.sharing import Sharing
from frazil_coordinator.settings import Settings
from frazil_functions.errors import FrazilError
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store

__all__ = ["Reuse"]

_AT_ONCE: Final = 16
_COLLECT_EVERY_S: Final = 3600.0

_LOGGER: Final = logging.getLogger(__name__)


class Reuse:
    """What the queries of one coordinator share.

    Parameters
    ----------
    store
        The exchange store.
    ttl_s
        Seconds for which answers are used again.
    results_in_use
        Returns the keys of objects in which results lie that can be read.
    metrics
        What is told of answers that are kept.
    """

    def __init__(
        self,
        store: Store,
        ttl_s: float,
        results_in_use: Callable[[], Collection[str]] = frozenset,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._ttl_s = ttl_s
        self._flights = Flights()
        self._running: dict[QueryId, Sharing] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._collected_at = float("-inf")
        self._results_in_use = results_in_use

    def answers(self, tenant: str) -> KeptAnswers:
        """Return what is kept for a tenant."""
        return KeptAnswers(store=self._store, tenant=tenant, ttl_s=self._ttl_s)

    async def earlier(self, digest: str, tenant: str, settings: Settings) -> KeptResult | None:
        """Return the result of an equal query that is not too old: requests of :meth:`KeptAnswers.find_result`."""
        return await asyncio.to_thread(self.answers(tenant).find_result, digest, settings.max_age_s)

    def keep_result(self, result: KeptResult, tenant: str) -> None:
        """Keep the result of a query that has succeeded, if all of it stays."""
        answers = self.answers(tenant)
        if all(block.data is not None or answers.is_kept(block.key) for block in result.blocks):
            self.write(f"result {result.digest}", partial(answers.keep_result, result))

    def sharing(self, query: QueryId, tenant: str, settings: Settings, result: str | None = None) -> Sharing | None:
        """Return what a query shares with others while it runs, until :meth:`left`; None when it wants nothing of them.

        Parameters
        ----------
        query, tenant, settings
            The query.
        result
            Its digest, when its result is to be kept.
        """
        if settings.reuse == "off":
            return None
        if time.monotonic() - self._collected_at > _COLLECT_EVERY_S:
            self.write("collect", self.collect)
        self.left(query)  # when it is planned once more
        sharing = Sharing(
            query=query,
            answers=self.answers(tenant),
            flights=self._flights,
            write=self.write,
            inline_limit_bytes=settings.inline_stage_limit_bytes,
            result=result,
            metrics=self._metrics,
        )
        self._running[query] = sharing
        return sharing

    def left(self, query: QueryId) -> None:
        """Note that a query runs no more, and that what it refers to is held by its result, if it has one."""
        sharing = self._running.pop(query, None)
        if sharing is not None:
            sharing.close()

    def write(self, name: str, work: Callable[[], object]) -> None:
        """Do what blocks in a thread, after what was given under the same name before; failures are logged, never raised."""
        before = self._writing.get(name)

        async def run() -> None:
            if before is not None:
                await asyncio.wait({before})
            async with self._slots:
                try:
                    await asyncio.to_thread(work)
                except FrazilError as error:
                    _LOGGER.warning("answer not kept", extra={"error": error.message})
                except Exception:  # nobody waits for it who could be told
                    _LOGGER.exception("unforeseen error in the coordinator", extra={"reuse": name})

        task = asyncio.create_task(run(), name=f"reuse {name}")
        self._writing[name] = task
        task.add_done_callback(lambda _: self._written(name, task))

    def _written(self, name: str, task: asyncio.Task[None]) -> None:
        if self._writing.get(name) is task:
            del self._writing[name]

    def collect(self) -> int:
        """Delete what is older than may be used; blocking, requests as of :func:`collect_kept`. Raises as that does."""
        self._collected_at = time.monotonic()
        return collect_kept(self._store, self._ttl_s, self._in_use)

    def _in_use(self) -> frozenset[str]:
        held = set(self._results_in_use())
        for sharing in list(self._running.values()):
            held.update(tuple(sharing.keys))
        return frozenset(held)

    async def settled(self) -> None:
        """Return when all that was to be written is."""
        while self._writing:
            await asyncio.wait(tuple(self._writing.values()))
