"""The cap on attempts in flight, shared by all queries of a coordinator: the one place where attempts get slots.

Plain calls and callbacks, no awaiting: nothing can be lost by a cancellation. A slot is granted first to a tenant, then to
one of its queries:

1. the tenant that has the fewest slots for its weight; among equal ones, whose turn it is by what they got before;
2. its query of the highest priority, which rises by one whenever the query has waited `ageing_s` for a slot and got none;
   among equal ones that with the fewest slots, and among those the one that has waited longest.

No tenant has more than `Claim.max_tasks`. A slot that nobody needs who may have it goes, in the same order, to a query that
can use it nevertheless. Slots are for one task each and never called back, so a query that is to make room does so as its
tasks end. Used by :mod:`frazil_coordinator.schedule.driver`; who waits is kept in :mod:`frazil_coordinator.schedule.line`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from frazil_coordinator.schedule.line import Line

__all__ = ["AGEING_S", "Claim", "SlotShare", "Slots"]

AGEING_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """For whom a query wants slots. Queries of one tenant give the same of it."""

    tenant: str = ""
    weight: float = 1.0
    """Of the tenant, above 0."""

    max_tasks: int | None = None
    """Slots that the tenant's queries have at once, at most. None: all."""

    priority: int = 0
    """Of the query, among those of its tenant; the highest first."""


_ANYBODY: Final = Claim()


