"""The books of the state machine of one query: what it knows of stages, tasks and attempts.

Mutable values without decisions; :mod:`frazil_coordinator.schedule.state` owns and changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from frazil_coordinator.schedule.messages import AttemptRecord
from frazil_coordinator.schedule.terms import StageShape
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import Descriptor

__all__ = ["LiveAttempt", "Phase", "StageState", "TaskState"]

Phase: TypeAlias = Literal["held", "ready", "running", "waiting", "blocked", "done", "divided", "void"]
"""``held``: for a later wave; ``waiting``: for its next attempt; ``blocked``: until its inputs are there again; ``void``: it
belonged to a stage that began anew."""


@dataclass(slots=True)
class TaskState:
    """A task, and how its attempts went."""

    stage: StageId
    index: TaskIndex
    phase: Phase = "held"
    first_attempt: int = 0
    """Number of its first attempt."""

    next_attempt: int = 0
    failures: int = 0
    platform_failures: int = 0
    retry_at: float = 0.0
    committed: Descriptor | None = None
    """Its answer: the first that came."""

    lost: Descriptor | None = None
    """Its answer before, which can't be read any more; None once there is another."""

    losses: int = 0
    """How often its output was lost."""

    unread: set[str] = field(default_factory=set)
    """Keys of objects that an attempt of it could not read."""

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

    blocked: bool = False
    """Whether the output of a producer was lost after it was asked for: nothing is launched until it is there again."""

    first_attempt: int = 0
    """Number of its tasks' first attempts: those below belonged to tasks that are void."""

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

    answered: bool = False
    """Whether its answer has come and only has to become durable: it is neither silent nor slow any more."""

    reminder: int = 0
    """Number of the one reminder of its silence that holds."""
