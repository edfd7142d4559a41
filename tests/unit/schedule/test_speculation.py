"""Second attempts beside slow ones, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from frazil_coordinator.plan.model import ExchangeSource, ScanSource, StageGraph
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.messages import (
    AttemptDivided,
    AttemptFailed,
    AttemptRecovered,
    AttemptRef,
    AttemptStarted,
    AttemptSucceeded,
    CancelAttempt,
    Discard,
    Finish,
    Launch,
    ReturnSlot,
    SlotGranted,
    StageBound,
    StageRecovered,
    Submitted,
    TimerFired,
    WantSlots,
)
from frazil_coordinator.schedule.profile import StageProfile
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.schedule.state import QueryState
from frazil_coordinator.schedule.terms import RetryLimits, SpeculationLimits, StageShape
from frazil_coordinator.settings import Settings
from frazil_functions.errors import OutOfMemoryError, StorageError
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.task import Descriptor, Split, TaskRequest, TaskStats
from support.scripted import (
    Script,
    ScriptedPlatform,
    Step,
    chain_graph,
    fail,
    graph_of,
    heartbeat,
    stage_of,
    started,
    succeed,
)
from support.virtual_time import run_virtually

STAGE = StageId(0)


@dataclass
class Ran:
    seconds: float
    stage: StageProfile
    platform: ScriptedPlatform


def run(script: Script, *, graph: StageGraph | None = None, slots: int = 100, settings: Settings | None = None) -> Ran:
    """Run a query of 20 tasks, and return what its first stage did."""
    platform = ScriptedPlatform(script)
    pool = Slots(slots)

    async def go() -> QueryDriver:
        driver = QueryDriver(
            query=QueryId("q"),
            graph=graph or chain_graph(20),
            platform=platform,
            exchange_prefix="x",
            settings=settings or Settings(),
            slots=pool,
            clock=asyncio.get_running_loop().time,
        )
        await driver.run()
        return driver

    profile = run_virtually(go()).profile()
    assert pool.taken == 0
    assert platform.in_flight == 0
    return Ran(profile["seconds"], profile["stages"][0], platform)


def taking(seconds: Callable[[TaskRequest], float]) -> Script:
    """Return a script in which each attempt takes so long."""

    def script(request: TaskRequest) -> list[Step]:
        return [started, *beating(seconds(request)), succeed(request)]

    return script


def beating(seconds: float) -> list[Step]:
    """Return the steps of so many seconds in which the attempt is heard of."""
    beats: list[Step] = [10.0, heartbeat]
    return [*beats * int(seconds // 10), seconds % 10]


@pytest.mark.parametrize("slow", [0, 9, 19])
def test_a_task_that_is_20_times_slower_among_20_does_not_hold_up_its_query(slow: int) -> None:
    def one_is_slow(request: TaskRequest) -> float:
        return 40.0 if request.task == slow and request.attempt == 0 else 2.0

    clean = run(taking(lambda _: 2.0), slots=4)
    without = run(taking(one_is_slow), slots=4, settings=Settings(speculation=False))
    ran = run(taking(one_is_slow), slots=4)
    assert clean.seconds == 10.0
    assert clean.stage["speculated"] == 0
    assert without.seconds >= 4 * clean.seconds
    assert without.stage["speculated"] == 0
    assert ran.seconds <= 1.5 * clean.seconds
    assert ran.stage["speculated"] == 1
    assert ran.stage["attempts"] == 21
    assert [(one["task"], one["attempt"], one["kind"]) for one in ran.stage["failed_attempts"]] == [(slow, 0, "not_needed")]
    assert ran.platform.cancelled == [f"q/0/{slow}/0"]


def test_when_all_tasks_run_at_once_a_slow_one_costs_what_it_takes_to_see_that_and_the_time_of_a_task() -> None:
    ran = run(taking(lambda request: 40.0 if request.id.endswith("/7/0") else 2.0))
    assert ran.seconds == pytest.approx(2 * 2.0 + 2.0)


def test_a_task_is_not_slow_within_the_least_time() -> None:
    ran = run(taking(lambda request: 1.4 if request.task == 3 else 0.1))
    assert ran.stage["speculated"] == 0
    assert run(taking(lambda request: 1.6 if request.task == 3 else 0.1)).stage["speculated"] == 1


def test_nothing_is_doubled_before_half_of_the_stage_is_done() -> None:
    ran = run(taking(lambda request: 1.0 if request.task < 9 else 30.0))
    assert ran.stage["speculated"] == 0
    assert run(taking(lambda request: 1.0 if request.task < 10 else 30.0)).stage["speculated"] > 0


def test_at_most_a_tenth_of_a_stage_is_doubled_at_a_time() -> None:
    def script(request: TaskRequest) -> float:
        return 1.0 if request.task < 12 else 50.0

    ran = run(taking(script), settings=Settings(speculation_factor=3.0))
    # 2 of 20 at a time: those that were doubled first run beside their first attempts until these are done.
    assert ran.platform.most_in_flight == 20
    launched = [time for request, time in zip(ran.platform.requests, ran.platform.times, strict=True) if request.attempt]
    assert [time for time in launched if time < 50.0] == [3.0, 3.0]


def test_tasks_that_read_more_may_take_longer() -> None:
    splits = tuple((Split(path=f"{task}.parquet", offset=0, rows=10 if task == 4 else 1),) for task in range(20))
    graph = graph_of(stage_of(0, 20, ScanSource(splits=splits, bytes=1_000_000)))
    ran = run(taking(lambda request: 19.0 if request.task == 4 else 1.0), graph=graph)
    assert ran.stage["speculated"] == 0
    assert run(taking(lambda request: 21.0 if request.task == 4 else 1.0), graph=graph).stage["speculated"] == 1


def test_a_second_attempt_takes_no_slot_that_a_ready_task_wants() -> None:
    graph = graph_of(
        stage_of(0, 4),
        stage_of(1, 8),
        stage_of(2, 1, ExchangeSource(stage=STAGE, read="all"), ExchangeSource(stage=StageId(1), read="all")),
    )
    script = taking(lambda request: 30.0 if request.id.endswith("/0/0/0") else 1.0)
    ran = run(script, graph=graph, slots=2)
    ids = ran.platform.ids
    assert ids.index("0/0/1") == len(ids) - 2, "after all tasks that were ready, before the stage that waits for it"


def test_a_slot_goes_to_a_query_that_needs_it_before_one_that_could_use_it() -> None:
    granted: list[str] = []
    slots = Slots(1)
    taken = slots.share(lambda: granted.append("taken"))
    taken.want(1)
    spare = slots.share(lambda: granted.append("spare"))
    spare.want(0, spare=1)
    needed = slots.share(lambda: granted.append("needed"))
    needed.want(1)
    taken.use()
    taken.release()
    assert granted == ["taken", "needed"]
    needed.use()
    needed.release()
    assert granted == ["taken", "needed", "spare"]
    # What is granted counts for what is needed first, as soon as something is.
    spare.want(1, spare=1)
    assert (spare.wanted, spare.spare) == (0, 1)


def test_when_the_second_attempt_fails_the_first_one_goes_on_and_nothing_waits() -> None:
    def script(request: TaskRequest) -> list[Step]:
        if request.task == 5 and request.attempt == 1:
            return [started, 0.5, fail(StorageError("503"))]
        return [started, 12.0 if request.task == 5 else 2.0, succeed(request)]

    ran = run(script, settings=Settings(max_attempts=1))
    assert ran.seconds == 12.0
    assert [one["kind"] for one in ran.stage["failed_attempts"]] == ["storage"]


def test_when_the_first_attempt_fails_the_second_one_goes_on() -> None:
    def script(request: TaskRequest) -> list[Step]:
        if request.task == 5 and request.attempt == 0:
            return [started, 5.0, fail(StorageError("503"))]
        return [started, 2.0, succeed(request)]

    ran = run(script)
    assert ran.seconds == 6.0
    assert ran.stage["attempts"] == 21


class Machine:
    """A stage of 4 tasks of which three are done after 1 s, and the last one is slow."""

    def __init__(self, *, recovered: bool = False) -> None:
        self.state = QueryState(
            (StageShape(id=STAGE, producers=(), tasks=4), StageShape(id=StageId(1), producers=(STAGE,), tasks=1)),
            RetryLimits(speculation=SpeculationLimits(), max_attempts=2),
        )
        self.state.handle(Submitted(), 0.0)
        if recovered:
            self.state.handle(StageRecovered(stage=STAGE), 0.0)
        self.state.handle(StageBound(stage=STAGE, tasks=4), 0.0)

    def run_three(self) -> None:
        for task in range(4):
            self.state.handle(SlotGranted(), 0.0)
            self.state.handle(AttemptStarted(ref=ref(task)), 0.0)
        for task in range(3):
            self.state.handle(AttemptSucceeded(ref=ref(task), descriptor=done(ref(task))), 1.0)

    def double(self) -> None:
        assert self.state.handle(TimerFired(), 2.0)[0] == WantSlots(count=0, spare=1)
        assert Launch(ref=ref(3, 1), speculative=True) in self.state.handle(SlotGranted(), 2.0)


def ref(task: int, attempt: int = 0) -> AttemptRef:
    return AttemptRef(STAGE, TaskIndex(task), attempt)


def done(attempt: AttemptRef, seconds: float = 0.0) -> Descriptor:
    return Descriptor(key=f"{attempt.task}/{attempt.attempt}", blocks=(), stats=TaskStats(seconds=seconds))


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_answer_counts_and_a_late_one_is_discarded(first: int) -> None:
    machine = Machine()
    machine.run_three()
    machine.double()
    won, lost = ref(3, first), ref(3, 1 - first)
    assert CancelAttempt(ref=lost) in machine.state.handle(AttemptSucceeded(ref=won, descriptor=done(won)), 2.5)
    late = machine.state.handle(AttemptSucceeded(ref=lost, descriptor=done(lost)), 2.6)
    assert late == [Discard(ref=lost, descriptor=done(lost))]
    assert machine.state.descriptors(STAGE)[3] == done(won)
    assert machine.state.counts(STAGE).running == 0


def test_a_task_has_one_second_attempt_and_both_failures_count() -> None:
    machine = Machine()
    machine.run_three()
    machine.double()
    failed = machine.state.handle(AttemptFailed(ref=ref(3, 1), error=StorageError("one")), 3.0)
    assert failed == []
    assert machine.state.handle(SlotGranted(), 30.0) == [ReturnSlot()]
    (finish,) = machine.state.handle(AttemptFailed(ref=ref(3, 0), error=StorageError("two")), 31.0)
    assert isinstance(finish, Finish)
    assert [(one.ref.attempt, one.message) for one in finish.history] == [(1, "one"), (0, "two")]


def test_a_slow_attempt_that_answers_before_a_slot_is_free_needs_no_other() -> None:
    machine = Machine()
    machine.run_three()
    machine.state.handle(TimerFired(), 2.0)
    answered = machine.state.handle(AttemptSucceeded(ref=ref(3), descriptor=done(ref(3))), 2.1)
    assert WantSlots(count=0, spare=0) in answered
    assert machine.state.handle(SlotGranted(), 2.2) == [ReturnSlot()]


def test_a_task_that_is_divided_has_its_other_attempt_stopped() -> None:
    machine = Machine()
    machine.run_three()
    machine.double()
    error = OutOfMemoryError("too much")
    divided = machine.state.handle(AttemptDivided(ref=ref(3, 1), error=error, parts=2), 3.0)
    assert divided == [CancelAttempt(ref=ref(3, 0)), WantSlots(count=2)]
    late = machine.state.handle(AttemptSucceeded(ref=ref(3), descriptor=done(ref(3))), 3.5)
    assert late == [Discard(ref=ref(3), descriptor=done(ref(3)))]
    assert machine.state.counts(STAGE).running == 0


def test_the_answer_of_a_second_attempt_is_taken_up_by_another_coordinator() -> None:
    machine = Machine(recovered=True)
    for one in (ref(0), ref(1), ref(3, 1)):
        machine.state.handle(AttemptRecovered(ref=one, descriptor=done(one, seconds=1.0)), 0.0)
    # The attempt that it ran beside had answered too, later.
    late = machine.state.handle(AttemptRecovered(ref=ref(3), descriptor=done(ref(3))), 0.0)
    assert Discard(ref=ref(3), descriptor=done(ref(3))) in late
    machine.state.handle(SlotGranted(), 0.0)
    # What is known of the pace is known again: the last task is slow beside those that were done before.
    machine.state.handle(AttemptStarted(ref=ref(2)), 0.5)
    assert machine.state.handle(TimerFired(), 2.4)[0] != WantSlots(count=0, spare=1)
    assert machine.state.handle(TimerFired(), 2.5)[0] == WantSlots(count=0, spare=1)
    assert machine.state.handle(SlotGranted(), 2.5)[0] == Launch(ref=ref(2, 1), speculative=True)
    assert machine.state.descriptors(STAGE)[2] == done(ref(3, 1), seconds=1.0)
