"""What is counted for Prometheus: each metric is told of what it names, no label is secret, and the page says it all."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from frazil_coordinator.api import create_app
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.metered import MeteredStore
from frazil_coordinator.metrics import Metrics, new_metrics
from frazil_coordinator.settings import Settings
from frazil_functions.errors import BlockError, FunctionLostError
from frazil_functions.storage import FolderStore
from frazil_functions.task import TaskRequest, TaskStats
from support.fragments import FragmentPlatform, Gate, plan_in_stages

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
SMALL = pl.LazyFrame({"a": [1, 2, 3]})
FAILING = pl.LazyFrame({"a": ["x"]}).select(pl.col("a").cast(pl.Int64))


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return a sample; what was never told is 0."""
    return metrics.made.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture
def platform(store: FolderStore) -> FragmentPlatform:
    return FragmentPlatform(store)


@pytest.fixture
async def coordinator(store: FolderStore, platform: FragmentPlatform) -> AsyncIterator[Coordinator]:
    made = Coordinator(
        settings=Settings(inline_limit_bytes=0, retry_backoff_s=0.0),
        platform=platform,
        store=store,
        planner=plan_in_stages(2),
        sweep_after_s=(),
        journal=Journal(store=store, sealer=Sealer.of(["k" * 32])),
    )
    yield made
    await made.aclose()


