"""One query from plan bytes to its end: plan in a thread, drive, clean up, note the end.

Between :mod:`frazil_coordinator.coordinator`, which owns the queries, and :mod:`frazil_coordinator.plan` and
:mod:`frazil_coordinator.schedule.driver`, which do the work. A query that was cancelled ends here like any other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import msgspec
import polars as pl

from frazil_coordinator.hygiene import Cleaner
from frazil_coordinator.plan.caps import check_caps
from frazil_coordinator.plan.explain import explain_text
from frazil_coordinator.plan.model import INLINE_FRAGMENT_BYTES, StageGraph
from frazil_coordinator.plan.report import Report, planned_report
from frazil_coordinator.platform.base import Platform
from frazil_coordinator.prices import Prices
from frazil_coordinator.publication import Publication
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.retention import small_result_in_memory
from frazil_coordinator.schedule.bind import query_prefixes
from frazil_coordinator.schedule.cost import priced
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.peaks import Peaks
from frazil_coordinator.schedule.progress import Progress
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryState, StageProgress
from frazil_functions.errors import (
    BordersError,
    CancelledQueryError,
    DeadlineError,
    FrazilError,
    InternalError,
    PlanError,
    QueryError,
)
from frazil_functions.ids import QueryId, StageId
from frazil_functions.storage import Store
from frazil_functions.task import BlockRef

__all__ = ["Execution", "Planner", "explanation_of"]

Planner: TypeAlias = Callable[[bytes, Settings], StageGraph]
"""Blocking; raises `PlanError` and other user errors."""

_LOGGER = logging.getLogger(__name__)


def explanation_of(report: Report) -> Explanation:
    """Return how a plan looks, for people and for programs."""
    values = msgspec.convert(msgspec.to_builtins(report), dict[str, Any])
    return Explanation(
        text=explain_text(report),
        stages=tuple(values["stages"]),
        predicted=values["predicted"],
        measured=values["measured"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What all queries of a coordinator run with."""

    planner: Planner
    platform: Platform
    store: Store
    exchange_prefix: str
    """Key prefix of all exchange objects."""

    slots: Slots
    peaks: Peaks
    cleaner: Cleaner
    threads: ThreadPoolExecutor
    """For planning."""

    async def plan(self, plan: bytes, settings: Settings) -> tuple[StageGraph, Report]:
        """Plan in a thread; caps are not looked at.

        Raises
        ------
        FrazilError
            What the planner raises; errors of Polars come as `QueryError`.
        """
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._plan_blocking, plan, settings)

    async def run(self, record: QueryRecord, plan: bytes) -> None:
        """Bring `record` to its end; raises nothing but cancellation of the task itself."""
        error: FrazilError | None = None
        blocks: tuple[BlockRef, ...] = ()
        try:
            blocks = await self._plan_and_drive(record, plan)
        except FrazilError as caught:
            error = caught
        except Exception:
            _LOGGER.exception("unforeseen error in the coordinator", extra={"query": record.id})
            error = InternalError("unforeseen error in the coordinator; its log tells more", where={"query": record.id})
        _settle(record, blocks, error)

    async def _plan_and_drive(self, record: QueryRecord, plan: bytes) -> tuple[BlockRef, ...]:
        graph = await self._plan_or_stop(record, plan, record.settings)
        first = await _publication(record, graph)
        try:
            return await self._drive(record, graph, first, is_last=False)
        except BordersError as error:
            # Nothing wrong was read: whoever met the quotes said so. It costs what was done so far.
            _LOGGER.warning("planning again with whole text files", extra={"query": record.id, "error": str(error)})
            settings = replace(record.settings, split_text_files=False)
            try:
                graph = await self._plan_or_stop(record, plan, settings)
            except FrazilError:
                await self.cleaner.clear(record.id, again=True, other=None if first is None else first.discard)
                raise
            return await self._drive(record, graph, await _publication(record, graph), first=first)

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

    async def _plan_or_stop(self, record: QueryRecord, plan: bytes, settings: Settings) -> StageGraph:
        """Plan; when the query is to stop meanwhile, go on without the thread, whose answer nobody wants any more."""
        planning = asyncio.ensure_future(self.plan(plan, settings))
        either: set[asyncio.Future[Any]] = {planning, record.stop}
        await asyncio.wait(either, timeout=record.settings.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if record.stop.done() or not planning.done():
            planning.cancel()
            await asyncio.wait({planning})
            if record.stop.done():
                raise CancelledQueryError("the query was cancelled")
            raise DeadlineError(f"the query was not planned within {record.settings.timeout_s:g} s")
        graph, report = planning.result()
        record.schema, record.report = graph.schema, report
        check_caps(graph, record.settings)
        record.change(
            state=QueryState.QUEUED,
            started_unix_s=time.time(),
            progress=tuple(StageProgress(stage=stage.id, kind=stage.kind, tasks=stage.tasks) for stage in graph.stages),
            fallbacks=graph.fallbacks if record.settings.fallback == "warn" else (),
        )
        return graph

    async def _drive(
        self,
        record: QueryRecord,
        graph: StageGraph,
        sink: Publication | None,
        *,
        is_last: bool = True,
        first: Publication | None = None,
    ) -> tuple[BlockRef, ...]:
        """Run the planned query, publish what it wrote for the user, and delete what it left but for its result.

        A run that is not the last one, and finds that a second one is needed (`BordersError`), deletes nothing: a sweep of
        what it left would take what the second run is reading. That one deletes what both left, the staged files of `first`
        included.
        """
        driver = QueryDriver(
            query=record.id,
            graph=graph,
            platform=self.platform,
            exchange_prefix=self.exchange_prefix,
            settings=_with_time_left(record),
            slots=self.slots,
            on_progress=lambda progress: record.progress(_progress(progress)),
            put_fragment=lambda stage, fragment: self._put_fragment(record.id, stage, fragment),
            sink=None if sink is None else sink.output,
            peaks=self.peaks,
        )
        record.driver = driver
        blocks: tuple[BlockRef, ...] = ()
        to_be_run_again = False
        try:
            blocks = await asyncio.to_thread(small_result_in_memory, self.store, await driver.run())
            if sink is not None:
                await asyncio.to_thread(sink.publish, driver.files())
            return blocks
        except BordersError:
            to_be_run_again = not is_last
            raise
        except DeadlineError as error:  # the driver knows only what planning left of the time
            if (limit_s := record.settings.timeout_s) is None:
                raise
            raise DeadlineError(f"the query did not end within {limit_s:g} s", where=error.where) from error
        finally:
            profile = driver.profile()
            record.profile = priced(profile, record.report, Prices.of(record.settings))
            if sink is not None:
                record.profile["sink"] = sink.profile()
            if not to_be_run_again:
                await self._clean(record, graph, driver, blocks, [one for one in (first, sink) if one], is_last=is_last)

    async def _clean(
        self,
        record: QueryRecord,
        graph: StageGraph,
        driver: QueryDriver,
        blocks: tuple[BlockRef, ...],
        sinks: Sequence[Publication],
        *,
        is_last: bool,
    ) -> None:
        """Delete what the query left, but for the blocks of its result: staged files of `sinks` too."""
        keep = {block.key for block in blocks if block.data is None}
        # After a second run: what the first one left is deleted now, and swept again.
        given_up = is_last or any(stage.attempts > stage.done for stage in record.status.progress)
        wrote = any(stage["requests"].get("put") for stage in driver.profile()["stages"])
        sent_apart = any(len(stage.fragment) > INLINE_FRAGMENT_BYTES for stage in graph.stages)
        unfinished = [sink.discard for sink in sinks if given_up or not sink.finished]
        if given_up or wrote or sent_apart or keep or unfinished:  # what is all inline costs no request to the store

            def other() -> None:
                for discard in unfinished:
                    discard()

            await self.cleaner.clear(record.id, keep=keep, again=given_up, other=other if unfinished else None)

    async def _put_fragment(self, query: QueryId, stage: StageId, fragment: bytes) -> str:
        (prefix,) = query_prefixes(self.exchange_prefix, query)
        key = f"{prefix}{stage}/fragment"
        await asyncio.to_thread(self.store.put, key, [fragment])
        return key


async def _publication(record: QueryRecord, graph: StageGraph) -> Publication | None:
    """Return what publishes the files of a query that ends in a sink, its target looked at."""
    if graph.sink is None:
        return None
    publication = Publication(graph.sink, record.id)
    await asyncio.to_thread(publication.prepare)
    return publication


def _settle(record: QueryRecord, blocks: tuple[BlockRef, ...], error: FrazilError | None) -> None:
    """Note the end. It comes after the cleaning: who sees the end sees an empty prefix."""
    _LOGGER.info("query ended", extra={"query": record.id, "error": None if error is None else error.kind})
    if error is None:
        record.blocks = blocks
        rows, size = sum(block.rows for block in blocks), sum(block.length for block in blocks)
        record.end(QueryState.SUCCEEDED, rows=rows, bytes=size)
    else:
        cancelled = isinstance(error, CancelledQueryError)
        record.end(QueryState.CANCELLED if cancelled else QueryState.FAILED, error)


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
