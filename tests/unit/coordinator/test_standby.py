"""What a coordinator says of its leadership over HTTP, and what one that stands by refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from frazil_coordinator.api import create_app
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.leadership import Leadership, ProbeResult
from frazil_coordinator.settings import Settings
from frazil_functions.errors import StandbyError, WireError, from_wire
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, plan_in_stages
from support.lease_wire import DECIDES
from support.polling import eventually_async

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()
OCTETS = {"content-type": "application/octet-stream"}


def _client(folder: Path, leadership: Leadership | None) -> tuple[Coordinator, httpx.AsyncClient]:
    store = FolderStore(folder)
    made = Coordinator(
        settings=Settings(),
        platform=FragmentPlatform(store),
        store=store,
        planner=plan_in_stages(1),
        leadership=leadership,
    )
    transport = httpx.ASGITransport(create_app(made), raise_app_exceptions=False)
    return made, httpx.AsyncClient(transport=transport, base_url="http://coordinator")


@pytest.fixture
async def leader(tmp_path: Path) -> AsyncIterator[Leadership]:
    made = Leadership(FolderStore(tmp_path), DECIDES, unix=lambda: 1767323045.0)
    await made.acquire()
    yield made
    await made.release()


@pytest.fixture
async def standby(tmp_path: Path, leader: Leadership) -> AsyncIterator[Leadership]:
    made = Leadership(FolderStore(tmp_path), DECIDES)
    waiting = asyncio.create_task(made.acquire())
    await eventually_async(lambda: made.standing.term == leader.term, "the standby sees who leads")
    yield made
    waiting.cancel()
    await asyncio.wait({waiting})
    await made.release()


def _refused(response: httpx.Response) -> str:
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["type"] == "urn:frazil:problem:standby"
    assert type(from_wire(WireError(kind=document["kind"], message=document["detail"]))) is StandbyError
    return str(document["detail"])


async def test_a_standby_is_not_ready_and_says_who_leads_since_when(tmp_path: Path, standby: Leadership) -> None:
    coordinator, client = _client(tmp_path, standby)
    async with client:
        response = await client.get("/readyz")
        detail = _refused(response)
        assert "another one leads since 2026-01-02T03:04:05+00:00 (term 1)" in detail
        document = response.json()
        assert (document["leader"], document["term"], document["journal"]) == (False, 1, "fenced")
        assert (await client.get("/healthz")).status_code == 200
    await coordinator.aclose()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/queries"),
        ("POST", "/v1/explain?analyze=true"),
        ("GET", "/v1/queries"),
        ("GET", "/v1/queries/0123"),
        ("GET", "/v1/queries/0123?wait_s=1"),
        ("GET", "/v1/queries/0123/events"),
        ("GET", "/v1/queries/0123/result"),
        ("GET", "/v1/queries/0123/plan"),
        ("GET", "/v1/queries/0123/profile"),
        ("DELETE", "/v1/queries/0123"),
    ],
)
async def test_a_standby_refuses_what_needs_the_journal(tmp_path: Path, standby: Leadership, method: str, path: str) -> None:
    coordinator, client = _client(tmp_path, standby)
    async with client:
        body = {"content": PLAN, "headers": OCTETS} if method == "POST" else {}
        assert "try again, or ask that one" in _refused(await client.request(method, path, **body))  # type: ignore[arg-type]  # httpx's many keywords
    assert coordinator.list() == ()
    await coordinator.aclose()


@pytest.mark.parametrize("path", ["/v1/explain", "/v1/queries?dry_run=true"])
async def test_a_standby_plans(tmp_path: Path, standby: Leadership, path: str) -> None:
    coordinator, client = _client(tmp_path, standby)
    async with client:
        assert (await client.post(path, content=PLAN, headers=OCTETS)).status_code == 200
    await coordinator.aclose()


async def test_the_one_that_leads_is_ready_and_accepts(tmp_path: Path, leader: Leadership) -> None:
    coordinator, client = _client(tmp_path, leader)
    async with client:
        ready = (await client.get("/readyz")).json()
        assert (ready["leader"], ready["term"], ready["journal"]) == (True, 1, "fenced")
        assert (await client.post("/v1/queries", content=PLAN, headers=OCTETS)).status_code == 202
    assert coordinator.leadership is leader
    await coordinator.aclose()


async def test_without_a_leadership_the_journal_is_off(tmp_path: Path) -> None:
    coordinator, client = _client(tmp_path, None)
    async with client:
        ready = (await client.get("/readyz")).json()
        assert (ready["leader"], ready["term"], ready["journal"]) == (True, 0, "off")
    await coordinator.aclose()


async def test_a_single_writer_says_that_it_must_be_alone(tmp_path: Path) -> None:
    alone = Leadership(FolderStore(tmp_path), ProbeResult(conditional=False, winners=2, detail="2 of 32 won"))
    await alone.acquire()
    coordinator, client = _client(tmp_path, alone)
    async with client:
        ready = (await client.get("/readyz")).json()
        assert (ready["leader"], ready["journal"]) == (True, "single-writer")
        assert "2 of 32 won" in ready["detail"]
        assert "run only one coordinator" in ready["detail"]
    await alone.release()
    await coordinator.aclose()