class Slots:
    """Slots for attempts in flight.

    Parameters
    ----------
    limit
        How many there are, > 0.
    ageing_s
        Seconds without a slot by which the priority of a query that wants one rises by one.
    clock
        Monotonic seconds.
    """

    def __init__(self, limit: int, *, ageing_s: float = AGEING_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._ageing_s = ageing_s
        self._clock = clock
        self._groups: dict[str, _Group] = {}
        """By tenant; who got a slot last comes last."""

        self._granting = False
        self._taken = 0
        self._turn = 0.0
        """The turn of the last slot that was granted; who wanted none until now has its turn from here."""

        self._granted = 0
        self._wanted = 0
        self._demand = 0
        self.on_demand: Callable[[int], None] = lambda _: None
        """Told of :attr:`demand` when it may have changed."""

    @property
    def limit(self) -> int:
        """Number of slots."""
        return self._limit

    @property
    def taken(self) -> int:
        """Slots that queries have now; above the limit for a while after it was lowered."""
        return self._taken

    def limit_of(self, claim: Claim) -> int:
        """Return how many slots a query may have at most."""
        return self._limit if claim.max_tasks is None else min(self._limit, claim.max_tasks)

    @property
    def wanted(self) -> int:
        """Slots that queries want and don't have."""
        return self._wanted

    @property
    def demand(self) -> int:
        """Slots that queries have or could have now, if all were free: within the limit, and within each tenant's."""
        return min(self._demand, self._limit)

    def by_tenant(self) -> tuple[Counter[str], Counter[str]]:
        """Return the slots that each tenant has, and those that it wants and doesn't have."""
        held = Counter({tenant: group.held for tenant, group in self._groups.items()})
        wanted = {tenant: sum(share.wanted for share in group.needing) for tenant, group in self._groups.items()}
        return held, Counter(wanted)

    def resize(self, limit: int) -> None:
        """Change the number of slots. Those taken are never called back."""
        self._limit = limit
        self.grant()
        self.on_demand(self.demand)

    def share(self, on_grant: Callable[[], None], claim: Claim = _ANYBODY) -> SlotShare:
        """Return a new query's share.

        Parameters
        ----------
        on_grant
            Called once for each slot that the query gets, possibly inside :meth:`SlotShare.want`.
        claim
            For whom.
        """
        self._groups.setdefault(claim.tenant, _Group(claim, self._ageing_s)).queries += 1
        return SlotShare(self, on_grant, claim, self._granted)

    def grant(self) -> None:
        """Grant what can be granted."""
        if self._granting:  # a callback asked for more: the loop below sees it
            return
        self._granting = True
        try:
            while self._taken < self._limit and (share := self._next()) is not None:
                tenant = share.claim.tenant
                # Behind those that wait as well, and have as few.
                group = self._groups[tenant] = self._groups.pop(tenant)
                self._turn = max(self._turn, group.turn)
                group.turn = self._turn + 1 / share.claim.weight
                self._granted += 1
                share.receive(self._granted)
        finally:
            self._granting = False

    def now(self) -> float:
        """Return the time, in monotonic seconds."""
        return self._clock()

    def changed(self, share: SlotShare, held: int) -> None:
        """Note that a query has so many slots more, and what it wants now."""
        group = self._groups[share.claim.tenant]
        before = group.demand
        self._taken += held
        group.held += held
        now = self._clock()
        for line, wants in ((group.needing, share.wanted > 0), (group.sparing, share.spare > 0)):
            if wants:
                line.put(share, now)
            else:
                line.discard(share)
        # Counted as it changes: looking at every query that waits, for each slot, would cost more the more there are.
        more = share.wanted - share.counted
        self._wanted += more
        group.wanted += more
        share.counted = share.wanted
        if group.demand != before:
            self._demand += group.demand - before
            self.on_demand(self.demand)

    def forget(self, share: SlotShare, held: int) -> None:
        """Take back the slots of a query that has closed its share."""
        self.changed(share, -held)
        group = self._groups[share.claim.tenant]
        group.queries -= 1
        if not group.queries and group.turn <= self._turn:  # nothing is to be remembered of it
            del self._groups[share.claim.tenant]
        self.grant()

    def _next(self) -> SlotShare | None:
        """Return who gets the next slot; None when nobody wants one that may have it."""
        may = [group for group in self._groups.values() if group.most is None or group.held < group.most]
        needing = [(group, group.needing) for group in may if len(group.needing)]
        wanting = needing or [(group, group.sparing) for group in may if len(group.sparing)]
        if not wanting:
            return None
        _, line = min(wanting, key=lambda one: (one[0].held / one[0].weight, max(self._turn, one[0].turn)))
        return line.first(self._clock())


class _Group:
    """The queries of one tenant. Mutable; belongs to :class:`Slots`."""

    def __init__(self, claim: Claim, ageing_s: float) -> None:
        self.weight, self.most = claim.weight, claim.max_tasks
        self.queries = 0
        self.held = 0
        self.wanted = 0
        self.turn = 0.0
        """When its next turn is: it moves on by 1 / weight with each slot (start-time fair queueing)."""

        self.needing = Line[SlotShare](ageing_s)
        self.sparing = Line[SlotShare](ageing_s)
        """Those that can use a slot that nobody needs."""

    @property
    def demand(self) -> int:
        """Slots that its queries have, or may have of what they want."""
        wanted = self.held + self.wanted
        return wanted if self.most is None else min(wanted, max(self.most, self.held))


class SlotShare:
    """One query's slots; made by :meth:`Slots.share`."""

    def __init__(self, slots: Slots, on_grant: Callable[[], None], claim: Claim, turn: int) -> None:
        self._slots = slots
        self._on_grant = on_grant
        self._granted = 0
        self._closed = False
        self.claim = claim
        """For whom the slots are."""

        self.waits_since = 0.0
        """Since when it wants slots and got none."""

        self.turn = turn
        """How many slots had been granted when it got its last one."""

        self.wanted = 0
        """Slots that are wanted and not granted."""

        self.counted = 0
        """What of `wanted` its `Slots` has counted; theirs to change."""

        self.spare = 0
        """Slots that are wanted besides, if nobody needs them, and not granted."""

        self.held = 0
        """Slots that are granted or used."""

    def want(self, count: int, spare: int = 0) -> None:
        """Ask for `count` slots, those that were granted and not yet taken up included; replaces what was asked before.

        Parameters
        ----------
        count
            Slots that are needed.
        spare
            Slots wanted besides, when no query needs them.
        """
        if not self._closed:
            if not self.wanted:
                self.waits_since = self._slots.now()
            self.wanted = max(0, count - self._granted)
            self.spare = max(0, spare - max(0, self._granted - count))
            self._slots.changed(self, 0)
            self._slots.grant()

    @property
    def priority(self) -> int:
        """That of the query, without what it has gained by waiting."""
        return self.claim.priority

    def receive(self, turn: int) -> None:
        """Take one slot, granted as number `turn`; called by :class:`Slots`."""
        if self.wanted > 0:
            self.wanted -= 1
        else:
            self.spare -= 1
        self.held += 1
        self._granted += 1
        self.waits_since = self._slots.now()
        self.turn = turn
        self._slots.changed(self, 1)
        self._on_grant()

    def use(self) -> None:
        """Take up a granted slot for an attempt; its end calls :meth:`release`."""
        self._granted -= 1

    def refuse(self) -> None:
        """Give back a granted slot that is not needed."""
        self._granted -= 1
        self.release()

    def release(self) -> None:
        """Give back the slot of an attempt that has ended."""
        if not self._closed:
            self.held -= 1
            self._slots.changed(self, -1)
            self._slots.grant()

    def close(self) -> None:
        """Give back everything; further calls do nothing."""
        if self._closed:
            return
        held = self.held
        self._closed = True
        self.wanted = self.spare = self.held = 0
        self._slots.forget(self, held)
