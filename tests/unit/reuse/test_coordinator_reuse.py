"""A coordinator whose queries reuse: what stays in the store, for how long, and what is never mixed."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.retention import ResultGoneError
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState
from frazil_coordinator.tenancy import Tenant, Tenants
from frazil_functions.ids import QueryId
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import ScanInput
from support.parity import assert_same
from support.scanning import ScanPlatform

SETTINGS = Settings(reuse="tasks", inline_limit_bytes=0, retry_backoff_s=0.0)
TEXT = Settings(reuse="tasks", inline_limit_bytes=0, split_target_bytes=512, start_small=False, retry_backoff_s=0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t").mkdir()
    for part in range(4):
        pl.DataFrame({"k": [part, 7] * 50, "v": range(100)}).write_parquet(tmp_path / "t" / f"{part}.parquet")
    return tmp_path / "t"


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(FolderStore(tmp_path / "store"))


def groups(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(folder / "*.parquet").group_by("k").agg(pl.col("v").sum()).sort("k")


@asynccontextmanager
async def opened(
    store: CountingStore, settings: Settings = SETTINGS, tenants: Tenants | None = None
) -> AsyncIterator[tuple[Coordinator, ScanPlatform]]:
    platform = ScanPlatform(store)
    coordinator = Coordinator(settings=settings, platform=platform, store=store, sweep_after_s=(), tenants=tenants)
    try:
        yield coordinator, platform
    finally:
        await coordinator.aclose()


async def run(coordinator: Coordinator, lf: pl.LazyFrame, **options: Any) -> tuple[QueryId, Profile]:
    accepted = await coordinator.submit(lf.serialize(), **options)
    status = await coordinator.wait(accepted.id, 30.0)
    assert status.state is QueryState.SUCCEEDED, status.error
    await coordinator.reuse.settled()
    return accepted.id, cast("Profile", coordinator.profile(accepted.id))


async def answer(coordinator: Coordinator, query: QueryId) -> pl.DataFrame:
    return pl.concat([frame async for frame in coordinator.result(query)])


def age(store: CountingStore, root: Path, seconds: float) -> None:
    """Make all that is kept older."""
    when = time.time() - seconds
    for info in store.list("kept"):
        os.utime(root / info.key, (when, when))


async def test_what_a_query_leaves_is_below_its_tenant_and_nowhere_else(store: CountingStore, folder: Path) -> None:
    async with opened(store) as (coordinator, platform):
        await run(coordinator, groups(folder))
        assert store.list("exchange") == []
        kept = [info.key for info in store.list("kept")]
        assert len({key.split("/")[1] for key in kept}) == 1
        sent = len(platform.sent)
        query, again = await run(coordinator, groups(folder))
        assert len(platform.sent) == sent
        assert sum(stage["reused"] for stage in again["stages"]) == sent
        assert_same(await answer(coordinator, query), groups(folder).collect(), ordered=True)
    assert [info.key for info in store.list("kept")] == kept, "also when the coordinator ends"


async def test_a_query_that_reuses_nothing_keeps_nothing(store: CountingStore, folder: Path) -> None:
    async with opened(store) as (coordinator, platform):
        await run(coordinator, groups(folder))
        kept, sent = len(store.list("kept")), len(platform.sent)
        _, profile = await run(coordinator, groups(folder), settings=Settings(inline_limit_bytes=0))
        assert len(platform.sent) > sent
        assert sum(stage["reused"] for stage in profile["stages"]) == 0
        assert len(store.list("kept")) == kept


async def test_the_lookup_of_a_stage_costs_a_get_a_task_and_keeping_costs_a_put_each(
    store: CountingStore, folder: Path
) -> None:
    async with opened(store) as (coordinator, _):
        await run(coordinator, groups(folder))
    async with opened(store) as (coordinator, platform):
        before = dict(store.requests)
        _, profile = await run(coordinator, groups(folder))
        used = {name: store.requests.get(name, 0) - before.get(name, 0) for name in ("get", "put", "head")}
        tasks = sum(stage["tasks"] for stage in profile["stages"])
        assert platform.sent == []
        last = profile["stages"][-1]
        looked_at, read = last["tasks"], last["blocks"]
        assert used == {"get": tasks + looked_at + read, "put": 0, "head": 0}, "the result is looked at, and then it is read"


async def test_what_is_old_is_collected_but_not_under_a_result_that_can_be_read(
    store: CountingStore, folder: Path, tmp_path: Path
) -> None:
    rows = pl.scan_parquet(folder / "*.parquet").filter(pl.col("v") < 90)
    large = Settings(reuse="tasks", inline_limit_bytes=0, reuse_ttl_s=1_000.0)
    async with opened(store, large) as (coordinator, _):
        query, _ = await run(coordinator, rows)
        record = coordinator._registry.get(query)
        blocks = record.blocks or ()
        # As a large result, which is not fetched when the query ends.
        record.blocks = tuple(msgspec.structs.replace(block, data=None) for block in blocks)
        age(store, tmp_path / "store", 5_000.0)
        await coordinator.collect_orphans()
        left = [info.key for info in store.list("kept")]
        assert sorted(left) == sorted({block.key for block in blocks})
        assert_same(await answer(coordinator, query), rows.collect(), ordered=True)
        with pytest.raises(ResultGoneError):
            await answer(coordinator, query)
        await coordinator.collect_orphans()
        assert store.list("kept") == []
        query, again = await run(coordinator, rows)
        assert sum(stage["reused"] for stage in again["stages"]) == 0, "it remembers them, and sees that they are gone"
        assert_same(await answer(coordinator, query), rows.collect(), ordered=True)


async def test_what_is_random_is_drawn_anew_each_time_and_never_in_parts(store: CountingStore, folder: Path) -> None:
    rows = pl.scan_parquet(folder / "*.parquet").with_columns(pl.col("v").shuffle())
    async with opened(store) as (coordinator, _):
        for settings in (SETTINGS, Settings(reuse="result", inline_limit_bytes=0)):
            answers = []
            for _ in range(2):
                query, profile = await run(coordinator, rows, settings=settings)
                assert "result_of" not in profile
                assert any("shuffle" in stage["not_reused"] for stage in profile["stages"])
                answers.append(await answer(coordinator, query))
                assert "never reused" in coordinator.explanation(query).text
            assert not answers[0].equals(answers[1])


async def test_a_tenant_reuses_nothing_of_another(store: CountingStore, folder: Path) -> None:
    everything = Settings(reuse="result", inline_limit_bytes=0)
    tenants = Tenants(by_name={name: Tenant(name=name) for name in ("a", "b")})
    async with opened(store, tenants=tenants) as (coordinator, platform):
        for tenant in ("a", "b"):
            await run(coordinator, groups(folder), settings=everything, tenant=tenant)
        first, second = (sum(one.query == query.id for one in platform.sent) for query in coordinator.list())
        assert first == second > 0
        assert len({info.key.split("/")[1] for info in store.list("kept")}) == 2


async def test_ranges_of_lines_are_kept_when_all_of_their_stage_are_there(store: CountingStore, tmp_path: Path) -> None:
    pl.DataFrame({"k": [n % 5 for n in range(500)], "v": range(500)}).write_csv(tmp_path / "t.csv")
    lf = pl.scan_csv(tmp_path / "t.csv").group_by("k").agg(pl.col("v").sum()).sort("k")
    async with opened(store, TEXT) as (coordinator, platform):
        _, first = await run(coordinator, lf)
        assert first["stages"][0]["tasks"] > 3
        sent = len(platform.sent)
        query, again = await run(coordinator, lf)
        assert len(platform.sent) == sent
        assert again["stages"][0]["reused"] == first["stages"][0]["tasks"]
        assert_same(await answer(coordinator, query), lf.collect(), ordered=True)


async def test_ranges_that_begin_inside_of_quotes_are_not_kept(
    store: CountingStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes around a cut tell nothing of the quotes: some range meets them, others read rubbish and do not know."""
    monkeypatch.setattr("frazil_coordinator.plan.lines._WINDOWS", (64,))
    text = "a,b\n" + "".join(f'{n},"{"x" * 40}' + "\n1,2\n" * 40 + f'{"y" * 40}"\n' for n in range(4))
    (tmp_path / "t.csv").write_text(text)
    lf = pl.scan_csv(tmp_path / "t.csv", infer_schema=False).group_by("b").agg(pl.len()).sort("b")
    assert plan_query(lf.serialize(), TEXT).stages[0].tasks > 1
    async with opened(store, TEXT) as (coordinator, platform):
        await run(coordinator, lf)
        query, profile = await run(coordinator, lf)
        assert profile["stages"][0]["tasks"] == 1, "planned again, with the whole file"
        assert_same(await answer(coordinator, query), lf.collect(), ordered=True)
        assert sum(stage["reused"] for stage in profile["stages"]) == sum(stage["tasks"] for stage in profile["stages"])
        kept = {info.key.rpartition("/")[2] for info in store.list("kept") if "/tasks/" in info.key}
        ranged = {
            request.output.prefix.rpartition("/")[2]
            for request in platform.sent
            for given in request.inputs
            if isinstance(given, ScanInput) and any(split.length is not None for split in given.splits)
        }
        assert ranged
        assert kept.isdisjoint(ranged)
