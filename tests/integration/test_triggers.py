"""Triggers over HTTP, with real function processes: what is written and told of comes out, once."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

from frazil_coordinator.events.cloudevents import STRUCTURED, CloudEvent, encode
from frazil_coordinator.events.formats import CREATED_TYPE
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Role, Tenant, Tenants, Token
from support.polling import eventually
from support.serving import serving


class World:
    """A coordinator, a source and outputs."""

    def __init__(self, url: str, folder: Path) -> None:
        self.http = httpx.Client(base_url=url, headers={"authorization": "Bearer sub"}, timeout=30.0)
        self.folder = folder
        self.source = folder / "in"

    def write(self, name: str, *values: int) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame({"v": values}, schema={"v": pl.Int64}).write_parquet(path)
        return path

    def body(self, lf: pl.LazyFrame, sink: str, **more: object) -> dict[str, object]:
        source = {"source": f"{self.source}/", "suffix": ".parquet", "list_every_s": 3600.0}
        return {**source, "plan": b64encode(lf.serialize()).decode(), "sink": f"{self.folder}/{sink}", **more}

    def put(self, name: str, lf: pl.LazyFrame, sink: str, **more: object) -> None:
        answer = self.http.put(f"/v1/triggers/{name}", json=self.body(lf, sink, **more))
        assert answer.is_success, answer.text

    def tell(self, path: Path) -> None:
        event = encode(CloudEvent(id="1", source="/t", type=CREATED_TYPE, data={"url": str(path)}), 0.0)
        answer = self.http.post("/", content=event, headers={"content-type": STRUCTURED})
        assert (answer.status_code, answer.content) == (202, b"")  # a Broker takes a body for an event

    def status(self, name: str) -> dict[str, object]:
        found: dict[str, object] = self.http.get(f"/v1/triggers/{name}").json()["status"]
        return found

    def rows(self, sink: str) -> list[int]:
        files = sorted((self.folder / sink).rglob("*.parquet"))
        return sorted(value for file in files for value in pl.read_parquet(file)["v"])

    def has_rows(self, sink: str, rows: list[int]) -> None:
        eventually(lambda: self.rows(sink) == rows, f"{sink} holds {rows}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("triggers")
    tenants = Tenants(
        by_name={"a": Tenant(name="a", allowed_prefixes=(str(folder),)), "b": Tenant(name="b")},
        tokens=(
            Token.of("sub", tenant="a", role=Role.SUBMIT),
            Token.of("other", tenant="b", role=Role.SUBMIT),
            Token.of("notify", tenant="a", role=Role.NOTIFY),
        ),
    )
    with serving(folder / "store", Settings(), tenants) as url:
        yield url, folder


@pytest.fixture
def world(served: tuple[str, Path], request: pytest.FixtureRequest) -> Iterator[World]:
    url, folder = served
    own = folder / request.node.name
    (own / "in").mkdir(parents=True)
    world = World(url, own)
    with world.http:
        yield world


def _all(world: World) -> pl.LazyFrame:
    return pl.scan_parquet(f"{world.source}/*.parquet", schema={"v": pl.Int64})


def test_a_file_that_is_told_of_twice_comes_out_once(world: World) -> None:
    world.write("old.parquet", 1)
    world.put("append", _all(world).filter(pl.col("v") > 0), "out/")
    world.has_rows("out", [1])
    new = world.write("new.parquet", 2, -3)
    for _ in range(3):
        world.tell(new)
    world.has_rows("out", [1, 2])
    world.tell(new)
    world.tell(world.write("last.parquet", 4))
    world.has_rows("out", [1, 2, 4])
    status = world.status("append")
    assert (status["objects"], status["windows"], status["rows"]) == (3, 3, 3)
    assert not list(world.folder.rglob(".frazil*/**/*.parquet"))  # nothing waits any more
