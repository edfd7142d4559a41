"""Named tables of Parquet, Iceberg and Delta files in SeaweedFS: made, listed, read, dropped; and by whose credentials."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import httpx
import polars as pl
import pytest
from pyiceberg.catalog.sql import SqlCatalog

import frazil
from frazil_coordinator.catalog.outside import Outside, Secret, Storage
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenant, Tenants, Token
from frazil_functions.bundle import decode_bundle
from support.lakes import ORDERS, properties_of
from support.parity import assert_same
from support.polling import eventually
from support.profiles import fallbacks, most_tasks, stages_of
from support.seaweed import SeaweedFS
from support.serving import serving

FRAZIL = str(Path(sys.executable).parent / "frazil")
TINY = frazil.Settings(start_small=False, max_rows_per_split=4)
Kind = Literal["parquet", "iceberg", "delta"]
KINDS: tuple[Kind, ...] = ("parquet", "iceberg", "delta")
TEXT = "SELECT p, SUM(x) AS s, COUNT(*) AS n, MAX(d) AS d FROM {name} WHERE a > 3 GROUP BY p ORDER BY p"


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the rows of `ORDERS` lie, in two parts each; and the older version of those that have versions."""

    places: Mapping[Kind, str]
    older: Mapping[Kind, dict[str, object]]


@pytest.fixture(scope="module")
def files(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    root = seaweed.url("lakes/tables")
    options = cast("Any", seaweed.storage_options)
    first, second = ORDERS.head(25), ORDERS.slice(25)
    for number, part in enumerate((first, second)):
        part.write_parquet(f"{root}/plain/{number}.parquet", storage_options=options)
    for part in (first, second):
        part.write_delta(f"{root}/delta", mode="append", storage_options=options, delta_write_options={"partition_by": "p"})
    folder = tmp_path_factory.mktemp("catalog")
    catalog = SqlCatalog("c", uri=f"sqlite:///{folder}/c.db", warehouse=f"{root}/iceberg", **properties_of(seaweed))
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=ORDERS.to_arrow().schema)
    for part in (first, second):
        table.append(part.to_arrow())
    yield Files(
        places={"parquet": f"{root}/plain/*.parquet", "delta": f"{root}/delta", "iceberg": table.metadata_location},
        older={"delta": {"version": 0}, "iceberg": {"snapshot_id": table.snapshots()[0].snapshot_id}},
    )
    catalog.close()


