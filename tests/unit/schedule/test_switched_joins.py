"""The driver joins the large side where it lies when the small side is finished in time and small, else as planned."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import polars as pl
import pytest

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_functions.ids import QueryId, StageId
from frazil_functions.task import ExchangeInput, ScanInput, TaskRequest
from support.scripted import ScriptedPlatform, Step, started, succeed
from support.virtual_time import run_virtually

SETTINGS = Settings(start_small=False, max_rows_per_split=100, shuffle_partitions=4, broadcast_limit_bytes=350)
LARGE, SMALL, JOIN = StageId(0), StageId(1), StageId(2)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> StageGraph:
    folder = tmp_path_factory.mktemp("switched")
    rows = pl.int_range(400, eager=True)
    facts = pl.DataFrame({"k": rows.hash(1), "x": rows.hash(2), "y": rows.hash(3)})
    facts.write_parquet(folder / "facts.parquet", row_group_size=100)
    facts.head(100).select("k", v="x").write_parquet(folder / "parts.parquet")
    parts = pl.scan_parquet(folder / "parts.parquet").filter(pl.col("v").is_not_null())
    query = pl.scan_parquet(folder / "facts.parquet").join(parts, on="k", how="left").sort("x")
    found = plan_query(query.serialize(), SETTINGS)
    assert found.stages[LARGE].switch is not None
    return found


def run(graph: StageGraph, small_s: float, blocks: int) -> tuple[list[TaskRequest], Profile]:
    """Run the plan: the small side takes so long, and writes so many blocks of 100 bytes."""

    def script(request: TaskRequest) -> Sequence[Step]:
        small = request.stage == SMALL
        return [started, small_s if small else 1.0, succeed(request, blocks=blocks if small else 1)]

    platform = ScriptedPlatform(script)

    async def go() -> Profile:
        driver = QueryDriver(
            query=QueryId("q"),
            graph=graph,
            platform=platform,
            exchange_prefix="x",
            settings=SETTINGS,
            slots=Slots(100),
            clock=asyncio.get_running_loop().time,
        )
        await driver.run()
        return driver.profile()

    profile = run_virtually(go())
    return platform.requests, profile


def of(stage: StageId, requests: Sequence[TaskRequest]) -> list[TaskRequest]:
    return [request for request in requests if request.stage == stage]


def test_the_join_scans_the_large_side_and_reads_the_small_one_whole(graph: StageGraph) -> None:
    requests, profile = run(graph, small_s=0.001, blocks=3)
    assert not of(LARGE, requests)
    joins = of(JOIN, requests)
    assert len(joins) == graph.stages[LARGE].tasks == 4
    for request in joins:
        small, scan = request.inputs
        assert isinstance(small, ExchangeInput)
        assert isinstance(scan, ScanInput)
        assert len(small.blocks) == 3
        assert scan.splits
    (left_out,) = profile["stages"][LARGE]["adaptations"]
    assert left_out == "not shuffled: joined by stage 2 where it lies"
    assert profile["stages"][JOIN]["adaptations"][0].startswith("broadcast instead of shuffled: stage 1 wrote 300 bytes")
    assert profile["stages"][LARGE]["tasks"] == 0


@pytest.mark.parametrize(("small_s", "blocks"), [(5.0, 1), (0.001, 4)], ids=["too late", "too large"])
def test_both_sides_are_shuffled_when_the_small_one_is_late_or_large(graph: StageGraph, small_s: float, blocks: int) -> None:
    requests, profile = run(graph, small_s, blocks)
    assert len(of(LARGE, requests)) == 4
    assert not profile["stages"][LARGE]["adaptations"]
