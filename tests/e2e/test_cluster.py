"""Frazil on a real cluster with Knative, from the first deployment to nothing left: ``make e2e``.

Tests build on each other, in their order. Without a cluster each is skipped with what is missing. What the suite is told,
and by which variables, is in docs/deploy.md, "Try a cluster".
"""

from __future__ import annotations

import io
import os
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import obstore
import polars as pl
import pytest

import frazil
from benchmarks.pdsh.data import generate, open_store, upload
from benchmarks.pdsh.harness import many_tasks, run_polars, run_query
from benchmarks.pdsh.queries import QUERIES
from benchmarks.pdsh.tables import Tables
from frazil._serialize import serialize
from frazil_functions.errors import StandbyError
from support.cluster import COORDINATOR, FUNCTION, Cluster, wanted, write_overlay
from support.polling import eventually

SETTINGS = many_tasks(broadcast=True)
GOES_WITHIN_S = 600
"""Seconds until idle functions are gone: scale-down-delay, the stable window and the grace period are five minutes."""

LONG_S = 60.0
"""Seconds that a query should take which something happens to."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Frazil, deployed to a namespace of its own, which is deleted at the end whatever happens."""
    found = Cluster(wanted=wanted(), token=os.urandom(16).hex())
    found.prepare()  # fails where the namespace is there already: it is somebody else's
    try:
        found.deploy(write_overlay(tmp_path_factory.mktemp("deployed"), found.wanted))
        yield found
    finally:
        found.kubectl("delete", "namespace", found.wanted.namespace, "--ignore-not-found", "--wait=true")


