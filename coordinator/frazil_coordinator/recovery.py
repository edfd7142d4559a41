"""From the journal to records and back: how a query is accepted durably, and how another coordinator finds it again.

:mod:`frazil_coordinator.coordinator` asks here; :mod:`frazil_coordinator.journal` reads and writes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import msgspec

from frazil_coordinator.journal.history import Remembered
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.log import QueryLog
from frazil_coordinator.journal.plan_codec import PlannedQuery
from frazil_coordinator.journal.records import Accepted, Ended
from frazil_coordinator.registry import QueryRecord, Submission
from frazil_coordinator.settings import Settings
from frazil_functions.errors import FrazilError, JournalError, RequestError, from_wire
from frazil_functions.ids import QueryId

__all__ = ["Recovered", "accept", "recovered"]

_AT_ONCE: Final = 16

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A query that another coordinator had accepted."""

    record: QueryRecord
    plan: bytes | None = None
    """The user's plan; None when the query has ended."""

    before: Remembered | None = None
    """What was done for it; None when it has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the journal has of one query."""

    before: Remembered
    settings: Settings
    log: QueryLog
    plan: bytes | None
    planned: PlannedQuery | None


async def accept(journal: Journal, record: QueryRecord, plan: bytes) -> QueryLog:
    """Begin the journal of a query, and return it when the query is durable: 1 PUT, and one more for a large plan.

    Raises
    ------
    JournalError
        When that can't be done.
    StorageError
        When a large plan can't be stored.
    """
    log = journal.log(record.id)
    accepted = Accepted(
        query=record.id,
        submitted_unix_s=record.status.submitted_unix_s,
        labels=record.status.labels,
        settings=dataclasses.asdict(record.settings),
        discard_result=record.discard_result,
        idempotency_key=record.submission.key,
        plan_digest=record.submission.digest,
        tenant=record.status.tenant,
        priority=record.status.priority,
        plan=await asyncio.to_thread(journal.sealed_plan, record.id, plan),
    )
    await log.write(accepted)
    return log


async def recovered(journal: Journal, is_known: Callable[[QueryId], bool]) -> tuple[list[Recovered], frozenset[QueryId]]:
    """Take over the queries in the journal; return them, the oldest first, and those that can't be read.

    What can't be read is left as it is, and logged. Requests: one LIST, one GET a segment, one PUT a query that has not
    ended.

    Raises
    ------
    StorageError
        When the store can't be listed.
    """
    queries = await asyncio.to_thread(journal.queries)
    # Asked after the listing: a query of this coordinator is known before it has a journal.
    unknown = {query: segments for query, segments in queries.items() if not is_known(query)}
    found, unreadable = await asyncio.to_thread(_find_all, journal, unknown)
    found.sort(key=lambda one: one.before.accepted.submitted_unix_s)
    return [_recovered(one) for one in found], unreadable


def _find_all(journal: Journal, queries: Mapping[QueryId, int]) -> tuple[list[_Found], frozenset[QueryId]]:
    unreadable: set[QueryId] = set()

    def find(query: QueryId) -> _Found | None:
        try:
            return _find(journal, query, queries[query])
        except FrazilError as error:
            if not journal.has(query):  # forgotten since it was listed
                return None
            _LOGGER.error("query not recovered", extra={"query": query, "error": error.message})
            unreadable.add(query)
            return None

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="frazil-recover") as pool:
        found = [one for one in pool.map(find, queries) if one is not None]
    return found, frozenset(unreadable)


def _find(journal: Journal, query: QueryId, segments: int) -> _Found | None:
    if not segments:  # a plan whose query was never accepted: its client was told of an error, or of nothing
        journal.forget(query)
        return None
    before, log = journal.read(query, segments), journal.log(query, segments)
    if before.ended is None:
        before, log = journal.take_over(query, segments)
    plan = journal.plan(before.accepted) if before.ended is None else None
    planned = journal.stages(query, before.planned[-1]) if before.ended is not None and before.planned else None
    settings = _settings(before.accepted)
    return _Found(before=before, settings=settings, log=log, plan=plan, planned=planned)


def _settings(accepted: Accepted) -> Settings:
    try:
        return Settings(**accepted.settings)  # type: ignore[arg-type]  # Settings checks the types itself
    except (TypeError, RequestError) as error:
        raise JournalError(f"the settings of query {accepted.query} are not those of this version: {error}") from error


def _recovered(found: _Found) -> Recovered:
    accepted = found.before.accepted
    record = QueryRecord(
        accepted.query,
        found.settings,
        accepted.labels,
        discard_result=accepted.discard_result,
        submission=Submission(key=accepted.idempotency_key, digest=accepted.plan_digest),
        tenant=accepted.tenant,
        priority=accepted.priority,
    )
    record.log = found.log
    record.accepted.set()
    record.change(submitted_unix_s=accepted.submitted_unix_s)
    if found.before.ended is None:
        return Recovered(record=record, plan=found.plan, before=found.before)
    _show_end(record, found.before.ended, found.planned)
    return Recovered(record=record)


def _show_end(record: QueryRecord, ended: Ended, planned: PlannedQuery | None) -> None:
    if planned is not None:
        record.schema, record.report = planned.graph.schema, planned.report
    record.profile = msgspec.json.decode(ended.profile, type=dict[str, object])
    error = None if ended.error is None else from_wire(ended.error)
    record.blocks = None if error is not None or record.discard_result else ended.blocks
    record.end(
        ended.state,
        error,
        started_unix_s=ended.started_unix_s,
        ended_unix_s=ended.ended_unix_s,
        rows=ended.result_rows,
        bytes=ended.result_bytes,
    )
