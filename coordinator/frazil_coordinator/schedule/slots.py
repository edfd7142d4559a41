"""The cap on attempts in flight, shared by all queries of a coordinator.

Plain calls and callbacks, no awaiting: nothing can be lost by a cancellation. A slot is granted to the query that has the
fewest, and among those to the one that has waited longest; one that nobody needs, to a query that can use it nevertheless.
Used by :mod:`frazil_coordinator.schedule.driver`.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SlotShare", "Slots"]


class Slots:
    """Slots for attempts in flight.

    Parameters
    ----------
    limit
        How many there are, > 0.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shares: dict[SlotShare, None] = {}
        self._granting = False

    @property
    def limit(self) -> int:
        """Number of slots."""
        return self._limit

    @property
    def taken(self) -> int:
        """Slots that queries have now; above the limit for a while after it was lowered."""
        return sum(share.held for share in self._shares)

    @property
    def wanted(self) -> int:
        """Slots that queries want and don't have."""
        return sum(share.wanted for share in self._shares)

    def resize(self, limit: int) -> None:
        """Change the number of slots. Those taken are never called back."""
        self._limit = limit
        self.grant()

    def share(self, on_grant: Callable[[], None]) -> SlotShare:
        """Return a new query's share.

        Parameters
        ----------
        on_grant
            Called once for each slot that the query gets, possibly inside :meth:`SlotShare.want`.
        """
        share = SlotShare(self, on_grant)
        self._shares[share] = None
        return share

    def grant(self) -> None:
        """Grant what can be granted."""
        if self._granting:  # a callback asked for more: the loop below sees it
            return
        self._granting = True
        try:
            while self.taken < self._limit:
                wanting = [share for share in self._shares if share.wanted > 0]
                wanting = wanting or [share for share in self._shares if share.spare > 0]
                if not wanting:
                    return
                share = min(wanting, key=lambda one: one.held)
                # Behind those that wait as well, and have as few.
                del self._shares[share]
                self._shares[share] = None
                share.receive()
        finally:
            self._granting = False

    def forget(self, share: SlotShare) -> None:
        """Take back all that `share` has."""
        self._shares.pop(share, None)
        self.grant()


class SlotShare:
    """One query's slots; made by :meth:`Slots.share`."""

    def __init__(self, slots: Slots, on_grant: Callable[[], None]) -> None:
        self._slots = slots
        self._on_grant = on_grant
        self._granted = 0
        self._closed = False
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
            self.wanted = max(0, count - self._granted)
            self.spare = max(0, spare - max(0, self._granted - count))
            self._slots.grant()

    def receive(self) -> None:
        """Take one slot; called by :class:`Slots`."""
        if self.wanted > 0:
            self.wanted -= 1
        else:
            self.spare -= 1
        self.held += 1
        self._granted += 1
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
