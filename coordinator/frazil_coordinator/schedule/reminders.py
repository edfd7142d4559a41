"""What the state machine of a query has to look at when its time comes, and when to wake it for that.

Bookkeeping of :mod:`frazil_coordinator.schedule.state`, without a clock.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from frazil_coordinator.schedule.messages import AttemptRef
from frazil_functions.ids import StageId

__all__ = ["Due", "Reminder", "Reminders"]

Reminder: TypeAlias = Literal["silence", "retry", "deadline", "patience", "slow"]


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """Something to look at when its time comes; whether it still holds is checked then."""

    at: float
    number: int
    """Breaks ties, in the order of making."""

    what: Reminder = field(compare=False)
    ref: AttemptRef | None = field(compare=False, default=None)
    stage: StageId | None = field(compare=False, default=None)


class Reminders:
    """All that is to be looked at, and the one timer that is set for it."""

    def __init__(self) -> None:
        self._heap: list[Due] = []
        self._count = 0
        self._timer: float | None = None

    def add(self, at: float, what: Reminder, ref: AttemptRef | None = None, stage: StageId | None = None) -> int:
        """Look at something at a time; return the number of the reminder."""
        self._count += 1
        heapq.heappush(self._heap, Due(at, self._count, what, ref, stage))
        return self._count

    def fired(self) -> None:
        """Note that the timer has come: none is set now."""
        self._timer = None

    def take(self, now: float) -> Due | None:
        """Take out the first that is due; None when none is."""
        return heapq.heappop(self._heap) if self._heap and self._heap[0].at <= now else None

    def timer(self) -> float | None:
        """Return for when the timer is to be set, in place of the one that is; None when that one will do."""
        if not self._heap or (self._timer is not None and self._heap[0].at >= self._timer):
            return None
        self._timer = self._heap[0].at
        return self._timer
