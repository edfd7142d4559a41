"""A session with a coordinator of its own, in this process: what :func:`frazil.local` uses.

The coordinator and its local platform live on one background thread with an asyncio loop. Nothing starts (no thread, no
function process, no folder) until the first query. They end with :meth:`LocalSession.close`, or when the interpreter does.
Next on the main path: ``frazil_coordinator.coordinator``.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import math
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, TypeVar

import polars as pl

from frazil._local_triggers import LocalTriggers
from frazil._machine import of_this_machine
from frazil._parts import LocalOptions, open_coordinator, running_triggers
from frazil._session import UnreachableError
from frazil_coordinator.catalog.model import CatalogInfo, CatalogTable, Table, TableSource
from frazil_coordinator.catalog.parameters import Parameters, sendable
from frazil_coordinator.catalog.plans import Statement
from frazil_coordinator.query_settings import AS_SETTINGS, Reusing
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryEvent, QueryState, QueryStatus, Wanted
from frazil_coordinator.tenancy import DEFAULT_TENANT
from frazil_functions.errors import RequestError
from frazil_functions.ids import QueryId

if TYPE_CHECKING:
    from frazil_coordinator.coordinator import Coordinator
    from frazil_coordinator.events.triggers import Triggers

__all__ = ["LocalSession"]

_T = TypeVar("_T")

_INTERRUPT_S: Final = 0.2
"""Longest wait at a time. Once polars has run anything in this process, its handler of SIGINT (with SA_RESTART) keeps a
lock from being interrupted, so Ctrl-C would be noticed only at the end of the query."""

# Exit handlers of `atexit` run after concurrent.futures refuses new work, so a coordinator could not delete what it left
# any more (asyncio.to_thread). The hook below is the one that concurrent.futures itself uses, and it runs before.
_at_exit: Final[Callable[[Callable[[], None]], object]] = getattr(threading, "_register_atexit", atexit.register)


class LocalSession:
    """Runs a coordinator in this process; safe from several threads.

    Parameters
    ----------
    options
        The store, and how many functions.
    settings
        Settings of all queries.
    """

    def __init__(self, options: LocalOptions, settings: Settings) -> None:
        self.settings = of_this_machine(settings)
        self._options = options
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._pid = os.getpid()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not started" if self._running is None else "running"
        return f"local, {self._options.max_functions} functions, {state}"

    def __reduce__(self) -> tuple[object, ...]:
        raise RequestError("a local engine belongs to its process: let workers read from a coordinator (frazil.connect)")

    @property
    def shares_files(self) -> bool:
        """True: everything runs on this machine."""
        return True

    def submit(
        self,
        plan: bytes,
        labels: Sequence[str],
        *,
        discard_result: bool = False,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> QueryStatus:
        """Start a query."""
        return self._call(
            lambda coordinator: coordinator.submit(
                plan,
                settings=reusing.within(self.settings),
                labels=tuple(labels),
                discard_result=discard_result,
                priority=priority,
            )
        )

    def status(self, query: QueryId) -> QueryStatus:
        """Return what is known of a query now."""
        return self._ask(lambda coordinator: coordinator.status(query))

    def wait(self, query: QueryId, timeout_s: float | None) -> QueryStatus:
        """Return when the query has ended, or after `timeout_s` seconds."""
        return self._call(lambda coordinator: coordinator.wait(query, timeout_s=timeout_s))

    def events(self, query: QueryId) -> Iterator[QueryEvent]:
        """Yield changes of a query until its end."""
        return self._iterate(lambda coordinator: coordinator.events(query))

    def batches(self, query: QueryId) -> Iterator[pl.DataFrame]:
        """Yield the result, block by block."""
        return self._iterate(lambda coordinator: coordinator.result(query))

    def page(self, query: QueryId, offset: int, limit: int) -> pl.DataFrame:
        """Return some rows of a result."""
        from frazil_coordinator.retention import Page

        wanted = Page(offset=offset, limit=limit)
        return pl.concat(list(self._iterate(lambda coordinator: coordinator.result(query, wanted))))

    def plan(self, query: QueryId, *, analyze: bool = False) -> Explanation:
        """Return how a submitted query is cut into stages."""
        return self._ask(lambda coordinator: coordinator.explanation(query, analyze=analyze))

    def profile(self, query: QueryId) -> dict[str, object]:
        """Return what the query used."""
        return self._ask(lambda coordinator: coordinator.profile(query))

    def replay(self, query: QueryId, stage: int, task: int, attempt: int | None = None) -> bytes:
        """Return the bundle of a task."""
        return self._call(lambda coordinator: coordinator.replay(query, stage, task, attempt))

    def glance(self, query: QueryId, timeout_s: float) -> tuple[QueryStatus, dict[str, object] | None]:
        """Return what is known of a query now and what it used."""

        async def look(coordinator: Coordinator) -> tuple[QueryStatus, dict[str, object] | None]:
            return coordinator.status(query), coordinator.profile(query)

        running = self._coordinator()
        try:
            return running.run(look(running.coordinator), timeout_s)
        except TimeoutError as error:
            raise UnreachableError(f"the coordinator of this process is busy for {timeout_s:g} s") from error

    def cancel(self, query: QueryId) -> None:
        """Stop a query; no effect on one that has ended, also by the end of this session."""
        if not self._closed:
            self._call(lambda coordinator: coordinator.cancel(query))

    def explain(self, plan: bytes, *, dry_run: bool = False) -> Explanation:
        """Return how a plan would be cut into stages."""
        return self._call(lambda coordinator: coordinator.explain(plan, dry_run=dry_run))

    def queries(self, *, limit: int, state: QueryState | None = None, label: str | None = None) -> tuple[QueryStatus, ...]:
        """Return the newest queries."""
        return self._ask(lambda coordinator: coordinator.list(Wanted(limit=limit, state=state, label=label)))

    def submit_sql(
        self,
        text: str,
        parameters: Parameters,
        labels: Sequence[str],
        *,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> QueryStatus:
        """Start a statement."""
        from frazil_coordinator.statements import submit_sql

        statement = Statement.of(text, sendable(parameters))
        own = reusing.within(self.settings)
        return self._call(
            lambda coordinator: submit_sql(coordinator, statement, settings=own, labels=tuple(labels), priority=priority)
        )

    def explain_sql(self, text: str, parameters: Parameters, *, dry_run: bool = False) -> Explanation:
        """Return how a statement would be cut into stages; that of ``EXPLAIN ANALYZE`` is run."""
        from frazil_coordinator.statements import explain_sql

        statement = Statement.of(text, sendable(parameters))
        return self._call(lambda coordinator: explain_sql(coordinator, statement, dry_run=dry_run))

    def tables(self) -> tuple[Table, ...]:
        """Return the tables."""
        return self._coordinator().coordinator.catalog.list(DEFAULT_TENANT)

    def table(self, name: str) -> Table:
        """Return a table."""
        from frazil_coordinator.statements import show_table

        return self._call(lambda coordinator: show_table(coordinator, name))

    def put_table(self, name: str, source: TableSource, *, expected: int | None = None) -> Table:
        """Make or replace a table."""
        from frazil_coordinator.statements import put_table

        return self._call(lambda coordinator: put_table(coordinator, name, source, expected=expected))

    def drop_table(self, name: str, *, expected: int | None = None) -> None:
        """Drop a table."""
        self._coordinator().coordinator.catalog.drop(DEFAULT_TENANT, name, expected)

    @property
    def triggers(self) -> LocalTriggers:
        """The coordinator's triggers; they run from the first look at them."""
        return LocalTriggers(self._with_triggers)

    def _with_triggers(self, work: Callable[[Triggers], Coroutine[object, object, _T]]) -> _T:
        running = self._coordinator()
        return running.run(work(running.triggers()))

    def catalogs(self) -> tuple[CatalogInfo, ...]:
        """Return the catalogs."""
        return self._coordinator().coordinator.catalog.sources.catalogs(DEFAULT_TENANT)

    def catalog_tables(self, catalog: str, namespace: str = "") -> tuple[CatalogTable, ...]:
        """Return the tables of a catalog."""
        return self._coordinator().coordinator.catalog.sources.listed(DEFAULT_TENANT, catalog, namespace)

    def close(self) -> None:
        """Stop functions and coordinator, and delete a temporary store; from a forked child this does nothing."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None:
            running.stop()

    def _coordinator(self) -> _Running:
        if os.getpid() != self._pid:  # before the lock: another thread may have held it at the fork
            raise RequestError("this engine belongs to the process that made it: make one after the fork, in the child")
        with self._lock:
            if self._closed:
                raise RequestError("this engine is closed")
            if self._running is None:
                self._running = _Running(self._options, self.settings)
                _at_exit(self.close)
            return self._running

    def _call(self, work: Callable[[Coordinator], Coroutine[object, object, _T]]) -> _T:
        running = self._coordinator()
        return running.run(work(running.coordinator))

    def _ask(self, question: Callable[[Coordinator], _T]) -> _T:
        async def answer(coordinator: Coordinator) -> _T:
            return question(coordinator)

        return self._call(answer)

    def _iterate(self, work: Callable[[Coordinator], AsyncGenerator[_T, None]]) -> Iterator[_T]:
        running = self._coordinator()
        items = work(running.coordinator)
        try:
            while True:
                try:
                    item = running.run(_next(items))
                except StopAsyncIteration:
                    return
                yield item
        finally:
            if running.alive:
                running.run(_close(items))


async def _next(items: AsyncGenerator[_T, None]) -> _T:
    return await anext(items)


async def _close(items: AsyncGenerator[_T, None]) -> None:
    await items.aclose()


class _Running:
    """A thread with a loop, and the coordinator on it."""

    def __init__(self, options: LocalOptions, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="frazil-coordinator", daemon=True)
        self._thread.start()
        self._parts = AsyncExitStack()
        self._triggers: Triggers | None = None
        self._lock = threading.Lock()
        try:
            self.coordinator: Coordinator = self.run(self._parts.enter_async_context(open_coordinator(options, settings)))
        except BaseException:
            self.stop()
            raise

    def triggers(self) -> Triggers:
        """Return the coordinator's triggers, which run from now on."""
        with self._lock:
            if self._triggers is None:
                self._triggers = self.run(self._parts.enter_async_context(running_triggers(self.coordinator)))
            return self._triggers

    @property
    def alive(self) -> bool:
        """Whether the loop takes work."""
        return self._thread.is_alive() and not self._loop.is_closed()

    def run(self, work: Coroutine[object, object, _T], timeout_s: float = math.inf) -> _T:
        """Run a coroutine on the loop and wait for it; an interrupt here, or the end of its time, cancels it there."""
        if not self.alive:
            work.close()
            raise RequestError("this engine is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        deadline = time.monotonic() + timeout_s
        try:
            while not concurrent.futures.wait([future], timeout=_INTERRUPT_S).done:
                if time.monotonic() > deadline:
                    raise TimeoutError
            return future.result()
        except (KeyboardInterrupt, TimeoutError):
            future.cancel()
            raise

    def stop(self) -> None:
        """Close the coordinator and end the thread."""
        try:
            self.run(self._parts.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
