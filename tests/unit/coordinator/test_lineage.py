"""OpenLineage: what queries read and write, held against the published schemas; no query waits for who collects it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import polars as pl
import pytest

import frazil
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.lineage import Lineage, lineage_from, sending
from frazil_coordinator.lineage.datasets import named
from frazil_coordinator.lineage.events import Run, end_event, run_id
from frazil_coordinator.lineage.sending import Service
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.errors import QueryError, RequestError, to_wire
from frazil_functions.ids import QueryId
from frazil_functions.storage import FolderStore
from support.answering import Answer, Asked, Server, answering
from support.fragments import FragmentPlatform, Gate, plan_in_stages
from support.polling import eventually_async

SCHEMAS = Path(__file__).parents[2] / "golden" / "openlineage"
PATH = "/api/v1/lineage"
PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text())
    return found


@pytest.fixture(scope="module")
def valid() -> Callable[[dict[str, Any]], None]:
    """Return what refuses an event, or a facet of it, that is not of its published schema."""
    core = schema("OpenLineage")
    facets = {path.stem: schema(f"facets/{path.stem}") for path in (SCHEMAS / "facets").glob("*.json")}
    registry = jsonschema_rs.Registry([(core["$id"], core), *((one["$id"], one) for one in facets.values())])
    event_of = jsonschema_rs.Draft202012Validator(core, registry=registry, validate_formats=True)
    facet_of = {
        f"{one['$id']}#/$defs/{name}": jsonschema_rs.Draft202012Validator(
            {"$ref": f"{one['$id']}#/$defs/{name}"}, registry=registry, validate_formats=True
        )
        for name, one in facets.items()
    }

    def check(event: dict[str, Any]) -> None:
        event_of.validate(event)
        assert event["schemaURL"] == f"{core['$id']}#/$defs/RunEvent"
        for facet in _facets(event):
            assert set(facet) - {"_producer", "_schemaURL"}, "a facet that says nothing"
            facet_of[facet["_schemaURL"]].validate(facet)

    return check


def _facets(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for owner in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        for name in ("facets", "inputFacets", "outputFacets"):
            yield from owner.get(name, {}).values()


def sent(server: Server, query: str | None = None) -> list[dict[str, Any]]:
    events = [json.loads(one.body) for one in server.asked if one.path == PATH]
    return [one for one in events if query is None or one["run"]["runId"] == run_id(QueryId(query))]


@contextmanager
def collecting() -> Iterator[Server]:
    with answering() as server:
        server.answers[PATH] = Answer(status=201)
        yield server


@pytest.mark.parametrize(
    ("paths", "dataset"),
    [
        (["s3://lake/orders/*.parquet"], ("s3://lake", "orders")),
        (["s3a://lake/orders/day=*/part-?.parquet"], ("s3://lake", "orders")),
        (["s3://lake/orders/"], ("s3://lake", "orders")),
        (["s3://lake/orders/1.parquet"], ("s3://lake", "orders/1.parquet")),
        (["s3://lake/orders/1.parquet", "s3://lake/orders/2.parquet"], ("s3://lake", "orders")),
        (["s3://lake/*.parquet"], ("s3://lake", "/")),
        (["gs://lake/a/b"], ("gs://lake", "a/b")),
        (["abfss://box@account.dfs.core.windows.net/a/b"], ("abfss://box@account.dfs.core.windows.net", "a/b")),
        (["/data/orders/*.parquet"], ("file", "/data/orders")),
        (["file:///data/or%20ders/1.csv"], ("file", "/data/or ders/1.csv")),
        (["https://me:hunter2@host/t.csv?sig=hunter2"], ("https://host", "t.csv")),
    ],
)
def test_a_dataset_has_the_name_that_others_give_it(paths: Sequence[str], dataset: tuple[str, str]) -> None:
    assert named(paths) == dataset


def test_a_query_tells_what_it_reads_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valid: Callable[[dict[str, Any]], None]
) -> None:
    (tmp_path / "orders").mkdir()
    for part in range(2):
        frame = pl.DataFrame({"k": [1, 2, 3], "v": [1.0, 2.0, 3.0], "s": [{"inner": 1}] * 3})
        frame.write_parquet(tmp_path / "orders" / f"{part}.parquet")
    (tmp_path / "names.csv").write_text("k,name\n1,a\n2,b\n")
    lf = pl.scan_parquet(tmp_path / "orders" / "*.parquet").join(pl.scan_csv(tmp_path / "names.csv"), on="k")
    target = tmp_path / "out" / "all.parquet"
    with collecting() as server:
        monkeypatch.setenv("FRAZIL_OPENLINEAGE_URL", server.url)
        monkeypatch.setenv("FRAZIL_OPENLINEAGE_API_KEY", "a-key")
        monkeypatch.setenv("FRAZIL_OPENLINEAGE_NAMESPACE", "team")
        with frazil.local(max_functions=2) as engine:
            query = engine.submit(lf.sink_parquet(target, mkdir=True, lazy=True), labels=["nightly", "b"])
            query.require_success()
            statement = "SELECT k, v FROM orders"
            engine.tables.put("orders", location=str(tmp_path / "orders" / "*.parquet"))
            by_sql = engine.sql(statement)
            by_sql.require_success()
        start, end = sent(server, query.id)  # leaving the engine has sent what waited
        sql = sent(server, by_sql.id)
        assert server.asked[0].headers["Authorization"] == "Bearer a-key"
    for event in (start, end, *sql):
        valid(event)
    assert [one["eventType"] for one in (start, end, *sql)] == ["START", "COMPLETE", "START", "COMPLETE"]
    assert (start["job"]["namespace"], start["job"]["name"]) == ("team", "default.nightly")
    assert (end["job"], end["inputs"]) == (start["job"], start["inputs"])
    orders, names = start["inputs"]
    assert (orders["namespace"], orders["name"]) == ("file", str(tmp_path / "orders"))
    columns = orders["facets"]["schema"]["fields"]
    assert [(one["name"], one["type"]) for one in columns[:2]] == [("k", "Int64"), ("v", "Float64")]
    assert columns[2]["fields"] == [{"name": "inner", "type": "Int64", "ordinal_position": 1}]
    assert orders["inputFacets"]["inputStatistics"]["fileCount"] == 2
    assert names["name"] == str(tmp_path / "names.csv")
    (written,) = end["outputs"]
    assert (written["namespace"], written["name"]) == ("file", str(target))
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 4
    assert written["outputFacets"]["outputStatistics"]["size"] == target.stat().st_size
    assert sql[0]["job"]["facets"]["sql"]["query"] == statement
    assert sql[0]["job"]["name"] == sql[1]["job"]["name"]
    assert sql[0]["job"]["name"].startswith("default.sql-")
    assert sql[0]["inputs"][0]["name"] == str(tmp_path / "orders")
    tags = {(one["key"], one["value"]) for one in end["run"]["facets"]["tags"]["tags"]}
    assert {("frazil.query", query.id), ("frazil.label", "b")} <= tags


@asynccontextmanager
async def coordinator(
    tmp_path: Path, server: Server, before: object = None, *, journal: bool = False
) -> AsyncIterator[Coordinator]:
    store = FolderStore(tmp_path)
    async with Lineage(Service.of(server.url)).running() as lineage:
        made = Coordinator(
            settings=Settings(retry_backoff_s=0.0),
            platform=FragmentPlatform(store, before=before),  # type: ignore[arg-type]  # what tests give is one
            store=store,
            planner=plan_in_stages(1),
            journal=Journal(store=store, sealer=Sealer.of(["a secret of thirty-two characters"])) if journal else None,
            lineage=lineage,
        )
        try:
            yield made
        finally:
            await made.aclose()


def counted(made: Coordinator, outcome: str) -> float:
    return float(made.metrics.lineage.labels(outcome)._value.get())


async def test_every_end_has_a_beginning_whatever_it_is(tmp_path: Path, valid: Callable[[dict[str, Any]], None]) -> None:
    gate = Gate()

    async def fails(request: object) -> None:
        del request
        raise QueryError("no column 'x' in s3://me:hunter2@host/t?sig=hunter2", exception="ColumnNotFoundError")

    with collecting() as server:
        async with coordinator(tmp_path, server, fails) as made:
            failed = (await made.submit(PLAN)).id
            await made.wait(failed, 30.0)
            unplanned = (await made.submit(b"not a plan")).id
            await made.wait(unplanned, 30.0)
        async with coordinator(tmp_path, server, gate) as made:
            cancelled = (await made.submit(PLAN)).id
            await gate.reached.wait()
            await made.cancel(cancelled)
            await eventually_async(lambda: counted(made, "sent") == 2, "both are sent")
        found = {query: sent(server, query) for query in (failed, unplanned, cancelled)}
    for events in found.values():
        for event in events:
            valid(event)
    assert [one["eventType"] for one in found[failed]] == ["START", "FAIL"]
    message = found[failed][1]["run"]["facets"]["errorMessage"]["message"]
    assert message.startswith("ColumnNotFoundError: no column 'x' in s3://***host/t***")
    assert message.endswith("(stage 0, task 0)")
    assert "hunter2" not in json.dumps(found[failed])
    assert [one["eventType"] for one in found[unplanned]] == ["START", "FAIL"]
    assert found[unplanned][1]["run"]["facets"]["errorMessage"]["message"] == "plan: not a plan"
    assert [one["eventType"] for one in found[cancelled]] == ["START", "ABORT"]


async def test_a_query_that_another_coordinator_goes_on_with_begins_once(
    tmp_path: Path, valid: Callable[[dict[str, Any]], None]
) -> None:
    gate = Gate()
    with collecting() as server:
        async with coordinator(tmp_path, server, gate, journal=True) as first:
            query = (await first.submit(PLAN, labels=["nightly"])).id
            await gate.reached.wait()
        async with coordinator(tmp_path, server, journal=True) as second:
            assert await second.recover() == (query,)
            await second.wait(query, 30.0)
        events = sent(server, query)
    for event in events:
        valid(event)
    assert [one["eventType"] for one in events] == ["START", "RUNNING", "COMPLETE"]
    assert {one["job"]["name"] for one in events} == {"default.nightly"}


async def test_a_service_that_hangs_costs_events_and_no_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_QUEUE", 2)
    monkeypatch.setattr(sending, "_CLOSE_S", 0.01)
    free = threading.Event()
    with answering() as server:
        server.answers[PATH] = Answer(status=201, after=free)
        try:
            async with coordinator(tmp_path, server) as made:
                for _ in range(4):
                    ended = await made.wait((await made.submit(PLAN)).id, 30.0)
                    assert ended.state is QueryState.SUCCEEDED
                assert counted(made, "sent") == 0
                assert counted(made, "dropped") >= 8 - 2 - 1, "one is on its way, and two wait"
        finally:
            free.set()


@pytest.mark.parametrize(("statuses", "outcome"), [([503, 429, 201], "sent"), ([503] * 3, "failed"), ([400], "failed")])
async def test_what_may_be_taken_later_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, statuses: list[int], outcome: str
) -> None:
    monkeypatch.setattr(sending, "_PAUSE_S", 0.0)
    left = list(statuses)

    def answer(asked: Asked) -> Answer:
        del asked
        return Answer(status=left.pop(0) if left else 201)

    with answering() as server, caplog.at_level(logging.WARNING):
        server.answers[PATH] = answer
        async with coordinator(tmp_path, server) as made:
            await made.wait((await made.submit(PLAN)).id, 30.0)
            await eventually_async(lambda: counted(made, "sent") + counted(made, "failed") == 2, "both are told of")
            assert counted(made, outcome) == (2 if outcome == "sent" else 1)
        assert server.count(PATH) == len(statuses) + 1
    assert ("lineage events are not taken" in caplog.messages) == (outcome == "failed")


@pytest.mark.parametrize("url", ["marquez:5000", "ftp://marquez", "http://me:secret@marquez:5000", "http://"])
def test_what_is_no_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(RequestError, match="FRAZIL_OPENLINEAGE_URL") as refused:
        lineage_from({"FRAZIL_OPENLINEAGE_URL": url})
    assert "secret" not in str(refused.value)


def test_an_address_with_a_path_is_taken_as_it_is() -> None:
    assert Service.of("http://marquez:5000").url == "http://marquez:5000/api/v1/lineage"
    assert Service.of("https://host/lineage/events?x=1").url == "https://host/lineage/events?x=1"
    assert lineage_from({}) is None
    assert "a-key" not in repr(Service.of("http://host", api_key="a-key"))


def test_a_job_without_a_label_is_known_by_what_it_does(valid: Callable[[dict[str, Any]], None]) -> None:
    def run(query: str, sql: str) -> Run:
        return Run(query=QueryId(query), tenant="blue", labels=(), sql=sql, namespace="frazil")

    assert run("a", "SELECT 1").job_name == run("b", "SELECT 1").job_name != run("a", "SELECT 2").job_name
    status = QueryStatus(
        id=QueryId("a"), state=QueryState.FAILED, submitted_unix_s=1.0, error=to_wire(QueryError("x" * 5_000))
    )
    event = end_event(run("a", ""), status, None)
    assert len(str(event.run.facets["errorMessage"]["message"])) < 2_100
    assert run_id(QueryId("a")) == run_id(QueryId("a")) != run_id(QueryId("b"))
