"""Catalogs that don't answer, answer nonsense, or have moved: what is told of them, and for how long one waits."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from frazil_coordinator.catalog.iceberg import Connections
from frazil_coordinator.catalog.model import CatalogError
from frazil_coordinator.catalog.outside import IcebergCatalog, Secret
from frazil_functions.errors import RequestError
from support.answering import Answer, Server, answering

TABLE = ("sales", "orders")


def rest(uri: str) -> IcebergCatalog:
    return IcebergCatalog(
        name="lake", type="rest", uri=uri, timeout_s=0.2, secrets={"credential": Secret(place="env:LAKE_CREDENTIAL")}
    )


@pytest.fixture(autouse=True)
def credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_CREDENTIAL", "me:hunter2")


@pytest.fixture
def connections() -> Iterator[Connections]:
    made = Connections(lambda catalog: {})
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with answering() as started:
        yield started


def told(connections: Connections, catalog: IcebergCatalog) -> str:
    with pytest.raises(CatalogError) as raised:
        connections.load(catalog, TABLE)
    assert (
        raised.value.__suppress_context__ or raised.value.__context__ is None
    )  # the text of what was caught is not to be shown
    assert "hunter2" not in str(raised.value)
    return raised.value.message


def test_one_that_never_answers_is_given_up_after_its_time(connections: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert told(connections, rest(url)).startswith(
            "the catalog 'lake' can't be reached, or does not answer as one (Read"
        )


def test_one_that_refuses_the_credential_is_told_apart(connections: Connections, server: Server) -> None:
    server.answers["/v1/oauth/tokens"] = Answer(status=401, body={"error": "invalid_client", "error_description": "hunter2"})
    assert told(connections, rest(server.url)).startswith("the catalog 'lake' refuses the coordinator's credentials")


def test_what_is_no_catalog_is_told(connections: Connections, server: Server) -> None:
    server.answers["/v1/oauth/tokens"] = Answer(body={"access_token": "t", "token_type": "bearer"})
    server.answers["/v1/config"] = Answer(status=500, body={"error": {"message": "hunter2", "type": "x", "code": 500}})
    assert "does not answer as one" in told(connections, rest(server.url))


def test_one_of_too_many_namespaces_is_not_listed_in_part(
    connections: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    uri = f"sqlite:///{tmp_path}/c.db"
    made = SqlCatalog("attic", uri=uri, warehouse=f"file://{tmp_path}/w")
    for name in "abc":
        made.create_namespace(name)
    made.close()
    catalog = IcebergCatalog(name="attic", type="sql", uri=uri)
    monkeypatch.setattr("frazil_coordinator.catalog.iceberg._MOST_NAMESPACES", 4)
    assert connections.names(catalog) == []  # the root, and three
    monkeypatch.setattr("frazil_coordinator.catalog.iceberg._MOST_NAMESPACES", 3)
    with pytest.raises(RequestError, match="more than 3 namespaces here: name one"):
        connections.names(catalog)


def test_a_database_that_is_not_there_is_not_made(connections: Connections, tmp_path: Path) -> None:
    catalog = IcebergCatalog(name="attic", type="sql", uri=f"sqlite:///{tmp_path}/none.db")
    assert told(connections, catalog) == "the catalog 'attic' can't be reached: there is no file of its database"
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_a_catalog_is_left_as_it_is(connections: Connections, tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    file.touch()
    assert "'attic' can't be reached" in told(connections, IcebergCatalog(name="attic", type="sql", uri=f"sqlite:///{file}"))
    assert file.stat().st_size == 0