def test_the_page_has_a_row_for_every_metric_with_its_type_and_labels() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `frazil_")]
    expected = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.text} |"
        for one in new_metrics().made.described
    ]
    assert rows == expected


def test_every_metric_on_the_registry_is_described() -> None:
    made = new_metrics().made
    families = {
        (f"{family.name}_total" if family.type == "counter" else family.name, family.type)
        for family in made.registry.collect()
        if family.name.startswith("frazil_")
    }
    assert families == {(one.name, one.kind) for one in made.described}


def test_two_holders_in_one_process_share_nothing() -> None:
    one, other = new_metrics(), new_metrics()
    one.stage("scan").launched(0)
    assert value(one, "frazil_task_attempts_total", kind="scan") == 1
    assert value(other, "frazil_task_attempts_total", kind="scan") == 0


def test_the_text_is_what_prometheus_reads_and_has_no_times_of_beginnings() -> None:
    metrics = new_metrics()
    metrics.stage("scan").succeeded(TaskStats(bytes_in=7, requests={"get": 3}), 0.2)
    body, media_type = metrics.render("")
    assert media_type.startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["frazil_exchange_bytes_total", ("direction", "in")] == 7
    assert samples["frazil_store_requests_total", ("by", "functions"), ("operation", "get")] == 3
    assert samples["frazil_task_seconds_bucket", ("kind", "scan"), ("le", "0.25")] == 1
    assert samples["frazil_task_seconds_bucket", ("kind", "scan"), ("le", "0.1")] == 0
    assert not [key for key in samples if str(key[0]).endswith("_created")]


async def test_a_query_that_succeeds_and_one_that_fails_are_counted(coordinator: Coordinator) -> None:
    for lf in (SMALL, FAILING):
        await coordinator.wait((await coordinator.submit(lf.serialize())).id)
    told = coordinator.metrics
    assert value(told, "frazil_queries_accepted_total") == 2
    assert value(told, "frazil_queries_ended_total", state="succeeded") == 1
    assert value(told, "frazil_queries_ended_total", state="failed") == 1
    assert value(told, "frazil_query_errors_total", error="query") == 1
    assert value(told, "frazil_query_seconds_count", state="succeeded") == 1
    assert value(told, "frazil_stage_failures_total", kind="single") == 1
    assert value(told, "frazil_stage_seconds_count", kind="single") == 3
    assert value(told, "frazil_task_attempts_total", kind="single") == 3
    assert value(told, "frazil_task_failures_total", kind="single", error="query") == 1
    assert value(told, "frazil_task_seconds_count", kind="single") == 2
    assert value(told, "frazil_store_requests_total", by="functions", operation="put") == 2
    assert value(told, "frazil_exchange_bytes_total", direction="out") > 0
    assert value(told, "frazil_journal_append_seconds_count") >= 4
    assert value(told, "frazil_store_operation_seconds_count", by="journal", operation="put") >= 4
    assert value(told, "frazil_leader") == 1


async def test_what_runs_and_what_waits_is_looked_at_when_it_is_scraped(
    coordinator: Coordinator, platform: FragmentPlatform
) -> None:
    gate = platform.before = Gate()
    told = coordinator.metrics
    query = (await coordinator.submit(SMALL.serialize())).id
    assert value(told, "frazil_queries", state="planning") == 1
    assert value(told, "frazil_oldest_waiting_query_seconds") > 0
    await gate.reached.wait()
    assert value(told, "frazil_slots") == 4
    assert value(told, "frazil_slots_in_use") == 1
    cancelling = coordinator.cancel(query)
    await cancelling
    assert value(told, "frazil_slots_in_use") == 0
    assert value(told, "frazil_queries", state="running") == value(told, "frazil_queries", state="planning") == 0
    assert value(told, "frazil_oldest_waiting_query_seconds") == 0
    assert value(told, "frazil_task_cancellations_total", kind="single") == 1
    assert value(told, "frazil_queries_ended_total", state="cancelled") == 1


async def test_a_task_that_is_tried_again_is_a_failure_and_a_retry(
    coordinator: Coordinator, platform: FragmentPlatform
) -> None:
    async def lose_the_first(request: TaskRequest) -> None:
        if (request.stage, request.attempt) == (0, 0):
            raise FunctionLostError("gone")

    platform.before = lose_the_first
    await coordinator.wait((await coordinator.submit(SMALL.serialize())).id)
    told = coordinator.metrics
    assert value(told, "frazil_task_attempts_total", kind="single") == 3
    assert value(told, "frazil_task_retries_total", kind="single") == 1
    assert value(told, "frazil_task_failures_total", kind="single", error=FunctionLostError.kind) == 1


async def test_requests_are_told_by_template_and_no_label_holds_an_id(coordinator: Coordinator) -> None:
    transport = httpx.ASGITransport(create_app(coordinator, tokens=["t"]), raise_app_exceptions=False)
    bearer = {"authorization": "Bearer t"}
    async with httpx.AsyncClient(transport=transport, base_url="http://coordinator") as client:
        octets = {**bearer, "content-type": "application/octet-stream"}
        accepted = await client.post("/v1/queries?label=secret-label", content=SMALL.serialize(), headers=octets)
        location = accepted.headers["location"]
        await client.get(location, params={"wait_s": 20}, headers=bearer)
        await client.get(f"{location}/result", headers=bearer)
        await client.get("/v1/queries/unknown-id", headers=bearer)
        await client.get("/v1/queries")
        await client.request("BREW", "/no/such-place")
        scraped = await client.get("/metrics")
    assert scraped.status_code == 200

    def requests(route: str, status: str, method: str = "GET") -> float:
        labels = {"route": route, "status": status, "method": method}
        return value(coordinator.metrics, "frazil_http_request_seconds_count", **labels)

    assert requests("/v1/queries", "202", "POST") == 1
    assert requests("/v1/queries/{query}", "200") == 1
    assert requests("/v1/queries/{query}/result", "200") == 1
    assert requests("/v1/queries/{query}", "404") == 1
    assert requests("/v1/queries", "401") == 1
    assert requests("none", "404", "other") == 1
    for secret in (location.rpartition("/")[2], "secret-label", "unknown-id", "such-place", "BREW"):
        assert secret not in scraped.text


def test_a_store_tells_requests_bytes_seconds_and_errors(store: FolderStore) -> None:
    metrics = new_metrics()
    metered = MeteredStore(store, metrics, "journal")
    metered.put("a/b", [b"12", b"3"])
    assert metered.create("a/c", b"4")
    assert metered.get("a/b") == b"123"
    assert metered.get_range("a/b", 1, 1) == b"2"
    assert metered.get_ranges("a/b", [(0, 1), (2, 1)]) == [b"1", b"3"]
    assert metered.head("a/b").size == 3
    assert [one.key for one in metered.list("a")] == ["a/b", "a/c"]
    metered.install("a/c", "a/d", 1)
    metered.delete(["a/b"])
    assert metered.delete_prefix("a") == 1
    with pytest.raises(BlockError):
        metered.get("a/b")
    by = {
        operation: (
            value(metrics, "frazil_store_requests_total", by="journal", operation=operation),
            value(metrics, "frazil_store_operation_seconds_count", by="journal", operation=operation),
        )
        for operation in ("put", "get", "head", "list", "copy", "delete")
    }
    assert by == {"put": (2, 2), "get": (5, 4), "head": (1, 1), "list": (2, 1), "copy": (1, 1), "delete": (2, 2)}
    assert value(metrics, "frazil_store_bytes_total", by="journal", operation="get") == 6
    assert value(metrics, "frazil_store_errors_total", by="journal", operation="get", error=BlockError.kind) == 1


def test_telling_of_a_task_takes_a_small_part_of_the_time_of_a_task() -> None:
    stage = new_metrics().stage("scan")
    stats = TaskStats(bytes_in=1, bytes_out=1, requests={"get": 2, "put": 1}, seconds=0.1)
    began = time.thread_time()
    for _ in range(2_000):
        stage.launched(0)
        stage.succeeded(stats, 0.1)
    assert (time.thread_time() - began) / 2_000 < 200e-6
