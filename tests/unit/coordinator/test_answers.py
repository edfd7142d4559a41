"""The OpenAPI document says of each route how it may refuse, and what a coordinator refuses is in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import polars as pl
import pytest

from frazil_coordinator.api import create_app
from frazil_coordinator.api.answers import add_answers
from frazil_coordinator.api.problems import _STATUS
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.identity import Identities
from frazil_coordinator.leadership import Leadership
from frazil_coordinator.refusals import AuthorityError
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenant, Tenants, Token
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, Gate, plan_in_stages
from support.lease_wire import DECIDES

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()
OCTETS = {"content-type": "application/octet-stream"}

PROBES = {"get /healthz", "get /readyz", "get /metrics"}
REPLAY = "/stages/{stage}/tasks/{task}/replay"
QUERY = "/v1/queries/{query}"
OF_A_QUERY = {f"get {QUERY}{part}" for part in ("", "/plan", "/profile", "/tasks", "/events", "/result", REPLAY)} | {
    f"delete {QUERY}"
}
RUNS = {"post /v1/queries", "post /v1/explain"}
TELLS_AN_ERROR = {*RUNS, f"get {QUERY}/plan", f"get {QUERY}/result", f"get {QUERY}{REPLAY}"}
TABLE = "/v1/tables/{name}"
CHANGES_A_TABLE = {f"put {TABLE}", f"delete {TABLE}"}
TRIGGER = "/v1/triggers/{name}"
SWITCHES_A_TRIGGER = {f"delete {TRIGGER}", f"post {TRIGGER}/pause", f"post {TRIGGER}/resume"}
TELLS_A_TRIGGER = {f"post {TRIGGER}/replay", f"post {TRIGGER}/dead-letters/retry"}
CHANGES_A_TRIGGER = SWITCHES_A_TRIGGER | TELLS_A_TRIGGER | {f"put {TRIGGER}"}
OF_A_TRIGGER = CHANGES_A_TRIGGER | {f"get {TRIGGER}", f"post {TRIGGER}/run", f"get {TRIGGER}/dead-letters"}
TAKES_EVENTS = {"post /", "post /ingest/s3"}
LISTS = {"get /v1/triggers", "get /v1/queries", "get /v1/tables", "get /v1/catalogs", "get /v1/cluster", "get /v1/version"}
GUARDED = (
    OF_A_TRIGGER
    | TAKES_EVENTS
    | OF_A_QUERY
    | RUNS
    | CHANGES_A_TABLE
    | LISTS
    | {f"get {TABLE}", "get /v1/catalogs/{name}/tables"}
)
TAKES_PARAMETERS = {"get /v1/queries", f"get {QUERY}", f"get {QUERY}/tasks", "get /v1/catalogs/{name}/tables"}

ANSWERS: Mapping[int, set[str]] = {
    400: TELLS_AN_ERROR
    | CHANGES_A_TABLE
    | TAKES_PARAMETERS
    | {f"get {TABLE}", f"get {TRIGGER}"}
    | CHANGES_A_TRIGGER
    | TAKES_EVENTS,
    401: GUARDED,
    403: GUARDED,
    404: OF_A_QUERY
    | {f"get {TABLE}", f"delete {TABLE}", "get /v1/catalogs/{name}/tables"}
    | (OF_A_TRIGGER - {f"put {TRIGGER}"})
    | TAKES_EVENTS,
    406: {f"get {QUERY}/result"},
    409: TELLS_AN_ERROR | {f"put {TRIGGER}"},
    410: {f"get {QUERY}/result", f"get {QUERY}{REPLAY}"},
    412: CHANGES_A_TABLE | SWITCHES_A_TRIGGER | {f"put {TRIGGER}"},
    413: RUNS | {f"put {TABLE}", f"put {TRIGGER}"} | TELLS_A_TRIGGER | TAKES_EVENTS,
    415: RUNS,
    429: TELLS_AN_ERROR,
    500: GUARDED | PROBES,
    503: GUARDED | {"get /readyz"},
    504: TELLS_AN_ERROR,
    507: TELLS_AN_ERROR | CHANGES_A_TABLE | CHANGES_A_TRIGGER,
}


def made(folder: Path, gate: Gate | None = None, **options: Any) -> tuple[Coordinator, Any]:
    store = FolderStore(folder)
    platform = FragmentPlatform(store, before=gate)
    coordinator = Coordinator(
        settings=Settings(), platform=platform, store=store, planner=plan_in_stages(1), sweep_after_s=(), **options
    )
    return coordinator, create_app(coordinator)


@pytest.fixture
async def document(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    coordinator, app = made(tmp_path)
    yield app.openapi()
    await coordinator.aclose()


def statuses(document: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return what each route may answer."""
    return {
        f"{method} {path}": set(route["responses"])
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    }