@pytest.fixture(scope="module")
def outside(seaweed: SeaweedFS) -> Iterator[Outside]:
    """A storage whose secrets are in variables that no function has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKE_KEY", seaweed.access_key)
        patch.setenv("LAKE_SECRET", seaweed.secret_key)
        named = {name: value for name, value in seaweed.storage_options.items() if "access_key" not in name}
        secrets = {"aws_access_key_id": "env:LAKE_KEY", "aws_secret_access_key": "env:LAKE_SECRET"}
        store = Storage(
            name="store",
            prefixes=("s3://lakes/tables/",),
            options=named,
            secrets={name: Secret(place=place) for name, place in secrets.items()},
        )
        yield Outside(storages=MappingProxyType({"store": store}))


@pytest.fixture(scope="module")
def url(outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    by_name = {
        "a": Tenant(name="a"),
        "b": Tenant(name="b", allowed_storages=()),
        "c": Tenant(name="c", allowed_prefixes=("s3://lakes/tables/plain/",)),
    }
    tokens = tuple(Token.of(f"{name}-token", tenant=name) for name in by_name)
    tenants = Tenants(by_name=MappingProxyType(by_name), tokens=tokens)
    settings = Settings(start_small=False, max_rows_per_split=4)
    with serving(tmp_path_factory.mktemp("exchange"), settings, tenants, outside) as served:
        yield served


def ask(url: str, method: str, path: str, body: object = None, *, who: str = "a", status: int = 200) -> Any:
    headers = {"Authorization": f"Bearer {who}-token"}
    answer = httpx.request(method, f"{url}/v1/{path}", json=body, headers=headers, timeout=90)
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def own(seaweed: SeaweedFS, kind: Kind, place: str, options: Mapping[str, Any], text: str) -> pl.DataFrame:
    """Return what Polars answers itself."""
    given: Any = properties_of(seaweed) if kind == "iceberg" else seaweed.storage_options
    scan = {"parquet": pl.scan_parquet, "delta": pl.scan_delta, "iceberg": pl.scan_iceberg}[kind]
    return pl.SQLContext({"t": cast("Any", scan)(place, storage_options=given, **options)}).execute(text, eager=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_made_listed_read_and_dropped_with_a_storage_of_the_coordinator(
    url: str, files: Files, seaweed: SeaweedFS, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    place = files.places[kind]
    with frazil.connect(url, token="a-token", settings=TINY) as engine:
        made = engine.tables.put(kind, place, format=kind, storage="store")
        assert (made.statistics.files, made.statistics.rows) == (2 if kind != "delta" else 8, 40)
        assert (made.statistics.snapshot is None) is (kind == "parquet")
        assert [column.name for column in made.columns] == ORDERS.columns
        assert kind in [table.name for table in engine.tables.list()]
        query = engine.sql(TEXT.format(name=kind))
        assert_same(query.result(), own(seaweed, kind, place, {}, TEXT.format(name="t")), ordered=True)
        assert most_tasks(stages_of(engine)) > 1
        assert not fallbacks(stages_of(engine))
        if older := files.older.get(kind):
            assert engine.tables.put(kind, place, format=kind, storage="store", options=older).statistics.rows == 25
            found = engine.sql(TEXT.format(name=kind)).result()
            assert_same(found, own(seaweed, kind, place, older, TEXT.format(name="t")), ordered=True)
        assert kind in engine.tables
        with pytest.raises(frazil.RequestError, match="whose credentials nobody else has"):
            engine.tables[kind]
        engine.tables.drop(kind)
        with pytest.raises(pl.exceptions.SQLInterfaceError, match="not found"):
            engine.sql(TEXT.format(name=kind))


def test_partitions_that_a_statement_does_not_want_are_not_read(url: str, files: Files) -> None:
    with frazil.connect(url, token="a-token", settings=TINY) as engine:
        engine.tables.put("parts", files.places["delta"], format="delta", storage="store")
        assert engine.sql("SELECT a FROM parts WHERE p = 'k1'").result().height == 11
        assert stages_of(engine)[0]["rows_in"] == 11


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_a_storage_is_read_with_the_environments_credentials(
    files: Files, seaweed: SeaweedFS, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in seaweed.storage_options.items():
        monkeypatch.setenv(name.upper(), value)
    place = files.places[kind]
    with frazil.local(1, settings=TINY) as engine:
        engine.tables.put("t", place, format=kind)
        found = engine.sql(TEXT.format(name="t")).result()
    assert_same(found, own(seaweed, kind, place, {}, TEXT.format(name="t")), ordered=True)


@pytest.mark.parametrize(
    ("who", "source", "status", "words"),
    [
        ("a", {"storage": "none"}, 400, "there is no storage 'none'"),
        ("b", {"storage": "store"}, 400, "there is no storage 'store'"),
        ("a", {"storage": "store", "location": "s3://elsewhere/x"}, 403, "the storage 'store' is for files below"),
        ("a", {"storage": "store", "storage_options": {"aws_region": "x"}}, 400, "leave these out"),
        ("c", {"storage": "store"}, 403, "tenant 'c' may read and write below s3://lakes/tables/plain/"),
        ("a", {"storage": "store", "location": "s3://lakes/tables/nothing"}, 400, "can't be read: TableNotFoundError"),
        ("a", {"storage": "store", "options": {"version": 7}}, 400, "can't be read"),
        ("a", {"storage": "store", "options": {"version": []}}, 400, "options: version"),
        ("a", {"storage": "store", "format": "iceberg"}, 400, "version-hint.text"),
        ("a", {"storage": "store", "format": "iceberg", "options": {"version": 1}}, 400, "there are from_snapshot"),
    ],
)
def test_a_table_that_may_not_be_or_is_not_there_is_refused(
    url: str, files: Files, seaweed: SeaweedFS, who: str, source: dict[str, object], status: int, words: str
) -> None:
    given = {"location": files.places["delta"], "format": "delta", **source}
    problem = ask(url, "PUT", "tables/refused", given, who=who, status=status)
    assert words in problem["detail"]
    assert seaweed.secret_key not in json.dumps(problem)
    assert "refused" not in [one["name"] for one in ask(url, "GET", "tables", who=who)]


def test_metadata_that_leads_out_of_a_tenants_folders_is_not_followed(url: str, files: Files, seaweed: SeaweedFS) -> None:
    """Who may write metadata of his own must not have the coordinator read what it names: lists, manifests or data."""

    def read(place: str) -> bytes:
        data: bytes = seaweed.client().get_object(Bucket="lakes", Key=place.removeprefix("s3://lakes/"))["Body"].read()
        return data

    def refused() -> str:
        seaweed.put("lakes", "tables/plain/own.metadata.json", json.dumps(metadata).encode())
        source = {"location": "s3://lakes/tables/plain/own.metadata.json", "storage": "store"}
        return str(ask(url, "PUT", "tables/own", source, who="c", status=403)["detail"])

    metadata = json.loads(read(files.places["iceberg"]))
    assert re.search(r"s3://lakes/tables/iceberg/\S+/metadata/snap-\S+ is not allowed", refused())
    for number, snapshot in enumerate(metadata["snapshots"]):
        seaweed.put("lakes", f"tables/plain/{number}.avro", read(snapshot["manifest-list"]))
        snapshot["manifest-list"] = f"s3://lakes/tables/plain/{number}.avro"
    assert re.search(r"s3://lakes/tables/iceberg/\S+/metadata/\S+-m0.avro' is not allowed", refused())


def test_a_task_that_is_replayed_has_no_secret_of_a_storage(url: str, files: Files, seaweed: SeaweedFS) -> None:
    settings = frazil.Settings(start_small=False, max_rows_per_split=4, keep_inputs="all")
    with frazil.connect(url, token="a-token", settings=settings) as engine:
        engine.tables.put("replayed", files.places["iceberg"], storage="store")
        query = engine.sql("SELECT a FROM replayed")
        assert query.result().height == 40
        path = f"{url}/v1/queries/{query.id}/stages/0/tasks/0/replay"
        answer = httpx.get(path, headers={"Authorization": "Bearer a-token"}, timeout=60)
    fragment = decode_bundle(answer.content).request.fragment
    assert seaweed.endpoint.encode() in fragment  # an option that is no secret
    assert seaweed.access_key.encode() not in answer.content
    assert seaweed.secret_key.encode() not in answer.content


def test_no_secret_of_a_storage_is_in_the_log_or_in_the_store(
    files: Files, outside: Outside, seaweed: SeaweedFS, tmp_path: Path
) -> None:
    storage = outside.storages["store"]
    options = ", ".join(f'{name} = "{value}"' for name, value in storage.options.items())
    (tmp_path / "key").write_text(f"{seaweed.secret_key}\n")
    (tmp_path / "catalogs.toml").write_text(
        f'[storage.store]\nprefixes = ["s3://lakes/tables/"]\noptions = {{ {options} }}\n'
        f'secrets = {{ aws_access_key_id = "env:LAKE_KEY", aws_secret_access_key = "file:{tmp_path}/key" }}\n'
    )
    command = [FRAZIL, "serve", "--port=0", "--max-functions=1", "--log-level=debug", f"--store={tmp_path}/store"]
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            [*command, f"--catalogs={tmp_path}/catalogs.toml"], stderr=log, stdout=log, env=dict(os.environ), text=True
        )
        try:
            with frazil.connect(_url_of(process, tmp_path / "log"), settings=TINY) as engine:
                engine.tables.put("t", files.places["iceberg"], storage="store")
                query = engine.sql("SELECT p, a FROM t")
                assert query.result().height == 40
                shown = [str(query.status()), str(query.profile()), query.explain(), str(engine.tables.list())]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    written = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(written) > 1  # the journal, the table
    texts = [*written, (tmp_path / "log").read_bytes(), *(text.encode() for text in shown)]
    assert not [text for text in texts if seaweed.secret_key.encode() in text]


def _url_of(process: subprocess.Popen[str], log: Path) -> str:
    def found() -> re.Match[str] | None:
        return re.search(r"coordinator at (http://\S+)", log.read_text())

    eventually(lambda: process.poll() is not None or found() is not None, "the coordinator says where it is")
    match = found()
    assert match is not None, log.read_text()
    return match[1]
