"""Queries that wait for slots, and which of them is next, without looking at each: thousands may wait.

The order is that of :mod:`frazil_coordinator.schedule.slots`, the only user. No clock: time comes in as a value.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["Line", "Waiting"]

_MOST_STALE: Final = 64
"""Entries that may be left over before all are put anew."""


class Waiting(Protocol):
    """Somebody who waits."""

    @property
    def held(self) -> int:
        """Slots that it has."""
        ...

    @property
    def turn(self) -> int:
        """Rises with each slot that somebody gets; who has the least has waited longest."""
        ...

    @property
    def waits_since(self) -> float:
        """Time from which its priority rises."""
        ...

    @property
    def priority(self) -> int:
        """What it begins with."""
        ...


_W = TypeVar("_W", bound=Waiting)


class Line(Generic[_W]):
    """Who waits: the highest priority first, then the fewest slots, then who has waited longest.

    Parameters
    ----------
    ageing_s
        Seconds of waiting by which a priority rises by one.

    Notes
    -----
    Those of one priority with as many slots lie in one heap; there are few different ones. An entry that no longer holds is
    left where it is until it comes up. Each call takes O(log n), but for one that puts all entries anew, after as many.
    """

    def __init__(self, ageing_s: float) -> None:
        self._ageing_s = ageing_s
        self._places: dict[_W, tuple[int, int, int]] = {}
        """Minus the priority, slots, and turn by which each waits now."""

        self._heaps: dict[tuple[int, int], list[tuple[int, int, _W]]] = {}
        self._ages: list[tuple[float, int, _W]] = []
        """When a priority may rise, once for each who waits."""

        self._ageing: set[_W] = set()
        self._entries = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[_W]:
        return iter(self._places)

    def put(self, one: _W, now: float) -> None:
        """Let somebody wait, or note that its slots, its turn or its waiting have changed."""
        place = (-self._priority(one, now), one.held, one.turn)
        if self._places.get(one) == place:
            return
        self._places[one] = place
        self._push(one, place)
        if one not in self._ageing:
            self._ageing.add(one)
            self._push_age(one, now)
        if self._entries > 2 * len(self._places) + _MOST_STALE:
            self._renew()

    def discard(self, one: _W) -> None:
        """Let somebody wait no more; no effect when it did not."""
        self._places.pop(one, None)

    def first(self, now: float) -> _W | None:
        """Return who is next; None when nobody waits."""
        self._age(now)
        while self._heaps:
            key = min(self._heaps)
            heap = self._heaps[key]
            while heap:
                turn, _, one = heap[0]
                if self._places.get(one) == (*key, turn):
                    return one
                heapq.heappop(heap)
                self._entries -= 1
            del self._heaps[key]
        return None

    def _priority(self, one: _W, now: float) -> int:
        return one.priority + int((now - one.waits_since) / self._ageing_s)

    def _push(self, one: _W, place: tuple[int, int, int]) -> None:
        self._count += 1
        self._entries += 1
        heapq.heappush(self._heaps.setdefault(place[:2], []), (place[2], self._count, one))

    def _push_age(self, one: _W, now: float) -> None:
        steps = self._priority(one, now) - one.priority + 1
        self._count += 1
        heapq.heappush(self._ages, (one.waits_since + steps * self._ageing_s, self._count, one))

    def _age(self, now: float) -> None:
        while self._ages and self._ages[0][0] <= now:
            _, _, one = heapq.heappop(self._ages)
            self._ageing.discard(one)
            if one in self._places:
                self.put(one, now)
                if one not in self._ageing:  # its place is the same: it has begun to wait anew meanwhile
                    self._ageing.add(one)
                    self._push_age(one, now)

    def _renew(self) -> None:
        self._heaps.clear()
        self._entries = 0
        for one, place in self._places.items():
            self._push(one, place)