async def test_each_route_names_the_statuses_that_it_may_refuse_with(document: dict[str, Any]) -> None:
    found: dict[int, set[str]] = defaultdict(set)
    for route, codes in statuses(document).items():
        assert not [code for code in codes if not code.isdecimal()], route
        for code in codes:
            if int(code) >= 400:
                found[int(code)].add(route)
    assert dict(found) == ANSWERS


async def test_every_refusal_is_a_problem_and_those_to_try_again_say_when(document: dict[str, Any]) -> None:
    for methods in document["paths"].values():
        for route in methods.values():
            for code, answer in route["responses"].items():
                if int(code) >= 400:
                    assert list(answer["content"]) == ["application/problem+json"]
                    assert ("Retry-After" in answer.get("headers", {})) is (code in ("429", "503"))
    assert "Problem" in document["components"]["schemas"]


def test_every_status_of_an_error_is_one_that_some_route_names() -> None:
    assert set(_STATUS.values()) == set(ANSWERS)


async def test_a_route_that_is_not_in_the_table_is_noticed(document: dict[str, Any]) -> None:
    with pytest.raises(LookupError, match="/v2/new"):
        add_answers({"paths": {**document["paths"], "/v2/new": {"get": {"responses": {}}}}})


async def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://coordinator") as client:
        return await client.request(method.upper(), path, **options)


def check_documented(app: Any, route: str, answer: httpx.Response) -> None:
    described = statuses(app.openapi())[route]
    assert str(answer.status_code) in described
    assert answer.headers["retry-after"].isdecimal()


async def test_what_a_standby_refuses_is_in_the_document(tmp_path: Path) -> None:
    leader = Leadership(FolderStore(tmp_path), DECIDES)
    await leader.acquire()
    coordinator, app = made(tmp_path, leadership=Leadership(FolderStore(tmp_path), DECIDES))
    for route in sorted(OF_A_QUERY | {"get /v1/queries", "post /v1/queries", "get /readyz"}):
        method, _, path = route.partition(" ")
        body = {"content": PLAN, "headers": OCTETS} if method == "post" else {}
        answer = await ask(app, method, path.format(query="0123", stage=0, task=0), **body)
        assert answer.status_code == 503, route
        check_documented(app, route, answer)
    await coordinator.aclose()
    await leader.release()


async def test_what_one_that_ends_refuses_is_in_the_document(tmp_path: Path) -> None:
    coordinator, app = made(tmp_path)
    await coordinator.drain(0.0)
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "a.parquet")
    source = {"location": str(tmp_path / "a.parquet")}
    for route, body in (
        ("post /v1/queries", {"content": PLAN, "headers": OCTETS}),
        ("post /v1/explain", {"content": PLAN, "headers": OCTETS}),
        ("put /v1/tables/{name}", {"json": source}),
        ("get /readyz", {}),
    ):
        method, _, path = route.partition(" ")
        answer = await ask(app, method, path.format(name="t"), **body)
        assert answer.status_code == 503, route
        check_documented(app, route, answer)
    await coordinator.aclose()


async def test_what_a_full_queue_refuses_is_in_the_document(tmp_path: Path) -> None:
    tenants = Tenants(
        by_name=MappingProxyType({"a": Tenant(name="a", max_running_queries=1, max_queued_queries=0)}),
        tokens=(Token.of("t", tenant="a"),),
    )
    gate = Gate()
    coordinator, _ = made(tmp_path, gate=gate, tenants=tenants)
    app = create_app(coordinator, tokens=tenants.tokens)
    headers = {**OCTETS, "authorization": "Bearer t"}
    first = await ask(app, "post", "/v1/queries", content=PLAN, headers=headers)
    assert first.status_code == 202
    for route, path in (("post /v1/queries", "/v1/queries"), ("post /v1/explain", "/v1/explain?analyze=true")):
        answer = await ask(app, "post", path, content=PLAN, headers=headers)
        assert answer.status_code == 429, route
        check_documented(app, route, answer)
    gate.open.set()
    await coordinator.aclose()


class _Silent(Identities):
    """Nobody can say whose a token is."""

    def __init__(self) -> None:
        pass

    async def identity_of(self, token: str) -> Any:
        raise AuthorityError("try again", where={"retry_after_s": "7"})


async def test_what_is_refused_because_an_issuer_does_not_answer_is_in_the_document(tmp_path: Path) -> None:
    coordinator, _ = made(tmp_path)
    app = create_app(coordinator, identities=_Silent())
    for route in sorted(GUARDED):
        method, _, path = route.partition(" ")
        answer = await ask(
            app, method, path.format(query="0123", name="t", stage=0, task=0), headers={"authorization": "Bearer x"}
        )
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7"), route
        check_documented(app, route, answer)
    await coordinator.aclose()
