"""All triggers of a coordinator: they run while it leads, and are changed here.

:mod:`frazil_coordinator.api.triggers` calls it for clients over HTTP, :mod:`frazil_coordinator.api.events` with what
producers tell. All methods belong to the coordinator's event loop. Next: :mod:`frazil_coordinator.events.runner`, one for
each trigger.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.consumed import digest_of
from frazil_coordinator.events.defining import defined
from frazil_coordinator.events.definitions import Definitions
from frazil_coordinator.events.formats import ObjectEvent
from frazil_coordinator.events.model import (
    DeadLetter,
    Owned,
    Trigger,
    TriggerSource,
    TriggerStatus,
    UnknownTriggerError,
)
from frazil_coordinator.events.retiring import retire
from frazil_coordinator.events.runner import Point, Runner
from frazil_coordinator.events.state import Published, Record, Replayed, Revived, State
from frazil_coordinator.events.windows import cancel_queries
from frazil_coordinator.journal.sealing import Sealer
from frazil_functions.errors import FrazilError, StandbyError

__all__ = ["Triggers"]

_LOOK_S: Final = 0.1
"""Seconds between looks whether the coordinator leads."""

_FIRST_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 30.0

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True)
class _Working:
    runner: Runner
    task: asyncio.Task[None]


class Triggers:
    """The triggers of all tenants.

    Parameters
    ----------
    coordinator
        Runs their queries.
    sealer
        Seals their plans. None: the journal's, or without a journal one of its own, since nothing outlives the process then.
    on_published
        Told of each commit.
    on_point
        Told of each step of each window; tests crash there.
    clock
        Seconds since 1970.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        *,
        sealer: Sealer | None = None,
        on_published: Callable[[Owned, Published], None] | None = None,
        on_point: Callable[[Point], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._coordinator = coordinator
        sealer = sealer or coordinator.sealer or Sealer.of([secrets.token_hex(32)])
        self._definitions = Definitions(coordinator.store, sealer)
        self._working: dict[tuple[str, str], _Working] = {}
        self._changing = asyncio.Lock()
        self._started = False
        self._on_published = on_published
        self._on_point = on_point
        self._clock = clock
        metrics = coordinator.metrics.triggers
        metrics.pending.set_function(lambda: sum(runner.lag().pending_objects for runner in self._runners()))
        metrics.oldest.set_function(lambda: max((runner.lag().oldest_s for runner in self._runners()), default=0.0))
        metrics.dead.set_function(lambda: sum(len(runner.dead()) for runner in self._runners()))
        metrics.halted.set_function(lambda: sum(bool(runner.halted) for runner in self._runners()))

    def _runners(self) -> Iterable[Runner]:
        return [one.runner for one in self._working.values()]

    @property
    def started(self) -> bool:
        """Whether they run: the coordinator leads."""
        return self._started

    async def run(self) -> None:
        """Run all triggers whenever the coordinator leads, until cancelled."""
        try:
            while True:
                if self._coordinator.leads and not self._started:
                    await self._start()
                elif not self._coordinator.leads and self._started:
                    await self._stop()
                await asyncio.sleep(_LOOK_S)
        finally:
            await self._stop()

    async def _start(self) -> None:
        async with self._changing:
            try:
                found = await asyncio.to_thread(self._definitions.all)
            except FrazilError as error:
                _LOGGER.error("triggers can't be read", extra={"error": error.message})
                return
            for owned in found:
                self._employ(owned)
            self._started = True

    async def _stop(self) -> None:
        async with self._changing:
            self._started = False
            for place in list(self._working):
                await self._dismiss(place)

    def _employ(self, owned: Owned) -> Runner:
        runner = Runner(
            owned=owned,
            log=self._definitions.log(owned),
            coordinator=self._coordinator,
            metrics=self._coordinator.metrics.triggers,
            on_published=self._on_published,
            on_point=self._on_point,
            clock=self._clock,
        )
        task = asyncio.create_task(self._supervised(runner), name=f"trigger {owned.trigger.name}")
        self._working[owned.tenant, owned.trigger.name] = _Working(runner, task)
        return runner

    async def _supervised(self, runner: Runner) -> None:
        """Run a trigger, and start it again from its log when it can't go on."""
        failures, trigger = 0, runner.owned.trigger.name
        while True:
            began = time.monotonic()
            try:
                await runner.run()
            except FrazilError as error:
                _LOGGER.warning("a trigger starts again", extra={"trigger": trigger, "error": error.message})
                runner.failed_to_run(error)
            except Exception as error:  # whatever it is, the other triggers run on, and its owner is told
                _LOGGER.exception("a trigger failed", extra={"trigger": trigger})
                runner.failed_to_run(FrazilError(f"unforeseen error ({type(error).__name__}); the log tells more"))
            failures = 1 if time.monotonic() - began > _MAX_PAUSE_S else failures + 1
            await asyncio.sleep(min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures - 1, 10)))

    async def _dismiss(self, place: tuple[str, str]) -> None:
        working = self._working.pop(place)
        working.task.cancel()
        await asyncio.wait({working.task})
        working.runner.failed_to_run(StandbyError("the trigger was stopped"))

    # What clients ask for.

    async def put(self, name: str, source: TriggerSource, *, expected: int | None = None, tenant: str) -> Trigger:
        """Make or replace a trigger, after a look at its query and its source.

        Raises
        ------
        FrazilError
            As :func:`~frazil_coordinator.events.defining.defined`; `TriggerConflictError` when it is not of version
            `expected`.
        """
        async with self._changing:
            before = await self._maybe(tenant, name)
            owned = await defined(self._coordinator, name, source, before, tenant, self._clock())
            owned = await asyncio.to_thread(partial(self._definitions.put, owned, expected))
            await self._replace(owned, before)
            return owned.trigger

    async def _maybe(self, tenant: str, name: str) -> Owned | None:
        try:
            return await asyncio.to_thread(self._definitions.get, tenant, name)
        except UnknownTriggerError:
            return None

    async def _replace(self, owned: Owned, before: Owned | None) -> None:
        place = (owned.tenant, owned.trigger.name)
        if place in self._working:
            await self._dismiss(place)
        if before is not None and before.trigger.id != owned.trigger.id:
            await self._retire(before)
        if self._started:
            self._employ(owned)

    async def drop(self, tenant: str, name: str, expected: int | None = None) -> None:
        """Drop a trigger and what it remembers; its output stays.

        Raises
        ------
        UnknownTriggerError
            When there is none; `TriggerConflictError` when it is not of version `expected`.
        """
        async with self._changing:
            owned = await asyncio.to_thread(self._definitions.get, tenant, name)
            await asyncio.to_thread(self._definitions.drop, tenant, name, expected)
            if (tenant, name) in self._working:
                await self._dismiss((tenant, name))
            await self._retire(owned)

    async def _retire(self, owned: Owned) -> None:
        await cancel_queries(self._coordinator, owned)
        await asyncio.to_thread(retire, owned, self._definitions.log(owned))

    async def list(self, tenant: str) -> tuple[Trigger, ...]:
        """Return a tenant's triggers, by name."""
        found = await asyncio.to_thread(self._definitions.all)
        return tuple(one.trigger for one in found if one.tenant == tenant)

    async def get(self, tenant: str, name: str) -> Trigger:
        """Return a trigger.

        Raises
        ------
        UnknownTriggerError
            When there is none.
        """
        return (await asyncio.to_thread(self._definitions.get, tenant, name)).trigger

    async def pause(self, tenant: str, name: str, *, paused: bool) -> Trigger:
        """Pause or resume a trigger; a window that runs comes to its end. Resuming one that is halted lets it try again."""
        async with self._changing:
            owned = await asyncio.to_thread(self._definitions.get, tenant, name)
            changed = msgspec.structs.replace(owned.trigger, paused=paused, changed_unix_s=self._clock())
            made = Owned(tenant=tenant, trigger=changed, plan=owned.plan)
            made = await asyncio.to_thread(self._definitions.put, made, owned.trigger.version)
            if (working := self._working.get((tenant, name))) is not None:
                working.runner.update(made)
                if not paused:
                    working.runner.resume()
            return made.trigger

    def status(self, tenant: str, name: str) -> TriggerStatus:
        """Return what a trigger that there is has done, and does now."""
        working = self._working.get((tenant, name))
        return TriggerStatus(state="starting") if working is None else working.runner.status()

    def dead(self, tenant: str, name: str) -> tuple[DeadLetter, ...]:
        """Return the objects that a trigger gave up."""
        return self._runner(tenant, name).dead()

    def force(self, tenant: str, name: str) -> None:
        """List a trigger's source now, and take up what is new, whatever its window says."""
        self._runner(tenant, name).force()

    async def replay(self, tenant: str, name: str, since_unix_s: float) -> int:
        """Let all objects modified at or after a time be new again, and return the number of the commit that says so.

        In mode incremental all objects are, whatever the time: what is kept can't be taken apart.
        """
        runner = self._runner(tenant, name)
        if not math.isfinite(since_unix_s) or since_unix_s < 0:
            since_unix_s = 0.0
        if runner.owned.trigger.mode == "incremental":
            since_unix_s = runner.owned.trigger.since_unix_s
        return await runner.write(lambda _: Replayed(since_unix_s=since_unix_s))

    async def revive(self, tenant: str, name: str, urls: Iterable[str] | None = None) -> int:
        """Try dead letters again, all or some, and return how many they are."""
        runner, wanted = self._runner(tenant, name), None if urls is None else set(urls)
        chosen = [one for one in runner.dead() if wanted is None or one.object.url in wanted]
        if not chosen:
            return 0

        def record(_: State) -> Record:
            return Revived(digests=tuple(digest_of(one.object) for one in chosen))

        await runner.write(record)
        return len(chosen)

    def _runner(self, tenant: str, name: str) -> Runner:
        working = self._working.get((tenant, name))
        if working is None and not self._started:
            raise StandbyError("this coordinator is taking over the triggers: try again")
        if working is None:
            raise UnknownTriggerError(f"there is no trigger {name!r}")
        return working.runner

    # What producers tell.

    def notify(self, hints: Iterable[ObjectEvent], tenant: str | None) -> int:
        """Have triggers look at objects soon, and return how many objects of sources these were.

        Parameters
        ----------
        hints
            What was told; most of it may concern nobody.
        tenant
            Whose triggers may learn of it; None: everybody's.
        """
        told, found = [hint for hint in hints if not hint.removed], 0
        for (owner, _), working in self._working.items():
            if tenant is not None and owner != tenant:
                continue
            found += working.runner.hint(filter(None, (_url_for(hint, working.runner.owned.trigger) for hint in told)))
        return found


def _url_for(hint: ObjectEvent, trigger: Trigger) -> str | None:
    """Return the URL of an object as a trigger would call it; None when it is in another place."""
    if hint.url:
        return hint.url.removeprefix("file://") if trigger.source.startswith("/") else hint.url
    scheme, found, rest = trigger.source.partition("://")
    return f"{scheme}://{hint.bucket}/{hint.key}" if found and rest.partition("/")[0] == hint.bucket else None
