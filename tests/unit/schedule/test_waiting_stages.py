"""A stage that does better to let another finish first: it waits for it, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from frazil_coordinator.plan.figures import NOTHING, StageEstimate
from frazil_coordinator.plan.model import ExchangeSource, RuntimeFilter, StageGraph
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.messages import (
    AttemptRef,
    AttemptSucceeded,
    BindStage,
    Instruction,
    Launch,
    SetTimer,
    SlotGranted,
    StageBound,
    Submitted,
    TimerFired,
    WantSlots,
)
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.schedule.state import QueryState
from frazil_coordinator.schedule.terms import RetryLimits, StageShape
from frazil_coordinator.settings import Settings
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.task import Descriptor, ScanInput, Succeeded, TaskRequest
from support.scripted import ScriptedPlatform, Step, graph_of, stage_of, started, succeed
from support.virtual_time import run_virtually

SCAN, KEYS, JOIN = StageId(0), StageId(1), StageId(2)


class Run:
    """A scan, the keys by which it could be filtered, and the join of both."""

    def __init__(self, patience_s: float) -> None:
        shapes = [
            StageShape(id=SCAN, producers=(), tasks=1, awaits=(KEYS,), patience_s=patience_s),
            StageShape(id=KEYS, producers=(), tasks=1),
            StageShape(id=JOIN, producers=(SCAN, KEYS), tasks=1),
        ]
        self.state = QueryState(shapes, RetryLimits())
        self.asked: list[StageId] = []
        self.timer: float | None = None
        self.send(Submitted(), 0.0)

    def send(self, event: object, now: float) -> None:
        instructions: list[Instruction] = self.state.handle(event, now)  # type: ignore[arg-type]  # an Event
        for one in instructions:
            if isinstance(one, BindStage):
                self.asked.append(one.stage)
                self.send(StageBound(stage=one.stage, tasks=1), now)
            elif isinstance(one, WantSlots):
                for _ in range(one.count):
                    self.send(SlotGranted(), now)
            elif isinstance(one, SetTimer):
                self.timer = one.at
            else:
                assert isinstance(one, Launch)

    def answer(self, stage: StageId, now: float) -> None:
        ref = AttemptRef(stage, TaskIndex(0), 0)
        self.send(AttemptSucceeded(ref=ref, descriptor=Descriptor(key=None, blocks=())), now)


def test_a_stage_starts_as_soon_as_what_it_awaits_is_complete() -> None:
    run = Run(patience_s=5.0)
    assert run.asked == [KEYS]
    run.answer(KEYS, 1.0)
    assert run.asked == [KEYS, SCAN]
    run.send(TimerFired(), 5.0)
    assert run.asked == [KEYS, SCAN]


def test_a_stage_starts_without_it_when_its_patience_is_at_an_end() -> None:
    run = Run(patience_s=5.0)
    assert run.timer == 5.0
    run.send(TimerFired(), 5.0)
    assert run.asked == [KEYS, SCAN]
    run.answer(KEYS, 6.0)
    assert run.asked == [KEYS, SCAN]
    run.answer(SCAN, 7.0)
    assert run.asked == [KEYS, SCAN, JOIN]


def test_a_stage_without_patience_starts_at_once() -> None:
    assert Run(patience_s=0.0).asked == [SCAN, KEYS]


def graph(seconds: float) -> StageGraph:
    keys = RuntimeFilter(source=0, column="k", build=KEYS, key="k", waits=True)
    sources = [ExchangeSource(stage=stage, read="all") for stage in (SCAN, KEYS)]
    stages = graph_of(replace(stage_of(0, 8), filters=(keys,)), stage_of(1, 1), stage_of(2, 1, *sources))
    amount = StageEstimate(
        rows_in=NOTHING,
        rows_out=NOTHING,
        bytes_scanned=NOTHING,
        bytes_in=NOTHING,
        bytes_out=NOTHING,
        memory_bytes=0,
        memory_limit_bytes=None,
        scan_gets=NOTHING,
        gets=NOTHING,
        puts=NOTHING,
        function_seconds=seconds,
        dollars=0.0,
    )
    return replace(stages, estimates=(amount,) * 3)


@pytest.mark.parametrize(
    ("seconds", "slots", "settings", "patience_s"),
    [
        (16.0, 4, Settings(), 2.0),  # half of what it takes itself
        (16.0, 100, Settings(), 1.0),  # it has but 8 tasks
        (16.0, 1, Settings(runtime_wait_s=3.0), 3.0),
        (16.0, 4, Settings(runtime_wait_s=0.0), 0.0),
    ],
)
def test_a_stage_waits_for_a_part_of_the_time_that_it_takes_itself(
    seconds: float, slots: int, settings: Settings, patience_s: float
) -> None:
    scan, *others = StageShape.of(graph(seconds), settings, slots)
    assert (scan.awaits, scan.patience_s) == ((KEYS,), patience_s)
    assert all(not shape.awaits and not shape.patience_s for shape in others)


def test_tasks_that_are_sent_after_the_keys_are_known_are_filtered_all_the_same() -> None:
    keys = RuntimeFilter(source=0, column="k", build=KEYS, key="k", waits=True)
    sources = [ExchangeSource(stage=stage, read="all") for stage in (SCAN, KEYS)]
    stages = graph_of(replace(stage_of(0, 6), filters=(keys,)), stage_of(1, 1), stage_of(2, 1, *sources))

    def script(request: TaskRequest) -> Sequence[Step]:
        if request.stage == KEYS:  # no row, so no key
            return [started, 2.5, Succeeded(descriptor=Descriptor(key=None, blocks=()))]
        return [started, 1.0, succeed(request)]

    platform = ScriptedPlatform(script)

    async def go() -> list[str]:
        clock = asyncio.get_running_loop().time
        driver = QueryDriver(
            query=QueryId("q"),
            graph=stages,
            platform=platform,
            exchange_prefix="x",
            settings=Settings(),
            slots=Slots(2),
            clock=clock,
        )
        await driver.run()
        return driver.profile()["stages"][SCAN]["adaptations"]

    notes = run_virtually(go())
    scans = [given for request in platform.requests for given in request.inputs if request.stage == SCAN]
    assert len(scans) == 6
    assert [isinstance(given, ScanInput) and given.predicate is not None for given in scans] == [
        False,
        False,
        False,
        True,
        True,
        True,
    ]
    assert notes[0] == "k not filtered at first: stage 1 took too long"
    assert notes[1].startswith("from then on, k filtered by no key of stage 1")
