"""Signed tokens of an issuer: real signatures, and an issuer that answers over HTTP. Each attack is a test."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import threading
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from frazil_coordinator.identity import Identities, Identity
from frazil_coordinator.refusals import AuthorityError, ForbiddenError, InvalidTokenError
from frazil_coordinator.tenancy import Issuer, Role, Tenant, Tenants
from frazil_functions.errors import FrazilError
from support.answering import Answer, Asked, answering
from support.issuing import AUDIENCE, DISCOVERY, JWKS, Clock, Issuing, key, unsigned

BLUE = Identity(tenant="blue", role=Role.SUBMIT)
FIRST = key("first")


@pytest.fixture
def issuing() -> Iterator[Issuing]:
    with answering() as server:
        made = Issuing(server, Clock())
        made.publish(FIRST)
        yield made


def identities(issuing: Issuing, *others: Issuing, **values: Any) -> Identities:
    given: dict[str, Any] = {"audience": (AUDIENCE,), "tenant_claim": ("team",), "role": Role.SUBMIT} | values
    tenants = Tenants(
        by_name=MappingProxyType({name: Tenant(name=name) for name in ("blue", "red")}),
        issuers=tuple(Issuer(issuer=one.issuer, **given) for one in (issuing, *others)),
    )
    return Identities(tenants, clock=issuing.clock, monotonic=issuing.clock)


async def refused(asked: Identities, token: str, error: type[FrazilError], match: str) -> FrazilError:
    """Expect a refusal, and that neither it nor what it came from holds a part of the token."""
    with pytest.raises(error, match=match) as caught:
        await asked.identity_of(token)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert not [part for part in token.split(".") if len(part) > 8 and part in f"{seen}"]
        seen = seen.__cause__
    assert isinstance(caught.value, error)
    return caught.value


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES384", "ES512", "EdDSA"])
async def test_a_token_is_taken_by_whatever_its_issuer_may_sign_with(issuing: Issuing, algorithm: str) -> None:
    signing = key(algorithm, algorithm)
    issuing.publish(FIRST, signing)
    assert await identities(issuing, algorithms=(algorithm,)).identity_of(issuing.token(signing)) == BLUE


async def test_keys_are_where_the_issuer_s_own_document_says_and_fetched_once(issuing: Issuing) -> None:
    asked = identities(issuing)
    assert issuing.server.asked == []
    for _ in range(5):
        assert await asked.identity_of(issuing.token(FIRST)) == BLUE
    assert [one.path for one in issuing.server.asked] == [DISCOVERY, JWKS]


async def test_keys_are_fetched_from_where_the_file_says_without_asking_the_issuer(issuing: Issuing) -> None:
    asked = identities(issuing, jwks_url=issuing.server.url + JWKS)
    assert await asked.identity_of(issuing.token(FIRST)) == BLUE
    assert [one.path for one in issuing.server.asked] == [JWKS]


async def test_a_hundred_requests_at_once_fetch_the_keys_once(issuing: Issuing) -> None:
    asked = identities(issuing)
    token = issuing.token(FIRST)
    assert await asyncio.gather(*(asked.identity_of(token) for _ in range(100))) == [BLUE] * 100
    assert issuing.fetched == 1


async def test_a_key_that_is_new_is_fetched_and_one_that_is_gone_is_not_good_any_more(issuing: Issuing) -> None:
    asked = identities(issuing, keys_retry_s=10)
    await asked.identity_of(issuing.token(FIRST))
    second = key("second")
    issuing.publish(second)
    await refused(asked, issuing.token(second), InvalidTokenError, "does not publish")  # it is too soon to look again
    issuing.clock.now_s += 11
    assert await asked.identity_of(issuing.token(second)) == BLUE
    assert issuing.fetched == 2
    await refused(asked, issuing.token(FIRST), InvalidTokenError, "does not publish")


async def test_a_key_that_was_taken_away_is_trusted_for_half_its_age_at_most(issuing: Issuing) -> None:
    asked = identities(issuing, keys_max_age_s=600)
    await asked.identity_of(issuing.token(FIRST))
    issuing.publish(key("second"))
    issuing.clock.now_s += 299
    assert await asked.identity_of(issuing.token(FIRST)) == BLUE
    issuing.clock.now_s += 2
    await refused(asked, issuing.token(FIRST), InvalidTokenError, "does not publish")
    assert issuing.fetched == 2


async def test_a_flood_of_made_up_keys_does_not_hammer_the_issuer(issuing: Issuing) -> None:
    asked = identities(issuing, keys_retry_s=10)
    mallory = key("mallory")
    for number in range(300):
        token = issuing.token(mallory, {"kid": f"made-up-{number}"})
        await refused(asked, token, InvalidTokenError, "does not publish")
        issuing.clock.now_s += 0.1
    assert issuing.fetched == 3  # of 30 seconds
    assert await asked.identity_of(issuing.token(FIRST)) == BLUE


async def test_an_issuer_that_fails_is_asked_no_more_often_than_one_that_answers(issuing: Issuing) -> None:
    issuing.fail()
    asked = identities(issuing, keys_retry_s=10)
    for _ in range(100):
        await refused(asked, issuing.token(FIRST), AuthorityError, "can't be asked")
        issuing.clock.now_s += 0.25
    assert issuing.fetched == 3


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (JWKS, Answer(status=500)),
        (JWKS, Answer(body=b"not json")),
        (JWKS, Answer(body=b'{"keys": ' + b"[" * 100_000)),
        (JWKS, Answer(body={"keys": "none"})),
        (JWKS, Answer(body=[])),
        (JWKS, Answer(body=b'{"keys": []}' + b" " * (1 << 20))),
        (JWKS, Answer(status=302, headers={"Location": "/elsewhere"})),
        (DISCOVERY, Answer(status=404)),
        (DISCOVERY, Answer(body={"issuer": "https://other.example", "jwks_uri": "JWKS"})),
        (DISCOVERY, Answer(body={"issuer": "SELF"})),
        (DISCOVERY, Answer(body={"issuer": "SELF", "jwks_uri": "http://192.0.2.1/keys"})),
        (DISCOVERY, Answer(body={"issuer": "SELF", "jwks_uri": "file:///etc/passwd"})),
    ],
)
async def test_an_issuer_that_answers_nothing_of_use_lets_nobody_in(
    issuing: Issuing, path: str, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    issuing.server.answers["/elsewhere"] = Answer(body={"keys": issuing.keys})
    if isinstance(answer.body, dict):
        texts = {"SELF": issuing.issuer, "JWKS": issuing.server.url + JWKS}
        body = {name: texts.get(value, value) if isinstance(value, str) else value for name, value in answer.body.items()}
        answer = Answer(body=body)
    issuing.server.answers[path] = answer
    error = await refused(identities(issuing), issuing.token(FIRST), AuthorityError, "try again in 10 s")
    assert error.where == {"retry_after_s": "10"}
    assert "no keys of an issuer" in caplog.text


async def test_an_issuer_that_is_not_there_lets_nobody_in(issuing: Issuing) -> None:
    asked = identities(issuing, jwks_url="http://127.0.0.1:1/keys")
    await refused(asked, issuing.token(FIRST), AuthorityError, "can't be asked")


async def test_an_issuer_that_does_not_answer_in_time_lets_nobody_in_and_nobody_else_waits(issuing: Issuing) -> None:
    release = threading.Event()
    issuing.fail(Answer(after=release))
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    try:
        await refused(identities(issuing, timeout_s=0.5), issuing.token(FIRST), AuthorityError, "can't be asked")
    finally:
        release.set()
        ticking.cancel()
    assert ticks > 10  # the event loop went on


async def test_an_issuer_that_answers_byte_by_byte_gets_no_more_time_than_another(issuing: Issuing) -> None:
    issuing.fail(Answer(body={"keys": issuing.keys}, pause_s=0.005))  # two seconds and more, none of them idle
    await refused(identities(issuing, timeout_s=0.5), issuing.token(FIRST), AuthorityError, "can't be asked")


async def test_keys_that_come_with_an_error_are_none(issuing: Issuing) -> None:
    issuing.fail(Answer(status=503, body={"keys": issuing.keys}))
    await refused(identities(issuing), issuing.token(FIRST), AuthorityError, "can't be asked")


async def test_keys_that_were_fetched_outlast_an_outage_of_the_issuer_but_not_for_ever(issuing: Issuing) -> None:
    asked = identities(issuing, keys_max_age_s=600)
    await asked.identity_of(issuing.token(FIRST))
    issuing.fail()
    issuing.clock.now_s += 599
    assert await asked.identity_of(issuing.token(FIRST)) == BLUE
    await refused(asked, issuing.token(key("second")), AuthorityError, "can't be asked")  # it may be a new one: who knows
    issuing.clock.now_s += 2
    await refused(asked, issuing.token(FIRST), AuthorityError, "can't be asked")
    issuing.publish(FIRST)
    issuing.clock.now_s += 10
    assert await asked.identity_of(issuing.token(FIRST)) == BLUE


async def test_while_ageing_keys_are_fetched_one_request_waits_and_no_other(issuing: Issuing) -> None:
    asked = identities(issuing, keys_max_age_s=600)
    await asked.identity_of(issuing.token(FIRST))
    issuing.clock.now_s += 301
    begun, release = threading.Event(), threading.Event()

    def slow(_: Asked) -> Answer:
        begun.set()
        return Answer(body={"keys": issuing.keys}, after=release)

    issuing.server.answers[JWKS] = slow
    token = issuing.token(FIRST)
    first = asyncio.create_task(asked.identity_of(token))
    assert await asyncio.to_thread(begun.wait, 60)
    assert await asked.identity_of(token) == BLUE
    assert not first.done()
    release.set()
    assert await first == BLUE


async def test_a_token_without_a_signature_is_nobody_s(issuing: Issuing) -> None:
    asked = identities(issuing)
    await asked.identity_of(issuing.token(FIRST))
    for algorithm in ("none", "None", "NONE", "", None, 7, ["RS256"]):
        text = unsigned({"alg": algorithm, "typ": "JWT", "kid": "first"}, issuing.claims())
        await refused(asked, f"{text}.", InvalidTokenError, "signed in another way")
        await refused(asked, f"{text}.{issuing.token(FIRST).rpartition('.')[2]}", InvalidTokenError, "signed in another way")


@pytest.mark.parametrize("form", ["pem", "der", "n"])
async def test_a_public_key_is_no_secret_to_sign_with(issuing: Issuing, form: str) -> None:
    """The confusion of CVE-2015-9235: HS256 with the public key of RS256, which everybody has."""
    public = FIRST.private.public_key()
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "n": str(FIRST.published()["n"]).encode(),
    }[form]
    text = unsigned({"alg": "HS256", "typ": "JWT", "kid": "first"}, issuing.claims())
    signature = base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).rstrip(b"=").decode()
    await refused(identities(issuing), f"{text}.{signature}", InvalidTokenError, "signed in another way")


async def test_a_secret_among_the_published_keys_proves_nothing(issuing: Issuing) -> None:
    secret = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
    issuing.publish({"kty": "oct", "kid": "shared", "k": secret, "alg": "RS256"})
    text = unsigned({"alg": "RS256", "typ": "JWT", "kid": "shared"}, issuing.claims())
    signature = base64.urlsafe_b64encode(hmac.digest(b"s" * 32, text.encode(), hashlib.sha256)).rstrip(b"=").decode()
    await refused(identities(issuing), f"{text}.{signature}", InvalidTokenError, "does not publish")


async def test_a_key_proves_what_it_may_and_nothing_else(issuing: Issuing) -> None:
    weak, curve = key("weak", bits=1024), key("curve", "ES256")
    encrypting = key("encrypting")
    other = key("other", "PS256")
    issuing.publish(
        FIRST,
        weak,
        curve,
        encrypting.published(use="enc"),
        key("signing-only").published(key_ops=["sign"]),
        key("for-512").published(alg="RS512"),
        {**RSAAlgorithm.to_jwk(key("private").private, as_dict=True), "kid": "private", "key_ops": ["verify"]},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        other.published(alg="PS256"),
    )
    asked = identities(issuing, algorithms=("RS256", "ES256", "ES384", "PS256"))
    assert await asked.identity_of(issuing.token(FIRST)) == BLUE
    assert await asked.identity_of(issuing.token(curve)) == BLUE
    for wrong in (encrypting, key("signing-only"), key("for-512"), key("private"), FIRST_AS_PS):
        await refused(asked, issuing.token(wrong), InvalidTokenError, "does not publish")
    token = issuing.signed(weak, {"alg": "RS256", "kid": "weak"}, issuing.claims())
    await refused(asked, token, InvalidTokenError, "does not publish")


FIRST_AS_PS = type(FIRST)("first", "PS256", FIRST.private)
"""The key that is published for RS256 only."""


async def test_a_key_that_the_token_brings_with_it_proves_nothing(issuing: Issuing) -> None:
    mallory = key("mallory")
    evil = Issuing(issuing.server, issuing.clock)
    issuing.server.answers["/evil"] = Answer(body={"keys": [mallory.published(kid="first")]})
    headers: dict[str, object] = {
        "kid": "first",
        "jku": f"{evil.issuer}/evil",
        "jwk": mallory.published(),
        "x5u": f"{evil.issuer}/evil",
    }
    await refused(identities(issuing), issuing.token(mallory, headers), InvalidTokenError, "signature is not its issuer's")
    assert issuing.server.count("/evil") == 0


async def test_a_token_that_was_changed_after_it_was_signed_is_nobody_s(issuing: Issuing) -> None:
    header, _, signature = issuing.token(FIRST).split(".")
    claims = unsigned({}, issuing.claims(team="red")).split(".")[1]
    await refused(identities(issuing), f"{header}.{claims}.{signature}", InvalidTokenError, "signature is not its issuer's")


async def test_a_token_of_one_issuer_is_not_proven_by_the_keys_of_another(issuing: Issuing) -> None:
    with answering() as server:
        other = Issuing(server, issuing.clock)
        other.publish(key("second"))
        asked = identities(issuing, other)
        assert await asked.identity_of(other.token(key("second"))) == BLUE
        await refused(asked, issuing.token(key("second")), InvalidTokenError, "does not publish")
        # Nor is it when both call their keys the same.
        other.publish(key("second").published(kid="first"))
        issuing.clock.now_s += 20
        forged = issuing.token(key("second"), {"kid": "first"})
        await refused(asked, forged, InvalidTokenError, "signature is not its issuer's")


@pytest.mark.parametrize(
    ("claims", "match"),
    [
        ({"iss": "https://other.example"}, "issuer that is not trusted"),
        ({"iss": None}, "issuer that is not trusted"),
        ({"iss": 7}, "issuer that is not trusted"),
        ({"iss": ["a"]}, "issuer that is not trusted"),
        ({"aud": "another-service"}, "not for this coordinator"),
        ({"aud": ["a", "b"]}, "not for this coordinator"),
        ({"aud": []}, "no claim 'aud'"),
        ({"aud": "FRAZIL"}, "not for this coordinator"),
        ({"aud": "frazi"}, "not for this coordinator"),
        ({"aud": None}, "no claim 'aud'"),
        ({"exp": None}, "no claim 'exp'"),
        ({"exp": "tomorrow"}, "'exp' is no time"),
        ({"exp": "99999999999"}, "'exp' is no time"),
        ({"exp": True}, "'exp' is no time"),
        ({"exp": [9e12]}, "'exp' is no time"),
        ({"exp": 1_799_999_970}, "has expired"),
        ({"exp": 0}, "has expired"),
        ({"nbf": 1_800_000_031}, "not valid yet"),
        ({"iat": 1_800_000_031}, "not valid yet"),
        ({"nbf": "now"}, "'nbf' is no time"),
    ],
)
async def test_a_token_that_is_not_good_here_and_now_is_refused_and_told_why(
    issuing: Issuing, claims: dict[str, object], match: str
) -> None:
    token = issuing.signed(FIRST, {"alg": "RS256", "kid": "first", "typ": "JWT"}, issuing.claims(**claims))
    await refused(identities(issuing), token, InvalidTokenError, match)


async def test_clocks_may_differ_by_the_leeway_to_the_second(issuing: Issuing) -> None:
    asked = identities(issuing, leeway_s=30)
    now = int(issuing.clock())
    assert await asked.identity_of(issuing.token(FIRST, exp=now - 29)) == BLUE
    assert await asked.identity_of(issuing.token(FIRST, nbf=now + 30, iat=now + 30)) == BLUE
    token = issuing.token(FIRST, exp=now + 100)
    issuing.clock.now_s += 129
    assert await asked.identity_of(token) == BLUE
    issuing.clock.now_s += 1
    await refused(asked, token, InvalidTokenError, "has expired")


async def test_a_token_that_wants_what_is_not_understood_is_refused(issuing: Issuing) -> None:
    token = issuing.token(FIRST, {"crit": ["exp"], "exp": 1})
    await refused(identities(issuing), token, InvalidTokenError, "'crit'")


async def test_a_token_that_names_no_key_is_proven_by_the_only_one_that_fits_it(issuing: Issuing) -> None:
    nameless = type(FIRST)(None, "RS256", FIRST.private)
    issuing.publish(FIRST, key("curve", "ES256"))
    asked = identities(issuing)
    assert await asked.identity_of(issuing.token(nameless)) == BLUE
    issuing.publish(FIRST, key("second"))
    issuing.clock.now_s += 3600
    await refused(asked, issuing.token(nameless), InvalidTokenError, "does not publish")


@pytest.mark.parametrize(
    "token",
    [
        "secret",
        "a.b.c",
        "a.b",
        "a.b.c.d.e",
        "..",
        "e30.e30",
        "W10.W10.x",  # lists, not objects
        "e30.e30.\u00e9",
        "e30=.e30=.x",
        "e30." + "e30" * 10_000 + ".x",
        base64.urlsafe_b64encode(b'{"a": ' + b"[" * 9000).decode().rstrip("=") + ".e30.x",
        unsigned({"alg": "RS256"}, {"iss": "x" * 16_384}) + ".x",
    ],
)
async def test_what_is_no_jwt_is_refused_and_nobody_is_asked(issuing: Issuing, token: str) -> None:
    await refused(identities(issuing), token, InvalidTokenError, "neither one of the coordinator's nor a JWT")
    assert issuing.server.asked == []


async def test_a_kid_that_is_no_text_is_refused(issuing: Issuing) -> None:
    text = unsigned({"alg": "RS256", "kid": {"a": 1}}, issuing.claims())
    await refused(identities(issuing), f"{text}.AAAA", InvalidTokenError, "'kid'")


CLAIMS = {"tenant_claim": ("team",), "role": None, "role_claim": ("groups",)}
ROLES = MappingProxyType({"ops": Role.ADMIN, "data": Role.SUBMIT, "all": Role.READ})


@pytest.mark.parametrize(
    ("values", "claims", "expected"),
    [
        ({"tenant": "red", "tenant_claim": None}, {}, ("red", "submit")),
        ({"tenant_claim": ("org", "team")}, {"org": {"team": "red"}}, ("red", "submit")),
        ({"tenant_claim": ("https://x.example/team",)}, {"https://x.example/team": "red"}, ("red", "submit")),
        ({"tenants": {"b": "blue", "r": "red"}}, {"team": "r"}, ("red", "submit")),
        ({"tenants": {"b": "blue", "bb": "blue"}}, {"team": ["b", "x", "bb"]}, ("blue", "submit")),
        ({"tenants": {"b": "blue"}}, {"team": "blue"}, "'team' names no tenant"),
        ({}, {"team": "green"}, "'team' names no tenant"),
        ({}, {"team": None}, "'team' names no tenant"),
        ({}, {"team": 7}, "'team' names no tenant"),
        ({}, {"team": {"blue": 1}}, "'team' names no tenant"),
        ({}, {"team": ["blue", "red"]}, "'team' names 2 tenants"),
        ({"tenant_claim": ("org", "team")}, {"org": "team"}, r"'org\.team' names no tenant"),
        (CLAIMS, {"groups": ["all", "ops", "data"]}, ("blue", "admin")),
        (CLAIMS, {"groups": ["all", "x", "data"]}, ("blue", "submit")),
        (CLAIMS, {"groups": "all"}, ("blue", "read")),
        (CLAIMS, {"groups": ["x"]}, "'groups' gives no role"),
        (CLAIMS, {}, "'groups' gives no role"),
        (CLAIMS, {"groups": [["ops"], 7, None]}, "'groups' gives no role"),
        (CLAIMS, {"groups": "all ops"}, "'groups' gives no role"),
        (CLAIMS | {"role": Role.READ}, {"groups": ["x"]}, ("blue", "read")),
        (CLAIMS | {"role": Role.READ}, {"groups": ["data"]}, ("blue", "submit")),
        (CLAIMS | {"role_claim": ("scope",)}, {"scope": "openid data"}, ("blue", "submit")),
    ],
)
async def test_claims_give_a_tenant_and_a_role(
    issuing: Issuing, values: dict[str, Any], claims: dict[str, object], expected: tuple[str, str] | str
) -> None:
    roles = {"roles": ROLES} if values.get("role_claim") else {}
    asked = identities(issuing, **values, **roles)
    token = issuing.token(FIRST, None, **claims)
    if isinstance(expected, str):
        await refused(asked, token, ForbiddenError, f"is good, but its claim {expected}")
    else:
        assert await asked.identity_of(token) == Identity(tenant=expected[0], role=Role(expected[1]))


async def test_no_part_of_a_token_is_logged(issuing: Issuing, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asked = identities(issuing)
    tokens = [
        issuing.token(FIRST),
        issuing.token(key("second")),
        issuing.token(FIRST, exp=1),
        issuing.token(FIRST, team="x"),
    ]
    for token in tokens:
        try:
            await asked.identity_of(token)
        except FrazilError:
            continue
    issuing.fail()
    issuing.clock.now_s += 3601
    await refused(asked, tokens[0], AuthorityError, "can't be asked")
    logged = caplog.text + repr([vars(record) for record in caplog.records])
    assert "no keys of an issuer" in logged
    assert not [part for token in tokens for part in token.split(".")[1:] if part in logged]


async def test_what_tells_nobody_s_tokens_is_not_made() -> None:
    assert Identities.of(Tenants()) is None
