"""The coordinator: one object that owns all queries of a process.

It is used in-process by ``frazil.local()`` and over HTTP through :mod:`frazil_coordinator.api`. All methods belong to one
event loop. It accepts, shows, cancels and forgets; next on the main path is :mod:`frazil_coordinator.execution`, which
brings one query from its plan to its end.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Final

import polars as pl

from frazil_coordinator.admission import Admission
from frazil_coordinator.background import Background
from frazil_coordinator.catalog import Catalog
from frazil_coordinator.cluster import Cluster
from frazil_coordinator.draining import until_idle
from frazil_coordinator.execution import Execution, Planner, explanation_of, explanation_of_query
from frazil_coordinator.hygiene import SWEEP_AFTER_S, Cleaner
from frazil_coordinator.journal.history import Remembered
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.keeping import Keeper
from frazil_coordinator.leadership import Leadership
from frazil_coordinator.lineage import Lineage
from frazil_coordinator.metered import MeteredStore
from frazil_coordinator.metrics import Metrics, new_metrics
from frazil_coordinator.observing import observe
from frazil_coordinator.orphans import collect_orphans
from frazil_coordinator.plan.caps import check_caps
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.platform.base import Platform
from frazil_coordinator.prices import Prices
from frazil_coordinator.recovery import accept, recovered
from frazil_coordinator.refusals import ShuttingDownError
from frazil_coordinator.registry import QueryRecord, Registry, Submission
from frazil_coordinator.replays import REPLAY_PREFIX, Replays
from frazil_coordinator.retention import Page, Results
from frazil_coordinator.reuse.reuse import Reuse
from frazil_coordinator.rights import Rights
from frazil_coordinator.schedule.cost import priced
from frazil_coordinator.schedule.peaks import Peaks
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryEvent, QueryStatus, Wanted
from frazil_coordinator.tenancy import DEFAULT_TENANT, Tenants
from frazil_coordinator.tracing import Tracing
from frazil_functions.errors import StandbyError, from_wire
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store

__all__ = ["Coordinator"]

_PLANNING_THREADS: Final = 4
_READY_PROBE_S: Final = 5.0

_LOGGER = logging.getLogger(__name__)


class Coordinator:
    """Plans and runs queries on a platform, and keeps their results for a time.

    Parameters
    ----------
    settings
        Of queries that come without their own; `max_plan_bytes`, `max_queries`, `max_in_flight` and `result_ttl_s` hold for
        the whole coordinator whatever a query says, and no query gets `allow_udfs` where they don't give it.
    platform
        Where functions run. It stays the caller's: :meth:`aclose` does not close it.
    store, exchange_prefix
        The exchange store, the same that the functions use, and the key prefix of all exchange objects.
    planner
        Turns plan bytes into stages, blocking. None: :func:`~frazil_coordinator.plan.planner.plan_query`, with what tasks
        needed so far.
    sweep_after_s
        See :data:`~frazil_coordinator.hygiene.SWEEP_AFTER_S`.
    journal
        Keeps the queries, so that another coordinator goes on with them however this one ends. None: they end with it.
    leadership
        Its right to write; it stays the caller's, who acquires and releases it. None: it needs none.
    tenants
        Who shares it. None: one tenant without limits.
    metrics, tracing, lineage
        What it counts (no two share one; None: new ones), and what is told of queries; all stay the caller's.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        platform: Platform,
        store: Store,
        exchange_prefix: str = "exchange",
        planner: Planner | None = None,
        sweep_after_s: Sequence[float] = SWEEP_AFTER_S,
        journal: Journal | None = None,
        leadership: Leadership | None = None,
        tenants: Tenants | None = None,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
        lineage: Lineage | None = None,
    ) -> None:
        self.metrics = metrics or new_metrics()
        self.store = store = MeteredStore(store, self.metrics, "coordinator")
        if journal is not None:
            journal = journal.told(self.metrics)
        self.leadership, self.settings = leadership, settings
        self.sealer, self._exchange_prefix = None if journal is None else journal.sealer, exchange_prefix
        self._registry = Registry(settings.max_queries)
        self._cleaner = Cleaner(store, exchange_prefix, sweep_after_s)
        self._journal = journal
        self._results = Results(store, self._cleaner, keep_read=journal is not None)
        self._replays = Replays.of(store, self._cleaner, journal, settings)
        self._threads = ThreadPoolExecutor(_PLANNING_THREADS, thread_name_prefix="frazil-plan")
        tenants = tenants or Tenants()
        self.rights = Rights(tenants=tenants, settings=settings)
        self._admission = Admission(tenants, settings.ageing_s)
        slots = Slots(settings.max_in_flight or platform.max_in_flight, ageing_s=settings.ageing_s)
        peaks = Peaks()
        self.reuse = Reuse(store, settings.reuse_ttl_s, self._registry.result_keys, self.metrics)
        """What queries share."""
        self._execution = Execution(
            planner=planner or (lambda plan, settings: plan_query(plan, settings, factors=peaks.factors)),
            platform=platform,
            store=store,
            exchange_prefix=exchange_prefix,
            slots=slots,
            admission=self._admission,
            peaks=peaks,
            cleaner=self._cleaner,
            threads=self._threads,
            journal=journal,
            tracing=tracing,
            metrics=self.metrics,
            reuse=self.reuse,
            replays=self._replays,
            lineage=None if lineage is None else lineage.told(self.metrics),
        )
        self._background = Background()
        self._keeper = Keeper(self._results, self._replays, journal, settings.result_ttl_s, self._background.spawn)
        self._took_over = leadership is None or journal is None
        self._unreadable: frozenset[QueryId] = frozenset()
        """Queries whose journals can't be read: that is said once."""

        self.on_ended = list[Callable[[QueryStatus], None]]()  # told of each query that has ended here, and return at once
        self._accepting = True
        self.catalog = Catalog(store, tenants=tenants)
        """Its tenants' tables."""
        self.cluster = Cluster(registry=self._registry, slots=slots, platform=platform, tenants=tenants)
        """What it is busy with."""
        observe(self.metrics, registry=self._registry, slots=slots, platform=platform, leads=lambda: self.leads)

    @property
    def leads(self) -> bool:
        """Whether it may accept queries now, and knows those that others had accepted."""
        return self._took_over and (self.leadership is None or self.leadership.leads)

    async def submit(
        self,
        plan: bytes,
        *,
        settings: Settings | None = None,
        labels: Sequence[str] = (),
        discard_result: bool = False,
        idempotency_key: str = "",
        tenant: str = DEFAULT_TENANT,
        priority: int = 0,
        sql: str = "",
        asked: bytes = b"",
    ) -> QueryStatus:
        """Accept a query and return at once; it is planned and run in the background.

        With a journal, it is durable when this returns: whatever becomes of the coordinator, it comes to its end.

        Parameters
        ----------
        plan
            Bytes of ``LazyFrame.serialize()``.
        settings
            Of this query; by default the coordinator's.
        labels, sql, discard_result
            What the query is called in lists, the statement that it was made of, and whether nobody wants its rows.
        idempotency_key, asked
            The client's name of the submission: under it an equal `asked`, or else plan, is the same query. Empty: none.
        tenant, priority
            Whose query it is, and its priority among theirs, from -10 to 10; the highest first.

        Raises
        ------
        PlanTooLargeError
            When `plan` is larger than ``settings.max_plan_bytes``.
        TooManyQueriesError
            When ``settings.max_queries`` are running; `QueueFullError` when too many of the tenant's wait.
        ForbiddenError
            When the priority, or what the plan reads or writes, is not the tenant's.
        ShuttingDownError
            After :meth:`drain` or :meth:`aclose`.
        JournalError
            When the journal can't be written: the query is not accepted then.
        RequestError
            When another plan was submitted under `idempotency_key`.
        """
        await self.rights.check(plan, tenant, priority)
        self._check_accepting()
        submission = Submission.of(asked or plan, idempotency_key)
        if (known := self._registry.submitted(submission, tenant)) is not None:
            return await known.once_accepted()
        record = QueryRecord(
            QueryId(secrets.token_hex(8)),
            self.rights.bounded(settings, tenant),
            tuple(labels),
            discard_result=discard_result,
            submission=submission,
            tenant=tenant,
            priority=priority,
        )
        record.sql = sql
        self._admission.enter(record)
        try:
            self._add(record)
            record.log = None if self._journal is None else await accept(self._journal, record, plan)
            if self._journal is not None and not self.leads:
                # It is durable all the same: who leads finds it, and knows it by its key when it is submitted there.
                raise StandbyError("another coordinator has taken over: submit the query again")
        except BaseException:
            self._registry.remove(record)
            self._admission.leave(record)
            raise
        record.accepted.set()
        self.metrics.queries.accepted.inc()
        self._background.spawn(self._run(record, plan), f"query {record.id}")
        _LOGGER.info("query accepted", extra={"query": record.id, "plan_bytes": len(plan)})
        return record.status

    async def recover(self) -> tuple[QueryId, ...]:
        """Take over the queries in the journal that this coordinator does not know, and go on with them.

        By one coordinator at a time. What of the journal can't be read is left as it is, and logged.

        Returns
        -------
        tuple of QueryId
            Those that had not ended.

        Raises
        ------
        StorageError
            When the store can't be listed.
        """
        if self._journal is None:
            return ()
        going_on = []
        queries, unreadable = await recovered(self._journal, self._has)
        self._unreadable |= unreadable
        for found in queries:
            record = found.record
            record.settings = self.rights.bounded(record.settings, record.status.tenant)  # they may be fewer now
            if self._registry.submitted(record.submission, record.status.tenant) is not None:
                # Its client was told to ask another coordinator, and did: it is here under another id.
                await self._keeper.forget(record)
                continue
            self._add(record)
            if found.plan is None:
                self._admission.ended_before(record)
                self._keeper.keep(record)
            else:
                self._admission.enter(record, always=True)
                self._background.spawn(self._run(record, found.plan, found.before), f"query {record.id}")
                going_on.append(record.id)
        self._took_over = True
        return tuple(going_on)

    async def collect_orphans(self) -> None:
        """Delete exchange objects of queries that nobody knows (`Settings.orphan_ttl_s`), and answers that are too old.

        Raises
        ------
        StorageError
            When the store refuses.
        """
        for prefix in (self._exchange_prefix, REPLAY_PREFIX):
            await collect_orphans(self.store, prefix, self._has, self.settings.orphan_ttl_s)
        await asyncio.to_thread(self.reuse.collect)

    async def stand_down(self) -> None:
        """Leave all queries to the coordinator that leads now, and forget them here."""
        self._took_over = self.leadership is None
        for record in self._registry:
            record.stop_here()
        self._keeper.close()
        for record in self._registry:
            await record.ended.wait()
            self._registry.remove(record)

    def _has(self, query: QueryId) -> bool:
        return query in self._unreadable or self._registry.has(query) or self._keeper.forgets(query)

    def _add(self, record: QueryRecord) -> None:
        for forgotten in self._registry.add(record):
            self._background.spawn(self._keeper.forget(forgotten), f"forget {forgotten.id}")

    def status(self, query: QueryId) -> QueryStatus:
        """Return what is known of `query` now.

        Raises
        ------
        UnknownQueryError
            When there is no such query; so do all methods that take one.
        """
        return self._registry.get(query).status

    async def wait(self, query: QueryId, timeout_s: float | None = None) -> QueryStatus:
        """Return when `query` has ended, or after `timeout_s` seconds (None: never) with what is known then."""
        record = self._registry.get(query)
        with suppress(TimeoutError):  # no error: the caller sees the state
            async with asyncio.timeout(timeout_s):
                await record.ended.wait()
        return record.status

    def events(self, query: QueryId) -> AsyncGenerator[QueryEvent, None]:
        """Yield the present state, then changes until the query has ended; see :meth:`QueryRecord.events`."""
        return self._registry.get(query).events()

    async def result(self, query: QueryId, page: Page | None = None) -> AsyncGenerator[pl.DataFrame, None]:
        """Wait for the end, then yield the result, or a page of it, block by block; at least one frame, maybe an empty one.

        A small result can be read again until it is evicted; a large one is deleted once it was read to its end.

        Raises
        ------
        FrazilError
            Why the query failed; `frazil_coordinator.retention.ResultGoneError` when the result was deleted.
        """
        record = self._registry.get(query)
        await record.ended.wait()
        if record.abandoned:
            raise record.error or ShuttingDownError(f"the coordinator ended while query {query} was running; ask again")
        async for frame in self._results.read(record, page):
            yield frame

    async def explain(
        self, plan: bytes, settings: Settings | None = None, *, dry_run: bool = False, tenant: str = DEFAULT_TENANT
    ) -> Explanation:
        """Return how `plan` would be cut into stages, and what it would read and cost; nothing runs.

        Neither caps nor ``fallback="raise"`` refuse what is only shown: the plan says what would be refused, and why.

        Parameters
        ----------
        plan, settings, tenant
            See :meth:`submit`.
        dry_run
            Whether to do all that :meth:`submit` does before a task starts, so that a query above a cap is refused, and one
            that falls back against its settings.

        Raises
        ------
        FrazilError
            As planning does; `CapError` and `FallbackError` on a dry run.
        """
        await self.rights.check(plan, tenant)
        self._check_accepting()
        own = self.rights.bounded(settings, tenant)
        if not dry_run and own.fallback == "raise":
            own = replace(own, fallback="allow")
        graph, report = await self._execution.plan(plan, own)
        if dry_run:
            check_caps(graph, own)
            self._admission.check_plan(tenant, graph)
        return explanation_of(report, graph.schema)

    async def analyze(
        self,
        plan: bytes,
        settings: Settings | None = None,
        *,
        labels: Sequence[str] = (),
        tenant: str = DEFAULT_TENANT,
        priority: int = 0,
    ) -> Explanation:
        """Run `plan`, and return what each stage did beside what was expected of it; the result is discarded.

        Cancelling the call cancels the query. Parameters are those of :meth:`submit`.

        Raises
        ------
        FrazilError
            Why the query could not be run, or failed.
        """
        it = await self.submit(plan, settings=settings, labels=labels, discard_result=True, tenant=tenant, priority=priority)
        try:
            status = await self.wait(it.id)
        except asyncio.CancelledError:
            self._registry.get(it.id).cancel()
            raise
        if status.error is not None:
            raise from_wire(status.error)
        return self.explanation(it.id, analyze=True)

    def explanation(self, query: QueryId, *, analyze: bool = False) -> Explanation:
        """Return how `query` was cut into stages.

        Parameters
        ----------
        query
            The query.
        analyze
            Whether to show what each stage did, until now or in all, beside what was expected of it.

        Raises
        ------
        FrazilError
            Why it could not be planned; `NotPlannedError` while it is being planned.
        """
        record = self._registry.get(query)
        return explanation_of_query(record, self.profile(query) if analyze else None)

    def profile(self, query: QueryId) -> dict[str, object]:
        """Return what `query` used until now, by stage: JSON values (docs/http-api.md)."""
        record = self._registry.get(query)
        if record.driver is None:
            return record.profile
        return priced(record.driver.profile(), record.report, Prices.of(self.settings))

    async def replay(self, query: QueryId, stage: int, task: int, attempt: int | None = None) -> bytes:
        """Return the bundle by which a task of `query` is run again elsewhere; see `Replays.bundle`."""
        return await self._replays.bundle(self._registry.get(query), stage, task, attempt)

    async def cancel(self, query: QueryId) -> QueryStatus:
        """Stop `query`, and return when it has really stopped and its objects are deleted; no effect after its end."""
        record = self._registry.get(query)
        record.cancel()
        await record.ended.wait()
        return record.status

    def list(self, wanted: Wanted | None = None) -> tuple[QueryStatus, ...]:
        """Return queries, newest first."""
        return self._registry.select(wanted or Wanted())

    async def probe(self) -> None:
        """Return when the coordinator can do its work: it accepts queries, and the store answers.

        Raises
        ------
        FrazilError
            Why it can't.
        TimeoutError
            When the store doesn't answer.
        """
        self._check_accepting()
        async with asyncio.timeout(_READY_PROBE_S):
            await asyncio.to_thread(self.store.list, f"{self._exchange_prefix}/ready")

    async def drain(self, grace_s: float) -> None:
        """Accept no more queries; return when those that run have ended and were read, at the latest after `grace_s`."""
        self._accepting = False
        await until_idle(self._registry, grace_s)

    async def aclose(self) -> None:
        """Cancel what runs, delete all results, and end; with a journal, leave all of it to the next coordinator instead.

        A second call has no effect.
        """
        self._accepting = False
        for record in self._registry:
            record.stop_here()
        await self._background.join()
        await self.reuse.settled()
        self._keeper.close()
        self._results.close()
        for record in self._registry:
            if record.log is not None:
                await record.log.aclose()
            else:
                await self._results.drop(record, at_once=True)
                await self._replays.forget(record)
        await self._cleaner.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check_accepting(self) -> None:
        if not self._accepting:
            raise ShuttingDownError("the coordinator is shutting down and accepts no queries")

    async def _run(self, record: QueryRecord, plan: bytes, before: Remembered | None = None) -> None:
        await self._execution.run(record, plan, before)
        if record.abandoned:
            return
        for told in self.on_ended:
            told(record.status)
        if record.discard_result:
            await self._results.drop(record)
        self._registry.trim()
        self._keeper.keep(record)
