"""Which attempts of a query are so slow that another one should run beside them, in case their function is at fault.

Bookkeeping of the state machine without clock and without I/O: :mod:`frazil_coordinator.schedule.state` tells it what runs
and what is done, and asks; it decides nothing of what else happens to an attempt.

The idea is that of the backup tasks of MapReduce (Dean and Ghemawat, 2004, section 3.6). No output can suffer from being
written twice: each execution of an attempt writes an object, or staged files, of its own, and one of them is committed.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from frazil_coordinator.schedule.books import LiveAttempt, StageState, TaskState
from frazil_coordinator.schedule.messages import AttemptRef
from frazil_coordinator.schedule.terms import SpeculationLimits
from frazil_functions.ids import StageId, TaskIndex

__all__ = ["Speculation"]

_TASKS_AT_ONCE: Final = 10
"""One of so many tasks of a stage may have a second attempt at a time; one in any case."""


@dataclass(slots=True)
class _Pace:
    """How fast the tasks of a stage are."""

    weights: dict[TaskIndex, float] = field(default_factory=dict)
    """How many times the time of a common task one may take because of what it reads; 1 for a task that is not here."""

    seconds: list[float] = field(default_factory=list)
    """Of the tasks that are done, each by its weight, ascending."""

    slow: dict[AttemptRef, None] = field(default_factory=dict)
    """Attempts that another one should run beside, in the order in which they were found."""

    doubled: int = 0
    """Second attempts in flight."""

    look_at: float | None = None
    """When it will be looked for slow attempts again; None when nothing is known to become slow."""


class Speculation:
    """The slow attempts of one query.

    Parameters
    ----------
    stages
        The books of the stages; they are only looked at.
    limits
        When an attempt is slow; None: never.
    """

    def __init__(self, stages: Sequence[StageState], limits: SpeculationLimits | None) -> None:
        self._stages = stages
        self._limits = limits
        self._paces = [_Pace() for _ in stages]

    @property
    def wanted(self) -> int:
        """Number of second attempts that should run and don't."""
        if self._limits is None:
            return 0
        return sum(self._wanted_of(stage) for stage, pace in zip(self._stages, self._paces, strict=True) if pace.slow)

    def bound(self, stage: StageId, weights: Sequence[float]) -> None:
        """Take how much the tasks of a stage have to do, if anyone knows."""
        self._paces[stage].weights = {TaskIndex(task): max(1.0, weight) for task, weight in enumerate(weights)}

    def divided(self, task: TaskState, parts: Sequence[TaskState]) -> None:
        """Note the new tasks in the place of another: each may take as long as that one."""
        pace = self._paces[task.stage]
        pace.weights |= {part.index: pace.weights.get(task.index, 1.0) for part in parts}

    def done(self, task: TaskState, seconds: float) -> None:
        """Note that an attempt took so long to answer."""
        pace = self._paces[task.stage]
        insort(pace.seconds, seconds / pace.weights.get(task.index, 1.0))

    def answered(self, ref: AttemptRef, live: LiveAttempt | None) -> None:
        """Note that the answer of an attempt has come, and nobody needs to run beside it."""
        if live is not None:
            live.answered = True
            self._paces[ref.stage].slow.pop(ref, None)

    def ended(self, ref: AttemptRef, live: LiveAttempt) -> None:
        """Note that an attempt is no longer in flight."""
        pace = self._paces[ref.stage]
        pace.slow.pop(ref, None)
        pace.doubled -= live.speculative

    def look(self, number: StageId, live: Mapping[AttemptRef, LiveAttempt], now: float) -> float | None:
        """Look which attempts of a stage are slow; return when to look again, None when no time is known or one is set.

        Parameters
        ----------
        number
            The stage.
        live
            All attempts in flight.
        now
            As of the state machine.
        """
        stage, pace = self._stages[number], self._paces[number]
        if self._limits is None or not _is_far(stage) or not pace.seconds:
            return None
        if pace.look_at is not None and now < pace.look_at:
            return None
        pace.look_at = min(
            (at for ref, one in live.items() if ref.stage == number and (at := self._slow_at(ref, one, now)) is not None),
            default=None,
        )
        return pace.look_at

    def look_at_one(self, ref: AttemptRef, live: LiveAttempt, now: float) -> float | None:
        """Return when to look at an attempt that has just begun, when nobody would look as early."""
        pace = self._paces[ref.stage]
        if self._limits is None or not _is_far(self._stages[ref.stage]) or not pace.seconds:
            return None
        at = self._slow_at(ref, live, now)
        if at is None or (pace.look_at is not None and pace.look_at <= at):
            return None
        pace.look_at = at
        return at

    def take(self) -> TaskState | None:
        """Return the task that should get a second attempt first; it is launched now."""
        for stage, pace in zip(self._stages, self._paces, strict=True):
            if pace.slow and self._wanted_of(stage):
                ref = next(iter(pace.slow))
                del pace.slow[ref]
                pace.doubled += 1
                return stage.tasks[ref.task]
        return None

    def _wanted_of(self, stage: StageState) -> int:
        pace = self._paces[stage.shape.id]
        most = max(1, len(stage.order) // _TASKS_AT_ONCE)
        return max(0, min(len(pace.slow), most - pace.doubled))

    def _slow_at(self, ref: AttemptRef, live: LiveAttempt, now: float) -> float | None:
        """Return when an attempt will be slow; None when it is, or never will be."""
        pace = self._paces[ref.stage]
        if self._limits is None or live.started_at is None or live.answered:
            return None
        if live.task.speculated or ref in pace.slow:
            return None
        middle = pace.seconds[len(pace.seconds) // 2] * pace.weights.get(ref.task, 1.0)
        at = live.started_at + max(self._limits.least_s, self._limits.factor * middle)
        if at > now:
            return at
        pace.slow[ref] = None
        return None


def _is_far(stage: StageState) -> bool:
    """Return whether at least half of the tasks of a stage are done, so that it is known how long they take."""
    return stage.bound and 2 * stage.done >= len(stage.order) > stage.done
