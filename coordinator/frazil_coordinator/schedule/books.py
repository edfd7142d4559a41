"""The books of the state machine of one query: what it knows of stages, tasks and attempts.

Mutable values without decisions; :mod:`frazil_coordinator.schedule.state` owns and changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from frazil_coordinator.schedule.messages import AttemptRecord, AttemptRef
from frazil_coordinator.schedule.terms import RetryLimits, StageShape
from frazil_functions.errors import FrazilError
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import Descriptor

__all__ = ["ATTEMPTS_A_TASK", "LiveAttempt", "Phase", "StageState", "TaskState"]

ATTEMPTS_A_TASK: Final = 1000
"""More attempts than a task may have: those of a stage that begins anew are counted from the next multiple of it, so that no
answer of its tasks before is taken for one of theirs, whoever knows of which attempts."""

Phase: TypeAlias = Literal["held", "ready", "running", "waiting", "elsewhere", "blocked", "done", "divided", "void"]
"""``held``: for a later wave; ``waiting``: for its next attempt; ``elsewhere``: for the answer of the same task in another
query; ``blocked``: until its inputs are there again; ``void``: it belonged to a stage that began anew."""


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

    def used_up(self, limits: RetryLimits) -> bool:
        """Return whether it failed so often that it is not tried again."""
        return (
            self.failures >= limits.max_attempts
            or self.platform_failures >= limits.max_platform_failures
            or self.next_attempt >= self.first_attempt + ATTEMPTS_A_TASK
        )


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

    def elsewhere(self, ref: AttemptRef) -> TaskState | None:
        """Return the task, if it still waits for what it waited for when that was its next attempt."""
        task = self.tasks[ref.task] if ref.task < len(self.tasks) else None
        waits = task is not None and task.phase == "elsewhere" and ref.attempt in (task.next_attempt - 1, task.next_attempt)
        return task if waits else None

    def next_wave(self) -> list[TaskState]:
        """Return the tasks that run next, twice as many as before; none when those before have rows enough: then it ends."""
        held = [task for task in self.in_order() if task.phase == "held"]
        if sum(task.rows for task in self.in_order()) >= (self.shape.first_rows or 0):
            for task in held:
                task.phase, task.committed = "done", Descriptor(key=None, blocks=())
            self.done += len(held)
            return []
        self.wave = max(1, 2 * self.wave)
        return held[: self.wave]


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

    def record(self, ref: AttemptRef, error: FrazilError, now: float) -> AttemptRecord:
        """Return how it ended."""
        return AttemptRecord(ref=ref, kind=error.kind, message=error.message, seconds=now - self.launched_at)
