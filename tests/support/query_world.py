"""What stands around the state machine of a query in its model-based test: it obeys, and checks all instructions.

`tests/state/test_query_state.py` says what may happen in it, and what always holds.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from frazil_coordinator.schedule.messages import (
    AttemptRef,
    AttemptSucceeded,
    BindStage,
    CancelAttempt,
    Discard,
    Event,
    Finish,
    Instruction,
    Launch,
    Lost,
    Moved,
    Restart,
    ReturnSlot,
    SetTimer,
    SlotGranted,
    Submitted,
    WantSlots,
)
from frazil_coordinator.schedule.state import QueryState
from frazil_coordinator.schedule.terms import RetryLimits, SpeculationLimits, StageShape
from frazil_functions.errors import (
    FrazilError,
)
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import BlockInfo, Descriptor

__all__ = ["LIMITS", "SPECULATION", "QueryWorld", "done"]

LIMITS: Final = RetryLimits(
    max_attempts=2, max_platform_failures=3, backoff_s=1.0, backoff_max_s=3.0, silence_s=4.0, start_silence_s=9.0
)
SPECULATION: Final = SpeculationLimits(factor=2.0, least_s=1.5)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[StageShape, ...]:
    """Graphs of up to 5 stages with up to 4 tasks each; each stage reads, or awaits for a while, any of those before it."""
    stages: list[StageShape] = []
    for number in range(draw(st.integers(1, 5))):
        before = [stage.id for stage in stages]
        producers = draw(st.lists(st.sampled_from(before), unique=True, max_size=3)) if before else []
        others = [stage.id for stage in stages if stage.id not in producers]
        awaits = draw(st.lists(st.sampled_from(others), unique=True, max_size=2)) if others else []
        stages.append(
            StageShape(
                id=StageId(number),
                producers=tuple(producers),
                tasks=draw(st.integers(1, 4)),
                awaits=tuple(awaits),
                patience_s=draw(st.sampled_from([0.0, 3.0])),
            )
        )
    return tuple(stages)


def done(ref: AttemptRef, execution: int = 0) -> Descriptor:
    """Return what an attempt wrote; the second execution of one writes other bytes than all first ones."""
    block = BlockInfo(partition=0, offset=0, length=1, rows=1, crc32c=execution, codec="ipc")
    return Descriptor(key=f"{ref.stage}/{ref.task}/{ref.attempt}-{execution}", blocks=(block,))


class QueryWorld(RuleBasedStateMachine):
    """What a driver, a platform and a pool of slots may do to the state of one query."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.to_bind: list[StageId] = []
        self.bound: dict[StageId, list[TaskIndex]] = {}
        """Tasks that count, in order."""
        self.tasks: dict[StageId, int] = {}
        """Tasks ever, those that were divided included."""
        self.divided: set[tuple[StageId, TaskIndex]] = set()
        self.live: list[AttemptRef] = []
        """Launched, and neither cancelled nor answered."""
        self.past: list[AttemptRef] = []
        self.launched: dict[tuple[StageId, TaskIndex], int] = {}
        self.committed: dict[tuple[StageId, TaskIndex], str | None] = {}
        self.failures: dict[tuple[StageId, TaskIndex], list[FrazilError]] = {}
        self.inherited: dict[tuple[StageId, TaskIndex], list[FrazilError]] = {}
        """What the tasks died of of which a task is a part."""
        self.silent_since: dict[AttemptRef, float] = {}
        self.begun: dict[AttemptRef, float] = {}
        """When an attempt said that it had started."""
        self.answered: set[AttemptRef] = set()
        """Attempts whose answers have come, and may or may not be durable."""

        self.doubles: set[AttemptRef] = set()
        """Attempts launched beside a slow one."""
        self.spare = 0
        self.limit = 2
        self.wanted = 0
        self.timer: float | None = None
        self.finish: Finish | None = None
        self.cancelled: list[AttemptRef] = []
        self.unread: set[tuple[StageId, TaskIndex, str]] = set()
        """What a task could not read once."""
        self.losses = Counter[tuple[StageId, TaskIndex]]()
        self.lost: dict[tuple[StageId, TaskIndex], str] = {}
        """Tasks that run again, and the objects that they wrote before."""
        self.first = Counter[StageId]()
        """Numbers of the first attempts."""
        self.attempts = Counter[StageId]()
        self.retries = Counter[StageId]()

    @initialize(
        stages=shapes(),
        timeout=st.sampled_from([None, 30.0]),
        limit=st.integers(0, 5),
        speculates=st.sampled_from([True, True, True, False]),
    )
    def submit(self, stages: tuple[StageShape, ...], timeout: float | None, limit: int, speculates: bool) -> None:
        self.speculates = speculates
        self.stages = stages
        self.timeout = timeout
        self.limit = limit
        limits = RetryLimits(
            max_attempts=LIMITS.max_attempts,
            max_platform_failures=LIMITS.max_platform_failures,
            backoff_s=LIMITS.backoff_s,
            backoff_max_s=LIMITS.backoff_max_s,
            silence_s=LIMITS.silence_s,
            start_silence_s=LIMITS.start_silence_s,
            timeout_s=timeout,
            speculation=SPECULATION if speculates else None,
        )
        self.state = QueryState(stages, limits)
        self.send(Submitted())

    # The world obeys, and checks each instruction as it comes.

    def send(self, event: Event) -> list[Instruction]:
        finished = self.finish is not None
        instructions = self.state.handle(event, self.now)
        assert not (finished and instructions), "an instruction after Finish"
        for number, instruction in enumerate(instructions):
            if isinstance(instruction, Finish):
                assert number == len(instructions) - 1, "an instruction after Finish"
            self.obey(instruction, event)
        return instructions

    def obey(self, instruction: Instruction, event: Event) -> None:
        match instruction:
            case BindStage(stage=stage):
                assert stage not in self.to_bind
                assert stage not in self.bound
                self.check_producers(stage)
                self.to_bind.append(stage)
            case WantSlots():
                self.wanted, self.spare = instruction.count, instruction.spare
            case Launch():
                self.check_launch(instruction, event)
            case ReturnSlot():
                assert isinstance(event, SlotGranted)
            case CancelAttempt(ref=ref):
                assert ref in self.live, "cancelled what does not run"
                assert instruction.error is None or ref not in self.answered, "gave up what has answered"
                self.live.remove(ref)
                self.past.append(ref)
                self.cancelled.append(ref)
                if instruction.error is not None:
                    self.failures.setdefault((ref.stage, ref.task), []).append(instruction.error)
            case SetTimer(at=at):
                self.timer = at
            case Discard(descriptor=descriptor):
                assert isinstance(event, AttemptSucceeded)
                assert descriptor.key not in self.committed.values(), "a committed object is to be deleted"
            case Lost(stage=stage, task=task):
                assert (stage, task) in self.committed, "lost what was not there"
                self.lost[stage, task] = self.committed.pop((stage, task)) or ""
                self.losses[stage, task] += 1
            case Moved(before=before, after=after):
                assert before.blocks == after.blocks, "other bytes took the place of a lost output"
            case Restart(stage=stage):
                self.begin_anew(stage)
            case Finish():
                self.finish = instruction
                self.wanted = self.spare = 0
                self.to_bind = []
                self.timer = None

    def begin_anew(self, stage: StageId) -> None:
        """Forget the tasks of a stage."""
        assert not any(ref.stage == stage for ref in self.live), "an attempt of a stage that begins anew was left running"
        self.first[stage] += 1000
        self.to_bind = [one for one in self.to_bind if one != stage]
        self.bound.pop(stage, None)
        self.divided = {task for task in self.divided if task[0] != stage}
        self.doubles = {ref for ref in self.doubles if ref.stage != stage}
        for of_tasks in (self.committed, self.launched, self.failures, self.inherited, self.losses, self.lost):
            for task in [task for task in of_tasks if task[0] == stage]:
                del of_tasks[task]

    def behind(self, stage: StageId) -> set[StageId]:
        """Return the stages that were asked for and read `stage`, or what was made of it, or waited for it."""
        found: set[StageId] = set()
        for one in self.stages[stage + 1 :]:
            if found.union({stage}).intersection((*one.producers, *one.awaits)):
                found.add(one.id)
        return found.intersection((*self.bound, *self.to_bind))

    def is_blocked(self, stage: StageId) -> bool:
        """Return whether a producer is not complete."""
        return any(
            producer not in self.bound or any((producer, task) not in self.committed for task in self.bound[producer])
            for producer in self.stages[stage].producers
        )

    def check_producers(self, stage: StageId) -> None:
        for producer in self.stages[stage].producers:
            tasks = self.bound[producer]
            assert all((producer, task) in self.committed for task in tasks), "a consumer before its producers"

    def check_launch(self, launch: Launch, event: Event) -> None:
        ref = launch.ref
        assert isinstance(event, SlotGranted), "launched without a slot"
        task = (ref.stage, ref.task)
        assert ref.task in self.bound[ref.stage], "launched what was divided, or what never was"
        assert ref.attempt == self.launched.get(task, self.first[ref.stage]), "attempts are numbered 0, 1, 2"
        assert task not in self.committed, "launched what is done"
        beside = [one for one in self.live if (one.stage, one.task) == task]
        if launch.speculative:
            self.check_double(ref, beside)
            self.doubles.add(ref)
            self.spare -= 1
        else:
            assert not beside, "two attempts at once"
            self.wanted -= 1
        self.check_producers(ref.stage)
        self.attempts[ref.stage] += 1
        self.retries[ref.stage] += ref.attempt > self.first[ref.stage]
        self.launched[task] = ref.attempt + 1
        self.live.append(ref)
        self.silent_since[ref] = self.now

    def check_double(self, ref: AttemptRef, beside: list[AttemptRef]) -> None:
        assert self.speculates
        assert self.wanted == 0, "a second attempt took the slot of a ready task"
        assert len(beside) == 1, "a second attempt beside none, or beside two"
        assert beside[0] not in self.answered, "a second attempt beside one that has answered"
        assert self.now >= self.begun[beside[0]] + SPECULATION.least_s, "the first attempt is not slow"
        assert not any((one.stage, one.task) == (ref.stage, ref.task) for one in self.doubles), "doubled twice"
        tasks = self.bound[ref.stage]
        assert 2 * sum((ref.stage, task) in self.committed for task in tasks) >= len(tasks), "too early to tell"
        running = sum(one.stage == ref.stage for one in self.doubles.intersection(self.live))
        assert running < max(1, len(tasks) // 10), "too many second attempts"
