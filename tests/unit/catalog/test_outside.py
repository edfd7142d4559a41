"""Storages and catalogs, the file that they are read from, and which packages a coordinator starts without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from frazil_coordinator.catalog.config import read_outside
from frazil_coordinator.catalog.model import Table
from frazil_coordinator.catalog.outside import IcebergCatalog, Outside, Secret, Storage
from frazil_coordinator.catalog.sources import Sources
from frazil_coordinator.tenancy import Tenant, Tenants
from frazil_functions.errors import RequestError

WHOLE = """
    [storage.store]
    prefixes = ["s3://lake/"]
    options = { aws_region = "eu-west-1" }
    secrets = { aws_secret_access_key = "env:LAKE_SECRET" }

    [catalogs.lake]
    type = "rest"
    uri = "https://catalog.example/api"
    warehouse = "s3://lake/"
    properties = { "rest.sigv4-enabled" = "true", "oauth2-server-uri" = "https://login.example/token" }
    secrets = { credential = "env:LAKE_SECRET" }
    storage = "store"
    timeout_s = 5
    comment = "ours"

    [catalogs.attic]
    type = "sql"
    catalog_name = "default"
    secrets = { uri = "file:{folder}/uri" }
"""


def read(folder: Path, text: str) -> Outside:
    file = folder / "catalogs.toml"
    file.write_text(text.replace("{folder}", str(folder)))
    return read_outside(file)


@pytest.fixture(autouse=True)
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_SECRET", "open sesame")
    (tmp_path / "uri").write_text("sqlite:////data/catalog.db\n")


def test_a_file_gives_storages_and_catalogs_whose_secrets_are_read_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = read(tmp_path, WHOLE)
    secret = Secret(place="env:LAKE_SECRET")
    assert outside.storages == {
        "store": Storage(
            name="store",
            prefixes=("s3://lake/",),
            options={"aws_region": "eu-west-1"},
            secrets={"aws_secret_access_key": secret},
        )
    }
    assert outside.catalogs["attic"] == IcebergCatalog(
        name="attic", type="sql", uri=Secret(place=f"file:{tmp_path}/uri"), catalog_name="default"
    )
    lake = outside.catalogs["lake"]
    assert (lake.uri, lake.warehouse, lake.storage, lake.timeout_s) == (
        "https://catalog.example/api", "s3://lake/", "store", 5.0,
    )  # fmt: skip
    assert lake.secrets == {"credential": secret}
    assert "open sesame" not in repr(outside)
    monkeypatch.setenv("LAKE_SECRET", "another one")
    assert outside.storages["store"].all_options()["aws_secret_access_key"] == "another one"
    assert Secret(place=f"file:{tmp_path}/uri").read() == "sqlite:////data/catalog.db"


REST = '[catalogs.lake]\ntype = "rest"\n'
URI = 'uri = "https://catalog.example"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[catalogs.lake", "not TOML"),
        ("[catalog.lake]", r"unknown: catalog; there are the tables \[storage.NAME\] and \[catalogs.NAME\]"),
        (REST, r"\[catalogs.lake\] uri is missing"),
        ("[catalogs.lake]\n" + URI, r"\[catalogs.lake\] type is missing"),
        ('[catalogs.lake]\ntype = "hive"\n' + URI, r"\[catalogs.lake\] type: Invalid enum value"),
        (REST + URI + "port = 1", r"\[catalogs.lake\] port is unknown: there are"),
        (REST + URI + "timeout_s = 0", "timeout_s must be above 0"),
        (REST + URI + 'storage = "store"', r"storage: there is no \[storage.store\]"),
        (REST + URI + 'properties = { token = "hunter2" }', "properties: token may be a secret: name it under secrets"),
        (REST + URI + 'properties = { "s3.secret-access-key" = "hunter2" }', "may be a secret"),
        (REST + URI + 'properties = { warehouse = "x" }', "warehouse is none: uri and warehouse are keys of their own"),
        (REST + URI + 'secrets = { token = "hunter2" }', r"secrets: token: a secret must be named as 'env:VARIABLE'"),
        (REST + URI + 'secrets = { token = "file:hunter2" }', "or 'file:/absolute/path'"),
        (REST + URI + 'secrets = { token = "env:NOT_THERE" }', "the secret env:NOT_THERE is not set, or empty"),
        (REST + URI + 'secrets = { token = "file:/not/there" }', "the secret file:/not/there can't be read"),
        (REST + URI + 'secrets = { uri = "env:LAKE_SECRET" }', "uri is there twice"),
        (REST + 'uri = "https://me:hunter2@catalog.example"', "uri must hold no password"),
        (REST + 'uri = "catalog.example"', "uri must be a URL of https://"),
        (REST + 'uri = "ftp://catalog.example"', "uri must be a URL of https://"),
        (REST.replace("lake", '"the lake"') + URI, "'the lake' is no name of a catalog"),
        (REST + URI + REST.replace("lake", "LAKE") + URI, "two names differ in case only"),
        ("[storage.s]\nprefixes = []", r"\[storage.s\] prefixes must name at least one folder"),
        ('[storage.s]\nprefixes = ["lake"]', "'lake' is no folder"),
        ("[storage.s]", r"\[storage.s\] prefixes is missing"),
        ('[storage.s]\nprefixes = ["s3://b/"]\noptions = { aws_session_token = "hunter2" }', "may be a secret"),
    ],
)
def test_a_file_that_is_wrong_is_refused_without_a_word_of_its_secrets(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as raised:
        read(tmp_path, text)
    assert str(tmp_path / "catalogs.toml") in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_storage_is_good_for_what_lies_below_its_folders() -> None:
    storage = Storage(name="s", prefixes=("s3://lake/a/", "/data"))
    assert [storage.holds(path) for path in ("s3://lake/a/x", "s3://lake/ab/x", "s3://lake/a/../b", "file:///data/x")] == [
        True, False, False, True,
    ]  # fmt: skip


def test_a_tenant_may_not_be_allowed_what_there_is_not() -> None:
    tenants = Tenants(by_name=MappingProxyType({"a": Tenant(name="a", allowed_catalogs=("lake",))}))
    with pytest.raises(RequestError, match=r"\[tenants.a\] allowed_catalogs: there is no 'lake' in the file of --catalogs"):
        Sources(Outside(), tenants)


@pytest.mark.parametrize(("kind", "package"), [("iceberg", "pyiceberg.table"), ("delta", "deltalake")])
def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    table = Table(name="t", location=str(tmp_path), format="iceberg" if kind == "iceberg" else "delta")
    with pytest.raises(RequestError, match=rf'pip install "frazil\[{kind}\]"'):
        Sources().opened("default", table)


def test_a_coordinator_starts_without_the_packages_of_lakes(tmp_path: Path) -> None:
    """They take seconds to import, and who has no such table needs none of them."""
    (tmp_path / "catalogs.toml").write_text(WHOLE.replace("{folder}", str(tmp_path)))
    script = f"""
import sys
from pathlib import Path
import frazil, frazil.cli._serve
from frazil_coordinator.api.app import create_app
from frazil_coordinator.catalog.config import read_outside
from frazil_coordinator.catalog.sources import Sources
assert Sources(read_outside(Path({str(tmp_path / "catalogs.toml")!r}))).catalogs("default")
print(sorted({{"pyiceberg", "deltalake", "sqlalchemy", "requests", "sqlglot"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
