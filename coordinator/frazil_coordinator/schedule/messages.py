"""What goes into the state machine of a query (events) and what comes out of it (instructions).

Values only: the machine is :mod:`frazil_coordinator.schedule.state`, the next module on the main path; the driver
(:mod:`frazil_coordinator.schedule.driver`) makes the events and obeys the instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from frazil_functions.errors import FrazilError
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import Descriptor

__all__ = [
    "AnswerReused",
    "AttemptAnswered",
    "AttemptDivided",
    "AttemptFailed",
    "AttemptHeartbeat",
    "AttemptRecord",
    "AttemptRecovered",
    "AttemptRef",
    "AttemptStarted",
    "AttemptSucceeded",
    "BindFailed",
    "BindStage",
    "CancelAttempt",
    "CancelRequested",
    "Discard",
    "DivisionRecovered",
    "Event",
    "Finish",
    "Instruction",
    "Launch",
    "LossRecovered",
    "Lost",
    "Moved",
    "NotElsewhere",
    "Restart",
    "ReturnSlot",
    "RunsElsewhere",
    "SetTimer",
    "SlotGranted",
    "StageBound",
    "StageRecovered",
    "Submitted",
    "TimerFired",
    "WantSlots",
]


class AttemptRef(NamedTuple):
    """Which attempt: its place in the query. Attempts sort by stage, task, number."""

    stage: StageId
    task: TaskIndex
    attempt: int
    """Number of the try, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """How one attempt of a task ended without an answer."""

    ref: AttemptRef
    kind: str
    """Kind of its error (:attr:`frazil_functions.errors.FrazilError.kind`)."""

    message: str
    seconds: float
    """From launch to end."""


# Events


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The query begins; its time runs from here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBound:
    """The inputs of a stage's tasks are known."""

    stage: StageId
    tasks: int
    """Number of tasks, which the barrier may have changed."""

    weights: tuple[float, ...] = ()
    """How many times the time of a common task each may take before it is slow, by what it reads; empty when not known."""

    first_attempt: int = 0
    """That of the `BindStage` that it answers."""

    elsewhere: frozenset[TaskIndex] = frozenset()
    """Tasks whose answers are there, of another query: `AnswerReused` follows for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindFailed:
    """The inputs of a stage's tasks can't be known."""

    stage: StageId
    error: FrazilError


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """A function has accepted the attempt."""

    ref: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptHeartbeat:
    """The attempt is alive."""

    ref: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptAnswered:
    """The attempt's output is in place; `AttemptSucceeded` follows when that is durable, however long it takes."""

    ref: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSucceeded:
    """The attempt's output is in place."""

    ref: AttemptRef
    descriptor: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """The attempt ended without output."""

    ref: AttemptRef
    error: FrazilError


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptDivided:
    """The attempt ended without output, and its task is to be done by several new ones."""

    ref: AttemptRef
    error: FrazilError
    """Why."""

    parts: int
    """Number of new tasks, > 0; they get the next indices of the stage, and stand in the old task's place in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecovered:
    """A coordinator before this one had decided the tasks of the stage: `StageBound` follows at once."""

    stage: StageId


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecovered:
    """An attempt that a coordinator before this one sent had succeeded."""

    ref: AttemptRef
    descriptor: Descriptor
    reused: bool = False
    """Whether nobody sent it, because the answer was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsElsewhere:
    """The attempt of a `Launch` was not sent: the same task has an answer, or runs, in another query or another stage."""

    ref: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReused:
    """The answer of a task that runs elsewhere."""

    ref: AttemptRef
    """That of `RunsElsewhere`; else the task's first."""

    descriptor: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class NotElsewhere:
    """A task that runs elsewhere gets no answer from there."""

    ref: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class DivisionRecovered:
    """A coordinator before this one had divided the task of the attempt."""

    ref: AttemptRef
    parts: int
    """As of `AttemptDivided`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRecovered:
    """A coordinator before this one had found that the output of the task can't be read any more."""

    stage: StageId
    task: TaskIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotGranted:
    """One attempt more may be in flight; answered by one `Launch` or one `ReturnSlot`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFired:
    """The time of the last `SetTimer` has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """Nobody wants the answer any more."""


Event: TypeAlias = (
    Submitted
    | StageBound
    | BindFailed
    | AttemptStarted
    | AttemptHeartbeat
    | AttemptAnswered
    | AttemptSucceeded
    | AttemptFailed
    | AttemptDivided
    | StageRecovered
    | AttemptRecovered
    | RunsElsewhere
    | AnswerReused
    | NotElsewhere
    | DivisionRecovered
    | LossRecovered
    | SlotGranted
    | TimerFired
    | CancelRequested
)


# Instructions


@dataclass(frozen=True, slots=True, kw_only=True)
class BindStage:
    """All producers of the stage are finished: bind its inputs, and answer with `StageBound` or `BindFailed`."""

    stage: StageId
    first_attempt: int = 0
    """Number of its tasks' first attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantSlots:
    """So many tasks are ready and have no slot; grant them one by one. Replaces what was wanted before."""

    count: int
    spare: int = 0
    """Slots wanted besides, for second attempts of slow tasks: only those that no ready task wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Send the attempt to a function; it takes the slot that was just granted."""

    ref: AttemptRef
    speculative: bool = False
    """Whether another attempt of the task runs, and is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnSlot:
    """The slot that was just granted is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAttempt:
    """Stop the attempt: its answer is not needed, or it is given up."""

    ref: AttemptRef
    error: FrazilError | None = None
    """Why it is given up; None when its answer is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTimer:
    """Send `TimerFired` at this time. Replaces the timer set before."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """The output of the attempt is not used: its object may be deleted."""

    ref: AttemptRef
    descriptor: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The output of the task can't be read any more, and the task runs again."""

    stage: StageId
    task: TaskIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The task whose output was lost wrote the same bytes again: who reads them finds them there."""

    stage: StageId
    task: TaskIndex
    before: Descriptor
    after: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """All that was known of the stage's tasks is void: it will be bound again."""

    stage: StageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The query has ended; always the last instruction."""

    error: FrazilError | None = None
    """Why it failed; None when it succeeded."""

    history: tuple[AttemptRecord, ...] = ()
    """The failed attempts of the task that ended the query, in the order in which they ended."""


Instruction: TypeAlias = (
    BindStage | WantSlots | Launch | ReturnSlot | CancelAttempt | SetTimer | Discard | Lost | Moved | Restart | Finish
)
