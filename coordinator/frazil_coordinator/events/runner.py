"""One trigger at work: it notices objects, runs the query over them, commits, publishes.

The order of things in a window, which is what makes each object be in the output exactly once:

1. the objects are looked at: which version of each is there;
2. the query runs over them, as any query of the tenant's, and writes into a folder of its own beside the output;
3. the objects are looked at again: had one been replaced meanwhile, nobody would know which version was read;
4. **one conditional PUT** of the next number in the trigger's log says that the objects are consumed, and which files are
output; 5. the files get their names, and the folder is deleted.

A crash before 4 leaves nothing but a folder that is swept; after it, whoever loads the log does 5. Between windows nothing
is remembered that the source and the log don't tell. Next: :mod:`frazil_coordinator.events.windows` runs the query.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, NoReturn

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.backlog import MAX_BATCH, Backlog, Batch
from frazil_coordinator.events.consumed import SLACK_S, Digest, digest_of
from frazil_coordinator.events.failing import verdict_of
from frazil_coordinator.events.log import TriggerLog
from frazil_coordinator.events.model import DeadLetter, Lag, ObjectRef, Owned, TriggerStatus
from frazil_coordinator.events.preparing import Target, cloud_options_of, target_of
from frazil_coordinator.events.publishing import delete_folders, install, left_behind
from frazil_coordinator.events.sources import ObjectSource
from frazil_coordinator.events.state import Buried, Published, Record, State, TakenOver
from frazil_coordinator.events.windows import Windows, cancel_queries
from frazil_coordinator.metrics import TriggerMetrics
from frazil_coordinator.publication.publish import sink_store
from frazil_functions.errors import FrazilError, StandbyError
from frazil_functions.storage import Store

__all__ = ["MOST_DEAD", "Point", "Runner"]

MOST_DEAD: Final = 10_000
"""Dead letters above which a trigger halts."""

_ALL: Final = 10**9
_MOST_HINTS: Final = 10_000
"""Objects that are told of until they are no longer asked for one by one: then the source is listed."""

_DOUBT_S: Final = 86_400.0
"""Seconds for which a commit is announced again by whoever takes over."""

_MOST_IN_A_ROW: Final = 10
"""Objects given up one after the other above which the query itself is taken to be wrong."""

_LOGGER = logging.getLogger(__name__)

Point = Literal["looked", "submitted", "ran", "checked", "committed", "published", "buried"]
"""A step of a window that is done."""


@dataclass(slots=True)
class _Asked:
    """Something that is done between two windows, because it writes the log."""

    record: Callable[[State], Record]
    done: asyncio.Future[int]


@dataclass(slots=True, kw_only=True)
class Runner:
    """One trigger, while this coordinator leads.

    Mutable; all but :meth:`run` returns at once.
    """

    owned: Owned
    log: TriggerLog
    coordinator: Coordinator
    metrics: TriggerMetrics
    on_published: Callable[[Owned, Published], None] | None = None
    on_point: Callable[[Point], None] | None = None
    """Told of each step; tests crash there."""

    clock: Callable[[], float] = time.time
    _state: State | None = None
    _backlog: Backlog = field(init=False)
    _source: ObjectSource = field(init=False)
    _target: Target = field(init=False)
    _store: Store = field(init=False)
    _windows: Windows = field(init=False)
    _hints: set[str] = field(default_factory=set)
    _asked: list[_Asked] = field(default_factory=list)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _unfinished: bool = False
    _forced: bool = False
    _list_at: float = 0.0
    _listed_at: float | None = None
    _in_a_row: int = 0
    _running: bool = False
    _query: str = ""
    _last_error: str = ""
    halted: str = ""
    """Why it needs somebody's help; empty when it does not."""

    def __post_init__(self) -> None:
        self._backlog = self._empty_backlog()

    def _empty_backlog(self) -> Backlog:
        trigger = self.owned.trigger
        most = _ALL if trigger.mode == "refresh" else MAX_BATCH  # it costs one run, however many there are
        return Backlog(trigger.window, trigger.max_attempts, most)

    # What others say.

    def hint(self, urls: Iterable[str]) -> int:
        """Have a look at these objects soon, and return how many of them are of this trigger's source."""
        mine = {url for url in urls if self.takes(url)}
        self._hints |= mine
        if len(self._hints) > _MOST_HINTS:
            self._hints, self._list_at = set(), 0.0
        if mine:
            self._wake.set()
        return len(mine)

    def takes(self, url: str) -> bool:
        """Return whether an object of this URL may be one of the source's."""
        trigger = self.owned.trigger
        return ObjectSource(trigger.source, trigger.suffix, None).takes(url)

    def list_now(self) -> None:
        """List the source as soon as possible."""
        self._list_at = 0.0
        self._wake.set()

    def force(self) -> None:
        """List the source, and take up what there is, whatever the window says."""
        self._forced = True
        self.list_now()

    def update(self, owned: Owned) -> None:
        """Take a new definition that has the same query: it was paused, or resumed."""
        self.owned = owned
        self._wake.set()

    def resume(self) -> None:
        """Try again what it was halted for."""
        self.halted, self._in_a_row = "", 0
        self._wake.set()

    async def write(self, record: Callable[[State], Record]) -> int:
        """Have a record written between two windows, and return its number; what the source has is looked at anew then."""
        asked = _Asked(record, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._wake.set()
        return await asked.done

    # What it tells.

    def status(self) -> TriggerStatus:
        """Return what is known now."""
        state = self._state
        if state is None:
            reason = self._last_error
            return TriggerStatus(state="retrying" if reason else "starting", reason=reason, lag=self.lag())
        now = self._now()
        return TriggerStatus(
            state=now,
            reason=self.halted or (self._last_error if now == "retrying" else ""),
            lag=self.lag(),
            windows=state.windows,
            objects=state.objects,
            bytes=state.object_bytes,
            rows=state.rows,
            files=state.files,
            dead_letters=len(state.dead),
            last_published_unix_s=None if state.last is None else state.last.unix_s,
            last_listed_unix_s=self._listed_at,
            last_query=self._query or ("" if state.last is None else state.last.query),
            consumed_exactly=len(state.consumed),
            consumed_before_unix_s=state.consumed.horizon_unix_s,
        )

    def _now(self) -> Literal["idle", "waiting", "running", "retrying", "paused", "halted"]:
        if self.owned.trigger.paused:
            return "paused"
        if self.halted:
            return "halted"
        if self._running:
            return "running"
        if self._backlog.retrying or self._unfinished:
            return "retrying"
        return "waiting" if self.lag().pending_objects else "idle"

    def lag(self) -> Lag:
        """Return how far the output is behind."""
        return self._backlog.lag(self.clock())

    def dead(self) -> tuple[DeadLetter, ...]:
        """Return what was given up, oldest first."""
        return () if self._state is None else tuple(self._state.dead.values())

    # What it does.

    async def run(self) -> NoReturn:
        """Work until cancelled.

        Raises
        ------
        FrazilError
            When it can't go on from what it knows: run it again, and it starts from the log.
        """
        self._backlog = self._empty_backlog()
        state = await self._start()
        self._state, self._last_error = state, ""
        while True:
            self._wake.clear()
            await self._finish(state)
            await self._write_asked(state)
            if self.clock() >= self._list_at:
                await self._list(state)
            await self._look_at_hints(state)
            idle = self.owned.trigger.paused or bool(self.halted)
            batch = None if idle else self._backlog.take(self.clock())
            if batch is not None:
                await self._window(state, batch)
                continue
            wake_at = self._list_at if idle else min(self._list_at, self._backlog.wake_at(self.clock()))
            await self._sleep(wake_at - self.clock())

    async def _start(self) -> State:
        """Begin from the log: what another coordinator began is finished, or swept away."""
        owned = self.owned
        options = await asyncio.to_thread(cloud_options_of, owned.plan, owned.trigger.source)
        self._source = ObjectSource(owned.trigger.source, owned.trigger.suffix, options)
        self._target = await asyncio.to_thread(target_of, owned.plan)
        self._store = sink_store(self._target.sink.store, self._target.sink.cloud_options)
        self._windows = Windows(owned, self._source, self._target, self._store, self.coordinator, self._pass)
        await cancel_queries(self.coordinator, owned)
        state = await asyncio.to_thread(self.log.load, owned.trigger.since_unix_s)
        self._unfinished = state.last is not None
        await self._finish(state)
        await self._sweep(state)
        if self.on_published is not None and state.last is not None and self.clock() - state.last.unix_s < _DOUBT_S:
            self.on_published(owned, state.last)  # maybe once more: who wrote it may have died before it said so
        self._backlog.offer(state.again.values(), self.clock())
        self._list_at = 0.0
        return state

    async def _sweep(self, state: State) -> None:
        """Delete what was staged and never committed.

        Another coordinator may be about to commit it: 1. it has looked that all its files are there; 2. it is paused; 3.
        this one deletes them; 4. it wakes, and commits them. So the number that it would take is taken before 3.
        """
        folder = self._target.own_folder(self.owned.trigger.id)
        kept = [f"{folder}/{state.kept}"] if state.kept else []
        left = await asyncio.to_thread(left_behind, self._store, folder, kept)
        if left:
            await asyncio.to_thread(self.log.commit, state, TakenOver(unix_s=self.clock()))
            await asyncio.to_thread(delete_folders, self._store, left)

    async def _finish(self, state: State) -> None:
        """Give the files of the last commit their names, if they may not have them."""
        if self._unfinished and state.last is not None:
            await asyncio.to_thread(install, self._store, state.last.output)
        self._unfinished = False

    async def _write_asked(self, state: State) -> None:
        while self._asked:
            asked = self._asked.pop(0)
            seq = state.seq
            try:
                await asyncio.to_thread(self.log.commit, state, asked.record(state))
            except Exception as error:
                asked.done.set_exception(error)
                if not isinstance(error, FrazilError) or isinstance(error, StandbyError):
                    raise
                continue
            asked.done.set_result(seq)
            self._backlog.offer(state.again.values(), self.clock())
            self._list_at, self.halted, self._in_a_row = 0.0, "", 0

    async def _list(self, state: State) -> None:
        began = self.clock()
        try:
            listing = await asyncio.to_thread(_listing, self._source, state, self._backlog.refs())
        except FrazilError as error:
            _LOGGER.warning("a trigger's source can't be listed", extra=self._fields(error=error.message))
            self._last_error = error.message
            self._list_at = self.clock() + min(self.owned.trigger.list_every_s, 10.0)
            return
        # The first listing finds what a coordinator before this one knew: it has waited since then.
        since = self.owned.trigger.created_unix_s if self._listed_at is None else float("inf")
        self._backlog.gone(listing.gone)  # one that was replaced is offered as it is now
        self.metrics.found.labels("listing").inc(self._backlog.offer(listing.new, self.clock(), waiting_since=since))
        await asyncio.to_thread(state.consumed.keep, listing.known, listing.found, began)
        if self._source.remote:
            oldest = min(self._backlog.oldest_modified_unix_s() - SLACK_S, began - self.owned.trigger.lateness_s)
            await asyncio.to_thread(state.consumed.advance, oldest)
        self._listed_at = began
        self._list_at = began + self.owned.trigger.list_every_s
        if self._forced:
            self._forced = False
            self._backlog.force()

    async def _look_at_hints(self, state: State) -> None:
        if not self._hints:
            return
        urls, self._hints = self._hints, set()
        try:
            found = await asyncio.to_thread(self._source.look, urls)
        except FrazilError as error:
            self._last_error = error.message
            self._list_at = min(self._list_at, self.clock() + 1.0)  # the listing finds them
            return
        new = [ref for ref in found.values() if ref is not None and state.is_new(ref)]
        self.metrics.found.labels("notification").inc(self._backlog.offer(new, self.clock()))

    async def _window(self, state: State, batch: Batch) -> None:
        self._running = True
        try:
            done = await self._windows.run(state, batch.objects, self._show)
        except StandbyError:
            raise
        except FrazilError as error:
            await self._failed(state, error)
            return
        finally:
            self._running = False
        if done.record is not None:
            await self._publish(state, batch, done.record)
        self._backlog.settled([ref for ref in done.leftover if state.is_new(ref)], self.clock())

    async def _publish(self, state: State, batch: Batch, record: Published) -> None:
        await asyncio.to_thread(self.log.commit, state, record)
        self._unfinished = True
        self._pass("committed")
        before = state.last
        await self._finish(state)
        self._pass("published")
        self.metrics.windows.labels("published").inc()
        self.metrics.objects.inc(record.objects)
        self.metrics.seconds.observe(max(0.0, self.clock() - batch.noticed_unix_s))
        self._in_a_row, self._last_error = 0, ""
        if self.on_published is not None:
            self.on_published(self.owned, record)
        if record.kept and before is not None:
            folder = self._target.own_folder(self.owned.trigger.id)
            left = await asyncio.to_thread(left_behind, self._store, folder, [f"{folder}/{record.kept}"])
            await asyncio.to_thread(delete_folders, self._store, left)
        await asyncio.to_thread(partial(self.log.compact, state))

    async def _failed(self, state: State, error: FrazilError) -> None:
        verdict = verdict_of(error)
        self._last_error = error.message
        self.metrics.windows.labels(verdict.outcome).inc()
        _LOGGER.warning("a window of a trigger failed", extra=self._fields(error=error.message, outcome=verdict.outcome))
        now = self.clock()
        if verdict.outcome == "data":
            buried = self._backlog.failed(now, error.where.get("file"))
            if buried is not None:
                await self._bury(state, buried, error)
            return
        self._backlog.stumbled(now, verdict.pause_s)
        if verdict.outcome == "query":
            self._halt(error.message)

    async def _bury(self, state: State, batch: Batch, error: FrazilError) -> None:
        (ref,) = batch.objects
        letter = DeadLetter(
            object=ref,
            reason=error.message[:2000],
            kind=error.kind,
            attempts=batch.attempts,
            query=self._query,
            buried_unix_s=self.clock(),
        )
        await asyncio.to_thread(self.log.commit, state, Buried(letters=(letter,)))
        self._pass("buried")
        self._in_a_row += 1
        if self._in_a_row >= _MOST_IN_A_ROW:
            self._halt(f"{self._in_a_row} objects in a row failed the query: {error.message}")
        elif len(state.dead) >= MOST_DEAD:
            self._halt(f"there are {len(state.dead):,} dead letters: look at them, and try them again or replay")

    def _halt(self, reason: str) -> None:
        self.halted = reason
        _LOGGER.error("a trigger is halted", extra=self._fields(reason=reason))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass  # it is time for something

    def failed_to_run(self, error: FrazilError) -> None:
        """Remember why :meth:`run` ended, for who asks, and for those who wait for a record."""
        self._state, self._last_error, self._running = None, error.message, False
        asked, self._asked = self._asked, []
        for one in asked:
            if not one.done.done():
                one.done.set_exception(error)

    def _show(self, query: str) -> None:
        self._query = query

    def _pass(self, point: Point) -> None:
        if self.on_point is not None:
            self.on_point(point)

    def _fields(self, **more: object) -> dict[str, object]:
        return {"trigger": self.owned.trigger.name, "tenant": self.owned.tenant, "query": self._query, **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """What a listing tells."""

    known: frozenset[Digest]
    """Entries of the consumed set when it began."""

    found: frozenset[Digest]
    new: tuple[ObjectRef, ...]
    gone: tuple[str, ...]
    """URLs of objects that were pending when it began, and are not there as they were."""


def _listing(source: ObjectSource, state: State, pending: Iterable[ObjectRef]) -> _Listing:
    """List a source, and compare it with the consumed set. In a thread, for there may be a million objects."""
    known, waiting = frozenset(state.consumed.entries), {digest_of(ref): ref.url for ref in pending}
    found = {digest_of(ref): ref for ref in source.list().values()}
    new = tuple(ref for digest, ref in found.items() if state.is_new(ref, digest))
    gone = tuple(url for digest, url in waiting.items() if digest not in found)
    return _Listing(known=known, found=frozenset(found), new=new, gone=gone)
