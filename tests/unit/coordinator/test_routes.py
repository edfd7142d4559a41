"""Every route of the API, as the app has them: a new one is looked at without being added here."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import polars as pl
import pytest

from frazil_coordinator.api import create_app
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState
from frazil_coordinator.tenancy import Role, Tenant, Tenants, Token
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, plan_in_stages

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()
TENANTS = Tenants(
    by_name=MappingProxyType({name: Tenant(name=name) for name in ("blue", "red")}),
    tokens=(Token.of("blue-token", tenant="blue", role=Role.SUBMIT), Token.of("red-token", tenant="red", role=Role.SUBMIT)),
)
OPEN = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/ui", "/ui/", "/ui/{name}"}
"""Routes that need no token: they tell nothing of a query. Those of the page are files, which ask with one."""


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Coordinator]:
    store = FolderStore(tmp_path)
    made = Coordinator(
        settings=Settings(), platform=FragmentPlatform(store), store=store, planner=plan_in_stages(1), tenants=TENANTS
    )
    yield made
    await made.aclose()


def routes(coordinator: Coordinator) -> Iterator[tuple[str, str]]:
    """Yield the methods and paths of all routes."""
    stack: list[Any] = list(create_app(coordinator, tokens=TENANTS.tokens).routes)
    while stack:
        route = stack.pop()
        if hasattr(route, "effective_candidates"):  # a router, as newer versions of FastAPI keep it
            stack += route.effective_candidates()
            continue
        assert route.path.startswith("/"), f"{route} is of a kind that is not looked at here"
        assert route.methods, f"{route.path} is of a kind that is not looked at here"
        yield from ((method, route.path) for method in sorted(route.methods) if method != "HEAD")


def client_of(coordinator: Coordinator, token: str | None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(coordinator, tokens=TENANTS.tokens), raise_app_exceptions=False)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(transport=transport, base_url="http://coordinator", headers=headers)


async def test_every_route_but_those_for_probes_wants_a_token(coordinator: Coordinator) -> None:
    seen = 0
    for method, path in routes(coordinator):
        for token in (None, "not-a-token"):
            async with client_of(coordinator, token) as client:
                answer = await client.request(method, re.sub(r"\{\w+\}", "x", path), content=PLAN)
                assert (answer.status_code == 401) is (path not in OPEN), f"{method} {path}: {answer.status_code}"
                seen += 1
    assert seen > 20


async def test_no_route_that_names_a_query_tells_a_tenant_of_another_s(coordinator: Coordinator) -> None:
    """Neither shows, cancels nor betrays it: the answer is that of an id which nobody has, byte by byte."""
    theirs = (await coordinator.submit(PLAN, tenant="red", labels=["secret"])).id
    await coordinator.wait(theirs, 30.0)
    named = [(method, path) for method, path in routes(coordinator) if "{query}" in path]
    assert len(named) >= 6
    async with client_of(coordinator, "blue-token") as blue:
        for method, path in named:
            answers = []
            for query in (theirs, "0" * len(theirs)):
                answer = await blue.request(method, re.sub(r"\{(stage|task)\}", "0", re.sub(r"\{query\}", query, path)))
                answers.append((answer.status_code, answer.text.replace(query, "ID"), dict(answer.headers)))
            assert answers[0] == answers[1], f"{method} {path}"
            assert answers[0][0] == 404, f"{method} {path}: {answers[0]}"
    assert coordinator.status(theirs).state is QueryState.SUCCEEDED


async def test_no_route_that_names_none_tells_a_tenant_of_another_s_query(coordinator: Coordinator) -> None:
    theirs = (await coordinator.submit(PLAN, tenant="red", labels=["secret"], idempotency_key="theirs")).id
    await coordinator.wait(theirs, 30.0)
    asked = 0
    async with client_of(coordinator, "blue-token") as blue:
        for method, path in routes(coordinator):
            if "{" in path or path == "/metrics":  # sums of all tenants, on purpose
                continue
            for params in ({}, {"tenant": "red"}, {"label": "secret"}, {"state": "succeeded"}):
                answer = await blue.request(method, path, content=PLAN, params=params, headers={"Idempotency-Key": "theirs"})
                assert theirs not in answer.text, f"{method} {path} {params}"
                assert "secret" not in answer.text, f"{method} {path} {params}"
                asked += 1
    assert asked > 20


async def test_ids_of_queries_can_not_be_guessed(coordinator: Coordinator) -> None:
    ids = [(await coordinator.submit(PLAN, tenant="red")).id for _ in range(20)]
    assert all(re.fullmatch(r"[0-9a-f]{16}", one) for one in ids)
    numbers = sorted(int(one, 16) for one in ids)
    assert min(high - low for low, high in itertools.pairwise(numbers)) > 1 << 30
