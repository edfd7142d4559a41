"""Running a blocking collect beside an asyncio loop: what ``collect_async`` and ``background=True`` hand out."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial

import polars as pl
from polars._utils.async_ import _AioDataFrameResult
from polars.lazyframe.in_process import InProcessQuery

from frazil._query import Query, abandon

__all__ = ["AsyncResult", "BackgroundQuery"]

_log = logging.getLogger(__name__)


class AsyncResult(_AioDataFrameResult["pl.DataFrame | list[pl.DataFrame]"]):
    """An awaitable result of queries that are already on their way; cancelling it cancels them.

    Parameters
    ----------
    submit
        Submits the queries; called in a thread of its own.
    gather
        Waits for them and returns what to await.
    """

    def __init__(
        self,
        submit: Callable[[], Sequence[Query]],
        gather: Callable[[Sequence[Query]], pl.DataFrame | list[pl.DataFrame]],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.result: asyncio.Future[pl.DataFrame | list[pl.DataFrame]] = self.loop.create_future()
        self._submit = submit
        self._gather = gather
        self._lock = threading.Lock()
        self._queries: Sequence[Query] = ()
        self._unwanted = False
        self.result.add_done_callback(self._when_done)
        threading.Thread(target=self._run, name="frazil-collect-async", daemon=True).start()

    def _run(self) -> None:
        try:
            queries = self._submit()
            with self._lock:
                self._queries = queries
                unwanted = self._unwanted
            if unwanted:
                self._cancel_queries()
                return
            outcome = self._gather(queries)
        except BaseException as error:  # whatever it is, it belongs to the one who awaits
            self._settle(partial(self.result.set_exception, error))
        else:
            self._settle(partial(self.result.set_result, outcome))

    def _settle(self, settle: Callable[[], None]) -> None:
        def unless_done() -> None:
            if not self.result.done():
                settle()

        try:
            self.loop.call_soon_threadsafe(unless_done)
        except RuntimeError:
            _log.debug("the event loop closed before its collect_async ended")

    def _when_done(self, future: asyncio.Future[pl.DataFrame | list[pl.DataFrame]]) -> None:
        if future.cancelled():
            threading.Thread(target=self._abandon, name="frazil-cancel", daemon=True).start()

    def _abandon(self) -> None:
        with self._lock:
            self._unwanted = True
        self._cancel_queries()

    def _cancel_queries(self) -> None:
        for query in self._queries:
            abandon(query)


class BackgroundQuery(InProcessQuery):
    """What ``collect(background=True)`` gives: polars' own interface of a query that runs elsewhere."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def cancel(self) -> None:
        """Stop the query."""
        self._query.cancel()

    def fetch(self) -> pl.DataFrame | None:
        """Return the result if it is ready, else None. Raises what the query raised."""
        return self._query.fetch() if self._query.status().state.ended else None

    def fetch_blocking(self) -> pl.DataFrame:
        """Wait for the result."""
        return self._query.fetch()
