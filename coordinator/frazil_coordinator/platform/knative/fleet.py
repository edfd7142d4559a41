"""The function services of a cluster, as the watch shows them: which one an attempt goes to, and how many may be there.

A query is pinned to the release that it began with. Of that release's services its tasks go to the small one, but for those
that are expected to need more memory than it has, and those that ran out of it: they go to the large one, if there is one.
For one event loop; asks nothing of the cluster itself. :mod:`.sending` sends, :mod:`.keeper` keeps releases alive.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from frazil_coordinator.platform.knative.errors import KubeError
from frazil_coordinator.platform.knative.models import LARGE, SMALL, FunctionService, Object, Service, function_service
from frazil_functions.errors import FunctionBusyError, RequestError
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.task import TaskRequest

__all__ = ["Fleet"]

_LOG = logging.getLogger(__name__)

_DEFAULT_BOUND: Final = 1


@dataclass(frozen=True, slots=True)
class _Task:
    query: QueryId
    stage: StageId
    task: TaskIndex


class Fleet:
    """Function services by release and size.

    Parameters
    ----------
    release
        That of this coordinator: of the queries that begin here. Empty: services that are of no release, or, if there are
        none, the release that was made last.
    polars
        Version of polars here: services of another one are not used.
    want
        Is told how many pods of a Revision are wanted, and how many there may be at most.
    on_bound
        Is told when another number of attempts may be in flight.
    """

    def __init__(
        self,
        *,
        release: str,
        polars: str,
        want: Callable[[str, int, int | None], None] = lambda *_: None,
        on_bound: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._own, self._polars = release, polars
        self._want = want
        self.on_bound = on_bound
        self._services: dict[str, FunctionService] = {}
        self._created: dict[str, str] = {}
        self._pins: dict[QueryId, str] = {}
        self._out_of_memory: set[_Task] = set()
        self._in_flight: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._bound = 0
        self._demand = 0
        self._wished: frozenset[str] = frozenset()
        """Revisions that pods were wished of last."""

        self.on_pins: Callable[[], None] = lambda: None
        """Called when other releases are in use."""

    # What the watch shows

    def update(self, objects: Mapping[str, Object]) -> None:
        """Take all function services as they are now."""
        found: dict[str, FunctionService] = {}
        for name, raw in objects.items():
            try:
                found[name] = function_service(Service.of(raw))
            except (KubeError, RequestError) as error:
                _LOG.warning("function service left out", extra={"service": name, "error": str(error)})
                continue
            self._created[name] = str(raw["metadata"].get("creationTimestamp", ""))
        for name in found.keys() - self._services.keys():
            shown = found[name]
            _LOG.info("function service", extra={"service": name, "release": shown.release, "bound": shown.bound})
        self._services = found
        self._announce()
        if (bound := self.bound) != self._bound:
            self._bound = bound
            self.on_bound(bound)
        self._wish()

    @property
    def release(self) -> str:
        """The release of queries that begin now."""
        if self._own or any(not each.release for each in self._services.values()):
            return self._own
        usable = [(self._created.get(each.name, ""), each.release) for each in self._usable()]
        return max(usable, default=("", ""))[1]

    @property
    def bound(self) -> int:
        """Attempts in flight at once, on the small service of the release of queries that begin now."""
        services = self.services(self.release)
        service = services.get(SMALL) or services.get(LARGE)
        return _DEFAULT_BOUND if service is None else service.bound

    @property
    def longest_s(self) -> float | None:
        """Seconds that a task may take; None when no service is known."""
        limits = [each.timeout_s for each in self.services(self.release).values()]
        return max(limits, default=None)

    def services(self, release: str) -> dict[str, FunctionService]:
        """Return the services of a release, by size."""
        return {each.size: each for each in self._usable() if each.release == release}

    def _usable(self) -> list[FunctionService]:
        return [each for each in self._services.values() if each.polars in ("", self._polars)]

    # Queries

    def pin(self, query: QueryId, release: str | None = None) -> str:
        """Let a query run on one release to its end, and return which: `release` if it is still there, else the present."""
        if query not in self._pins:
            there = release is not None and bool(self.services(release))
            if release is not None and not there:
                _LOG.warning("release is gone, the query goes on with another", extra={"query": query, "release": release})
            before = self.used()
            self._pins[query] = release if there and release is not None else self.release
            if self.used() != before:
                self.on_pins()
        return self._pins[query]

    def unpin(self, query: QueryId) -> None:
        """Forget a query that has ended here."""
        before = self.used()
        self._pins.pop(query, None)
        self._out_of_memory = {each for each in self._out_of_memory if each.query != query}
        if self.used() != before:
            self.on_pins()

    def used(self) -> frozenset[str]:
        """Return the releases that must stay: this coordinator's own, and those of its queries."""
        return frozenset({self.release, *self._pins.values()} - {""})

    # Attempts

    def route(self, request: TaskRequest) -> tuple[FunctionService, TaskRequest]:
        """Return the service that an attempt goes to, and what it is sent.

        Raises
        ------
        FunctionBusyError
            When none can be reached now.
        """
        release = self.pin(request.query)
        services = self.services(release)
        small, large = services.get(SMALL), services.get(LARGE)
        chosen = small or large
        if small is not None and large is not None and large.url and self._needs_large(request, small):
            chosen = large
            limits = msgspec.structs.replace(request.limits, memory_bytes=large.memory_bytes)
            request = msgspec.structs.replace(request, limits=limits)
        if chosen is None or not chosen.url:
            raise FunctionBusyError(self._why_not(release, chosen))
        return chosen, request

    def ran_out_of_memory(self, request: TaskRequest) -> None:
        """Note that a task needs more memory than the small service has."""
        self._out_of_memory.add(_Task(request.query, request.stage, request.task))

    async def enter(self, service: FunctionService) -> None:
        """Wait until one more attempt may be in flight to a service; :meth:`leave` ends it."""
        while self._in_flight[service.name] >= self._services.get(service.name, service).bound:
            await self._changed.wait()
        self._in_flight[service.name] += 1
        if service.size == LARGE:
            self._wish()

    def leave(self, service: FunctionService) -> None:
        """End what :meth:`enter` began."""
        self._in_flight[service.name] -= 1
        self._announce()
        if service.size == LARGE:
            self._wish()

    def demand(self, attempts: int) -> None:
        """Take how many attempts all queries together have in flight or ready: pods are wanted for them at once."""
        self._demand = attempts
        self._wish()

    def _wish(self) -> None:
        services = self.services(self.release)
        small, large = services.get(SMALL), services.get(LARGE)
        elsewhere = 0 if large is None else self._in_flight[large.name]
        wishes: dict[str, tuple[int, int | None]] = {}
        if small is not None:
            wishes[small.revision] = min(max(0, self._demand - elsewhere), small.bound), small.max_scale
        if large is not None:
            wishes[large.revision] = min(elsewhere, large.bound), large.max_scale
        for revision in self._wished - wishes.keys():
            self._want(revision, 0, None)  # another Revision has its traffic
        for revision, (width, most) in wishes.items():
            self._want(revision, width, most)
        self._wished = frozenset(wishes)

    def _needs_large(self, request: TaskRequest, small: FunctionService) -> bool:
        has = small.memory_bytes
        allowed = request.limits.memory_bytes
        if has is None or (allowed is not None and allowed < has):
            return False  # the query itself was given less: more would not be its
        return (request.limits.expected_bytes or 0) > has or (
            _Task(request.query, request.stage, request.task) in self._out_of_memory
        )

    def _why_not(self, release: str, service: FunctionService | None) -> str:
        if service is None:
            known = ", ".join(sorted(self._services)) or "none"
            return f"no function service of release {release!r} with polars {self._polars}; there are: {known}"
        ready = service.ready
        return f"function service {service.name} is not ready: {ready.reason} {ready.message}".rstrip()

    def _announce(self) -> None:
        """Wake those that wait for a place; each looks for itself."""
        self._changed.set()
        self._changed = asyncio.Event()
