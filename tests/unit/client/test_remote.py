"""A session over HTTP: what it sends, what it repeats, what it makes of the answers."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import polars as pl
import pytest

import frazil
from frazil._remote import RemoteSession
from frazil_coordinator.results import END_OF_STREAM, splice
from frazil_coordinator.status import QueryEvent, QueryState, QueryStatus, encode
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.errors import StorageError
from frazil_functions.ids import QueryId

Q = QueryId("q1")
URL = "http://coordinator:8080"


def status(state: QueryState = QueryState.RUNNING) -> bytes:
    return encode(QueryStatus(id=Q, state=state, submitted_unix_s=1.0))


class VirtualClock:
    """Stands for the module time: sleeping moves it on."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Coordinator:
    """Answers requests by a table of path → answer, and remembers them."""

    def __init__(self, **answers: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []
        self.polars = pl.__version__
        self.protocol = PROTOCOL_VERSION
        self.tells = False
        """Whether each answer names the versions in its head, as a coordinator of this version does."""

        self.failures: list[Exception] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.failures:
            raise self.failures.pop(0)
        if request.url.path == "/v1/version":
            return httpx.Response(200, json={"frazil": "9.8.7", "polars": self.polars, "protocol": self.protocol})
        name = request.url.path.rpartition("/")[2]
        answer = self.answers[name](request)
        if self.tells:
            answer.headers.update({"Frazil-Polars": self.polars, "Frazil-Protocol": str(self.protocol)})
        return answer

    def session(self, settings: frazil.Settings | None = None, timeout_s: float = 30.0) -> RemoteSession:
        transport = httpx.MockTransport(self)
        return RemoteSession(URL, token="t", settings=settings, timeout_s=timeout_s, transport=transport)

    def paths(self) -> list[str]:
        return [f"{request.method} {request.url.path}" for request in self.requests]


def test_a_query_is_submitted_with_labels_settings_and_token() -> None:
    coordinator = Coordinator(queries=lambda _: httpx.Response(202, content=status()))
    settings = frazil.Settings(start_small=False, max_rows_per_split=4)
    assert coordinator.session(settings).submit(b"plan", ("a b", "c")).id == Q
    request = coordinator.requests[-1]
    assert request.content == b"plan"
    assert request.headers["Authorization"] == "Bearer t"
    assert json.loads(request.headers["Frazil-Settings"]) == {"start_small": False, "max_rows_per_split": 4}
    assert request.url.params.get_list("label") == ["a b", "c"]


def test_without_settings_the_coordinator_s_own_hold() -> None:
    coordinator = Coordinator(queries=lambda _: httpx.Response(202, content=status()))
    coordinator.session().submit(b"plan", ())
    assert "Frazil-Settings" not in coordinator.requests[-1].headers


def test_the_versions_are_compared_once_and_not_before_they_matter() -> None:
    coordinator = Coordinator(queries=lambda _: httpx.Response(202, content=status()))
    session = coordinator.session()
    assert coordinator.requests == []
    session.submit(b"one", ())
    session.submit(b"two", ())
    assert coordinator.paths() == ["GET /v1/version", "POST /v1/queries", "POST /v1/queries"]


def test_another_version_of_polars_is_an_error_that_names_both() -> None:
    coordinator = Coordinator()
    coordinator.polars = "1.0.0"
    with pytest.raises(frazil.PlanVersionError, match=rf"{pl.__version__}.*polars 1\.0\.0"):
        coordinator.session().submit(b"plan", ())


def test_a_plan_names_the_versions_that_it_is_of_and_a_statement_does_not() -> None:
    coordinator = Coordinator(queries=lambda _: httpx.Response(202, content=status()))
    session = coordinator.session()
    session.submit(b"plan", ())
    plan = coordinator.requests[-1].headers
    assert (plan["Frazil-Polars"], plan["Frazil-Protocol"]) == (pl.__version__, str(PROTOCOL_VERSION))
    session.submit_sql("SELECT 1", (), ())
    assert "Frazil-Polars" not in coordinator.requests[-1].headers


def test_another_protocol_is_an_error_that_names_the_frazil_to_install() -> None:
    coordinator = Coordinator()
    coordinator.protocol = PROTOCOL_VERSION + 1
    with pytest.raises(
        frazil.PlanVersionError, match=rf"protocol {PROTOCOL_VERSION},.*protocol {PROTOCOL_VERSION + 1}.*frazil==9\.8\.7"
    ):
        coordinator.session().submit(b"plan", ())


def test_versions_that_an_answer_told_are_not_asked_for() -> None:
    coordinator = Coordinator(
        q1=lambda _: httpx.Response(200, content=status()), queries=lambda _: httpx.Response(202, content=status())
    )
    coordinator.tells = True
    session = coordinator.session()
    session.status(Q)
    session.submit(b"plan", ())
    assert coordinator.paths() == ["GET /v1/queries/q1", "POST /v1/queries"]


def test_a_coordinator_that_is_updated_meanwhile_gets_no_plan_of_the_old_version() -> None:
    coordinator = Coordinator(
        q1=lambda _: httpx.Response(200, content=status()), queries=lambda _: httpx.Response(202, content=status())
    )
    coordinator.tells = True
    session = coordinator.session()
    session.submit(b"plan", ())
    coordinator.polars = "9.0.0"
    session.status(Q)
    with pytest.raises(frazil.PlanVersionError, match=r'pip install "polars==9\.0\.0"'):
        session.submit(b"plan", ())
    assert coordinator.paths().count("POST /v1/queries") == 1
    coordinator.polars = pl.__version__  # and back: what was told is asked again before it is an error
    session.submit(b"plan", ())
    assert coordinator.paths().count("POST /v1/queries") == 2


@pytest.mark.parametrize(("polars", "protocol"), [("", "3"), ("2.1.0", ""), ("2.1.0", "x"), ("2.1.0", "1" * 5000)])
def test_a_head_that_tells_no_versions_is_not_believed(polars: str, protocol: str) -> None:
    headers = {"Frazil-Polars": polars, "Frazil-Protocol": protocol}
    coordinator = Coordinator(
        q1=lambda _: httpx.Response(200, content=status(), headers=headers),
        queries=lambda _: httpx.Response(202, content=status()),
    )
    session = coordinator.session()
    session.status(Q)
    session.submit(b"plan", ())
    assert "GET /v1/version" in coordinator.paths()


def test_a_glance_asks_for_status_and_profile_once() -> None:
    coordinator = Coordinator(
        q1=lambda _: httpx.Response(200, content=status()), profile=lambda _: httpx.Response(200, json={"query": "q1"})
    )
    known, used = coordinator.session().glance(Q, 5.0)
    assert (known.id, used) == (Q, {"query": "q1"})
    assert coordinator.paths() == ["GET /v1/queries/q1", "GET /v1/queries/q1/profile"]


def test_a_glance_is_over_in_time_and_tries_nothing_twice() -> None:
    free = threading.Event()

    def late(_: httpx.Request) -> httpx.Response:
        free.wait(60)
        return httpx.Response(200, json={"query": "q1"})

    began = time.monotonic()
    coordinator = Coordinator(q1=late, profile=late)
    with pytest.raises(frazil.UnreachableError, match=r"within 0\.1 s"):
        coordinator.session().glance(Q, 0.1)
    coordinator.answers["q1"] = lambda _: httpx.Response(200, content=status())
    known, used = coordinator.session().glance(Q, 0.5)
    assert (known.id, used) == (Q, None)
    assert time.monotonic() - began < 20
    free.set()
    refusing = Coordinator()
    refusing.failures = [httpx.ConnectError("refused")]
    with pytest.raises(frazil.UnreachableError, match="refused"):
        refusing.session().glance(Q, 5.0)
    assert len(refusing.requests) == 1


def test_a_glance_at_a_query_that_is_forgotten_says_so() -> None:
    gone = {"kind": "request", "detail": "there is no query 'q1'"}
    with pytest.raises(frazil.RequestError, match="there is no query"):
        Coordinator(q1=lambda _: httpx.Response(404, json=gone)).session().glance(Q, 5.0)


def test_a_closed_session_says_that_it_is_closed() -> None:
    session = Coordinator(q1=lambda _: httpx.Response(200, content=status())).session()
    session.close()
    for ask in (lambda: session.status(Q), lambda: session.glance(Q, 5.0)):
        with pytest.raises(frazil.RequestError, match="this engine is closed"):
            ask()


def test_a_read_is_repeated_when_the_connection_fails() -> None:
    coordinator = Coordinator(q1=lambda _: httpx.Response(200, content=status()))
    coordinator.failures = [httpx.ConnectError("refused"), httpx.ReadError("reset")]
    assert coordinator.session().status(Q).id == Q
    assert len(coordinator.requests) == 3


def test_a_submission_without_an_answer_is_repeated_under_the_same_key() -> None:
    coordinator = Coordinator(queries=lambda _: httpx.Response(202, content=status()))
    session = coordinator.session()
    session.submit(b"one", ())
    coordinator.failures = [httpx.ConnectError("refused"), httpx.ReadError("reset")]
    session.submit(b"two", ())
    keys = [request.headers["Idempotency-Key"] for request in coordinator.requests if request.method == "POST"]
    assert len(keys) == 4
    assert len(set(keys)) == 2
    assert len(set(keys[1:])) == 1


def test_an_explanation_without_an_answer_is_not_repeated_because_it_may_be_work() -> None:
    coordinator = Coordinator(explain=lambda _: httpx.Response(200, content=b"{}"))
    session = coordinator.session()
    session._check_version()
    coordinator.failures = [httpx.ReadError("reset")]
    with pytest.raises(frazil.UnreachableError, match="reset"):
        session.explain(b"plan")


def test_a_coordinator_that_says_when_to_come_back_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frazil._remote.time", VirtualClock())
    answers = [
        httpx.Response(503, json={"kind": "standby", "message": "another one leads"}, headers={"Retry-After": "1"}),
        httpx.Response(202, content=status()),
    ]
    coordinator = Coordinator(queries=lambda _: answers.pop(0))
    assert coordinator.session().submit(b"plan", ()).id == Q
    assert coordinator.paths().count("POST /v1/queries") == 2


def test_what_became_of_a_query_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = VirtualClock()
    monkeypatch.setattr("frazil._remote.time", now)
    problem = {"kind": "storage", "message": "the bucket is gone"}
    coordinator = Coordinator(result=lambda _: httpx.Response(503, json=problem, headers={"Retry-After": "1"}))
    with pytest.raises(StorageError, match="the bucket is gone"):
        list(coordinator.session().batches(Q))
    assert now.seconds == 0


def test_a_result_that_breaks_off_goes_on_behind_what_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frazil._remote.time", VirtualClock())
    first, second = io.BytesIO(), io.BytesIO()
    pl.DataFrame({"a": [1, 2]}).write_ipc_stream(first)
    pl.DataFrame({"a": [3]}).write_ipc_stream(second)
    parts = [splice(first.getvalue(), first=True), splice(second.getvalue(), first=False), END_OF_STREAM]

    def broken() -> Iterator[bytes]:
        yield parts[0]
        raise httpx.ReadError("reset")

    answers = [httpx.Response(200, content=broken()), httpx.Response(200, content=b"".join(parts))]
    coordinator = Coordinator(result=lambda _: answers.pop(0))
    frames = list(coordinator.session().batches(Q))
    assert [frame["a"].to_list() for frame in frames] == [[1, 2], [3]]


def test_events_that_end_before_the_query_does_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frazil._remote.time", VirtualClock())

    def event(state: QueryState) -> bytes:
        told = QueryStatus(id=Q, state=state, submitted_unix_s=1.0)
        return b"data: " + encode(QueryEvent(kind="state", status=told)) + b"\n\n"

    answers = [event(QueryState.RUNNING), event(QueryState.SUCCEEDED)]
    coordinator = Coordinator(events=lambda _: httpx.Response(200, content=answers.pop(0)))
    states = [one.status.state for one in coordinator.session().events(Q)]
    assert states == [QueryState.RUNNING, QueryState.SUCCEEDED]


def test_a_coordinator_that_never_answers_is_unreachable() -> None:
    coordinator = Coordinator()
    coordinator.failures = [httpx.ConnectError("refused")] * 100
    with pytest.raises(frazil.UnreachableError, match=f"{URL}: refused") as caught:
        coordinator.session(timeout_s=0.1).status(Q)
    assert isinstance(caught.value, ConnectionError)


def test_a_coordinator_that_never_answered_is_given_up_before_one_that_did(monkeypatch: pytest.MonkeyPatch) -> None:
    now = VirtualClock()
    monkeypatch.setattr("frazil._remote.time", now)
    coordinator = Coordinator(q1=lambda _: httpx.Response(200, content=status()))
    session = coordinator.session(timeout_s=30.0)
    coordinator.failures = [httpx.ConnectError("refused")] * 100
    with pytest.raises(frazil.UnreachableError):
        session.status(Q)
    assert now.seconds <= 3
    coordinator.failures = []
    session.status(Q)
    before = now.seconds
    coordinator.failures = [httpx.ConnectError("refused")] * 100
    with pytest.raises(frazil.UnreachableError):
        session.status(Q)
    assert 25 < now.seconds - before <= 30


def test_waiting_polls_until_the_end() -> None:
    answers = [status(), status(), status(QueryState.SUCCEEDED)]
    coordinator = Coordinator(q1=lambda _: httpx.Response(200, content=answers.pop(0)))
    assert coordinator.session().wait(Q, None).state is QueryState.SUCCEEDED
    assert [float(request.url.params["wait_s"]) for request in coordinator.requests] == [20.0] * 3


def test_waiting_ends_in_time() -> None:
    coordinator = Coordinator(q1=lambda _: httpx.Response(200, content=status()))
    assert coordinator.session().wait(Q, 0.0).state is QueryState.RUNNING


def test_a_broken_event_stream_is_opened_again() -> None:
    def event(state: QueryState) -> bytes:
        one = QueryEvent(kind="state", status=QueryStatus(id=Q, state=state, submitted_unix_s=1.0))
        return b"id: 1\nevent: state\ndata: " + encode(one) + b"\n\n"

    class Torn(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield event(QueryState.RUNNING)
            raise httpx.ReadError("reset")

    answers = [httpx.Response(200, stream=Torn()), httpx.Response(200, content=event(QueryState.FAILED))]
    coordinator = Coordinator(events=lambda _: answers.pop(0))
    assert [one.status.state.value for one in coordinator.session().events(Q)] == ["running", "failed"]


def test_a_problem_document_becomes_the_class_that_was_raised() -> None:
    document = {"title": "Bad Request", "detail": "no x", "kind": "source", "where": {"file": "s3://b/x"}, "exception": ""}
    coordinator = Coordinator(profile=lambda _: httpx.Response(400, json=document))
    with pytest.raises(frazil.SourceError, match=r"no x \(file s3://b/x\)"):
        coordinator.session().profile(Q)


@pytest.mark.parametrize(("code", "body"), [(404, b"<html>not here</html>"), (502, b"")])
def test_an_answer_of_something_else_says_what_came(code: int, body: bytes) -> None:
    coordinator = Coordinator(q1=lambda _: httpx.Response(code, content=body))
    with pytest.raises(frazil.RequestError, match=f"GET /v1/queries/q1 → {code}"):
        coordinator.session().status(Q)


def test_the_list_of_queries_can_be_narrowed() -> None:
    coordinator = Coordinator(queries=lambda _: httpx.Response(200, content=b"[" + status() + b"]"))
    found = coordinator.session().queries(limit=5, state=QueryState.RUNNING, label="mine")
    assert [one.id for one in found] == [Q]
    assert dict(coordinator.requests[-1].url.params) == {"limit": "5", "state": "running", "label": "mine"}


def test_cancel_and_plan_and_explain_have_their_routes() -> None:
    explanation = httpx.Response(200, content=b'{"text":"STAGE 0"}')
    coordinator = Coordinator(
        q1=lambda _: httpx.Response(200, content=status(QueryState.CANCELLED)),
        plan=lambda _: explanation,
        explain=lambda _: explanation,
    )
    session = coordinator.session()
    session.cancel(Q)
    assert session.plan(Q).text == session.explain(b"plan").text == "STAGE 0"
    assert coordinator.paths() == [
        "DELETE /v1/queries/q1", "GET /v1/queries/q1/plan", "GET /v1/version", "POST /v1/explain",
    ]  # fmt: skip


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://x", "http://", "nothing"])
def test_what_is_not_an_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(frazil.RequestError, match="address of a coordinator"):
        frazil.connect(url)
