"""One query from plan bytes to its end: plan in a thread, drive, clean up, note the end.

Between :mod:`frazil_coordinator.coordinator`, which owns the queries, and :mod:`frazil_coordinator.plan` and
:mod:`frazil_coordinator.schedule.driver`, which do the work. A query that was cancelled ends here like any other.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import msgspec
import polars as pl

from frazil_coordinator.admission import Admission
from frazil_coordinator.course import Course, resumed_course
from frazil_coordinator.hygiene import Cleaner
from frazil_coordinator.journal.history import Remembered
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.records import Ended, Publishing
from frazil_coordinator.leftovers import Leftovers
from frazil_coordinator.lineage import Lineage
from frazil_coordinator.metrics import Metrics
from frazil_coordinator.plan.caps import check_caps, check_task_times
from frazil_coordinator.plan.explain import explain_text
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.report import Report, measured_report, planned_report
from frazil_coordinator.platform.base import Platform, longest_task_s, pin, unpin
from frazil_coordinator.prices import Prices
from frazil_coordinator.publication import Publication, PublicationName
from frazil_coordinator.refusals import NotPlannedError
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.replays import Replays
from frazil_coordinator.retention import small_result_in_memory
from frazil_coordinator.reuse.digests import result_digest
from frazil_coordinator.reuse.forms import KeptResult
from frazil_coordinator.reuse.reuse import Reuse
from frazil_coordinator.schedule.arms import StoredFragment
from frazil_coordinator.schedule.bind import query_prefixes
from frazil_coordinator.schedule.cost import priced
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.peaks import Peaks
from frazil_coordinator.schedule.progress import Progress
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.schedule.small import TooLargeForOneTaskError
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryState, StageProgress
from frazil_coordinator.tracing import Tracing
from frazil_functions.errors import (
    BordersError,
    CancelledQueryError,
    CapError,
    DeadlineError,
    FrazilError,
    InternalError,
    PlanError,
    QueryError,
    from_wire,
    to_wire,
)
from frazil_functions.ids import QueryId, StageId
from frazil_functions.sealed import seal_fragment
from frazil_functions.storage import Store
from frazil_functions.task import BlockRef

__all__ = ["Execution", "Planner", "explanation_of", "explanation_of_query"]

Planner: TypeAlias = Callable[[bytes, Settings], StageGraph]
"""Blocking; raises `PlanError` and other user errors."""

_LOGGER = logging.getLogger(__name__)


def explanation_of(report: Report, schema: pl.Schema | None, sql: str = "") -> Explanation:
    """Return how a plan looks, for people and for programs."""
    values = msgspec.convert(msgspec.to_builtins(report), dict[str, Any])
    return Explanation(
        text=explain_text(report),
        stages=tuple(values["stages"]),
        predicted=values["predicted"],
        measured=values["measured"],
        sql=sql,
        columns=tuple({"name": name, "dtype": str(dtype)} for name, dtype in (schema or {}).items()),
    )


def explanation_of_query(record: QueryRecord, profile: dict[str, object] | None) -> Explanation:
    """Return how a query was cut into stages, with what `profile` measured beside, if it is given.

    Raises
    ------
    FrazilError
        Why it could not be planned; `NotPlannedError` while it is being planned.
    """
    if record.report is not None:
        report = record.report if profile is None else measured_report(record.report, profile)
        return explanation_of(report, record.schema, record.sql)
    if record.status.error is not None:
        raise from_wire(record.status.error)
    raise NotPlannedError(f"query {record.id} is being planned; ask again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What all queries of a coordinator run with."""

    planner: Planner
    platform: Platform
    store: Store
    exchange_prefix: str
    """Key prefix of all exchange objects."""

    slots: Slots
    admission: Admission
    peaks: Peaks
    cleaner: Cleaner
    threads: ThreadPoolExecutor
    """For planning."""

    metrics: Metrics
    reuse: Reuse
    """What they share."""

    journal: Journal | None = None
    """What keeps queries whose records have a log."""

    replays: Replays | None = None
    """What keeps tasks to be run again; None: nothing is kept."""

    lineage: Lineage | None = None
    """What tells what queries read and write."""

    tracing: Tracing | None = None
    """What is told of queries that have ended."""

    clock: Callable[[], float] = time.monotonic
    """Seconds, those of the running loop's timers."""

    async def plan(self, plan: bytes, settings: Settings) -> tuple[StageGraph, Report]:
        """Plan in a thread; caps are not looked at.

        Raises
        ------
        FrazilError
            What the planner raises; errors of Polars come as `QueryError`.
        """
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._plan_blocking, plan, settings)

    async def run(self, record: QueryRecord, plan: bytes, before: Remembered | None = None) -> None:
        """Bring `record` to its end, or to where it is abandoned; raises nothing but cancellation of the task itself.

        Parameters
        ----------
        record
            The query.
        plan
            Bytes of ``LazyFrame.serialize()``.
        before
            What another coordinator did for it.
        """
        error: FrazilError | None = None
        blocks: tuple[BlockRef, ...] = ()
        left = Leftovers()
        try:
            blocks = await _unless_abandoned(record, self._in_turn(record, plan, left, before))
        except FrazilError as caught:
            error = caught
        except Exception:
            _LOGGER.exception("unforeseen error in the coordinator", extra={"query": record.id})
            error = InternalError("unforeseen error in the coordinator; its log tells more", where={"query": record.id})
        try:
            if not record.abandoned:
                await self._settle(record, blocks, error, left)
        finally:
            self.reuse.left(record.id)
            unpin(self.platform, record.id)
            self.admission.leave(record)
        if record.abandoned:
            return
        if self.lineage is not None:
            self.lineage.ended(record.status, record.sql, record.profile)
        if self.tracing is not None:
            await self._trace(record, self.tracing)

    async def _trace(self, record: QueryRecord, tracing: Tracing) -> None:
        """Have a query that has ended traced: in a thread, because it may have had a hundred thousand attempts."""
        try:
            await asyncio.to_thread(tracing.ended, record.status, record.profile)
        except Exception:  # whatever is wrong with a trace, the query has ended as it has
            _LOGGER.exception("query not traced", extra={"query": record.id})

    async def _settle(
        self, record: QueryRecord, blocks: tuple[BlockRef, ...], error: FrazilError | None, left: Leftovers
    ) -> None:
        """Note the end: first what must not be forgotten, then the cleaning; who sees the end sees an empty prefix."""
        if self.replays is not None:
            await self.replays.keep(record, left.told, error)
        end = _end_of(record, blocks, error)
        if record.log is not None:
            try:
                await record.log.write(end)
            except FrazilError as failed:
                record.abandon(failed)
                return
            await record.log.aclose()
        if left.result is not None and error is None:
            result = KeptResult(digest=left.result, query=record.id, ended_unix_s=end.ended_unix_s, blocks=blocks)
            self.reuse.keep_result(result, record.status.tenant)
        await left.delete(self.cleaner, record, blocks)
        _LOGGER.info("query ended", extra={"query": record.id, "error": None if error is None else error.kind})
        record.blocks = blocks if error is None else None
        record.end(end.state, error, rows=end.result_rows, bytes=end.result_bytes, ended_unix_s=end.ended_unix_s)
        self.metrics.queries.end(record.status)

    async def _in_turn(
        self, record: QueryRecord, plan: bytes, left: Leftovers, before: Remembered | None
    ) -> tuple[BlockRef, ...]:
        await self.admission.turn(record, _with_time_left(record).timeout_s)
        return await self._plan_and_drive(record, plan, left, before)

    async def _plan_and_drive(
        self, record: QueryRecord, plan: bytes, left: Leftovers, before: Remembered | None
    ) -> tuple[BlockRef, ...]:
        course = await self._course(record, plan, before)
        if self.lineage is not None:
            again = before is not None and bool(before.planned)
            self.lineage.planned(record.status, record.sql, plan, course.graph, again=again)
        if before is not None:
            left.runs += 1
            left.sinks += course.former
        if record.settings.reuse == "result":
            left.result = await asyncio.to_thread(result_digest, course.graph)
            if before is None and (earlier := await self._earlier(record, left.result)) is not None:
                left.result = None  # it is kept as it is
                return earlier
        try:
            return await self._drive(record, course, left)
        except (BordersError, TooLargeForOneTaskError) as error:
            if course.is_last:
                raise
            # Nothing wrong was read: whoever met the quotes said so. It costs what was done so far.
            settings = replace(record.settings, split_text_files=False)
            if isinstance(error, TooLargeForOneTaskError):
                settings = replace(settings, start_small=False)
            _LOGGER.warning("planning again", extra={"query": record.id, "kind": error.kind, "error": str(error)})
            course = await self._planned(record, plan, settings)
            return await self._drive(record, replace(course, is_last=True), left)

    async def _earlier(self, record: QueryRecord, digest: str | None) -> tuple[BlockRef, ...] | None:
        """Return the result of an equal query before, and show that it is."""
        if digest is None:
            return None
        tenant = self.admission.tenant(record.status.tenant)
        found = await self.reuse.earlier(digest, tenant.name, record.settings)
        most = tenant.max_result_bytes
        if found is None or (most is not None and sum(block.length for block in found.blocks) > most):
            return None
        predicted = None if record.report is None else record.report.predicted
        record.profile = {
            **record.profile,
            "state": "succeeded",
            "result_of": found.query,
            "bytes_scanned": 0,
            "bytes_not_scanned": 0 if predicted is None else predicted.bytes_scanned.value,
            "function_seconds": 0.0,
            "dollars": 0.0,
        }
        self.metrics.reuse.results.inc()
        return found.blocks

    async def _course(self, record: QueryRecord, plan: bytes, before: Remembered | None) -> Course:
        """Return what is to be done: all of it, or what another coordinator left."""
        if before is None or not before.planned or self.journal is None:
            return await self._planned(record, plan, record.settings)
        pin(self.platform, record.id, before.planned[-1].release)
        planned = await asyncio.to_thread(self.journal.stages, record.id, before.planned[-1])
        if planned.report is None:
            raise InternalError("the journal has no report of the plan")
        tenant = self.admission.tenant(record.status.tenant)
        self.admission.spending.reserve(tenant, record.id, planned.graph, always=True)
        _show_planned(record, planned.graph, planned.report)
        course = resumed_course(record.id, planned.graph, before)
        if course.sink is not None:
            await asyncio.to_thread(course.sink.prepare)
        return course

    async def _planned(self, record: QueryRecord, plan: bytes, settings: Settings) -> Course:
        """Plan, and write down what the plan is."""
        graph, report = await self._plan_or_stop(record, plan, settings)
        release = pin(self.platform, record.id)
        sink = None if graph.sink is None else Publication(graph.sink, record.id)
        if sink is not None:
            await asyncio.to_thread(sink.prepare)
        if record.log is not None and self.journal is not None:
            name = PublicationName(folder="", stamp="") if sink is None else sink.name
            planned = partial(self.journal.planned, record.id, graph, report, sink_folder=name.folder, sink_stamp=name.stamp)
            record.log.add(await asyncio.to_thread(planned, release=release))
        return Course(graph=graph, sink=sink)

    def _plan_blocking(self, plan: bytes, settings: Settings) -> tuple[StageGraph, Report]:
        try:
            graph = self.planner(plan, settings)
            if graph.sink is not None and graph.sink.local and not self.platform.shares_files:
                raise PlanError(
                    f"{graph.sink.target} is a path, and the functions are on other machines: sink to s3://, gs:// or az://"
                )
            return graph, planned_report(graph)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise QueryError(str(error), exception=type(error).__name__) from error

    async def _plan_or_stop(self, record: QueryRecord, plan: bytes, settings: Settings) -> tuple[StageGraph, Report]:
        """Plan; when the query is to stop meanwhile, go on without the thread, whose answer nobody wants any more."""
        planning = asyncio.ensure_future(self.plan(plan, settings))
        either: set[asyncio.Future[Any]] = {planning, record.stop}
        await asyncio.wait(either, timeout=_with_time_left(record).timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if record.stop.done() or not planning.done():
            planning.cancel()
            await asyncio.wait({planning})
            if record.stop.done():
                raise CancelledQueryError("the query was cancelled")
            raise DeadlineError(f"the query was not planned within {record.settings.timeout_s:g} s")
        graph, report = planning.result()
        record.report = report  # also of a query that a cap refuses
        check_caps(graph, record.settings)
        check_task_times(graph, record.settings, longest_task_s(self.platform))
        self.admission.spending.reserve(self.admission.tenant(record.status.tenant), record.id, graph)
        _show_planned(record, graph, report)
        return graph, report

    async def _drive(self, record: QueryRecord, course: Course, left: Leftovers) -> tuple[BlockRef, ...]:
        """Run the planned query, and publish what it wrote for the user."""
        graph, sink = course.graph, course.sink
        most = None if sink is not None else self.admission.tenant(record.status.tenant).max_result_bytes
        driver = QueryDriver(
            query=record.id,
            graph=graph,
            platform=self.platform,
            exchange_prefix=self.exchange_prefix,
            settings=_with_time_left(record),
            slots=self.slots,
            on_progress=lambda progress: _told(record, progress, most),
            put_fragment=lambda stage, fragment: self._put_fragment(record.id, stage, fragment),
            sink=None if sink is None else sink.output,
            peaks=self.peaks,
            clock=self.clock,
            metrics=self.metrics,
            log=record.log,
            claim=self.admission.claim(record),
            sharing=self.reuse.sharing(record.id, record.status.tenant, record.settings, left.result),
            large_is_error=not course.is_last,
            history=course.history,
        )
        record.driver = driver
        left.graph, left.profile, left.told = graph, None, driver.told
        left.runs += 1
        left.sinks += [] if sink is None else [sink]
        try:
            blocks = await _run_within(record, driver, most)
            if sink is not None:
                await self._publish(record, sink, driver, again=course.publishing)
            # What is kept of the result must be there for another coordinator too.
            return blocks if record.log else await asyncio.to_thread(small_result_in_memory, self.store, blocks)
        except DeadlineError as error:  # the driver knows only what planning left of the time
            if (limit_s := record.settings.timeout_s) is None:
                raise
            raise DeadlineError(f"the query did not end within {limit_s:g} s", where=error.where) from error
        finally:
            left.profile = driver.profile()
            for stage in left.profile["stages"]:
                if stage["attempts"]:
                    self.metrics.queries.stage_seconds.labels(stage["kind"]).observe(stage["seconds"])
            record.profile = priced(left.profile, record.report, Prices.of(record.settings))
            if sink is not None:
                record.profile["sink"] = sink.profile()

    async def _publish(self, record: QueryRecord, sink: Publication, driver: QueryDriver, *, again: bool) -> None:
        if record.log is not None:
            await record.log.write(Publishing())
        await asyncio.to_thread(partial(sink.publish, driver.files(), again=again))

    async def _put_fragment(self, query: QueryId, stage: StageId, fragment: bytes) -> StoredFragment:
        (prefix,) = query_prefixes(self.exchange_prefix, query)
        # Not the same key again: another coordinator's tasks may still read what that one stored, with another secret.
        key = f"{prefix}{stage}/fragment-{secrets.token_hex(8)}"
        sealed, secret = seal_fragment(fragment)
        await asyncio.to_thread(self.store.put, key, [sealed])
        return StoredFragment(key=key, secret=secret)


def _told(record: QueryRecord, progress: Progress, most: int | None) -> None:
    """Show progress; a query whose result has become larger than `most` bytes need not go on."""
    record.progress(_progress(progress))
    if most is not None and progress.stages[-1].bytes > most and record.driver is not None:
        record.driver.cancel()


async def _run_within(record: QueryRecord, driver: QueryDriver, most: int | None) -> tuple[BlockRef, ...]:
    """Run a driver to its end.

    Raises
    ------
    CapError
        When the result has more than `most` bytes.
    FrazilError
        As :meth:`QueryDriver.run`.
    """
    error: CancelledQueryError | None = None
    blocks: tuple[BlockRef, ...] = ()
    try:
        blocks = await driver.run()
    except CancelledQueryError as cancelled:
        error = cancelled
    size = driver.progress().stages[-1].bytes
    if most is not None and size > most and not record.stop.done():
        raise CapError(
            f"the result has more bytes ({size:,} until it was stopped) than the max_result_bytes={most:,} of tenant "
            f"{record.status.tenant!r}: select less, or write it to files with a sink"
        ) from error
    if error is not None:
        raise error
    return blocks


async def _unless_abandoned(record: QueryRecord, work: Coroutine[None, None, tuple[BlockRef, ...]]) -> tuple[BlockRef, ...]:
    """Do the work of a query, until another coordinator does it, or this one leaves it to the next."""
    if record.log is None:
        return await work
    working = asyncio.ensure_future(work)
    failing = asyncio.ensure_future(record.log.failed.wait())
    either: set[asyncio.Future[Any]] = {working, failing, record.leave}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            record.abandon(record.log.error)
            return ()
        return working.result()
    finally:
        working.cancel()
        failing.cancel()
        await asyncio.wait(either - {record.leave})


def _show_planned(record: QueryRecord, graph: StageGraph, report: Report) -> None:
    record.schema, record.report = graph.schema, report
    record.change(
        state=QueryState.QUEUED,
        started_unix_s=time.time(),
        progress=tuple(StageProgress(stage=stage.id, kind=stage.kind, tasks=stage.tasks) for stage in graph.stages),
        fallbacks=graph.fallbacks if record.settings.fallback == "warn" else (),
    )


def _end_of(record: QueryRecord, blocks: tuple[BlockRef, ...], error: FrazilError | None) -> Ended:
    """Return how the query ended."""
    end = Ended(
        state=QueryState.SUCCEEDED,
        started_unix_s=record.status.started_unix_s,
        ended_unix_s=time.time(),
        result_rows=sum(block.rows for block in blocks),
        result_bytes=sum(block.length for block in blocks),
        blocks=blocks,
        profile=msgspec.json.encode(record.profile),
    )
    if error is None:
        return end
    state = QueryState.CANCELLED if isinstance(error, CancelledQueryError) else QueryState.FAILED
    return msgspec.structs.replace(end, state=state, error=to_wire(error), result_rows=None, result_bytes=None, blocks=())


def _with_time_left(record: QueryRecord) -> Settings:
    """Return the settings of the query with what is left of its time after planning."""
    if record.settings.timeout_s is None:
        return record.settings
    spent = time.time() - record.status.submitted_unix_s
    return replace(record.settings, timeout_s=max(0.001, record.settings.timeout_s - spent))


def _progress(progress: Progress) -> tuple[StageProgress, ...]:
    return tuple(
        StageProgress(
            stage=stage.id,
            kind=stage.kind,
            tasks=stage.tasks,
            done=stage.done,
            running=stage.running,
            attempts=stage.attempts,
            rows=stage.rows,
            bytes=stage.bytes,
        )
        for stage in progress.stages
    )
