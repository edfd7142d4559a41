"""A coordinator that goes on with the queries of another one knows whose they are."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import polars as pl

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState
from frazil_coordinator.tenancy import Tenant, Tenants
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, Gate, plan_in_stages

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()
TENANTS = Tenants(by_name=MappingProxyType({name: Tenant(name=name, max_running_queries=1) for name in "ab"}))


def coordinator(store: FolderStore, gate: Gate | None = None) -> Coordinator:
    return Coordinator(
        settings=Settings(),
        platform=FragmentPlatform(store) if gate is None else FragmentPlatform(store, gate),
        store=store,
        planner=plan_in_stages(1),
        journal=Journal(store=store, sealer=Sealer.of(["a secret of the tests, long enough"])),
        tenants=TENANTS,
    )


async def test_tenant_priority_and_key_are_those_of_the_journal_and_the_quota_holds_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    first = coordinator(store, Gate())
    running = await first.submit(PLAN, tenant="a", priority=3, idempotency_key="k")
    waiting = await first.submit(PLAN, tenant="a", priority=-3)
    other = await first.submit(PLAN, tenant="b", idempotency_key="k")
    assert first.status(waiting.id).state is QueryState.QUEUED
    await first.aclose()

    second = coordinator(store)
    assert set(await second.recover()) == {running.id, waiting.id, other.id}
    assert "and 0 wait before" in second.status(waiting.id).waits_for
    for submitted, tenant, priority in ((running, "a", 3), (waiting, "a", -3), (other, "b", 0)):
        status = await second.wait(submitted.id, 30.0)
        assert (status.state, status.tenant, status.priority) == (QueryState.SUCCEEDED, tenant, priority)
    assert (await second.submit(PLAN, tenant="a", idempotency_key="k")).id == running.id
    assert (await second.submit(PLAN, tenant="b", idempotency_key="k")).id == other.id
    await second.aclose()
