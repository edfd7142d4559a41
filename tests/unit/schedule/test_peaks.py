"""Memory factors are those that tasks turned out to need, within bounds; what comes next is laid out with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.plan.memory import FACTORS, PROCESS_BYTES, Factors, usable_bytes
from frazil_coordinator.plan.model import ExchangeSource, ExchangeSpec, ScanSource, StageGraph, StageKind
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.peaks import Peaks, scan_rows
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import MIB, Settings
from frazil_coordinator.status import QueryState
from frazil_functions.errors import OutOfMemoryError, to_wire
from frazil_functions.ids import QueryId, StageId
from frazil_functions.storage import FolderStore
from frazil_functions.task import (
    BlockInfo,
    BlockRef,
    Descriptor,
    ExchangeInput,
    Failed,
    HashShare,
    ScanInput,
    Succeeded,
    TaskRequest,
    TaskStats,
)
from support.fragments import FragmentPlatform, plan_in_stages
from support.scripted import ScriptedPlatform, Step, graph_of, stage_of, started
from support.virtual_time import run_virtually

LIMIT = 1024 * MIB
READ = 200 * MIB


def read(size: int, **changes: object) -> ExchangeInput:
    block = BlockRef(key="k", offset=0, length=size, rows=1, crc32c=0, codec="ipc", map_index=0)
    return msgspec.structs.replace(ExchangeInput(blocks=(block,)), **changes)


def note(
    peaks: Peaks, factor: float, *, kind: StageKind = "join", size: int = READ, limit: int | None = LIMIT
) -> float | None:
    stage = stage_of(1, 1, ExchangeSource(stage=StageId(0), read="partition"), kind=kind)
    return peaks.note(stage, (read(size),), scan_rows(stage), PROCESS_BYTES + int(factor * size), limit)


def test_a_factor_becomes_larger_with_the_first_task_that_needs_more() -> None:
    peaks = Peaks()
    assert note(peaks, 5.0) == pytest.approx(5.0)
    assert peaks.factors["Join"] == pytest.approx(5.0)
    assert {name: factor for name, factor in peaks.factors.items() if name != "Join"} == {
        name: factor for name, factor in FACTORS.items() if name != "Join"
    }


def test_a_factor_becomes_smaller_when_enough_tasks_need_less_and_the_largest_of_them_counts() -> None:
    peaks = Peaks()
    for factor in (1.7, 2.0, 1.6, 1.9, 1.8, 1.7, 1.6):
        note(peaks, factor)
    assert peaks.factors["Join"] == FACTORS["Join"]
    note(peaks, 1.5)
    assert peaks.factors["Join"] == pytest.approx(2.0)


def test_what_was_long_ago_is_forgotten() -> None:
    peaks = Peaks()
    note(peaks, 6.0)
    for _ in range(64):
        note(peaks, 2.5)
    assert peaks.factors["Join"] == pytest.approx(2.5)


def test_a_factor_stays_within_a_half_and_four_times_what_it_was() -> None:
    peaks = Peaks()
    for _ in range(8):
        note(peaks, 0.0)
    assert peaks.factors["Join"] == FACTORS["Join"] / 2
    note(peaks, 1000.0)
    assert peaks.factors["Join"] == FACTORS["Join"] * 4


def test_tasks_that_read_little_and_functions_without_a_limit_tell_nothing() -> None:
    peaks = Peaks()
    least = int(usable_bytes(LIMIT) / 4 / FACTORS["Join"])
    assert note(peaks, 5.0, size=least - MIB) is None
    assert note(peaks, 5.0, limit=None) is None
    assert note(peaks, 5.0, kind="combine") is None
    assert peaks.factors == FACTORS
    assert note(peaks, 5.0, size=least + MIB) is not None


def test_a_factor_at_its_highest_is_still_measured() -> None:
    planned = int(usable_bytes(LIMIT) / (4 * FACTORS["Join"])) + 1
    assert note(Peaks(), 2.0, size=planned) is not None


def test_of_a_partition_that_is_shared_a_task_holds_its_part() -> None:
    stage = stage_of(1, 1, ExchangeSource(stage=StageId(0), read="partition"), kind="group_by")
    share = HashShare(hash_keys=(), partitions=1, index=0, count=2)
    factor = Peaks().note(stage, (read(2 * READ, hash_share=share),), scan_rows(stage), PROCESS_BYTES + 3 * READ, LIMIT)
    assert factor == pytest.approx(3.0)


def test_a_scan_holds_its_splits() -> None:
    scan = stage_of(0, 4, kind="scan")
    (source,) = scan.sources
    assert isinstance(source, ScanSource)
    scan = replace(scan, sources=(replace(source, bytes=4 * READ),))
    given = ScanInput(splits=source.splits[0])
    assert Peaks().note(scan, (given,), scan_rows(scan), PROCESS_BYTES + 6 * READ, LIMIT) == pytest.approx(
        2.0
    )  # thrice as large decoded
    unknown = ScanInput(splits=tuple(msgspec.structs.replace(split, rows=0) for split in source.splits[0]))
    nobody_counted = replace(scan, sources=(replace(source, bytes=4 * READ, splits=(unknown.splits,)),))
    assert Peaks().note(nobody_counted, (unknown,), scan_rows(nobody_counted), PROCESS_BYTES + 2 * READ, LIMIT) is None


# Queries of one coordinator

SETTINGS = Settings(function_memory_bytes=LIMIT, coalesce_bytes=0)
BLOCK = 100 * MIB
SCAN, GROUPS = StageId(0), StageId(1)


def groups() -> StageGraph:
    """Return a scan that is shuffled to a group_by in four tasks."""
    key = pl.col("a").meta.serialize()
    scan = stage_of(SCAN, 1, kind="scan", output=ExchangeSpec(kind="hash", partitions=4, hash_keys=(key,)))
    return graph_of(scan, stage_of(GROUPS, 4, ExchangeSource(stage=SCAN, read="partition"), kind="group_by"))


def run(peaks: Peaks, script: Callable[[TaskRequest, TaskStats], Sequence[Step]], peak_bytes: int) -> Profile:
    """Run a query whose scan writes 100 MiB a partition, and whose other tasks need so much memory."""

    def answers(request: TaskRequest) -> Sequence[Step]:
        infos = tuple(
            BlockInfo(partition=number, offset=8, length=BLOCK, rows=1, crc32c=7, codec="ipc") for number in range(4)
        )
        if request.stage == SCAN:
            return [started, Succeeded(descriptor=Descriptor(key="k", blocks=infos))]
        return [started, *script(request, TaskStats(peak_memory_bytes=peak_bytes))]

    async def go() -> Profile:
        driver = QueryDriver(
            query=QueryId("q"),
            graph=groups(),
            platform=ScriptedPlatform(answers),
            exchange_prefix="x",
            settings=SETTINGS,
            slots=Slots(100),
            clock=asyncio.get_running_loop().time,
            peaks=peaks,
        )
        await driver.run()
        return driver.profile()

    return run_virtually(go())


def succeeds(request: TaskRequest, stats: TaskStats) -> Sequence[Step]:
    return [Succeeded(descriptor=Descriptor(key=None, blocks=(), stats=stats))]


def test_the_next_query_has_smaller_tasks_when_those_of_the_last_one_needed_more() -> None:
    peaks = Peaks()
    first = run(peaks, succeeds, PROCESS_BYTES + 6 * BLOCK)["stages"][GROUPS]
    assert (first["tasks"], first["memory_factor"], first["adaptations"]) == (4, FACTORS["GroupBy"], [])
    assert first["measured_memory_factor"] == pytest.approx(6.0)
    second = run(peaks, succeeds, PROCESS_BYTES + 3 * BLOCK)["stages"][GROUPS]
    assert second["tasks"] == 8
    assert second["memory_factor"] == pytest.approx(6.0)
    assert "memory of 6.0 times the input foreseen instead of 3.0: what tasks needed" in second["adaptations"]
    # Half of a partition each.
    assert second["measured_memory_factor"] == pytest.approx(6.0)


def test_what_a_task_had_when_it_ran_out_of_memory_counts_too() -> None:
    peaks = Peaks()

    def fails_whole(request: TaskRequest, stats: TaskStats) -> Sequence[Step]:
        (given,) = request.inputs
        assert isinstance(given, ExchangeInput)
        if given.hash_share is None:
            return [Failed(error=to_wire(OutOfMemoryError("too much")), stats=stats)]
        return succeeds(request, TaskStats())

    run(peaks, fails_whole, PROCESS_BYTES + 8 * BLOCK)
    assert peaks.factors["GroupBy"] == pytest.approx(8.0)


def test_the_next_query_is_planned_with_what_tasks_needed(tmp_path: Path) -> None:
    pl.DataFrame({"k": range(20_000)}).write_parquet(tmp_path / "t.parquet", row_group_size=500)
    query = pl.scan_parquet(tmp_path / "t.parquet").sort("k", descending=True).serialize()
    settings = Settings(start_small=False, function_memory_bytes=1_000_000)
    before, after = (
        plan_query(query, settings, factors=factors).stages[0].tasks for factors in (FACTORS, {**FACTORS, "Sort": 14.0})
    )
    assert after >= 3 * before


async def test_plans_are_made_with_what_tasks_of_the_coordinator_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = FolderStore(tmp_path), list[Factors]()

    def plan(plan: bytes, settings: Settings, *, factors: Factors) -> StageGraph:
        seen.append(factors)
        return plan_in_stages(1)(plan, settings)

    monkeypatch.setattr("frazil_coordinator.coordinator.plan_query", plan)
    monkeypatch.setattr("frazil_coordinator.schedule.peaks.Peaks.factors", {**FACTORS, "Join": 9.0})
    coordinator = Coordinator(settings=Settings(), platform=FragmentPlatform(store), store=store, sweep_after_s=())
    try:
        status = await coordinator.submit(pl.LazyFrame({"a": [1]}).serialize())
        assert (await coordinator.wait(status.id)).state == QueryState.SUCCEEDED
    finally:
        await coordinator.aclose()
    assert seen == [{**FACTORS, "Join": 9.0}]
