"""The HTTP face alone: tokens, problem documents, settings, event streams; on a platform in this process."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from frazil_coordinator.api import create_app
from frazil_coordinator.api.problems import MediaTypeError, NotEndedError, status_of
from frazil_coordinator.api.sse import event_stream
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.refusals import (
    AuthorityError,
    ForbiddenError,
    InvalidTokenError,
    NotPlannedError,
    PlanTooLargeError,
    QueueFullError,
    ShuttingDownError,
    UnauthorizedError,
)
from frazil_coordinator.registry import TooManyQueriesError, UnknownQueryError
from frazil_coordinator.retention import ResultGoneError
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryEvent, QueryState, QueryStatus, decode_event, decode_status
from frazil_functions import PROTOCOL_VERSION, errors
from frazil_functions.errors import FrazilError, QueryError, WireError, from_wire
from frazil_functions.ids import QueryId
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, plan_in_stages

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()
OCTETS = {"content-type": "application/octet-stream"}


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[Coordinator]:
    store = FolderStore(tmp_path)
    made = Coordinator(
        settings=Settings(max_plan_bytes=10_000), platform=FragmentPlatform(store), store=store, planner=plan_in_stages(1)
    )
    yield made
    await made.aclose()


def client_of(coordinator: Coordinator, *tokens: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(coordinator, tokens=tokens), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://coordinator")


@pytest.fixture
async def client(coordinator: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(coordinator) as opened:
        yield opened


def error_of(response: httpx.Response) -> FrazilError:
    """Return the error that a problem document stands for, after checking the document."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:frazil:problem:{problem['kind']}"
    assert problem["instance"] == response.request.url.path
    assert "Traceback" not in response.text
    return from_wire(
        WireError(kind=problem["kind"], message=problem["detail"], where=problem["where"], exception=problem["exception"])
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnauthorizedError("x"), 401),
        (UnknownQueryError("x"), 404),
        (NotEndedError("x"), 409),
        (InvalidTokenError("x"), 401),
        (AuthorityError("x"), 503),
        (NotPlannedError("x"), 409),
        (ResultGoneError("x"), 410),
        (PlanTooLargeError("x"), 413),
        (MediaTypeError("x"), 415),
        (TooManyQueriesError("x"), 429),
        (QueueFullError("x"), 429),
        (ForbiddenError("x"), 403),
        (ShuttingDownError("x"), 503),
        (errors.RequestError("x"), 400),
        (errors.PlanError("x"), 400),
        (errors.PythonPlanError("x"), 400),
        (errors.FallbackError("x"), 400),
        (errors.PlanVersionError("x"), 409),
        (errors.QueryError("x"), 400),
        (errors.SourceError("x"), 400),
        (errors.CancelledQueryError("x"), 409),
        (errors.DeadlineError("x"), 504),
        (errors.StorageFullError("x"), 507),
        (errors.StorageError("x"), 503),
        (errors.FunctionLostError("x"), 503),
        (errors.StandbyError("x"), 503),
        (errors.ProtocolError("x"), 500),
        (errors.OutOfMemoryError("x"), 500),
        (errors.InternalError("x"), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_each_error_has_its_http_status(error: FrazilError, status: int) -> None:
    assert status_of(error) == status


async def test_an_error_crosses_http_as_the_same_class(client: httpx.AsyncClient, coordinator: Coordinator) -> None:
    failing = pl.LazyFrame({"a": ["x"]}).select(pl.col("a").cast(pl.Int64)).serialize()
    query = (await coordinator.submit(failing)).id
    await coordinator.wait(query)
    response = await client.get(f"/v1/queries/{query}/result")
    assert response.status_code == 400
    error = error_of(response)
    assert isinstance(error, QueryError)
    assert error.exception == "InvalidOperationError"
    assert error.where == {"stage": "0", "task": "0"}


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic right", "right", "Bearer rightt", "Bearer righ", "Bearer  "]
)
async def test_without_the_right_token_there_is_no_answer(coordinator: Coordinator, header: str) -> None:
    async with client_of(coordinator, "other", "right") as client:
        headers = {"authorization": header} if header else {}
        for method, path in [
            ("GET", "/v1/queries"),
            ("POST", "/v1/queries"),
            ("GET", "/v1/version"),
            ("POST", "/v1/explain"),
        ]:
            response = await client.request(method, path, headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert isinstance(error_of(response), errors.RequestError)
    assert coordinator.list() == ()


async def test_any_of_the_tokens_is_let_in_and_probes_need_none(coordinator: Coordinator) -> None:
    async with client_of(coordinator, "other", "right") as client:
        for token in ("other", "right"):
            response = await client.get("/v1/queries", headers={"authorization": f"Bearer {token}"})
            assert response.status_code == 200
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json()["status"] == "ready"


async def test_a_token_is_not_logged(coordinator: Coordinator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="frazil_coordinator"):
        async with client_of(coordinator, "right") as client:
            await client.post("/v1/queries", content=PLAN, headers={"authorization": "Bearer right"})
            await client.get("/v1/queries", headers={"authorization": "Bearer wrong-secret"})
    assert "right" not in caplog.text
    assert "wrong-secret" not in caplog.text


def another_version(plan: bytes) -> bytes:
    spoiled = bytearray(plan)
    spoiled[20:24] = bytes(ord("0") if letter != ord("0") else ord("1") for letter in plan[20:24])
    return bytes(spoiled)


@pytest.mark.parametrize("path", ["/v1/queries", "/v1/explain", "/v1/queries?dry_run=true"])
@pytest.mark.parametrize(
    ("headers", "plan", "named"),
    [
        ({"frazil-polars": "1.2.3"}, PLAN, ["polars 1.2.3", f'pip install "polars=={pl.__version__}"']),
        ({"frazil-protocol": "999"}, PLAN, ["protocol 999", f"protocol {PROTOCOL_VERSION}", 'pip install "frazil==']),
        ({"frazil-polars": "x" * 5000}, PLAN, ["xxx", pl.__version__]),
        ({}, another_version(PLAN), [f'pip install "polars=={pl.__version__}"']),
    ],
    ids=["polars", "protocol", "nonsense", "the plan's own"],
)
async def test_a_plan_of_another_version_is_refused_with_the_versions_that_are_served(
    client: httpx.AsyncClient, coordinator: Coordinator, path: str, headers: dict[str, str], plan: bytes, named: list[str]
) -> None:
    response = await client.post(path, content=plan, headers={**OCTETS, **headers})
    assert response.status_code == 409
    error = error_of(response)
    assert type(error) is errors.PlanVersionError
    assert [words for words in named if words not in error.message] == []
    assert len(error.message) < 300
    assert response.json()["served"] == (await client.get("/v1/version")).json()
    assert coordinator.list() == ()


async def test_the_version_says_how_to_get_it(client: httpx.AsyncClient) -> None:
    version = (await client.get("/v1/version")).json()
    assert (version["polars"], version["protocol"]) == (pl.__version__, PROTOCOL_VERSION)
    assert version["install"] == f'pip install "frazil=={version["frazil"]}" "polars=={pl.__version__}"'


async def test_a_plan_that_names_the_versions_that_are_served_is_taken(client: httpx.AsyncClient) -> None:
    headers = {**OCTETS, "frazil-polars": pl.__version__, "frazil-protocol": str(PROTOCOL_VERSION)}
    assert (await client.post("/v1/queries", content=PLAN, headers=headers)).status_code == 202


async def test_only_the_problem_of_a_version_has_versions(client: httpx.AsyncClient) -> None:
    assert "served" not in (await client.get("/v1/queries/none")).json()


async def test_answers_name_the_versions_to_who_is_let_in(coordinator: Coordinator) -> None:
    async with client_of(coordinator, "right") as client:
        token = {"authorization": "Bearer right"}
        for path in ("/v1/queries", "/v1/version", "/v1/queries/none"):
            headers = (await client.get(path, headers=token)).headers
            assert (headers["frazil-polars"], headers["frazil-protocol"]) == (pl.__version__, str(PROTOCOL_VERSION))
        for path, shown in (("/v1/queries", {}), ("/healthz", token)):
            assert "frazil-polars" not in (await client.get(path, headers=shown)).headers


async def test_a_submitted_query_is_at_its_location(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/queries",
        content=PLAN,
        params=[("label", "x"), ("label", "y")],
        headers={"content-type": "application/vnd.frazil.plan"},
    )
    assert response.status_code == 202
    accepted = decode_status(response.content)
    assert response.headers["location"] == f"/v1/queries/{accepted.id}"
    ended = decode_status((await client.get(response.headers["location"], params={"wait_s": 20})).content)
    assert (ended.state, ended.labels) == (QueryState.SUCCEEDED, ("x", "y"))


async def test_settings_of_the_header_hold_for_the_query(client: httpx.AsyncClient, coordinator: Coordinator) -> None:
    given = {"fallback": "warn", "timeout_s": 60, "max_rows_per_split": None}
    response = await client.post("/v1/queries", content=PLAN, headers={"frazil-settings": json.dumps(given)})
    status = await coordinator.wait(decode_status(response.content).id)
    assert status.fallbacks == ("a reason",)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("{", "JSON"),
        ("[]", "JSON"),
        ("1", "JSON"),
        ('{"nope": 1}', "nope"),
        ('{"fallback": "maybe"}', "fallback"),
        ('{"max_attempts": "4"}', "max_attempts"),
        ('{"max_attempts": 0}', "max_attempts"),
        ('{"max_attempts": 1.5}', "max_attempts"),
        ('{"start_small": 1}', "start_small"),
        ('{"timeout_s": []}', "timeout_s"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/queries", "/v1/explain"])
async def test_bad_settings_are_refused_by_name(
    client: httpx.AsyncClient, coordinator: Coordinator, path: str, header: str, says: str
) -> None:
    response = await client.post(path, content=PLAN, headers={"frazil-settings": header})
    assert response.status_code == 400
    error = error_of(response)
    assert isinstance(error, errors.RequestError)
    assert says in error.message
    assert coordinator.list() == ()


async def test_a_declared_size_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/queries", content=b"x" * 10_001)
    assert response.status_code == 413
    assert isinstance(error_of(response), errors.PlanError)


async def test_an_undeclared_size_over_the_limit_is_refused_without_reading_it_all(client: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal sent
        while True:
            sent += 1000
            assert sent < 200_000, "it reads on and on"
            yield b"x" * 1000

    response = await client.post("/v1/queries", content=endless())
    assert response.status_code == 413
    assert isinstance(error_of(response), errors.PlanError)


async def test_an_empty_body_is_no_plan(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/queries", content=b"", headers=OCTETS)
    assert response.status_code == 400
    assert isinstance(error_of(response), errors.PlanError)


async def test_a_body_of_another_kind_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/queries", content=b"SELECT 1", headers={"content-type": "application/sql"})
    assert response.status_code == 415
    assert "vnd.frazil.plan" in error_of(response).message


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/queries?limit=0", 400),
        ("GET", "/v1/queries?limit=x", 400),
        ("GET", "/v1/queries?state=asleep", 400),
        ("GET", "/v1/queries/x?wait_s=61", 400),
        ("GET", "/v1/queries/x?wait_s=-1", 400),
        ("GET", "/v1/queries/x?wait_s=nan", 400),
        ("POST", "/v1/queries?label=" + "x" * 201, 400),
        ("POST", "/v1/queries?" + "&".join(["label=x"] * 21), 400),
        ("GET", "/v2/queries", 404),
        ("GET", "/v1/queries/x", 404),
        ("GET", "/v1/queries/x?wait_s=1", 404),
        ("GET", "/v1/queries/x/events", 404),
        ("GET", "/v1/queries/x/result", 404),
        ("GET", "/v1/queries/x/plan", 404),
        ("GET", "/v1/queries/x/profile", 404),
        ("DELETE", "/v1/queries/x", 404),
        ("PUT", "/v1/queries/x", 405),
    ],
)
async def test_a_bad_request_is_a_problem(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert isinstance(error_of(response), errors.RequestError)


async def test_an_unforeseen_error_tells_nothing_of_itself(
    client: httpx.AsyncClient, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("aws_secret_access_key=hunter2")

    monkeypatch.setattr(coordinator, "list", fail)
    response = await client.get("/v1/queries")
    assert response.status_code == 500
    assert isinstance(error_of(response), errors.InternalError)
    assert "hunter2" not in response.text


async def test_a_coordinator_that_shuts_down_is_not_ready_and_takes_nothing(
    client: httpx.AsyncClient, coordinator: Coordinator
) -> None:
    await coordinator.drain(0)
    for response in (await client.get("/readyz"), await client.post("/v1/queries", content=PLAN)):
        assert response.status_code == 503
        assert response.headers["retry-after"]
        error_of(response)
    assert (await client.get("/healthz")).status_code == 200


async def test_openapi_names_every_type_it_refers_to(client: httpx.AsyncClient) -> None:
    text = (await client.get("/openapi.json")).text
    document = json.loads(text)
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert {"QueryStatus", "Explanation", "StageProgress"} <= referred
    assert referred <= document["components"]["schemas"].keys()


async def test_an_event_stream_says_that_it_is_alive_and_ends_with_the_events() -> None:
    go_on = asyncio.Event()
    status = QueryStatus(id=QueryId("q"), state=QueryState.RUNNING, submitted_unix_s=1.0)

    async def events() -> AsyncGenerator[QueryEvent, None]:
        yield QueryEvent(kind="state", status=status, number=3)
        await go_on.wait()
        yield QueryEvent(kind="progress", status=status, number=7)

    stream = event_stream(events(), keep_alive_s=0.001)
    first = await anext(stream)
    assert await anext(stream) == b": keep-alive\n\n"
    go_on.set()
    rest = [chunk async for chunk in stream if not chunk.startswith(b":")]
    assert len(rest) == 1
    for chunk, number, kind in ((first, 3, "state"), (rest[0], 7, "progress")):
        head, event, data, *end = chunk.decode().split("\n")
        assert (head, event, end) == (f"id: {number}", f"event: {kind}", ["", ""])
        assert decode_event(data.removeprefix("data: ").encode()).number == number


async def test_a_reader_that_goes_away_ends_the_events() -> None:
    closed = asyncio.Event()
    status = QueryStatus(id=QueryId("q"), state=QueryState.RUNNING, submitted_unix_s=1.0)

    async def events() -> AsyncGenerator[QueryEvent, None]:
        try:
            yield QueryEvent(kind="state", status=status)
            await asyncio.Event().wait()
        finally:
            closed.set()

    stream = event_stream(events(), keep_alive_s=0.001)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert closed.is_set()
