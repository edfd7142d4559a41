"""The state machine of a query against a model: random graphs, and anything that can happen to them."""

from __future__ import annotations

from typing import Final

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from frazil_coordinator.schedule.messages import (
    AttemptDivided,
    AttemptFailed,
    AttemptHeartbeat,
    AttemptRef,
    AttemptStarted,
    AttemptSucceeded,
    BindFailed,
    BindStage,
    CancelAttempt,
    CancelRequested,
    Discard,
    Event,
    Finish,
    Instruction,
    Launch,
    ReturnSlot,
    SetTimer,
    SlotGranted,
    StageBound,
    Submitted,
    TimerFired,
    WantSlots,
)
from frazil_coordinator.schedule.state import QueryState
from frazil_coordinator.schedule.terms import RetryLimits, StageShape
from frazil_functions.errors import (
    BlockError,
    FrazilError,
    FunctionLostError,
    InternalError,
    OutOfMemoryError,
    QueryError,
    StorageError,
)
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import Descriptor

LIMITS: Final = RetryLimits(
    max_attempts=2, max_platform_failures=3, backoff_s=1.0, backoff_max_s=3.0, silence_s=4.0, start_silence_s=9.0
)


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
    return Descriptor(key=f"{ref.stage}/{ref.task}/{ref.attempt}-{execution}", blocks=())