@pytest.fixture(scope="module")
def here(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("tpch")
    generate(folder, scale_factor=cluster.wanted.scale_factor, parts=8)
    upload(folder, f"{cluster.wanted.store}-data/tpch", storage_options=cluster.wanted.client_options)
    return Tables.scan(str(folder), scale_factor=cluster.wanted.scale_factor)


@pytest.fixture(scope="module")
def there(cluster: Cluster, here: Tables) -> Tables:
    options = cluster.wanted.store_options
    return Tables.scan(f"{cluster.wanted.store}-data/tpch", scale_factor=here.scale_factor, storage_options=options)


def heavy(tables: Tables, factor: int) -> pl.LazyFrame:
    """Return a query whose answer is known at once, and which costs `factor` rows for each row of lineitem."""
    times = pl.LazyFrame({"k": range(2 * factor)})
    group = (pl.col("l_orderkey") % 7).alias("g")
    rows = tables.lineitem.select("l_orderkey").join(times, how="cross")
    return rows.group_by(group).agg(((pl.col("l_orderkey") + pl.col("k")) % 2).sum().alias("n")).sort("g")


def answer(tables: Tables, factor: int) -> pl.DataFrame:
    """Return what :func:`heavy` must give: of 2·factor numbers in a row, half are odd."""
    group = (pl.col("l_orderkey") % 7).alias("g")
    return tables.lineitem.group_by(group).agg((pl.len().cast(pl.Int64) * factor).alias("n")).sort("g").collect()


@pytest.fixture(scope="module")
def factor(cluster: Cluster, there: Tables) -> int:
    """How heavy a query must be to take about a minute here, measured with functions that are awake."""
    found, took = 100, 0.0
    with cluster.engine(SETTINGS) as engine:
        while took < LONG_S / 6 and found < 10**7:
            found *= 4
            heavy(there, 1).collect(engine=engine)
            began = time.monotonic()
            heavy(there, found).collect(engine=engine)
            took = time.monotonic() - began
    return int(found * LONG_S / took)


@pytest.fixture
def running(cluster: Cluster, there: Tables, factor: int) -> tuple[str, list[str]]:
    """A long query that has just begun, by its id, and the functions that are at work on it."""
    with cluster.engine(SETTINGS) as engine:
        query = engine.submit(heavy(there, factor))
        eventually(lambda: any(stage.running for stage in query.progress()), "tasks run", within_s=300)
        eventually(lambda: len(cluster.pods(FUNCTION)) >= 2, "functions run", within_s=300)
    return query.id, cluster.pods(FUNCTION)


def outcome(cluster: Cluster, query: str) -> pl.DataFrame:
    """Return a query's answer, asking the coordinator that is ready now; another one may have to take over first."""
    found: list[pl.DataFrame] = []

    def asked() -> bool:
        try:
            with cluster.engine(SETTINGS) as engine:
                found.append(engine.query(query).result(timeout_s=600))
        except (frazil.UnreachableError, StandbyError):
            return False
        return True

    eventually(asked, f"query {query} ends", within_s=900)
    return found[0]


def test_a_second_deployment_of_the_same_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    assert cluster.deployed[0]["changed"]
    assert cluster.deployed[0]["url"].startswith("http")
    assert not cluster.deploy(write_overlay(tmp_path, cluster.wanted))["changed"]


def test_doctor_finds_nothing_that_makes_queries_fail(cluster: Cluster) -> None:
    said = cluster.command("doctor")
    assert said["ok"]
    assert [each for each in said["findings"] if each["severity"] == "error"] == []


@pytest.mark.parametrize("number", QUERIES)
def test_pdsh_gives_polars_answer_in_many_tasks(number: int, cluster: Cluster, here: Tables, there: Tables) -> None:
    with cluster.engine(SETTINGS) as engine:
        found = run_query(engine, number, there, run_polars(number, here))
    assert found.difference is None


def test_functions_go_when_nobody_asks_and_come_when_somebody_does(cluster: Cluster, here: Tables, there: Tables) -> None:
    eventually(lambda: cluster.pods(FUNCTION) == [], "idle functions go", within_s=GOES_WITHIN_S)
    assert len(cluster.pods(COORDINATOR)) == 1
    with cluster.engine(SETTINGS) as engine:
        assert run_query(engine, 6, there, run_polars(6, here)).difference is None
    assert cluster.pods(FUNCTION) != []
    eventually(lambda: cluster.pods(FUNCTION) == [], "they go again", within_s=GOES_WITHIN_S)


def test_a_query_outlives_all_its_functions(
    cluster: Cluster, here: Tables, factor: int, running: tuple[str, list[str]]
) -> None:
    query, functions = running
    cluster.kill(functions)
    eventually(lambda: len(set(cluster.pods(FUNCTION)) - set(functions)) >= 1, "others come", within_s=300)
    assert outcome(cluster, query).equals(answer(here, factor))


def test_a_query_outlives_its_coordinator(
    cluster: Cluster, here: Tables, factor: int, running: tuple[str, list[str]]
) -> None:
    query, _ = running
    coordinators = cluster.pods(COORDINATOR)
    cluster.kill(coordinators)
    eventually(lambda: len(set(cluster.pods(COORDINATOR)) - set(coordinators)) == 1, "another comes", within_s=300)
    assert outcome(cluster, query).equals(answer(here, factor))


def test_a_query_outlives_an_update_of_everything(
    cluster: Cluster, here: Tables, factor: int, tmp_path: Path, running: tuple[str, list[str]]
) -> None:
    query, _ = running
    before = cluster.revision()
    assert cluster.deploy(write_overlay(tmp_path, cluster.wanted, rolled=True))["changed"]
    assert cluster.revision() != before
    assert outcome(cluster, query).equals(answer(here, factor))
    with cluster.engine(SETTINGS) as engine:
        assert heavy(here, 1).collect(engine=engine).equals(answer(here, 1))


def test_a_new_object_becomes_a_triggers_output(cluster: Cluster) -> None:
    place = f"{cluster.wanted.store}-data/trigger"
    store = open_store(place, cluster.wanted.client_options)
    query = pl.scan_parquet(f"{place}/in/*.parquet", storage_options=cluster.wanted.store_options)
    plan = b64encode(serialize(query, max_plan_bytes=10**7)).decode()
    body = {"source": f"{place}/in/", "suffix": ".parquet", "plan": plan, "sink": f"{place}/out/", "list_every_s": 86_400.0}
    event = {"specversion": "1.0", "id": "1", "source": "/e2e", "type": "dev.frazil.object.created.v1"}
    with (
        cluster.address() as url,
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {cluster.token}"}, timeout=60.0) as http,
    ):
        http.put("/v1/triggers/e2e", json=body).raise_for_status()
        data = io.BytesIO()
        pl.DataFrame({"v": [1, 2, 3]}).write_parquet(data)
        obstore.put(store, "in/a.parquet", data.getvalue())
        told = {**event, "data": {"url": f"{place}/in/a.parquet"}}
        for _ in range(2):
            http.post("/", json=told, headers={"content-type": "application/cloudevents+json"}).raise_for_status()
        eventually(lambda: _rows(store) == [1, 2, 3], "the object comes out once", within_s=300)
        http.delete("/v1/triggers/e2e").raise_for_status()
    assert _rows(store) == [1, 2, 3]


def _rows(store: obstore.store.ObjectStore) -> list[int]:
    keys = [each["path"] for page in obstore.list(store, "out/") for each in page if each["path"].endswith(".parquet")]
    parts = [pl.read_parquet(obstore.get(store, key).bytes().to_bytes()) for key in keys]
    return sorted(value for part in parts for value in part["v"])


def test_undeploy_leaves_nothing(cluster: Cluster) -> None:
    store = open_store(cluster.wanted.store, cluster.wanted.client_options)
    assert [each for page in obstore.list(store, "exchange/") for each in page] == []
    cluster.command("undeploy", "--yes")
    eventually(lambda: cluster.left() == [], "nothing is left", within_s=300)
    assert cluster.kubectl("get", "secret", "frazil-secrets", "--output", "name").strip() == "secret/frazil-secrets"
