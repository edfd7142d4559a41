"""When a query has its turn: how many of a tenant are planned and run at once, how many wait, and in which order.

A query enters when it is submitted, waits in :meth:`Admission.turn` until it may be planned, and leaves at its end. Between
tenants nothing is decided here: their tasks share the slots (:mod:`frazil_coordinator.schedule.slots`). Plain calls but for
the waiting itself, and all of one event loop. Next on the main path is :mod:`frazil_coordinator.execution`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.refusals import QueueFullError
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.schedule.slots import Claim
from frazil_coordinator.spending import Spending
from frazil_coordinator.status import QueryState
from frazil_coordinator.tenancy import Tenant, Tenants
from frazil_functions.errors import CancelledQueryError, DeadlineError
from frazil_functions.ids import QueryId

__all__ = ["Admission"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A query that waits."""

    record: QueryRecord
    key: float
    """The least goes first: when it entered, in seconds, and so much earlier for its priority. As all that wait age at the
    same pace, their order never changes, and none is overtaken for longer than priorities differ."""

    turn: asyncio.Future[None]


@dataclass(slots=True)
class _Line:
    """The queries of one tenant. Mutable; belongs to :class:`Admission`."""

    running: set[QueryId] = field(default_factory=set)
    waiting: dict[QueryId, _Place] = field(default_factory=dict)

    def order(self) -> list[_Place]:
        """Return those that wait, the next one first."""
        return sorted(self.waiting.values(), key=lambda place: place.key)


class Admission:
    """The turns of all tenants' queries.

    Parameters
    ----------
    tenants
        Their quotas.
    ageing_s
        Seconds of waiting that are worth as much as one step of priority.
    clock
        Monotonic seconds.
    """

    def __init__(self, tenants: Tenants, ageing_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._tenants = tenants
        self._ageing_s = ageing_s
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self.spending = Spending()
        """What the tenants used of their day."""

    def tenant(self, name: str) -> Tenant:
        """Return the tenant of that name."""
        return self._tenants.get(name)

    def claim(self, record: QueryRecord) -> Claim:
        """Return for whom a query takes slots."""
        tenant = self._tenants.get(record.status.tenant)
        return Claim(
            tenant=tenant.name,
            weight=tenant.weight,
            max_tasks=tenant.max_running_tasks,
            priority=record.status.priority,
        )

    def enter(self, record: QueryRecord, *, always: bool = False) -> None:
        """Give a query its turn, or a place among those that wait for theirs.

        Parameters
        ----------
        record
            The query; :meth:`leave` must follow, whatever becomes of it.
        always
            Whether it may wait however many do: it was accepted before, by another coordinator.

        Raises
        ------
        QueueFullError
            When as many wait as may.
        QuotaError
            When a quota of the day is used up.
        """
        tenant = self._tenants.get(record.status.tenant)
        if not always:
            self.spending.check(tenant)
        line = self._lines.setdefault(tenant.name, _Line())
        if tenant.max_running_queries is None or len(line.running) < tenant.max_running_queries:
            line.running.add(record.id)
            return
        if not always and tenant.max_queued_queries is not None and len(line.waiting) >= tenant.max_queued_queries:
            raise QueueFullError(
                f"{len(line.running)} queries of tenant {tenant.name!r} run and {len(line.waiting)} wait, and no more are "
                "accepted: try again later"
            )
        line.waiting[record.id] = _Place(
            record=record,
            key=self._clock() - record.status.priority * self._ageing_s,
            turn=asyncio.get_running_loop().create_future(),
        )
        self._tell(tenant, line)

    async def turn(self, record: QueryRecord, timeout_s: float | None) -> None:
        """Wait until a query may be planned.

        Raises
        ------
        CancelledQueryError
            When it is to stop.
        DeadlineError
            When it has waited for `timeout_s` seconds (None: no limit).
        """
        place = self._lines[record.status.tenant].waiting.get(record.id)
        if place is None:
            return
        either: set[asyncio.Future[Any]] = {place.turn, record.stop}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if record.stop.done():
            raise CancelledQueryError("the query was cancelled")
        if not place.turn.done():
            raise DeadlineError(f"the query had no turn within its time: it waited for {record.status.waits_for}")

    def check_plan(self, tenant: str, graph: StageGraph) -> None:
        """Refuse what is left of the tenant's day not enough for; raises as :meth:`Spending.check_plan`."""
        whose = self._tenants.get(tenant)
        self.spending.check(whose)
        self.spending.check_plan(whose, graph)

    def ended_before(self, record: QueryRecord) -> None:
        """Count a query that ended under another coordinator."""
        self.spending.found(record.status.tenant, record.id, record.profile, record.status.ended_unix_s)

    def leave(self, record: QueryRecord) -> None:
        """Take a query out, and give the next one its turn; no effect on one that is not there."""
        tenant = self._tenants.get(record.status.tenant)
        line = self._lines.get(tenant.name, _Line())
        if record.id in line.running or record.id in line.waiting:
            self.spending.settle(tenant.name, record.id, record.profile)
        line.running.discard(record.id)
        line.waiting.pop(record.id, None)
        for place in line.order():
            if tenant.max_running_queries is not None and len(line.running) >= tenant.max_running_queries:
                break
            del line.waiting[place.record.id]
            line.running.add(place.record.id)
            place.record.change(state=QueryState.PLANNING, waits_for="")
            place.turn.set_result(None)
        self._tell(tenant, line)

    @staticmethod
    def _tell(tenant: Tenant, line: _Line) -> None:
        """Tell those that wait what is before them."""
        for before, place in enumerate(line.order()):
            text = (
                f"a turn: tenant {tenant.name!r} may run {tenant.max_running_queries} queries at once, and {before} wait "
                "before this one"
            )
            if place.record.status.waits_for != text:
                place.record.change(state=QueryState.QUEUED, waits_for=text)
