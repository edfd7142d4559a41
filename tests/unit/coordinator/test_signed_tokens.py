"""Tokens of an issuer at the HTTP API, beside static ones: who is let in, as whom, and what a refusal says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import httpx
import polars as pl
import pytest

from frazil_coordinator.api import create_app
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.identity import Identities
from frazil_coordinator.metrics import REFUSED_TOKENS
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import decode_status, decode_statuses
from frazil_coordinator.tenancy import Issuer, Role, Tenant, Tenants, Token
from frazil_functions.storage import FolderStore
from support.answering import answering
from support.fragments import FragmentPlatform, plan_in_stages
from support.issuing import AUDIENCE, Clock, Issuing, key

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()
FIRST = key("first")
STATIC = "a.static.token"
"""One that an operator made up: it looks a little like a JWT."""


@pytest.fixture
def issuing() -> Iterator[Issuing]:
    with answering() as server:
        made = Issuing(server, Clock())
        made.publish(FIRST)
        yield made


@pytest.fixture
def tenants(issuing: Issuing) -> Tenants:
    issuer = Issuer(
        issuer=issuing.issuer,
        audience=(AUDIENCE,),
        tenant_claim=("team",),
        role=Role.SUBMIT,
        role_claim=("groups",),
        roles=MappingProxyType({"ops": Role.ADMIN, "look": Role.READ}),
    )
    return Tenants(
        by_name=MappingProxyType({name: Tenant(name=name) for name in ("blue", "red")}),
        tokens=(Token.of(STATIC, tenant="red", role=Role.SUBMIT),),
        issuers=(issuer,),
    )


@pytest.fixture
async def coordinator(tmp_path: Path, tenants: Tenants) -> AsyncIterator[Coordinator]:
    store = FolderStore(tmp_path)
    made = Coordinator(
        settings=Settings(), platform=FragmentPlatform(store), store=store, planner=plan_in_stages(1), tenants=tenants
    )
    yield made
    await made.aclose()


@pytest.fixture
async def client(coordinator: Coordinator, tenants: Tenants, issuing: Issuing) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(coordinator, tenants, issuing) as made:
        yield made


def client_of(coordinator: Coordinator, tenants: Tenants, issuing: Issuing) -> httpx.AsyncClient:
    identities = Identities(tenants, clock=issuing.clock, monotonic=issuing.clock)
    app = create_app(coordinator, tokens=tenants.tokens, identities=identities)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://coordinator")


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_tenant_of_a_signed_token_sees_only_its_own_queries(client: httpx.AsyncClient, issuing: Issuing) -> None:
    blue, red = (bearing(issuing.token(FIRST, team=team)) for team in ("blue", "red"))
    ids = {}
    for name, who in (("blue", blue), ("red", red)):
        answer = await client.post("/v1/queries", content=PLAN, headers=who)
        assert answer.status_code == 202, answer.text
        status = decode_status(answer.content)
        assert status.tenant == name
        ids[name] = status.id
    for name, who, other in (("blue", blue, "red"), ("red", red, "blue")):
        listed = await client.get("/v1/queries", headers=who)
        assert [one.id for one in decode_statuses(listed.content)] == [ids[name]]
        assert (await client.get(f"/v1/queries/{ids[name]}", headers=who)).status_code == 200
        for method in ("GET", "DELETE"):
            assert (await client.request(method, f"/v1/queries/{ids[other]}", headers=who)).status_code == 404
    # The static token of a tenant is that tenant too, and an administrator sees all.
    listed = await client.get("/v1/queries", headers=bearing(STATIC))
    assert [one.id for one in decode_statuses(listed.content)] == [ids["red"]]
    listed = await client.get("/v1/queries", headers=bearing(issuing.token(FIRST, groups=["ops"])))
    assert {one.id for one in decode_statuses(listed.content)} == set(ids.values())


async def test_a_role_of_a_signed_token_is_held_to(client: httpx.AsyncClient, issuing: Issuing) -> None:
    reader = bearing(issuing.token(FIRST, groups=["look"]))
    assert (await client.get("/v1/queries", headers=reader)).status_code == 200
    answer = await client.post("/v1/queries", content=PLAN, headers=reader)
    assert (answer.status_code, answer.json()["detail"][:24]) == (403, "a token of role read may")
    cluster = await client.get("/v1/cluster", headers=reader)
    assert cluster.json()["caller"] == {"tenant": "blue", "role": "read"}


async def test_a_static_token_asks_no_issuer_and_outlives_one(client: httpx.AsyncClient, issuing: Issuing) -> None:
    issuing.fail()
    assert (await client.get("/v1/queries", headers=bearing(STATIC))).status_code == 200
    assert issuing.server.asked == []


async def test_who_shows_no_good_token_is_told_why_and_not_what_it_was(client: httpx.AsyncClient, issuing: Issuing) -> None:
    for token, told in (
        (issuing.token(FIRST, exp=1), "has expired"),
        (issuing.token(FIRST, aud="x"), "not for this coordinator"),
        (issuing.token(FIRST, iss="https://x.example"), "not trusted here"),
        (issuing.token(key("mallory"), {"kid": "first"}), "signature is not its issuer's"),
        ("not-a-token", "neither one of the coordinator's nor a JWT"),
    ):
        answer = await client.get("/v1/queries", headers=bearing(token))
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert told in answer.json()["detail"]
        assert answer.headers["www-authenticate"] == 'Bearer realm="frazil", error="invalid_token"'
        assert not [part for part in token.split(".") if part in answer.text + str(answer.headers)]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", "Negotiate x"])
async def test_who_shows_no_token_is_asked_for_one(client: httpx.AsyncClient, header: str | None) -> None:
    answer = await client.get("/v1/queries", headers={} if header is None else {"Authorization": header})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="frazil"')


async def test_a_good_token_that_gives_a_right_to_nothing_is_forbidden(client: httpx.AsyncClient, issuing: Issuing) -> None:
    answer = await client.get("/v1/queries", headers=bearing(issuing.token(FIRST, team="green")))
    assert (answer.status_code, "names no tenant" in answer.json()["detail"]) == (403, True)


async def test_while_the_issuer_can_not_be_asked_nobody_is_let_in_and_told_when_to_come_again(
    client: httpx.AsyncClient, issuing: Issuing
) -> None:
    issuing.fail()
    for waited_s in (0, 4):
        issuing.clock.now_s += waited_s
        answer = await client.get("/v1/queries", headers=bearing(issuing.token(FIRST)))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, str(10 - waited_s))
        assert answer.json()["kind"] == "request"


async def test_where_only_an_issuer_makes_tokens_nobody_is_let_in_without_one(
    coordinator: Coordinator, tenants: Tenants, issuing: Issuing
) -> None:
    async with client_of(coordinator, replace(tenants, tokens=()), issuing) as client:
        assert (await client.get("/v1/queries")).status_code == 401
        assert (await client.get("/v1/queries", headers=bearing(""))).status_code == 401
        assert (await client.get("/v1/queries", headers=bearing(issuing.token(FIRST)))).status_code == 200


async def test_each_refused_request_is_counted_once_by_its_reason(
    coordinator: Coordinator, client: httpx.AsyncClient, issuing: Issuing
) -> None:
    def counted() -> dict[str, float]:
        samples = next(iter(coordinator.metrics.http.refused_tokens.collect())).samples
        return {one.labels["reason"]: one.value for one in samples if one.name.endswith("_total")}

    assert counted() == dict.fromkeys(REFUSED_TOKENS, 0.0)
    reader = issuing.token(FIRST, groups=["look"])
    for method, header, reason in (
        ("GET", None, "missing"),
        ("GET", "Basic YTpi", "missing"),
        ("GET", "Bearer not-a-token", "unknown"),
        ("GET", f"Bearer {issuing.token(FIRST, iss='https://x.example')}", "unknown"),
        ("GET", f"Bearer {issuing.token(key('mallory'), {'kid': 'first'})}", "invalid"),
        ("GET", f"Bearer {issuing.token(FIRST, aud='x')}", "invalid"),
        ("GET", f"Bearer {issuing.token(FIRST, exp=1)}", "expired"),
        ("GET", f"Bearer {issuing.token(FIRST, team='green')}", "no_right"),
        ("POST", f"Bearer {reader}", "role"),
        ("GET", f"Bearer {issuing.token(key('second'))}", "unanswered"),
    ):
        if reason == "unanswered":
            issuing.fail()
            issuing.clock.now_s += 60.0
        before = counted()
        answer = await client.request(method, "/v1/queries", headers={} if header is None else {"Authorization": header})
        assert answer.is_error
        assert counted() == {**before, reason: before[reason] + 1}, (reason, answer.text)
    assert (await client.get("/v1/queries", headers=bearing(STATIC))).status_code == 200
    assert (await client.get("/v1/nothing", headers=bearing(STATIC))).status_code == 404
    assert sum(counted().values()) == 10


async def test_a_wrong_token_is_counted_where_there_are_only_static_ones(coordinator: Coordinator) -> None:
    app = create_app(coordinator, tokens=[STATIC])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://coordinator") as client:
        for token in ("wrong", STATIC):
            await client.get("/v1/version", headers=bearing(token))
        shown = (await client.get("/metrics")).text
    assert 'frazil_refused_tokens_total{reason="unknown"} 1.0' in shown
    assert "wrong" not in shown
