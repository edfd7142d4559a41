"""The books of the state machine of one query: what it knows of stages, tasks and attempts.

Mutable values without decisions; :mod:`frazil_coordinator.schedule.state` owns and changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from frazil_coordinator.schedule.messages import AttemptRecord, AttemptRef
from frazil_coordinator.schedule.terms import StageShape
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import Descriptor

__all__ = ["Due", "LiveAttempt", "Phase", "Reminder", "StageState", "TaskState"]

Phase: TypeAlias = Literal["held", "ready", "running", "waiting", "done", "divided"]
Reminder: TypeAlias = Literal["silence", "retry", "deadline", "patience", "slow"]


@dataclass(slots=True)
class TaskState:
    """A task, and how its attempts went."""

    stage: StageId
    index: TaskIndex
    phase: Phase = "held"
    next_attempt: int = 0
    failures: int = 0
    platform_failures: int = 0
    retry_at: float = 0.0
    committed: Descriptor | None = None
    """Its answer: the first that came."""

    history: list[AttemptRecord] = field(default_factory=list)
    speculated: bool = False
    """Whether it has had a second attempt beside a slow one: it gets no other."""

    @property
    def rows(self) -> int:
        """Rows of its answer; 0 before there is one."""
        return 0 if self.committed is None else sum(block.rows for block in self.committed.blocks)


@dataclass(slots=True)
class StageState:
    """A stage, and how far it is."""

    shape: StageShape
    missing: int
    """Producers that are not complete."""

    waiting_until: float | None = None
    """When it no longer waits for the stages that it awaits; None before it could start."""

    asked: bool = False
    """Whether its inputs are being bound, or are bound."""

    tasks: list[TaskState] = field(default_factory=list)
    order: list[TaskIndex] = field(default_factory=list)
    """The tasks that count, in the order of their rows: one that was divided is left out."""

    wave: int = 0
    """Tasks of the wave that runs, of a stage that stops when it has rows enough."""

    bound: bool = False
    done: int = 0
    running: int = 0
    """Tasks with an attempt in flight."""

    attempts: int = 0
    retries: int = 0

    def in_order(self) -> list[TaskState]:
        """Return the tasks that count, in the order of their rows."""
        return [self.tasks[index] for index in self.order]

    @property
    def complete(self) -> bool:
        """Whether all tasks that count have their answers."""
        return self.bound and self.done == len(self.order)


@dataclass(slots=True)
class LiveAttempt:
    """An attempt in flight."""

    task: TaskState
    launched_at: float
    silent_at: float
    started_at: float | None = None
    """When a function accepted it; None before."""

    speculative: bool = False
    """Whether it was launched beside a slow one."""

    reminder: int = 0
    """Number of the one reminder of its silence that holds."""


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """Something to look at when its time comes; whether it still holds is checked then."""

    at: float
    number: int
    """Breaks ties, in the order of making."""

    what: Reminder = field(compare=False)
    ref: AttemptRef | None = field(compare=False, default=None)
    stage: StageId | None = field(compare=False, default=None)
