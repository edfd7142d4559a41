"""Tokens that a Kubernetes cluster vouches for, asked over HTTP of a server that answers as its API server does."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from frazil_coordinator.identity import Identities, Identity
from frazil_coordinator.identity import reviews as reviews_module
from frazil_coordinator.refusals import AuthorityError, ForbiddenError, InvalidTokenError
from frazil_coordinator.tenancy import Binding, Issuer, Kubernetes, Role, Tenant, Tenants
from frazil_functions.errors import FrazilError
from support.answering import Answer, Asked, Server, answering
from support.authority import Authority
from support.issuing import AUDIENCE, Clock, Issuing, key

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
CLUSTER = "https://kubernetes.default.svc.cluster.local"
OWN = "own-token"
RUNNER = Identity(tenant="blue", role=Role.SUBMIT)
BINDINGS = (
    Binding(service_account="etl:admin", tenant="blue", role=Role.ADMIN),
    Binding(service_account="etl:runner", tenant="blue", role=Role.SUBMIT),
    Binding(group="system:serviceaccounts:etl", tenant="blue", role=Role.READ),
    Binding(group="analysts", tenant="red", role=Role.SUBMIT),
)


@dataclass
class Cluster:
    """What stands for an API server: it knows tokens by their text, as a real one does by their signature."""

    server: Server
    clock: Clock
    own: Path
    known: dict[str, Mapping[str, object]] = field(default_factory=dict)
    """Status of a review by token."""

    def add(self, name: str, *groups: str, audiences: tuple[str, ...] = (AUDIENCE,), **claims: object) -> str:
        """Make a token of a user that the cluster knows."""
        token = self.stranger(sub=name, **claims)
        self.known[token] = {
            "authenticated": True,
            "user": {"username": name, "uid": "1", "groups": [*groups, "system:authenticated"], "extra": {"x": ["y"]}},
            "audiences": list(audiences),
        }
        return token

    def stranger(self, **claims: object) -> str:
        """Make a token of the form of the cluster's, which it does not know."""
        issuing = Issuing(self.server, self.clock)
        return issuing.token(key("cluster"), None, **{"iss": CLUSTER, "aud": ["frazil"], "team": None, **claims})

    @property
    def reviews(self) -> int:
        return self.server.count(PATH)

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("Authorization") != f"Bearer {self.own.read_text().strip()}":
            return Answer(status=401)
        review = json.loads(asked.body)
        assert (asked.method, review["apiVersion"], review["kind"]) == ("POST", "authentication.k8s.io/v1", "TokenReview")
        assert review["spec"]["audiences"] == [AUDIENCE]
        unknown = {"user": {}, "error": f"[invalid bearer token {review['spec']['token']}]"}
        status = self.known.get(review["spec"]["token"], unknown)
        return Answer(status=201, body={**review, "status": status})


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    own = tmp_path / "token"
    own.write_text(OWN + "\n")
    with answering() as server:
        made = Cluster(server, Clock(), own)
        server.answers[PATH] = made.answer
        yield made


def identities(cluster: Cluster, issuers: tuple[Issuer, ...] = (), **values: Any) -> Identities:
    authority = cluster.own.parent / "ca.crt"
    if not authority.exists():
        authority.write_text(Authority().pem)
    given = {"api_url": cluster.server.url, "token_file": str(cluster.own), "ca_file": str(authority), **values}
    tenants = Tenants(
        by_name=MappingProxyType({name: Tenant(name=name) for name in ("blue", "red")}),
        issuers=issuers,
        kubernetes=Kubernetes(audiences=(AUDIENCE,), bindings=BINDINGS, **given),
    )
    made = Identities.of(tenants)
    assert made is not None
    return Identities(tenants, clock=cluster.clock, monotonic=cluster.clock)


