"""Tables of catalogs that others keep, in SQL: SeaweedFS's Iceberg REST catalog, and a database, against Polars."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import polars as pl
import pytest
from typer.testing import CliRunner

import frazil
from frazil.cli._sql import tables_app
from frazil_coordinator.catalog.config import read_outside
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenant, Tenants, Token
from support.lakes import ORDERS, REST_BUCKET, SHOPS, Lake, database_lake, rest_lake
from support.parity import assert_same
from support.profiles import fallbacks, most_tasks, stages_of
from support.seaweed import SeaweedFS
from support.serving import serving

FRAZIL = str(Path(sys.executable).parent / "frazil")
TINY = frazil.Settings(start_small=False, max_rows_per_split=4)
UNREACHABLE = """
    [catalogs.gone]
    type = "rest"
    uri = "http://127.0.0.1:9"
    secrets = { token = "env:LAKE_SECRET" }
"""
STATEMENTS = (
    "SELECT * FROM {lake}.sales.orders ORDER BY a",
    "SELECT p, SUM(x) AS s, COUNT(*) AS n FROM {lake}.sales.orders WHERE a > 7 GROUP BY p ORDER BY p",
    "SELECT orders.a, s.name FROM {lake}.sales.orders JOIN {lake}.sales.eu.shops s ON orders.p = s.p ORDER BY orders.a",
    "SELECT a FROM {lake}.sales.orders WHERE p IN (SELECT p FROM {lake}.sales.eu.shops WHERE name <> 'bob') ORDER BY a",
    'WITH k AS (SELECT p, MAX(d) FROM {lake}."sales".orders GROUP BY p) SELECT COUNT(*) AS n FROM k, {lake}.sales.orders',
    "SELECT sales.orders.a, name FROM {lake}.sales.orders JOIN {lake}.sales.eu.shops ON sales.orders.p = shops.p ORDER BY a",
    "SELECT {lake}.sales.orders.a FROM {lake}.sales.orders WHERE {lake}.sales.orders.x > 2 ORDER BY {lake}.sales.orders.a",
    "SELECT a FROM {lake}.sales.orders WHERE p IS NULL UNION ALL SELECT a FROM {lake}.sales.orders WHERE a < 3 ORDER BY a",
)


@pytest.fixture(scope="module")
def lakes(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Lake]]:
    found = [rest_lake(seaweed), database_lake(tmp_path_factory.mktemp("attic"))]
    yield {lake.name: lake for lake in found}
    for lake in found:
        lake.catalog.close()


@pytest.fixture(scope="module")
def file(lakes: dict[str, Lake], seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A coordinator's file of catalogs; the secrets that it names are there."""
    made = tmp_path_factory.mktemp("configuration") / "catalogs.toml"
    made.write_text("".join(lake.toml for lake in lakes.values()) + UNREACHABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKE_CREDENTIAL", f"{seaweed.access_key}:{seaweed.secret_key}")
        patch.setenv("LAKE_KEY", seaweed.access_key)
        patch.setenv("LAKE_SECRET", seaweed.secret_key)
        patch.delenv("POLARS_ICEBERG_PLANNER", raising=False)
        yield made


@pytest.fixture(scope="module")
def engine(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[frazil.Engine]:
    with frazil.local(2, catalogs=file, settings=TINY, store=tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture(scope="module")
def url(file: Path, seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folders = (f"s3://{REST_BUCKET}/elsewhere/",)
    narrow = Tenant(name="b", allowed_catalogs=("lake",), allowed_storages=(), allowed_prefixes=folders)
    tenants = Tenants(
        by_name=MappingProxyType({"a": Tenant(name="a"), "b": narrow, "c": Tenant(name="c", allowed_catalogs=())}),
        tokens=tuple(Token.of(f"{name}-token", tenant=name) for name in "abc"),
    )
    settings = Settings(start_small=False, max_rows_per_split=4)
    with serving(tmp_path_factory.mktemp("exchange"), settings, tenants, read_outside(file)) as served:
        yield served


def ask(url: str, method: str, path: str, body: object = None, *, who: str = "a", status: int = 200) -> Any:
    headers = {"Authorization": f"Bearer {who}-token"}
    answer = httpx.request(method, f"{url}/v1/{path}", json=body, headers=headers, timeout=90)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def own(lake: Lake, seaweed: SeaweedFS, text: str) -> pl.DataFrame:
    """Return what Polars answers itself, with pyiceberg's catalog in its SQLContext."""
    with pl.SQLContext() as context:
        context.register_catalog(lake.name, lake.catalog, storage_options=seaweed.storage_options)
        return context.execute(text, eager=True)


@pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")
@pytest.mark.parametrize("name", ["lake", "attic"])
def test_statements_over_a_catalog_are_answered_as_polars_does(
    engine: frazil.Engine, lakes: dict[str, Lake], seaweed: SeaweedFS, name: str
) -> None:
    for statement in STATEMENTS:
        text = statement.format(lake=name)
        assert_same(engine.sql(text).result(), own(lakes[name], seaweed, text), ordered=True)
        assert most_tasks(stages_of(engine)) > 1, text
        assert not fallbacks(stages_of(engine)), text


@pytest.mark.parametrize("name", ["lake", "attic"])
def test_files_of_other_partitions_are_not_read(engine: frazil.Engine, name: str) -> None:
    rows = engine.sql(f"SELECT a FROM {name}.sales.orders WHERE p = 'k1'").result().height
    assert rows == ORDERS.filter(p="k1").height
    assert stages_of(engine)[0]["rows_in"] == rows


def test_a_query_reads_the_version_of_its_planning_and_a_new_snapshot_runs_only_what_changed(
    engine: frazil.Engine, lakes: dict[str, Lake], seaweed: SeaweedFS
) -> None:
    lake = lakes["lake"]
    grown = lake.catalog.create_table("sales.grown", schema=ORDERS.to_arrow().schema)
    with grown.update_spec() as update:
        update.add_identity("p")
    grown.append(ORDERS.head(20).to_arrow())
    text = "SELECT a, x FROM lake.sales.grown"
    first = engine.sql(text, reuse="tasks")
    grown.append(ORDERS.slice(20).to_arrow())
    assert_same(first.result().sort("a"), ORDERS.head(20).select("a", "x"), ordered=True)
    (before,) = stages_of(engine)
    second = engine.sql(text, reuse="tasks")
    assert_same(second.result().sort("a"), ORDERS.select("a", "x"), ordered=True)
    (after,) = stages_of(engine)
    assert before["reused"] == 0
    assert before["tasks"] > 1
    assert after["reused"] == before["tasks"]
    assert after["attempts"] == after["tasks"] - after["reused"]


def test_a_statement_that_is_sent_again_is_the_same_query_though_its_table_has_grown(
    url: str, lakes: dict[str, Lake]
) -> None:
    lakes["attic"].catalog.create_namespace("other")
    table = lakes["attic"].catalog.create_table("other.retried", schema=SHOPS.to_arrow().schema)
    headers = {"Authorization": "Bearer a-token", "Idempotency-Key": "once"}
    body = {"sql": "SELECT * FROM attic.other.retried WHERE p <> ?", "parameters": ["k1"]}
    ids = set()
    for _ in range(2):
        table.append(SHOPS.to_arrow())
        answer = httpx.post(f"{url}/v1/queries", json=body, headers=headers, timeout=60)
        assert answer.status_code == 202, answer.text
        ids.add(answer.json()["id"])
    assert len(ids) == 1
    other = {**body, "parameters": ["k2"]}
    assert httpx.post(f"{url}/v1/queries", json=other, headers=headers, timeout=60).status_code == 400


def test_the_tables_of_a_catalog_are_listed_and_described(engine: frazil.Engine, lakes: dict[str, Lake], url: str) -> None:
    assert [(one.name, one.type, one.comment) for one in engine.tables.catalogs()] == [
        ("attic", "sql", ""), ("gone", "rest", ""), ("lake", "rest", "of the whole house"),
    ]  # fmt: skip
    assert [one.name for one in engine.tables.of_catalog("attic", "sales")] == ["attic.sales.eu.shops", "attic.sales.orders"]
    assert [one.table for one in engine.tables.of_catalog("lake", "sales.eu")] == ["shops"]
    told = ask(url, "GET", "tables/lake.sales.orders")
    assert told["columns"][:2] == [{"name": "a", "dtype": "Int64"}, {"name": "p", "dtype": "String"}]
    table = lakes["lake"].table("sales.orders")
    assert told["statistics"] == {
        "files": 12, "rows": 40, "rows_bound": "exact", "bytes": told["statistics"]["bytes"],
        "snapshot": str(table.current_snapshot().snapshot_id),
    }  # fmt: skip
    assert told["statistics"]["bytes"] > 0
    assert (told["location"], told["format"]) == (table.location(), "iceberg")
    assert ask(url, "GET", "catalogs/attic/tables?namespace=sales.us", status=400)["detail"].endswith("'sales.us'")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("SELECT *\nFROM lake.sales.nowhere", ("2", "6"), "the catalog 'lake' has no table 'sales.nowhere'"),
        ('SELECT 1 AS n\n FROM "lake" . nowhere."t"', ("2", "7"), "the catalog 'lake' has no namespace 'nowhere'"),
        ("SELECT * FROM sea.sales.orders", ("1", "15"), "relation 'sea.sales.orders' was not found"),
        ("SELECT * FROM lake.orders", ("1", "15"), "relation 'lake.orders' was not found"),
    ],
)
def test_an_unknown_table_is_told_with_its_place(url: str, text: str, place: tuple[str, str], words: str) -> None:
    problem = ask(url, "POST", "queries", {"sql": text}, status=400)
    assert words in problem["detail"]
    assert problem["exception"] == "SQLInterfaceError"
    assert (problem["where"]["line"], problem["where"]["column"]) == place


def test_a_catalog_that_is_not_the_tenants_is_like_one_that_is_not_there(url: str) -> None:
    for path in ("catalogs/{}/tables", "tables/{}.sales.orders"):
        answers = [ask(url, "GET", path.format(name), who="c", status=404)["detail"] for name in ("lake", "none")]
        assert answers[0].replace("lake", "none") == answers[1]
    asked = [{"sql": f"SELECT * FROM {name}.sales.orders"} for name in ("lake", "none")]
    told = [ask(url, "POST", "queries", body, who="c", status=400) for body in asked]
    assert told[0]["detail"].replace("lake", "none") == told[1]["detail"]
    assert told[0]["where"] == told[1]["where"]
    assert ask(url, "GET", "catalogs", who="c") == []
    assert [one["name"] for one in ask(url, "GET", "catalogs", who="b")] == ["lake"]


def test_the_folders_of_a_tenant_hold_for_the_files_of_a_catalog(url: str) -> None:
    problem = ask(url, "POST", "queries", {"sql": "SELECT * FROM lake.sales.orders"}, who="b", status=403)
    assert f"s3://{REST_BUCKET}/" in problem["detail"].replace(f"s3://{REST_BUCKET}/elsewhere/", "")
    assert f"s3://{REST_BUCKET}/elsewhere/" in problem["detail"]


def test_a_catalog_that_does_not_answer_is_named_and_its_credentials_are_not(
    url: str, seaweed: SeaweedFS, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    problem = ask(url, "POST", "queries", {"sql": "SELECT * FROM gone.sales.orders"}, status=503)
    assert "'gone' can't be reached" in problem["detail"]
    assert "'gone' can't be reached" in ask(url, "GET", "catalogs/gone/tables", status=503)["detail"]
    assert seaweed.secret_key not in json.dumps(problem) + caplog.text


def test_a_catalog_that_refuses_the_coordinator_says_so(
    lakes: dict[str, Lake], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("LAKE_CREDENTIAL", "frazil-test:a-wrong-secret")
    with frazil.local(1, catalogs=file) as engine:
        with pytest.raises(frazil.StorageError, match="'lake' refuses the coordinator's credentials") as raised:
            engine.sql("SELECT * FROM lake.sales.orders")
        monkeypatch.setenv("LAKE_CREDENTIAL", "frazil-test:frazil-test-secret")
        assert engine.sql("SELECT * FROM lake.sales.eu.shops").result().height == SHOPS.height  # asked for anew
    assert "a-wrong-secret" not in caplog.text + str(raised.value) + repr(raised.value.__context__)


def test_the_command_lists_catalogs_and_reads_their_tables(url: str) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(tables_app, [*arguments, "--url", url, "--token", "a-token"])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "of the whole house" in run("catalogs")
    assert "lake.sales.eu.shops" in run("list", "--catalog", "lake")
    assert [one["table"] for one in json.loads(run("list", "--catalog=attic", "--namespace=sales.eu", "--json"))] == [
        "shops"
    ]
    assert "  name: String" in run("show", "attic.sales.eu.shops")
    statement = "SELECT name FROM lake.sales.eu.shops WHERE p = 'k1'"
    command = [FRAZIL, "sql", statement, "--json", "--url", url, "--token", "a-token"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout) == [{"name": "bob"}], done.stderr
