"""Traces of ended queries: trees of spans whose ids follow from those of query and attempts, sent to a collector by OTLP."""

from __future__ import annotations

import gzip
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_coordinator.spans import MOST_ATTEMPTS, spans_of
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_coordinator.tracing import Tracing, tracing_from
from frazil_functions.errors import RequestError, StorageError, to_wire
from frazil_functions.ids import QueryId, StageId, TaskIndex, attempt_id, span_id, trace_id, traceparent
from frazil_functions.storage import FolderStore
from frazil_functions.task import TaskRequest
from support.fragments import FragmentPlatform, plan_in_stages
from support.polling import eventually_async

QUERY = QueryId("0123456789abcdef")


def status(**changes: Any) -> QueryStatus:
    known: dict[str, Any] = {
        "id": QUERY,
        "state": QueryState.SUCCEEDED,
        "submitted_unix_s": 100.0,
        "started_unix_s": 102.0,
        "ended_unix_s": 110.0,
        "rows": 7,
        **changes,
    }
    return QueryStatus(**known)


def stage(tasks: int, failed: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    done = [
        {
            "task": task,
            "attempt": 0,
            "began_s": float(task),
            "ended_s": task + 1.5,
            "rows_out": task,
            "cold_start": task == 0,
        }
        for task in range(tasks)
    ]
    figures = dict.fromkeys(("rows_in", "rows_out", "bytes_in", "bytes_out"), 5)
    counts = {
        "stage": 0,
        "kind": "map",
        "tasks": tasks,
        "attempts": tasks + len(failed),
        "requests": {"get": 3},
        "seconds": 4.0,
    }
    return {**counts, **figures, "task_list": done, "failed_attempts": failed, "running": [], **changes}


def failure(task: int, kind: str, seconds: float = 0.5) -> dict[str, Any]:
    return {
        "task": task,
        "attempt": 1,
        "kind": kind,
        "message": "of /secret/file",
        "seconds": seconds,
        "began_s": 0.25,
        "requests": {"put": 1},
    }


def test_a_query_is_a_tree_of_stages_and_attempts_on_the_clock_of_its_status() -> None:
    spans = spans_of(status(), {"stages": [stage(2, [failure(1, "storage")])]})
    query, of_stage, *attempts = spans
    assert (query.name, query.parent, query.began_unix_s, query.ended_unix_s) == ("query", None, 100.0, 110.0)
    assert query.attributes["frazil.waited_s"] == 2.0
    assert (of_stage.name, of_stage.parent, of_stage.began_unix_s, of_stage.ended_unix_s) == (
        "stage map",
        query.id,
        102.0,
        104.5,
    )
    assert of_stage.attributes["frazil.requests.get"] == 3
    assert [(one.attributes["frazil.task"], one.attributes["frazil.attempt"], one.error) for one in attempts] == [
        (0, 0, ""),
        (1, 1, "storage"),
        (1, 0, ""),
    ]
    assert {one.parent for one in attempts} == {of_stage.id}
    assert attempts[0].id == span_id(attempt_id(QUERY, StageId(0), TaskIndex(0), 0))


def test_what_was_not_needed_is_no_error_and_an_error_is_told_by_its_kind_alone() -> None:
    failed = status(state=QueryState.FAILED, error=to_wire(StorageError("/secret/file")), rows=None)
    spans = spans_of(failed, {"stages": [stage(1, [failure(0, "not_needed")])]})
    assert [one.error for one in spans] == ["storage", "", "", ""]
    assert "secret" not in repr(spans)


def test_a_query_that_was_never_planned_is_a_span_of_its_own() -> None:
    (only,) = spans_of(status(started_unix_s=None, state=QueryState.CANCELLED), {})
    assert (only.name, only.began_unix_s, only.ended_unix_s) == ("query", 100.0, 110.0)


def test_of_a_large_query_the_failed_and_the_longest_attempts_have_spans() -> None:
    large = stage(MOST_ATTEMPTS + 50, [failure(3, "storage", seconds=0.001)])
    large["task_list"][17]["ended_s"] = 1e6
    attempts = [one for one in spans_of(status(), {"stages": [large]}) if one.name == "task"]
    assert len(attempts) == MOST_ATTEMPTS
    assert sum(one.error == "storage" for one in attempts) == 1
    assert any(one.attributes["frazil.task"] == 17 for one in attempts)


def test_an_event_carries_the_span_of_its_attempt_as_w3c_trace_context() -> None:
    attempt = attempt_id(QUERY, StageId(2), TaskIndex(5), 1)
    assert traceparent(attempt) == f"00-{trace_id(QUERY):032x}-{span_id(attempt):016x}-01"
    assert len(traceparent(attempt)) == 55


def test_nothing_is_traced_unless_a_collector_is_named() -> None:
    assert tracing_from({}) is None
    assert tracing_from({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}) is None


def test_a_collector_without_the_packages_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(RequestError, match=r"frazil\[otel\]"):
        tracing_from({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


class Collector:
    """A collector on loopback: keeps what it is sent."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[SentSpan]:
        return [
            span for one in self.requests for of in one.resource_spans for scope in of.scope_spans for span in scope.spans
        ]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            data = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            kept.requests.append(ExportTraceServiceRequest.FromString(data))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
async def traced(tmp_path: Path, collector: Collector) -> AsyncIterator[tuple[Coordinator, Tracing]]:
    tracing, store = tracing_from(), FolderStore(tmp_path)
    assert tracing is not None

    async def before(request: TaskRequest) -> None:
        if (request.stage, request.task, request.attempt) == (0, 1, 0):
            raise StorageError("once")

    platform = FragmentPlatform(store, before)
    settings = Settings(retry_backoff_s=0.0)
    made = Coordinator(
        settings=settings, platform=platform, store=store, planner=plan_in_stages(2, tasks=3), tracing=tracing
    )
    yield made, tracing
    await made.aclose()
    tracing.close()


async def test_a_collector_is_sent_the_trace_of_a_query_when_it_has_ended(
    traced: tuple[Coordinator, Tracing], collector: Collector
) -> None:
    coordinator, tracing = traced
    accepted = await coordinator.submit(pl.LazyFrame({"a": [1, 2]}).serialize(), labels=["nightly"])
    await coordinator.wait(accepted.id, 30.0)
    await coordinator.aclose()  # which waits for what is told of ended queries
    tracing.flush()
    spans = collector.spans
    assert {span.trace_id for span in spans} == {trace_id(accepted.id).to_bytes(16, "big")}
    assert sorted(span.name for span in spans) == ["query", "stage single", "stage single", *["task"] * 7]
    (root,) = [span for span in spans if not span.parent_span_id]
    assert {attribute.key: attribute.value.string_value for attribute in root.attributes}["frazil.labels"] == "nightly"
    known = {span.span_id for span in spans}
    assert all(span.parent_span_id in known for span in spans if span is not root)
    (failed,) = [span for span in spans if span.status.code == span.status.STATUS_CODE_ERROR]
    assert failed.status.message == "storage"
    assert failed.span_id == span_id(f"{accepted.id}/0/1/0").to_bytes(8, "big")
    assert all(root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
    (service,) = [one for one in collector.requests[0].resource_spans[0].resource.attributes if one.key == "service.name"]
    assert service.value.string_value == "frazil-coordinator"


async def test_a_query_that_failed_is_an_error_in_its_trace(
    traced: tuple[Coordinator, Tracing], collector: Collector
) -> None:
    coordinator, tracing = traced
    accepted = await coordinator.submit(pl.LazyFrame({"a": ["x"]}).select(pl.col("a").cast(pl.Int64)).serialize())
    assert (await coordinator.wait(accepted.id, 30.0)).state is QueryState.FAILED
    await coordinator.aclose()
    tracing.flush()
    (root,) = [span for span in collector.spans if not span.parent_span_id]
    assert (root.status.code, root.status.message) == (root.status.STATUS_CODE_ERROR, "query")


class Broken:
    """What is told of ended queries, and fails."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def ended(self, status: QueryStatus, profile: object) -> None:
        self.threads.append(threading.current_thread())
        raise KeyError("stages")


async def test_a_trace_is_made_in_a_thread_and_whatever_is_wrong_with_it_the_query_has_ended_as_it_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, store = Broken(), FolderStore(tmp_path)
    made = Coordinator(
        settings=Settings(),
        platform=FragmentPlatform(store),
        store=store,
        planner=plan_in_stages(1),
        tracing=cast("Tracing", broken),
    )
    accepted = await made.submit(pl.LazyFrame({"a": [1]}).serialize())
    assert (await made.wait(accepted.id, 30.0)).state is QueryState.SUCCEEDED
    assert [frame.height async for frame in made.result(accepted.id)] == [1]
    await eventually_async(lambda: "query not traced" in caplog.messages, "the log tells of it")
    assert broken.threads
    assert threading.main_thread() not in broken.threads
    await made.aclose()
