"""The driver watches the first step of a group_by, and leaves it out where it does not make rows fewer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from frazil_coordinator.plan.model import ExchangeSource
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_functions.ids import QueryId, StageId
from frazil_functions.task import TaskRequest
from support.scripted import ScriptedPlatform, Step, graph_of, stage_of, started, succeed
from support.virtual_time import run_virtually

FIRST = StageId(0)


def run(rows: int, groups: int) -> tuple[list[bytes], list[str]]:
    """Run 6 tasks, two at a time, each of 2 · `rows` rows of which `groups` times `rows` are left."""
    sources = [ExchangeSource(stage=FIRST, read="all")]
    graph = graph_of(replace(stage_of(0, 6, fragment=b"aggregates"), unaggregated=b"does not"), stage_of(1, 1, *sources))

    def script(request: TaskRequest) -> Sequence[Step]:
        return [started, 1.0, succeed(request, rows=rows, blocks=groups)]

    platform = ScriptedPlatform(script)

    async def go() -> list[str]:
        driver = QueryDriver(
            query=QueryId("q"),
            graph=graph,
            platform=platform,
            exchange_prefix="x",
            settings=Settings(),
            slots=Slots(2),
            clock=asyncio.get_running_loop().time,
        )
        await driver.run()
        return driver.profile()["stages"][FIRST]["adaptations"]

    notes = run_virtually(go())
    return [request.fragment for request in platform.requests if request.stage == FIRST], notes


def test_later_tasks_do_not_aggregate_when_the_first_ones_had_nearly_as_many_rows_after_it() -> None:
    fragments, notes = run(rows=30_000, groups=2)
    assert fragments == [b"aggregates"] * 2 + [b"does not"] * 4
    assert notes == ["rows no longer aggregated before the shuffle: nearly as many were left (tasks: 1)"]


@pytest.mark.parametrize(("rows", "groups"), [(30_000, 1), (100, 2)], ids=["half as many", "too few rows to tell"])
def test_all_tasks_aggregate_when_that_makes_rows_fewer_or_nobody_can_tell(rows: int, groups: int) -> None:
    fragments, notes = run(rows, groups)
    assert fragments == [b"aggregates"] * 6
    assert not notes
