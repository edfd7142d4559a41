"""The coordinator over real HTTP, with real function processes and a folder as store."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import polars as pl
import pytest

from frazil_coordinator.settings import Settings
from frazil_coordinator.status import (
    QueryEvent,
    QueryState,
    QueryStatus,
    decode_event,
    decode_explanation,
    decode_status,
    decode_statuses,
)
from frazil_functions.errors import (
    CancelledQueryError,
    CapError,
    FrazilError,
    PlanError,
    PlanVersionError,
    PythonPlanError,
    QueryError,
    RequestError,
    WireError,
    from_wire,
)
from support.parity import assert_same
from support.polling import eventually
from support.serving import TOKEN, serving

TINY = {"start_small": False, "max_rows_per_split": 4, "inline_limit_bytes": 0}
"""Many tiny tasks, all output through the store."""


@dataclass
class Server:
    """A coordinator that is served in a thread of its own."""

    client: httpx.Client
    store: Path

    def post(self, plan: bytes, *, path: str = "/v1/queries", settings: object = TINY, **params: object) -> httpx.Response:
        headers = {"Frazil-Settings": json.dumps(settings), "Content-Type": "application/vnd.frazil.plan"}
        return self.client.post(path, content=plan, headers=headers, params=httpx.QueryParams(params))  # type: ignore[arg-type]  # labels are strings

    def submit(self, lf: pl.LazyFrame, settings: object = TINY) -> str:
        response = self.post(lf.serialize(), settings=settings)
        assert response.status_code == 202, response.text
        return response.headers["location"]

    def ended(self, location: str) -> QueryStatus:
        status = decode_status(self.client.get(location, params={"wait_s": 60}).content)
        assert status.state.ended
        return status

    def result(self, location: str) -> pl.DataFrame:
        response = self.client.get(f"{location}/result")
        assert response.headers["content-type"] == "application/vnd.apache.arrow.stream", response.text
        return pl.read_ipc_stream(io.BytesIO(response.content))

    def left(self) -> list[str]:
        """Return the objects of the exchange; what is kept of failed queries is not among them."""
        return [path.relative_to(self.store).as_posix() for path in (self.store / "exchange").rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("exchange")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        serving(store, Settings(max_plan_bytes=1_000_000)) as url,
        httpx.Client(base_url=url, headers=headers, timeout=90) as client,
    ):
        yield Server(client, store)


@pytest.fixture(autouse=True)
def nothing_is_left(server: Server) -> Iterator[None]:
    yield
    eventually(lambda: not server.left(), "the exchange is empty")


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    folder = tmp_path_factory.mktemp("orders")
    for part in range(3):
        rows = range(part * 10, part * 10 + 10)
        frame = pl.DataFrame({"key": [row % 4 for row in rows], "value": [float(row) for row in rows]})
        frame.write_parquet(folder / f"{part}.parquet")
    return pl.scan_parquet(folder / "*.parquet")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    """A query of thousands of tasks."""
    path = tmp_path_factory.mktemp("long") / "long.parquet"
    pl.DataFrame({"key": range(20_000)}).write_parquet(path)
    return pl.scan_parquet(path).group_by(pl.col("key") % 7).len()


def error_of(response: httpx.Response) -> FrazilError:
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert "Traceback" not in response.text
    return from_wire(
        WireError(kind=problem["kind"], message=problem["detail"], where=problem["where"], exception=problem["exception"])
    )


def test_the_answer_is_that_of_polars_and_nothing_is_left(server: Server, orders: pl.LazyFrame) -> None:
    lf = orders.group_by("key").agg(pl.col("value").sum()).sort("key")
    location = server.submit(lf)
    status = server.ended(location)
    assert status.state is QueryState.SUCCEEDED
    assert sum(stage.tasks for stage in status.progress) > 8
    assert server.left() == []
    for _ in range(2):
        assert_same(server.result(location), lf.collect(), ordered=True)


def test_a_result_without_rows_keeps_its_schema(server: Server, orders: pl.LazyFrame) -> None:
    lf = orders.filter(pl.col("value") > 1e9).with_columns(kind=pl.lit("x").cast(pl.Enum(["x", "y"])))
    location = server.submit(lf)
    server.ended(location)
    assert_same(server.result(location), lf.collect(), ordered=True)


def test_a_large_result_streams_and_is_deleted_when_it_was_read(server: Server, tmp_path: Path) -> None:
    pl.DataFrame({"a": range(3_000_000)}).write_parquet(tmp_path / "large.parquet")
    lf = pl.scan_parquet(tmp_path / "large.parquet").select(pl.col("a"), b=pl.col("a").hash(7))
    location = server.submit(lf, {"inline_limit_bytes": 0})
    assert server.ended(location).state is QueryState.SUCCEEDED
    assert server.left()
    assert_same(server.result(location), lf.collect(), ordered=True)
    assert server.left() == []
    gone = server.client.get(f"{location}/result")
    assert gone.status_code == 410
    assert isinstance(error_of(gone), RequestError)


def test_events_tell_each_state_in_order_and_the_progress(server: Server, orders: pl.LazyFrame) -> None:
    location = server.submit(orders.group_by("key").len())
    events: list[QueryEvent] = []
    ids: list[int] = []
    with server.client.stream("GET", f"{location}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("id: "):
                ids.append(int(line.removeprefix("id: ")))
            if line.startswith("data: "):
                events.append(decode_event(line.removeprefix("data: ").encode()))
    states = [event.status.state for event in events if event.kind == "state"]
    assert states == sorted(set(states), key=list(QueryState).index)
    assert states[-1] is QueryState.SUCCEEDED
    assert ids == sorted(set(ids)) == [event.number for event in events]
    done = [sum(stage.done for stage in event.status.progress) for event in events]
    assert done == sorted(done)


def test_a_long_poll_returns_when_its_time_is_up_and_a_cancelled_query_leaves_nothing(
    server: Server, long: pl.LazyFrame
) -> None:
    location = server.submit(long)
    eventually(lambda: bool(server.left()), "the first objects are there")
    status = decode_status(server.client.get(location, params={"wait_s": 0.05}).content)
    assert status.state is QueryState.RUNNING
    early = server.client.get(f"{location}/result")
    assert early.status_code == 409
    assert early.json()["state"] == "running"
    cancelled = server.client.delete(location)
    assert cancelled.status_code == 200
    assert decode_status(cancelled.content).state is QueryState.CANCELLED
    eventually(lambda: not server.left(), "the exchange is empty")
    assert decode_status(server.client.delete(location).content) == decode_status(cancelled.content)
    late = server.client.get(f"{location}/result")
    assert late.status_code == 409
    assert isinstance(error_of(late), CancelledQueryError)


def test_the_time_of_a_query_can_be_limited(server: Server, long: pl.LazyFrame) -> None:
    location = server.submit(long, {**TINY, "timeout_s": 0.5})
    assert server.ended(location).state is QueryState.FAILED
    response = server.client.get(f"{location}/result")
    assert response.status_code == 504
    assert error_of(response).kind == "deadline"


def test_queries_are_listed_by_label_and_state(server: Server, orders: pl.LazyFrame) -> None:
    response = server.post(orders.head(3).serialize(), label="nightly")
    status = server.ended(response.headers["location"])
    listed = decode_statuses(server.client.get("/v1/queries", params={"label": "nightly"}).content)
    assert listed == (status,)
    assert decode_statuses(server.client.get("/v1/queries?label=nightly&state=failed").content) == ()
    assert len(decode_statuses(server.client.get("/v1/queries?limit=1").content)) == 1


def test_plan_and_profile_of_a_query_can_be_read(server: Server, orders: pl.LazyFrame) -> None:
    location = server.submit(orders.group_by("key").len())
    server.ended(location)
    explanation = decode_explanation(server.client.get(f"{location}/plan").content)
    profile = server.client.get(f"{location}/profile").json()
    assert [stage["stage"] for stage in explanation.stages] == [stage["stage"] for stage in profile["stages"]]
    assert "group_by" in explanation.text


def test_explain_runs_nothing(server: Server, orders: pl.LazyFrame) -> None:
    before = len(decode_statuses(server.client.get("/v1/queries?limit=1000").content))
    response = server.post(orders.group_by("key").len().serialize(), path="/v1/explain")
    assert len(decode_explanation(response.content).stages) >= 2
    assert len(decode_statuses(server.client.get("/v1/queries?limit=1000").content)) == before


def test_dry_run_estimates_and_runs_nothing(server: Server, orders: pl.LazyFrame) -> None:
    before = len(decode_statuses(server.client.get("/v1/queries?limit=1000").content))
    response = server.post(orders.group_by("key").len().serialize(), dry_run="true")
    assert response.status_code == 200
    predicted = decode_explanation(response.content).predicted
    assert predicted is not None
    assert predicted["rows_in"] == {"value": 60, "bound": "at_most"}
    assert len(decode_statuses(server.client.get("/v1/queries?limit=1000").content)) == before


@pytest.mark.parametrize("cap", [{"max_tasks": 2}, {"max_bytes_scanned": 10}, {"max_cost": 1e-9}])
def test_query_above_a_cap_is_a_problem_on_a_dry_run_and_a_failed_query_else(
    server: Server, orders: pl.LazyFrame, cap: dict[str, float]
) -> None:
    plan = orders.group_by("key").len().serialize()
    refused = server.post(plan, settings={**TINY, **cap}, dry_run="true")
    assert (refused.status_code, refused.json()["kind"], refused.json()["status"]) == (403, "cap", 403)
    assert isinstance(error_of(refused), CapError)
    status = server.ended(server.post(plan, settings={**TINY, **cap}).headers["location"])
    assert status.state is QueryState.FAILED
    assert status.error is not None
    assert next(iter(cap)) in status.error.message
    assert sum(stage.attempts for stage in status.progress) == 0


def test_a_query_can_not_lift_the_limits_of_its_coordinator(server: Server, orders: pl.LazyFrame) -> None:
    lifted = server.post(orders.serialize(), settings={"max_plan_bytes": 2_000_000})
    assert lifted.status_code == 400
    assert "above the 1000000" in lifted.json()["detail"]
    cheaper = server.post(orders.serialize(), settings={"price_vcpu_second": 0.0})
    assert cheaper.status_code == 400
    assert "price_vcpu_second is the coordinator's" in cheaper.json()["detail"]


def test_explain_analyze_runs_the_query_and_keeps_no_result(server: Server, orders: pl.LazyFrame) -> None:
    plan = orders.group_by("key").len().serialize()
    explanation = decode_explanation(server.post(plan, path="/v1/explain", analyze="true", label="analyzed").content)
    assert explanation.measured is not None
    assert explanation.measured["rows_out"] == 4
    assert "measured" in explanation.text
    (status,) = decode_statuses(server.client.get("/v1/queries?label=analyzed").content)
    assert server.client.get(f"/v1/queries/{status.id}/result").status_code == 410
    later = server.client.get(f"/v1/queries/{status.id}/plan", params={"analyze": "true"})
    assert decode_explanation(later.content).measured == explanation.measured
    assert decode_explanation(server.client.get(f"/v1/queries/{status.id}/plan").content).measured is None


def test_explain_analyze_of_a_query_that_fails_is_its_problem(server: Server, orders: pl.LazyFrame) -> None:
    lf = orders.select(pl.col("value").cast(pl.String).str.to_date())
    response = server.post(lf.serialize(), path="/v1/explain", analyze="true")
    assert response.status_code == 400
    with pytest.raises(getattr(pl.exceptions, response.json()["exception"])):
        lf.collect()


def test_who_hangs_up_on_an_analysis_cancels_its_query(server: Server, long: pl.LazyFrame) -> None:
    with pytest.raises(httpx.ReadTimeout):
        server.client.post(
            "/v1/explain?analyze=true&label=hung-up",
            content=long.serialize(),
            headers={"Frazil-Settings": json.dumps(TINY)},
            timeout=1.5,
        )
    eventually(
        lambda: (
            [
                one.state is QueryState.CANCELLED
                for one in decode_statuses(server.client.get("/v1/queries?label=hung-up").content)
            ]
            == [True]
        ),
        "the query is cancelled",
    )


def test_an_error_of_polars_names_its_class_stage_and_task(server: Server, orders: pl.LazyFrame) -> None:
    lf = orders.with_columns(bad=pl.col("value").cast(pl.String).str.to_date()).group_by("key").agg(pl.col("bad").max())
    location = server.submit(lf)
    status = server.ended(location)
    assert status.state is QueryState.FAILED
    response = server.client.get(f"{location}/result")
    assert response.status_code == 400
    error = error_of(response)
    assert isinstance(error, QueryError)
    with pytest.raises(getattr(pl.exceptions, error.exception)):
        lf.collect()
    assert error.where.keys() >= {"stage", "task"}
    assert all(stage.attempts <= stage.tasks for stage in status.progress), "it was not retried"


def _another_version(plan: bytes) -> bytes:
    spoiled = bytearray(plan)
    spoiled[20:24] = bytes(ord("0") if letter != ord("0") else ord("1") for letter in plan[20:24])
    return bytes(spoiled)


def bad_plans(orders: pl.LazyFrame) -> dict[str, tuple[bytes, type[FrazilError], int]]:
    good = orders.group_by("key").len().serialize()
    python = orders.with_columns(pl.col("key").map_elements(lambda value: value, return_dtype=pl.Int64))
    return {
        "empty": (b"", PlanError, 400),
        "text": (b"SELECT 1", PlanError, 400),
        "header only": (good[:79], PlanError, 400),
        "truncated": (good[: len(good) // 2], PlanError, 400),
        "another version": (_another_version(good), PlanVersionError, 409),
        "python function": (python.serialize(), PythonPlanError, 400),
        "column not found": (orders.select("nope").serialize(), QueryError, 400),
        "missing file": (pl.scan_parquet("/nowhere/at/all.parquet").serialize(), FrazilError, 400),
        "too large": (b"x" * 1_000_001, PlanError, 413),
        "much too large": (b"x" * 5_000_000, PlanError, 413),
    }


@pytest.mark.parametrize("path", ["/v1/queries", "/v1/explain"])
@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "text",
        "header only",
        "truncated",
        "another version",
        "python function",
        "column not found",
        "missing file",
        "too large",
        "much too large",
    ],
)
def test_a_bad_plan_is_a_clear_error_of_its_own_class(server: Server, orders: pl.LazyFrame, path: str, name: str) -> None:
    plan, expected, status = bad_plans(orders)[name]
    response = server.post(plan, path=path)
    if response.status_code == 202:  # accepted at once, and found wrong while it was planned
        location = response.headers["location"]
        assert server.ended(location).state is QueryState.FAILED
        response = server.client.get(f"{location}/result")
    assert response.status_code == status
    assert isinstance(error_of(response), expected)


def test_a_body_without_a_declared_size_is_cut_off_at_the_limit(server: Server) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    response = server.client.post("/v1/queries", content=chunks())
    assert response.status_code == 413
    assert isinstance(error_of(response), PlanError)


def test_without_the_token_only_the_probes_answer(server: Server, orders: pl.LazyFrame) -> None:
    with httpx.Client(base_url=server.client.base_url) as stranger:
        for response in (
            stranger.get("/v1/queries"),
            stranger.post("/v1/queries", content=orders.serialize()),
            stranger.get("/v1/version", headers={"Authorization": "Bearer wrong"}),
        ):
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            error_of(response)
        assert stranger.get("/healthz").status_code == 200
        assert stranger.get("/readyz").json()["status"] == "ready"


def test_the_versions_are_told(server: Server) -> None:
    assert server.client.get("/v1/version").json()["polars"] == pl.__version__


def test_the_server_answers_on_after_all_this(server: Server, orders: pl.LazyFrame) -> None:
    lf = orders.group_by("key").len()
    location = server.submit(lf)
    server.ended(location)
    assert_same(server.result(location), lf.collect(), ordered=False)
