"""Single flight: a task that runs is not run a second time; who needs the same answer waits for it.

What runs, and what was answered lately, by tenant and digest. One event loop owns it; nobody waits inside: who follows is
called when there is an answer, or when there will be none. A leader never follows, so nobody waits in a circle. Next:
:mod:`frazil_coordinator.reuse.sharing`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from frazil_coordinator.reuse.forms import Kept

__all__ = ["Flights", "Key", "Then"]

Key: TypeAlias = tuple[str, str]
"""Tenant, digest of a task."""

Then: TypeAlias = Callable[[Kept | None], None]
"""Called once, with the answer, or None when there is none."""

_MOST_RECENT: Final = 10_000
_MOST_RECENT_BYTES: Final = 64 * 1024 * 1024
"""Of inline output that is remembered."""


@dataclass(slots=True)
class _Flight:
    leader: Hashable
    attempts: int = 1
    followers: dict[int, tuple[Hashable, Then]] = field(default_factory=dict)


class Flights:
    """What runs in one coordinator, and what it answered lately."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight] = {}
        self._recent: OrderedDict[Key, Kept] = OrderedDict()
        self._recent_bytes = 0
        self._followers = 0

    def recent(self, key: Key) -> Kept | None:
        """Return an answer that came lately."""
        kept = self._recent.get(key)
        if kept is not None:
            self._recent.move_to_end(key)
        return kept

    def leads(self, key: Key, leader: Hashable) -> bool:
        """Take off with a task, or with another attempt of it; return False when somebody else already did."""
        flight = self._flights.setdefault(key, _Flight(leader, attempts=0))
        if flight.leader != leader:
            return False
        flight.attempts += 1
        return True

    def follow(self, key: Key, follower: Hashable, then: Then) -> None:
        """Have `then` called when a task that runs has landed."""
        self._followers += 1
        self._flights[key].followers[self._followers] = (follower, then)

    def landed(self, key: Key, kept: Kept, *, lasting: bool = True) -> None:
        """Note the answer of a task, and give it to all who follow; a `lasting` one also to who asks later."""
        if lasting:
            self.remember(key, kept)
        self._end(key, kept)

    def failed(self, key: Key, leader: Hashable) -> None:
        """Note that an attempt gave no answer; when it was the last one in flight, those who follow do it themselves."""
        flight = self._flights.get(key)
        if flight is not None and flight.leader == leader:
            flight.attempts -= 1
            if not flight.attempts:
                self._end(key, None)

    def remember(self, key: Key, kept: Kept) -> None:
        """Remember an answer, and forget the ones that were not asked for the longest time."""
        self.forget(key)
        self._recent[key] = kept
        self._recent_bytes += _size(kept)
        while len(self._recent) > _MOST_RECENT or self._recent_bytes > _MOST_RECENT_BYTES:
            self.forget(next(iter(self._recent)))

    def forget(self, key: Key) -> None:
        """Forget an answer, whose data is lost."""
        kept = self._recent.pop(key, None)
        self._recent_bytes -= 0 if kept is None else _size(kept)

    def leave(self, owner: Callable[[Hashable], bool]) -> None:
        """Let a query go: nobody waits for what it led, and it waits for nobody."""
        for key, flight in list(self._flights.items()):
            flight.followers = {number: one for number, one in flight.followers.items() if not owner(one[0])}
            if owner(flight.leader):
                self._end(key, None)

    def _end(self, key: Key, kept: Kept | None) -> None:
        flight = self._flights.pop(key, None)
        for _, then in flight.followers.values() if flight is not None else ():
            then(kept)


def _size(kept: Kept) -> int:
    return len(kept.descriptor.inline or b"")