async def refused(asked: Identities, token: str, error: type[FrazilError], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        await asked.identity_of(token)
    assert not [part for part in token.split(".") if len(part) > 8 and part in str(caught.value)]


@pytest.mark.parametrize(
    ("name", "groups", "expected"),
    [
        ("system:serviceaccount:etl:runner", ("system:serviceaccounts", "system:serviceaccounts:etl"), ("blue", "submit")),
        ("system:serviceaccount:etl:admin", ("system:serviceaccounts:etl",), ("blue", "admin")),
        ("system:serviceaccount:etl:other", ("system:serviceaccounts:etl",), ("blue", "read")),
        ("ann", ("analysts",), ("red", "submit")),
        ("system:serviceaccount:etl:runner2", (), None),
        ("system:serviceaccount:etl-2:runner", ("system:serviceaccounts:etl-2",), None),
        ("etl:runner", (), None),
        ("analysts", (), None),
    ],
)
async def test_a_user_of_the_cluster_stands_for_a_tenant_in_a_role(
    cluster: Cluster, name: str, groups: tuple[str, ...], expected: tuple[str, str] | None
) -> None:
    asked = identities(cluster)
    token = cluster.add(name, *groups)
    if expected is None:
        await refused(asked, token, ForbiddenError, "a right to nothing here")
    else:
        assert await asked.identity_of(token) == Identity(tenant=expected[0], role=Role(expected[1]))


async def test_a_token_that_the_cluster_does_not_know_is_nobody_s(cluster: Cluster) -> None:
    await refused(identities(cluster), cluster.stranger(), InvalidTokenError, "not good by the word of the Kubernetes")


@pytest.mark.parametrize("audiences", [(), ("another-service",), ("https://kubernetes.default.svc",)])
async def test_a_token_for_another_audience_is_nobody_s_even_if_the_cluster_knows_it(
    cluster: Cluster, audiences: tuple[str, ...]
) -> None:
    token = cluster.add("system:serviceaccount:etl:admin", audiences=audiences)
    await refused(identities(cluster), token, InvalidTokenError, "another audience than frazil")


@pytest.mark.parametrize(
    "status",
    [
        {"authenticated": False, "user": {"username": "system:serviceaccount:etl:admin"}, "audiences": [AUDIENCE]},
        {"user": {"username": "system:serviceaccount:etl:admin"}, "audiences": [AUDIENCE]},
        {"authenticated": True, "audiences": [AUDIENCE]},
        {"authenticated": True, "user": {"username": ""}, "audiences": [AUDIENCE]},
    ],
)
async def test_only_a_whole_yes_is_one(cluster: Cluster, status: Mapping[str, object]) -> None:
    token = cluster.stranger()
    cluster.known[token] = status
    await refused(identities(cluster), token, InvalidTokenError, "not good by the word")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(status=500),
        Answer(status=403, body={"kind": "Status"}),
        Answer(status=429, headers={"Retry-After": "1"}),
        Answer(status=302, headers={"Location": "/yes"}),
        Answer(body=b"<html>"),
        Answer(body={"kind": "Status", "status": "Failure"}),
        Answer(body={"kind": "TokenReview"}),
        Answer(body={"kind": "Other", "status": {"authenticated": True, "user": {"username": "x"}}}),
        Answer(body={"kind": "TokenReview", "status": {"authenticated": "true", "user": {"username": "x"}}}),
        Answer(body={"kind": "TokenReview", "status": {"authenticated": 1, "user": {"username": "x"}}}),
    ],
)
async def test_a_cluster_that_answers_nothing_of_use_lets_nobody_in(
    cluster: Cluster, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    token = cluster.add("system:serviceaccount:etl:runner")
    cluster.server.answers["/yes"] = cluster.answer
    cluster.server.answers[PATH] = answer
    asked = identities(cluster)
    with pytest.raises(AuthorityError, match="can't be asked") as caught:
        await asked.identity_of(token)
    assert caught.value.where == {"retry_after_s": "1"}
    assert "no review of a token" in caplog.text
    # It is not remembered against the token.
    cluster.server.answers[PATH] = cluster.answer
    cluster.clock.now_s += 1
    assert await asked.identity_of(token) == RUNNER


async def test_a_yes_that_comes_with_an_error_is_none(cluster: Cluster) -> None:
    token = cluster.add("system:serviceaccount:etl:runner")
    cluster.server.answers[PATH] = lambda one: Answer(**{**vars(cluster.answer(one)), "status": 500})
    await refused(identities(cluster), token, AuthorityError, "can't be asked")


async def test_a_cluster_that_fails_is_asked_once_a_second(cluster: Cluster) -> None:
    cluster.server.answers[PATH] = Answer(status=500)
    asked = identities(cluster)
    for number in range(40):
        await refused(asked, cluster.stranger(jti=str(number)), AuthorityError, "can't be asked")
        cluster.clock.now_s += 0.1
    assert cluster.reviews in (4, 5)


async def test_a_cluster_that_does_not_answer_in_time_lets_nobody_in(cluster: Cluster) -> None:
    release = threading.Event()
    cluster.server.answers[PATH] = Answer(after=release)
    try:
        await refused(identities(cluster, timeout_s=0.3), cluster.stranger(), AuthorityError, "can't be asked")
    finally:
        release.set()


async def test_without_a_token_of_its_own_the_coordinator_lets_nobody_in(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    token = cluster.add("system:serviceaccount:etl:runner")
    asked = identities(cluster)
    cluster.own.unlink()
    await refused(asked, token, AuthorityError, "can't be asked")
    assert cluster.reviews == 0
    assert "own token can't be read" in str([vars(record) for record in caplog.records])


async def test_the_coordinator_s_own_token_is_read_again_when_it_has_changed(cluster: Cluster) -> None:
    asked = identities(cluster)
    for number in range(2):
        cluster.own.write_text(f"rotated-{number}")
        assert await asked.identity_of(cluster.add("system:serviceaccount:etl:runner", jti=str(number))) == RUNNER


async def test_an_answer_is_kept_for_a_while_and_then_asked_for_again(cluster: Cluster) -> None:
    asked = identities(cluster, cache_s=30)
    token, stranger = cluster.add("system:serviceaccount:etl:runner"), cluster.stranger()
    for _ in range(3):
        assert await asked.identity_of(token) == RUNNER
        await refused(asked, stranger, InvalidTokenError, "not good")
    assert cluster.reviews == 2
    del cluster.known[token]  # taken back
    cluster.clock.now_s += 29
    assert await asked.identity_of(token) == RUNNER
    cluster.clock.now_s += 1
    await refused(asked, token, InvalidTokenError, "not good")
    assert cluster.reviews == 3


async def test_an_answer_is_kept_no_longer_than_the_token_is_good(cluster: Cluster) -> None:
    asked = identities(cluster, cache_s=600)
    token = cluster.add("system:serviceaccount:etl:runner", exp=int(cluster.clock()) + 10)
    assert await asked.identity_of(token) == RUNNER
    del cluster.known[token]
    cluster.clock.now_s += 9
    assert await asked.identity_of(token) == RUNNER
    cluster.clock.now_s += 1
    await refused(asked, token, InvalidTokenError, "not good")


async def test_without_a_cache_each_request_is_a_question(cluster: Cluster) -> None:
    asked = identities(cluster, cache_s=0)
    token = cluster.add("system:serviceaccount:etl:runner")
    assert [await asked.identity_of(token) for _ in range(3)] == [RUNNER] * 3
    assert cluster.reviews == 3


async def test_a_hundred_requests_at_once_with_one_token_are_one_question(cluster: Cluster) -> None:
    asked = identities(cluster)
    token = cluster.add("system:serviceaccount:etl:runner")
    assert await asyncio.gather(*(asked.identity_of(token) for _ in range(100))) == [RUNNER] * 100
    assert cluster.reviews == 1


async def test_no_more_than_eight_questions_are_on_their_way(cluster: Cluster) -> None:
    asked = identities(cluster)
    release = threading.Event()
    cluster.server.answers[PATH] = lambda one: Answer(**{**vars(cluster.answer(one)), "after": release})
    tokens = [cluster.add("system:serviceaccount:etl:runner", jti=str(number)) for number in range(20)]
    asking = [asyncio.ensure_future(asked.identity_of(token)) for token in tokens]
    await asyncio.sleep(0.3)
    assert cluster.reviews == 8
    release.set()
    assert await asyncio.gather(*asking) == [RUNNER] * 20


async def test_what_is_kept_is_bounded_and_bad_tokens_push_out_no_good_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews_module, "_MOST_KEPT", 3)
    asked = identities(cluster)
    good = [cluster.add("system:serviceaccount:etl:runner", jti=str(number)) for number in range(4)]
    await asked.identity_of(good[0])
    for number in range(10):
        await refused(asked, cluster.stranger(jti=f"bad-{number}"), InvalidTokenError, "not good")
    before = cluster.reviews
    await asked.identity_of(good[0])
    assert cluster.reviews == before
    for token in (good[1], good[2], good[0], good[3]):
        await asked.identity_of(token)
    before = cluster.reviews
    for token in (good[0], good[2], good[3]):
        await asked.identity_of(token)
    assert cluster.reviews == before
    await asked.identity_of(good[1])  # the one that was used longest ago had to go
    assert cluster.reviews == before + 1


async def test_an_issuer_s_tokens_go_to_no_cluster_and_the_cluster_s_to_no_issuer(cluster: Cluster) -> None:
    with answering() as server:
        issuing = Issuing(server, cluster.clock)
        issuing.publish(key("first"))
        issuer = Issuer(issuer=issuing.issuer, audience=(AUDIENCE,), tenant="red", role=Role.READ)
        asked = identities(cluster, (issuer,))
        assert await asked.identity_of(issuing.token(key("first"))) == Identity(tenant="red", role=Role.READ)
        # Not even one that is bad: its issuer's word is the last one.
        await refused(asked, issuing.token(key("first"), exp=1), InvalidTokenError, "has expired")
        assert cluster.reviews == 0
        fetched = issuing.fetched
        assert await asked.identity_of(cluster.add("system:serviceaccount:etl:runner")) == RUNNER
        assert (cluster.reviews, issuing.fetched) == (1, fetched)


async def test_a_cluster_whose_issuer_is_known_is_asked_about_no_other_s_tokens(cluster: Cluster) -> None:
    asked = identities(cluster, issuer=CLUSTER)
    for claims in ({"iss": "https://other.example"}, {"iss": None}, {"iss": f"{CLUSTER}/"}):
        await refused(asked, cluster.stranger(**claims), InvalidTokenError, "issuer that is not trusted")
    assert cluster.reviews == 0
    assert await asked.identity_of(cluster.add("system:serviceaccount:etl:runner")) == RUNNER


@pytest.mark.parametrize("token", ["secret", "a.b.c", "system:serviceaccount:etl:admin"])
async def test_a_secret_that_is_no_jwt_is_sent_to_nobody(cluster: Cluster, token: str) -> None:
    await refused(identities(cluster), token, InvalidTokenError, "nor a JWT")
    assert cluster.reviews == 0


async def test_no_part_of_a_token_is_logged(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asked = identities(cluster)
    good = cluster.add("system:serviceaccount:etl:runner")
    bad, failing = cluster.stranger(jti="1"), cluster.stranger(jti="2")
    await asked.identity_of(good)
    await refused(asked, bad, InvalidTokenError, "not good")
    cluster.server.answers[PATH] = Answer(status=500)
    await refused(asked, failing, AuthorityError, "can't be asked")
    logged = caplog.text + repr([vars(record) for record in caplog.records])
    assert "no review of a token" in logged
    assert not [part for token in (good, bad, failing) for part in token.split(".")[1:] if part in logged]
    assert OWN not in logged


async def test_a_server_that_the_cluster_s_authority_does_not_vouch_for_gets_no_token(tmp_path: Path) -> None:
    own = tmp_path / "token"
    own.write_text(OWN)
    authority, other = tmp_path / "authority.pem", tmp_path / "other.pem"
    real = Authority()
    authority.write_text(real.pem)
    other.write_text(Authority().pem)
    with answering(real.context(tmp_path)) as server:
        cluster = Cluster(server, Clock(), own)
        server.answers[PATH] = cluster.answer
        token = cluster.add("system:serviceaccount:etl:runner")
        await refused(identities(cluster, ca_file=str(other)), token, AuthorityError, "can't be asked")
        assert server.asked == []
        assert await identities(cluster, ca_file=str(authority)).identity_of(token) == RUNNER
