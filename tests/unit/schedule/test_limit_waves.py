"""A stage of which only the first rows are looked at: tasks run in waves, and the rest is left out."""

from __future__ import annotations

from frazil_coordinator.schedule.messages import (
    AttemptFailed,
    AttemptRef,
    AttemptSucceeded,
    Finish,
    Launch,
    SlotGranted,
    StageBound,
    Submitted,
    TimerFired,
    WantSlots,
)
from frazil_coordinator.schedule.state import QueryState
from frazil_coordinator.schedule.terms import RetryLimits, StageShape
from frazil_functions.errors import StorageError
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import BlockInfo, Descriptor

STAGE = StageId(0)


def rows(count: int) -> Descriptor:
    block = BlockInfo(partition=0, offset=0, length=8, rows=count, crc32c=0, codec="ipc")
    return Descriptor(key="k", blocks=(block,) if count else ())


class Run:
    """A query of one stage that wants its first rows; every task that is wanted is launched at once."""

    def __init__(self, tasks: int, first_rows: int) -> None:
        shape = StageShape(id=STAGE, producers=(), tasks=tasks, first_rows=first_rows)
        self.state = QueryState([shape], RetryLimits())
        self.launched: list[int] = []
        self.finish: Finish | None = None
        self.send(Submitted())
        self.send(StageBound(stage=STAGE, tasks=tasks))

    def send(self, event: object, now: float = 0.0) -> None:
        for instruction in self.state.handle(event, now):  # type: ignore[arg-type]  # an Event
            if isinstance(instruction, WantSlots):
                for _ in range(instruction.count):
                    self.send(SlotGranted(), now)
            elif isinstance(instruction, Launch):
                self.launched.append(instruction.ref.task)
            elif isinstance(instruction, Finish):
                self.finish = instruction

    def answer(self, task: int, count: int, attempt: int = 0) -> None:
        ref = AttemptRef(STAGE, TaskIndex(task), attempt)
        self.send(AttemptSucceeded(ref=ref, descriptor=rows(count)))


def test_the_first_task_alone_when_it_has_rows_enough() -> None:
    run = Run(tasks=100, first_rows=10)
    assert run.launched == [0]
    run.answer(0, 10)
    assert run.launched == [0]
    assert run.finish == Finish()
    assert [len(one.blocks) for one in run.state.descriptors(STAGE)] == [1, *[0] * 99]


def test_each_wave_is_twice_as_large_as_the_one_before() -> None:
    run = Run(tasks=12, first_rows=10)
    run.answer(0, 1)
    assert run.launched == [0, 1, 2]
    run.answer(2, 1)
    assert run.launched == [0, 1, 2]
    run.answer(1, 0)
    assert run.launched == list(range(7))
    for task in range(3, 7):
        run.answer(task, 2)
    assert run.finish == Finish()
    assert run.launched == list(range(7))


def test_all_tasks_run_when_there_are_not_rows_enough() -> None:
    run = Run(tasks=5, first_rows=10)
    for task in range(5):
        run.answer(task, 1)
    assert run.launched == [0, 1, 2, 3, 4]
    assert run.finish == Finish()


def test_no_rows_wanted_is_no_task() -> None:
    run = Run(tasks=5, first_rows=0)
    assert run.launched == []
    assert run.finish == Finish()


def test_a_task_that_failed_is_tried_again_before_the_next_wave() -> None:
    run = Run(tasks=5, first_rows=3)
    run.send(AttemptFailed(ref=AttemptRef(STAGE, TaskIndex(0), 0), error=StorageError("s")))
    assert run.launched == [0]
    run.send(TimerFired(), now=1.0)
    assert run.launched == [0, 0]
    run.answer(0, 3, attempt=1)
    assert run.finish == Finish()
