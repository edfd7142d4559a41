"""The cap on attempts in flight, shared by all queries of a coordinator: the one place where attempts get slots.

Plain calls and callbacks, no awaiting: nothing can be lost by a cancellation. A slot is granted first to a tenant, then to
one of its queries:

1. the tenant that has the fewest slots for its weight; among equal ones, whose turn it is by what they got before;
2. its query of the highest priority, which rises by one whenever the query has waited `ageing_s` for a slot and got none;
   among equal ones that with the fewest slots, and among those the one that has waited longest.

No tenant has more than `Claim.max_tasks`. A slot that nobody needs who may have it goes, in the same order, to a query that
can use it nevertheless. Slots are for one task each and never called back, so a query that is to make room does so as its
tasks end. Used by :mod:`frazil_coordinator.schedule.driver`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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
        self._shares: dict[SlotShare, None] = {}
        self._granting = False
        self._turns: dict[str, float] = {}
        """By tenant, when its next turn is: it moves on by 1 / weight with each slot (start-time fair queueing)."""

        self._turn = 0.0
        """The turn of the last slot that was granted; who wanted none until now has its turn from here."""

    @property
    def limit(self) -> int:
        """Number of slots."""
        return self._limit

    @property
    def taken(self) -> int:
        """Slots that queries have now; above the limit for a while after it was lowered."""
        return sum(share.held for share in self._shares)

    def limit_of(self, claim: Claim) -> int:
        """Return how many slots a query may have at most."""
        return self._limit if claim.max_tasks is None else min(self._limit, claim.max_tasks)

    @property
    def wanted(self) -> int:
        """Slots that queries want and don't have."""
        return sum(share.wanted for share in self._shares)

    def by_tenant(self) -> tuple[Counter[str], Counter[str]]:
        """Return the slots that each tenant has, and those that it wants and doesn't have."""
        held, wanted = Counter[str](), Counter[str]()
        for share in self._shares:
            held[share.claim.tenant] += share.held
            wanted[share.claim.tenant] += share.wanted
        return held, wanted

    def resize(self, limit: int) -> None:
        """Change the number of slots. Those taken are never called back."""
        self._limit = limit
        self.grant()

    def share(self, on_grant: Callable[[], None], claim: Claim = _ANYBODY) -> SlotShare:
        """Return a new query's share.

        Parameters
        ----------
        on_grant
            Called once for each slot that the query gets, possibly inside :meth:`SlotShare.want`.
        claim
            For whom.
        """
        share = SlotShare(self, on_grant, claim)
        self._shares[share] = None
        return share

    def grant(self) -> None:
        """Grant what can be granted."""
        if self._granting:  # a callback asked for more: the loop below sees it
            return
        self._granting = True
        try:
            while self.taken < self._limit and (share := self._next()) is not None:
                # Behind those that wait as well, and have as few.
                del self._shares[share]
                self._shares[share] = None
                self._turn = max(self._turn, self._turns.get(share.claim.tenant, 0.0))
                self._turns[share.claim.tenant] = self._turn + 1 / share.claim.weight
                share.receive()
        finally:
            self._granting = False

    def now(self) -> float:
        """Return the time, in monotonic seconds."""
        return self._clock()

    def forget(self, share: SlotShare) -> None:
        """Take back all that `share` has."""
        self._shares.pop(share, None)
        self.grant()

    def _next(self) -> SlotShare | None:
        """Return who gets the next slot; None when nobody wants one that may have it."""
        held = Counter[str]()
        for share in self._shares:
            held[share.claim.tenant] += share.held
        may = [
            share
            for share in self._shares
            if share.claim.max_tasks is None or held[share.claim.tenant] < share.claim.max_tasks
        ]
        wanting = [share for share in may if share.wanted > 0] or [share for share in may if share.spare > 0]
        if not wanting:
            return None

        def turn_of(claim: Claim) -> tuple[float, float]:
            return held[claim.tenant] / claim.weight, max(self._turn, self._turns.get(claim.tenant, 0.0))

        tenant = min((share.claim for share in wanting), key=turn_of).tenant
        now = self._clock()
        return min(
            (share for share in wanting if share.claim.tenant == tenant),
            key=lambda one: (-one.priority_at(now, self._ageing_s), one.held),
        )


class SlotShare:
    """One query's slots; made by :meth:`Slots.share`."""

    def __init__(self, slots: Slots, on_grant: Callable[[], None], claim: Claim) -> None:
        self._slots = slots
        self._on_grant = on_grant
        self._granted = 0
        self._closed = False
        self._waits_since = 0.0
        self.claim = claim
        """For whom the slots are."""

        self.wanted = 0
        """Slots that are wanted and not granted."""

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
                self._waits_since = self._slots.now()
            self.wanted = max(0, count - self._granted)
            self.spare = max(0, spare - max(0, self._granted - count))
            self._slots.grant()

    def priority_at(self, now: float, ageing_s: float) -> int:
        """Return the priority of a query that wants slots, with what it has gained by waiting."""
        return self.claim.priority + int((now - self._waits_since) / ageing_s)

    def receive(self) -> None:
        """Take one slot; called by :class:`Slots`."""
        if self.wanted > 0:
            self.wanted -= 1
        else:
            self.spare -= 1
        self.held += 1
        self._granted += 1
        self._waits_since = self._slots.now()
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
            self._slots.grant()

    def close(self) -> None:
        """Give back everything; further calls do nothing."""
        self._closed = True
        self.wanted = self.spare = self.held = 0
        self._slots.forget(self)
