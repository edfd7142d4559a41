"""Quotas of a day: what is counted, when a query is refused, and what another coordinator knows of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.plan.figures import UNKNOWN, Amount
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings
from frazil_coordinator.spending import Spending
from frazil_coordinator.status import QueryState
from frazil_coordinator.tenancy import Tenant, Tenants
from frazil_functions.errors import CapError, QuotaError, RequestError
from frazil_functions.ids import QueryId
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, plan_in_stages

DAY_S = 86_400.0
TENANT = Tenant(name="a", max_bytes_scanned_per_day=1000, max_function_seconds_per_day=60.0)


class Clock:
    now = 10 * DAY_S + 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def graph(tmp_path: Path) -> StageGraph:
    pl.DataFrame({"k": range(10)}).write_parquet(tmp_path / "t.parquet")
    return plan_query(pl.scan_parquet(tmp_path / "t.parquet").serialize(), Settings())


def scanning(graph: StageGraph, scanned: int | None) -> StageGraph:
    """Return the plan as if it read so many bytes, or nobody knew how many."""
    amount = UNKNOWN if scanned is None else Amount(value=scanned)
    return replace(graph, estimates=tuple(replace(one, bytes_scanned=amount) for one in graph.estimates[:1]))


def test_bytes_are_counted_before_a_query_runs_and_what_it_did_not_read_is_given_back(graph: StageGraph) -> None:
    spending = Spending(Clock())
    spending.reserve(TENANT, QueryId("1"), scanning(graph, 600))
    with pytest.raises(QuotaError, match=r"has used 600 of its max_bytes_scanned_per_day=1,000, and .* 401 more"):
        spending.reserve(TENANT, QueryId("2"), scanning(graph, 401))
    spending.reserve(TENANT, QueryId("3"), scanning(graph, 400))
    with pytest.raises(QuotaError, match="all of its max_bytes_scanned_per_day"):
        spending.check(TENANT)
    spending.settle("a", QueryId("1"), {"bytes_scanned": 100})
    spending.check(TENANT)
    spending.reserve(TENANT, QueryId("2"), scanning(graph, 500))
    spending.check(Tenant(name="b", max_bytes_scanned_per_day=1))


def test_a_query_that_is_planned_again_is_counted_once(graph: StageGraph) -> None:
    spending = Spending(Clock())
    for _ in range(2):
        spending.reserve(TENANT, QueryId("1"), scanning(graph, 900))


def test_who_has_a_quota_of_bytes_may_run_nothing_whose_bytes_nobody_knows(graph: StageGraph) -> None:
    spending = Spending(Clock())
    with pytest.raises(CapError, match="not known beforehand"):
        spending.reserve(TENANT, QueryId("1"), scanning(graph, None))
    spending.reserve(Tenant(name="b"), QueryId("2"), scanning(graph, None))


def test_a_new_day_begins_at_midnight_and_the_refusal_says_when(graph: StageGraph) -> None:
    clock = Clock()
    spending = Spending(clock)
    spending.settle("a", QueryId("1"), {"bytes_scanned": 0, "function_seconds": 60.0})
    with pytest.raises(QuotaError, match="max_function_seconds_per_day=60") as caught:
        spending.check(TENANT)
    assert caught.value.where == {"retry_after_s": "86300"}
    spending.reserve(TENANT, QueryId("2"), scanning(graph, 700), always=True)
    clock.now = 11 * DAY_S
    spending.check(TENANT)
    with pytest.raises(QuotaError, match="used 700"):  # it still runs, and reads today
        spending.reserve(TENANT, QueryId("3"), scanning(graph, 301))


def test_what_ended_yesterday_under_another_coordinator_is_not_counted() -> None:
    spending = Spending(Clock())
    spending.found("a", QueryId("1"), {"bytes_scanned": 5000}, 10 * DAY_S - 1)
    spending.check(TENANT)
    spending.found("a", QueryId("2"), {"bytes_scanned": 5000}, 10 * DAY_S)
    with pytest.raises(QuotaError):
        spending.check(TENANT)


@pytest.mark.parametrize(
    ("quota", "value"),
    [("max_bytes_scanned_per_day", 0), ("max_function_seconds_per_day", 0.0), ("max_function_seconds_per_day", float("nan")),
     ("max_result_bytes", 0)],
)  # fmt: skip
def test_a_quota_of_nothing_is_refused(quota: str, value: float) -> None:
    with pytest.raises(RequestError, match=quota):
        Tenant(name="a", **{quota: value})  # type: ignore[arg-type]  # what is wrong is the value


def coordinator(store: FolderStore, tenant: Tenant) -> Coordinator:
    return Coordinator(
        settings=Settings(),
        platform=FragmentPlatform(store),
        store=store,
        planner=plan_in_stages(2),
        journal=Journal(store=store, sealer=Sealer.of(["a secret of the tests, long enough"])),
        tenants=Tenants(by_name=MappingProxyType({tenant.name: tenant})),
    )


async def test_the_next_coordinator_finds_in_the_journal_what_was_used_today(tmp_path: Path) -> None:
    store, plan = FolderStore(tmp_path), pl.LazyFrame({"a": [1, 2, 3]}).serialize()
    tenant = Tenant(name="a", max_function_seconds_per_day=1e-9)
    first = coordinator(store, tenant)
    done = await first.submit(plan, tenant="a")
    assert (await first.wait(done.id, 30.0)).state is QueryState.SUCCEEDED
    with pytest.raises(QuotaError):
        await first.submit(plan, tenant="a")
    await first.aclose()
    second = coordinator(store, tenant)
    await second.recover()
    with pytest.raises(QuotaError):
        await second.submit(plan, tenant="a")
    await second.aclose()


async def test_a_result_above_the_quota_ends_its_query_and_one_below_does_not(tmp_path: Path) -> None:
    store, plan = FolderStore(tmp_path), pl.LazyFrame({"a": range(1000)}).serialize()
    generous = coordinator(store, Tenant(name="a", max_result_bytes=1_000_000))
    status = await generous.wait((await generous.submit(plan, tenant="a")).id, 30.0)
    assert status.state is QueryState.SUCCEEDED
    assert status.bytes is not None
    await generous.aclose()
    exact = coordinator(store, Tenant(name="a", max_result_bytes=status.bytes))
    assert (await exact.wait((await exact.submit(plan, tenant="a")).id, 30.0)).state is QueryState.SUCCEEDED
    await exact.aclose()
    small = coordinator(store, Tenant(name="a", max_result_bytes=status.bytes - 1))
    refused = await small.wait((await small.submit(plan, tenant="a")).id, 30.0)
    assert refused.state is QueryState.FAILED
    assert refused.error is not None
    assert refused.error.kind == "cap"
    assert f"max_result_bytes={status.bytes - 1:,}" in refused.error.message
    await small.aclose()
