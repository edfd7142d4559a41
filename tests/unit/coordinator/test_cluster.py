"""What a coordinator says of itself: functions, slots, and each tenant's queue beside its quotas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import MappingProxyType

import httpx
import polars as pl
import pytest

from frazil_coordinator.api import create_app
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Role, Tenant, Tenants, Token
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, Gate, plan_in_stages

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()
TENANTS = Tenants(
    by_name=MappingProxyType(
        {"a": Tenant(name="a", max_running_queries=1, max_running_tasks=3, allowed_prefixes=None), "b": Tenant(name="b")}
    ),
    tokens=(
        Token.of("admin", tenant="a"),
        Token.of("reader", tenant="a", role=Role.READ),
        Token.of("other", tenant="b", role=Role.SUBMIT),
    ),
)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def coordinator(tmp_path: Path, gate: Gate) -> AsyncIterator[Coordinator]:
    store = FolderStore(tmp_path)
    made = Coordinator(
        settings=Settings(),
        platform=FragmentPlatform(store, before=gate),
        store=store,
        planner=plan_in_stages(1),
        tenants=TENANTS,
    )
    yield made
    await made.aclose()


async def ask(coordinator: Coordinator, token: str, path: str = "/v1/cluster") -> httpx.Response:
    transport = httpx.ASGITransport(create_app(coordinator, tokens=TENANTS.tokens))
    async with httpx.AsyncClient(transport=transport, base_url="http://coordinator") as client:
        return await client.get(path, headers={"Authorization": f"Bearer {token}"})


async def test_it_tells_what_runs_and_what_waits_beside_the_quotas(coordinator: Coordinator, gate: Gate) -> None:
    first = await coordinator.submit(PLAN, tenant="a")
    await coordinator.submit(PLAN, tenant="a")
    await asyncio.wait_for(gate.reached.wait(), 10)
    told = (await ask(coordinator, "admin")).json()
    assert told["slots"] == {"limit": 4, "taken": 1, "wanted": 0}
    a, b = told["tenants"]
    assert (a["name"], a["waiting"], a["tasks"]) == ("a", 1, 1)
    assert sum(a["queries"].values()) == 2
    assert a["oldest_waiting_s"] >= 0
    assert a["quotas"]["max_running_queries"] == 1
    assert (b["name"], b["queries"], b["quotas"]["max_running_queries"]) == ("b", {}, None)
    assert told["leadership"]["leader"] is True
    gate.open.set()
    await coordinator.wait(first.id, 10)


@pytest.mark.parametrize(
    ("token", "tenants", "caller"),
    [
        ("admin", ["a", "b"], {"tenant": "a", "role": "admin"}),
        ("reader", ["a"], {"tenant": "a", "role": "read"}),
        ("other", ["b"], {"tenant": "b", "role": "submit"}),
    ],
)
async def test_each_sees_what_is_theirs_and_who_they_are(
    coordinator: Coordinator, token: str, tenants: list[str], caller: dict[str, str]
) -> None:
    told = (await ask(coordinator, token)).json()
    assert [one["name"] for one in told["tenants"]] == tenants
    assert told["caller"] == caller


async def test_nobody_without_a_token_is_told(coordinator: Coordinator) -> None:
    assert (await ask(coordinator, "wrong")).status_code == 401


async def test_tasks_of_another_tenant_are_like_those_of_no_query(coordinator: Coordinator, gate: Gate) -> None:
    gate.open.set()
    query = (await coordinator.submit(PLAN, tenant="a")).id
    await coordinator.wait(query, 10)
    own = await ask(coordinator, "reader", f"/v1/queries/{query}/tasks")
    assert [(one["stage"], one["task"], one["state"]) for one in own.json()["attempts"]] == [(0, 0, "succeeded")]
    for path in (f"/v1/queries/{query}/tasks", "/v1/queries/nothing/tasks"):
        assert (await ask(coordinator, "other", path)).status_code == 404
    assert (await ask(coordinator, "reader", f"/v1/queries/{query}/tasks?limit=5001")).status_code == 400


async def test_a_list_is_searched_by_text_and_time(coordinator: Coordinator, gate: Gate) -> None:
    gate.open.set()
    first = await coordinator.submit(PLAN, tenant="a", labels=("Nightly load",))
    second = await coordinator.submit(PLAN, tenant="a", labels=("adhoc",))
    await coordinator.wait(second.id, 10)

    async def found(**params: object) -> list[str]:
        query = httpx.QueryParams(params)  # type: ignore[arg-type]  # numbers and texts
        return [one["id"] for one in (await ask(coordinator, "admin", f"/v1/queries?{query}")).json()]

    assert await found(text="NIGHTLY") == [first.id]
    assert await found(text=second.id[3:9]) == [second.id]
    assert await found(text="") == [second.id, first.id]
    assert await found(text="nowhere") == []
    assert await found(since=second.submitted_unix_s) == [second.id]
    assert await found(since=second.submitted_unix_s + 1) == []
