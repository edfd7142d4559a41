"""Which tasks can be run again, and what is kept for that: the owner of a coordinator's bundles.

:mod:`frazil_coordinator.execution` has something kept, :mod:`frazil_coordinator.keeping` has it forgotten, and
:mod:`frazil_coordinator.api` asks for bundles. Requests: a GET a range of blocks and 1 PUT for a query that failed, none for
others.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from dataclasses import dataclass
from typing import Final

import msgspec

from frazil_coordinator.hygiene import Cleaner
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.refusals import NotPlannedError, ShuttingDownError, TaskGoneError
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.replays.bundles import REPLAY_PREFIX, Bundles, Keeping
from frazil_coordinator.replays.kept import MEMBER, Kept, check_exists, gone, kept_of, sent
from frazil_coordinator.schedule.told import Told
from frazil_coordinator.settings import Settings
from frazil_functions.bundle import encode_bundle
from frazil_functions.errors import (
    BlockError,
    CancelledQueryError,
    CapError,
    DeadlineError,
    FrazilError,
    QuotaError,
    StorageFullError,
)
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store
from frazil_functions.task import TaskRequest

__all__ = ["REPLAY_PREFIX", "Replays"]

_KEEP_S: Final = 10.0
"""Seconds that keeping something may take of a query's end."""

_AT_ONCE: Final = 2
"""Bundles that are made at once: each is in memory three times, as blocks, encoded and sealed."""

_NOT_KEPT: Final = (CancelledQueryError, DeadlineError, CapError, QuotaError, StorageFullError)
"""Of a query that failed with these no task is at fault, or there is no room to keep it."""


_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """What is kept, and what bundles are made of.

    Belongs to one event loop; what blocks is done in threads.
    """

    bundles: Bundles
    cleaner: Cleaner
    settings: Settings
    """The coordinator's."""

    slots: asyncio.Semaphore

    @classmethod
    def of(cls, store: Store, cleaner: Cleaner, journal: Journal | None, settings: Settings) -> Replays:
        """Return those of a coordinator; without a journal nothing outlives it, so the key that seals need not either."""
        sealer = Sealer.of([secrets.token_hex(32)]) if journal is None else journal.sealer
        return cls(
            bundles=Bundles(store=store, sealer=sealer),
            cleaner=cleaner,
            settings=settings,
            slots=asyncio.Semaphore(_AT_ONCE),
        )

    async def keep(self, record: QueryRecord, told: Told | None, error: FrazilError | None) -> None:
        """Keep what is to be kept of a query that is about to end, and say so in its profile; raises nothing.

        Parameters
        ----------
        record
            The query. Its profile is what its tasks did.
        told
            What they were sent; None when none was.
        error
            What it failed with.
        """
        if told is None or record.settings.keep_inputs == "off":
            return
        stopped = threading.Event()
        try:
            failed = None if error is None or isinstance(error, _NOT_KEPT) else told.failed(error)
            if failed is None and record.settings.keep_inputs != "all":
                return
            work = Keeping(bundles=self.bundles, record=record, stopped=stopped.is_set)
            async with asyncio.timeout(_KEEP_S), self.slots:
                kept = await asyncio.to_thread(work.keep, told, failed, error)
        except TimeoutError:
            kept = Kept(note=f"nothing kept: the store took more than {_KEEP_S:g} s")
        except FrazilError as failure:
            kept = Kept(note=f"nothing kept: {failure.message}")
        except Exception as failure:  # whatever it is, the query has ended as it has
            _LOGGER.exception("unforeseen error while a task was kept", extra={"query": record.id})
            kept = Kept(note=f"nothing kept: unforeseen error ({type(failure).__name__}); the coordinator's log tells more")
        finally:
            stopped.set()  # a thread that nobody waits for any more writes nothing
        if kept.note:
            _LOGGER.warning("inputs of tasks not kept", extra={"query": record.id, "reason": kept.note})
        record.profile = {**record.profile, MEMBER: msgspec.to_builtins(kept)}

    async def forget(self, record: QueryRecord) -> None:
        """Delete what is kept of a query, and remember that it was; failures are logged, and orphans are collected later."""
        if MEMBER not in record.profile:
            return
        kept = kept_of(record)
        record.profile = {**record.profile, MEMBER: {"note": "what was kept is deleted: its time (result_ttl_s) was up"}}
        try:
            await asyncio.to_thread(self.bundles.delete, record.id)
        except FrazilError as error:
            _LOGGER.warning("inputs of tasks not deleted", extra={"query": record.id, "error": error.message})
        if kept.all_tasks:
            await self.cleaner.clear(record.id)

    async def bundle(self, record: QueryRecord, stage: int, task: int, attempt: int | None = None) -> bytes:
        """Return the bundle of a task (`frazil_functions.bundle`): its fragment, and what it reads up to `replay_bytes`.

        Parameters
        ----------
        record
            The query.
        stage, task, attempt
            Which one; None: the last attempt.

        Raises
        ------
        NotPlannedError, TaskNotReadyError
            When it is not known yet what the task will read.
        UnknownTaskError
            When there is no such task or attempt.
        TaskGoneError
            When the query has ended, and this was not kept, or not so long.
        StorageError, JournalError
            When what is kept can't be read.
        """
        if record.driver is None and not record.ended.is_set():
            raise NotPlannedError(f"query {record.id} is {record.status.state}: it has no tasks yet; ask again when it runs")
        if record.abandoned:
            raise record.error or ShuttingDownError(f"the coordinator left query {record.id} to another one: ask that one")
        if record.driver is not None:
            request, error = record.driver.told.of(stage, task, attempt), None
        else:
            check_exists(record, stage, task)
            request, error = None, record.error
        async with self.slots:
            if request is not None:
                return await asyncio.to_thread(self._made, record.id, request)
            return await asyncio.to_thread(self._kept, record, (stage, task, attempt), error)

    def _made(self, query: QueryId, request: TaskRequest) -> bytes:
        try:
            return encode_bundle(self.bundles.of(request, limit=self.settings.replay_bytes))
        except BlockError as error:
            raise TaskGoneError(
                f"query {query} ended while its task was fetched, and what the task reads is deleted ({error.message}): "
                "submit it again with keep_inputs='all'"
            ) from error

    def _kept(self, record: QueryRecord, wanted: tuple[int, int, int | None], error: FrazilError | None) -> bytes:
        """Return the bundle of a task of an ended query."""
        stage, task, attempt = wanted
        kept = kept_of(record)
        own_stage, own_task, own_attempt = _ref(kept.failed_task)
        try:
            if (stage, task) == (own_stage, own_task) and attempt in (None, own_attempt):
                return self.bundles.get(record.id, kept.failed_task.replace("/", "-"))
            if not kept.all_tasks:
                raise gone(record.id, kept)
            request = sent(self.bundles.get(record.id, "tasks"), stage, task, attempt)
            own = error if (stage, task) == (own_stage, own_task) else None
            return encode_bundle(self.bundles.of(request, limit=self.settings.replay_bytes, error=own))
        except BlockError as missing:
            raise TaskGoneError(
                f"what was kept of query {record.id} is no longer in the store ({missing.message}): submit it again"
            ) from missing


def _ref(failed_task: str) -> tuple[int, int, int]:
    stage, task, attempt = map(int, failed_task.split("/")) if failed_task else (-1, -1, -1)
    return stage, task, attempt
