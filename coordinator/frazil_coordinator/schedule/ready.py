"""The tasks of one query that want a slot, in the order in which they get one.

Bookkeeping of :mod:`frazil_coordinator.schedule.state`, without decisions.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from frazil_coordinator.schedule.books import TaskState
from frazil_coordinator.schedule.terms import StageShape
from frazil_functions.ids import StageId, TaskIndex

__all__ = ["ReadyTasks", "awaited"]


class ReadyTasks:
    """Tasks in the phase ``ready``.

    Parameters
    ----------
    urgent
        Stages whose tasks come first; among those, and among the others, tasks come by stage and index.
    """

    def __init__(self, urgent: AbstractSet[StageId]) -> None:
        self._urgent = urgent
        self._heap: list[tuple[bool, StageId, TaskIndex, int, TaskState]] = []
        self._pushed = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, task: TaskState) -> None:
        """Make a task ready."""
        task.phase = "ready"
        self._count += 1
        self._pushed += 1
        heapq.heappush(self._heap, (task.stage not in self._urgent, task.stage, task.index, self._pushed, task))

    def pop(self) -> TaskState | None:
        """Take out the first task; None when there is none."""
        while self._heap:
            *_, task = heapq.heappop(self._heap)
            if task.phase == "ready":  # else it was withdrawn
                self._count -= 1
                return task
        return None

    def withdraw(self, task: TaskState) -> None:
        """Take out a task, if it is ready: the caller gives it another phase at once."""
        self._count -= task.phase == "ready"


def awaited(stages: Sequence[StageShape]) -> set[StageId]:
    """Return the stages that another one awaits, and all that come before them."""
    found: set[StageId] = set()
    ahead = [other for stage in stages for other in stage.awaits]
    while ahead:
        stage = ahead.pop()
        if stage not in found:
            found.add(stage)
            ahead += stages[stage].producers
    return found