class QueryMachine(RuleBasedStateMachine):
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
        self.begun: set[AttemptRef] = set()
        self.limit = 2
        self.wanted = 0
        self.timer: float | None = None
        self.finish: Finish | None = None
        self.cancelled: list[AttemptRef] = []

    @initialize(stages=shapes(), timeout=st.sampled_from([None, 30.0]), limit=st.integers(0, 5))
    def submit(self, stages: tuple[StageShape, ...], timeout: float | None, limit: int) -> None:
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
            case WantSlots(count=count):
                self.wanted = count
            case Launch(ref=ref):
                self.check_launch(ref, event)
            case ReturnSlot():
                assert isinstance(event, SlotGranted)
            case CancelAttempt(ref=ref):
                assert ref in self.live, "cancelled what does not run"
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
            case Finish():
                self.finish = instruction
                self.wanted = 0
                self.to_bind = []
                self.timer = None

    def check_producers(self, stage: StageId) -> None:
        for producer in self.stages[stage].producers:
            tasks = self.bound[producer]
            assert all((producer, task) in self.committed for task in tasks), "a consumer before its producers"

    def check_launch(self, ref: AttemptRef, event: Event) -> None:
        assert isinstance(event, SlotGranted), "launched without a slot"
        task = (ref.stage, ref.task)
        assert ref.task in self.bound[ref.stage], "launched what was divided, or what never was"
        assert ref.attempt == self.launched.get(task, 0), "attempts are numbered 0, 1, 2"
        assert task not in self.committed, "launched what is done"
        assert not any((one.stage, one.task) == task for one in self.live), "two attempts at once"
        self.check_producers(ref.stage)
        self.launched[task] = ref.attempt + 1
        self.live.append(ref)
        self.silent_since[ref] = self.now
        self.wanted -= 1

    # What may happen

    def running(self) -> bool:
        return self.finish is None

    @precondition(lambda self: self.to_bind)
    @rule(data=st.data())
    def bind(self, data: st.DataObject) -> None:
        stage = data.draw(st.sampled_from(self.to_bind))
        self.to_bind.remove(stage)
        tasks = self.tasks[stage] = data.draw(st.sampled_from([self.stages[stage].tasks, 1, 0]))
        self.bound[stage] = [TaskIndex(task) for task in range(tasks)]
        self.send(StageBound(stage=stage, tasks=tasks))

    @precondition(lambda self: self.to_bind and self.now > 20)
    @rule()
    def bind_fails(self) -> None:
        error = InternalError("no")
        self.send(BindFailed(stage=self.to_bind[-1], error=error))
        assert self.finish is not None
        assert self.finish.error is error

    @precondition(lambda self: self.wanted > 0 and len(self.live) < self.limit)
    @rule()
    def grant(self) -> None:
        (first, *_) = self.send(SlotGranted())
        assert isinstance(first, Launch), "wanted a slot, and did not use it"

    @precondition(lambda self: self.wanted == 0)
    @rule()
    def grant_unwanted(self) -> None:
        instructions = self.send(SlotGranted())
        assert instructions == ([] if self.finish is not None else [ReturnSlot()])

    @rule(limit=st.integers(0, 5))
    def change_slots(self, limit: int) -> None:
        self.limit = limit

    @precondition(lambda self: self.live)
    @rule(data=st.data(), begins=st.booleans())
    def beat(self, data: st.DataObject, begins: bool) -> None:
        ref = data.draw(st.sampled_from(self.live))
        self.silent_since[ref] = self.now
        self.begun.add(ref)
        self.send(AttemptStarted(ref=ref) if begins else AttemptHeartbeat(ref=ref))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        self.answer(data.draw(st.sampled_from(self.live)), 0)

    @precondition(lambda self: self.past)
    @rule(data=st.data(), execution=st.integers(0, 1))
    def succeed_late_or_twice(self, data: st.DataObject, execution: int) -> None:
        self.answer(data.draw(st.sampled_from(self.past)), execution)

    def given_up(self) -> list[AttemptRef]:
        return [ref for ref in self.past if (ref.stage, ref.task) not in self.committed | dict.fromkeys(self.divided)]

    @precondition(lambda self: self.given_up())
    @rule(data=st.data())
    def succeed_after_all(self, data: st.DataObject) -> None:
        rivals = [ref for ref in self.given_up() if any((one.stage, one.task) == (ref.stage, ref.task) for one in self.live)]
        self.answer(data.draw(st.sampled_from(rivals or self.given_up())), 0)

    @precondition(lambda self: self.given_up() and self.timer is not None and self.limit > len(self.live))
    @rule()
    def wait_for_retries(self) -> None:
        for _ in range(10):
            if self.finish is not None or self.timer is None or self.wanted > 0:
                break
            self.fire(0.0)
        if self.wanted > 0:
            self.grant()

    def answer(self, ref: AttemptRef, execution: int) -> None:
        """Attempt `ref` answers; another `execution` of the same event wrote another object."""
        task = (ref.stage, ref.task)
        descriptor = done(ref, execution)
        before = self.committed.get(task)
        if ref in self.live:
            self.live.remove(ref)
            self.past.append(ref)
        if self.finish is not None:
            self.send(AttemptSucceeded(ref=ref, descriptor=descriptor))
            return
        unused = before is not None or task in self.divided
        if not unused:
            self.committed[task] = descriptor.key
        instructions = self.send(AttemptSucceeded(ref=ref, descriptor=descriptor))
        discarded = [one for one in instructions if isinstance(one, Discard)]
        assert bool(discarded) == (unused and before != descriptor.key)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), error=st.sampled_from([StorageError("s"), BlockError("b"), FunctionLostError("l")]))
    def fail(self, data: st.DataObject, error: FrazilError) -> None:
        ref = data.draw(st.sampled_from(self.live))
        task = (ref.stage, ref.task)
        self.live.remove(ref)
        self.past.append(ref)
        self.failures.setdefault(task, []).append(error)
        self.send(AttemptFailed(ref=ref, error=error))
        self.check_failures(task)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), parts=st.integers(1, 3))
    def divide(self, data: st.DataObject, parts: int) -> None:
        ref = data.draw(st.sampled_from(self.live))
        self.live.remove(ref)
        self.past.append(ref)
        self.divided.add((ref.stage, ref.task))
        error = OutOfMemoryError("m")
        first, order = self.tasks[ref.stage], self.bound[ref.stage]
        self.tasks[ref.stage] += parts
        new = [TaskIndex(first + part) for part in range(parts)]
        place = order.index(ref.task)
        order[place : place + 1] = new
        self.inherited |= dict.fromkeys(((ref.stage, task) for task in new), self.history((ref.stage, ref.task), error))
        self.send(AttemptDivided(ref=ref, error=error, parts=parts))

    def history(self, task: tuple[StageId, TaskIndex], *errors: FrazilError) -> list[FrazilError]:
        return [*self.inherited.get(task, []), *self.failures.get(task, []), *errors]

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def divide_late(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.past))
        assert not self.state.is_live(ref)
        assert self.send(AttemptDivided(ref=ref, error=OutOfMemoryError("late"), parts=2)) == []

    @precondition(lambda self: self.live and self.now > 0)
    @rule(
        data=st.data(),
        errors=st.sampled_from([[StorageError("s")], [FunctionLostError("l")], [StorageError("s"), FunctionLostError("l")]]),
    )
    def fail_again_and_again(self, data: st.DataObject, errors: list[FrazilError]) -> None:
        task = data.draw(st.sampled_from(sorted({(ref.stage, ref.task) for ref in self.live})))
        for number in range(50):
            for ref in [one for one in self.live if (one.stage, one.task) == task]:
                self.live.remove(ref)
                self.past.append(ref)
                error = errors[number % len(errors)]
                self.failures.setdefault(task, []).append(error)
                self.send(AttemptFailed(ref=ref, error=error))
                self.check_failures(task)
            if self.finish is not None:
                return
            if self.wanted > 0:
                self.grant()
            else:
                self.fire(0.0)
        assert self.finish is not None, "a task that always fails does not end its query"

    @precondition(lambda self: self.live and self.now > 0)
    @rule(data=st.data())
    def beat_until_the_first_reminder(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.live))
        for _ in range(3):
            if self.timer is not None and ref in self.live:
                self.now = max(self.now, self.timer - 0.5)
                self.silent_since[ref] = self.now
                self.begun.add(ref)
                self.send(AttemptHeartbeat(ref=ref))
                self.fire(0.0)

    def check_failures(self, task: tuple[StageId, TaskIndex]) -> None:
        failures = self.failures.get(task, [])
        counted = sum(one.counts_as_failure for one in failures)
        used_up = counted >= LIMITS.max_attempts or len(failures) - counted >= LIMITS.max_platform_failures
        assert used_up == (self.finish is not None)
        if self.finish is not None:
            assert self.finish.error is failures[-1]
            assert [record.kind for record in self.finish.history] == [one.kind for one in self.history(task)]

    @precondition(lambda self: self.live and self.now > 0)
    @rule(data=st.data())
    def fail_for_good(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.live))
        self.live.remove(ref)
        error = QueryError("no such column")
        self.send(AttemptFailed(ref=ref, error=error))
        assert self.finish is not None
        assert self.finish.error is error

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def fail_late(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.past))
        before = self.finish
        self.send(AttemptFailed(ref=ref, error=QueryError("late")))
        assert self.finish is before, "an attempt that is over failed the query"

    @precondition(lambda self: self.timer is not None)
    @rule(late=st.sampled_from([0.0, 0.0, 0.5, 20.0]))
    def fire(self, late: float) -> None:
        assert self.timer is not None
        self.now = max(self.now, self.timer + late)
        self.timer = None
        self.send(TimerFired())
        if self.finish is not None and self.finish.error is not None and self.finish.error.kind == "deadline":
            assert self.timeout is not None
            assert self.now >= self.timeout

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.timer is not None:
            self.now = min(self.now, self.timer)

    @precondition(lambda self: self.now > 25)
    @rule()
    def cancel(self) -> None:
        running = self.running()
        self.send(CancelRequested())
        assert self.finish is not None
        if running:
            assert self.finish.error is not None
            assert self.finish.error.kind == "cancelled"

    # What always holds

    @invariant()
    def nothing_waits_for_an_event_that_will_not_come(self) -> None:
        if self.finish is None:
            assert self.to_bind or self.live or self.wanted > 0 or self.timer is not None, "a lost wake-up"

    @invariant()
    def each_silent_attempt_is_watched(self) -> None:
        if self.finish is None and self.live:
            assert self.timer is not None
            ends = [
                self.silent_since[ref] + (LIMITS.silence_s if ref in self.begun else LIMITS.start_silence_s)
                for ref in self.live
            ]
            assert self.timer <= min(ends), "an attempt may be silent for too long"

    @invariant()
    def the_deadline_is_watched(self) -> None:
        if self.finish is None and hasattr(self, "state") and self.timeout is not None:
            assert self.timer is not None
            assert self.timer <= self.timeout or self.now >= self.timeout

    @invariant()
    def every_ready_task_is_wanted(self) -> None:
        if self.finish is None:
            running = {(ref.stage, ref.task) for ref in self.live}
            open_tasks = {
                (stage, task) for stage, tasks in self.bound.items() for task in tasks if (stage, task) not in self.committed
            }
            assert running <= open_tasks
            assert 0 <= self.wanted <= len(open_tasks - running)
            fresh = {task for task in open_tasks if task not in self.launched}
            assert len(fresh) <= self.wanted, "a ready task is not wanted"

    @invariant()
    def when_it_has_ended_nothing_runs_and_it_ended_rightly(self) -> None:
        if self.finish is None:
            return
        assert self.live == [], "an attempt was left running"
        assert self.state.finished
        if self.finish.error is None:
            root = self.stages[-1].id
            keys = [self.committed[root, task] for task in self.bound[root]]
            assert [descriptor.key for descriptor in self.state.descriptors(root)] == keys

    @invariant()
    def its_counts_are_right(self) -> None:
        for stage in getattr(self, "stages", ()):
            counts = self.state.counts(stage.id)
            launched = {task: number for (of, task), number in self.launched.items() if of == stage.id}
            assert counts.running == sum(ref.stage == stage.id for ref in self.live)
            assert counts.done == sum(of == stage.id for of, _ in self.committed)
            assert counts.attempts == sum(launched.values())
            assert counts.retries == sum(number - 1 for number in launched.values())

    def teardown(self) -> None:
        """From wherever it is, the query ends when the world goes on."""
        if not hasattr(self, "state"):
            return
        for _ in range(1000):
            if self.finish is not None:
                break
            if self.to_bind:
                stage = self.to_bind.pop()
                self.tasks[stage] = self.stages[stage].tasks
                self.bound[stage] = [TaskIndex(task) for task in range(self.tasks[stage])]
                self.send(StageBound(stage=stage, tasks=self.tasks[stage]))
            elif self.wanted > 0:
                self.send(SlotGranted())
            elif self.live:
                self.answer(self.live[0], 0)
            else:
                assert self.timer is not None
                self.now, self.timer = max(self.now, self.timer), None
                self.send(TimerFired())
        assert self.finish is not None, "the query does not end"
        self.when_it_has_ended_nothing_runs_and_it_ended_rightly()


TestQueryState = QueryMachine.TestCase
TestQueryState.settings = hypothesis_settings(max_examples=150, stateful_step_count=50, deadline=None)
