"""Triggers over HTTP, with real function processes: what is written and told of comes out, once."""

from __future__ import annotations

import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import polars as pl
import pytest

import frazil
from frazil_coordinator.events.cloudevents import STRUCTURED, CloudEvent, encode
from frazil_coordinator.events.formats import CREATED_TYPE, PING_TYPE
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


def test_a_trigger_is_made_watched_changed_and_dropped_over_http(world: World) -> None:
    world.write("a.parquet", 1)
    answer = world.http.put("/v1/triggers/x", json=world.body(_all(world), "out/"), headers={"if-none-match": "*"})
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    assert (
        world.http.put("/v1/triggers/x", json=world.body(_all(world), "out/"), headers={"if-none-match": "*"}).status_code
        == 412
    )
    world.has_rows("out", [1])
    assert world.http.post("/v1/triggers/x/pause").json()["paused"] is True
    world.tell(world.write("b.parquet", 2))
    eventually(lambda: world.status("x")["state"] == "paused" and _pending(world, "x") == 1, "it is pending")
    assert world.http.post("/v1/triggers/x/resume").json()["version"] == 3
    world.has_rows("out", [1, 2])
    assert world.http.get("/v1/triggers/x/dead-letters").json() == []
    assert [view["trigger"]["name"] for view in world.http.get("/v1/triggers").json()].count("x") == 1
    assert world.http.delete("/v1/triggers/x", headers={"if-match": '"1"'}).status_code == 412
    assert world.http.delete("/v1/triggers/x").status_code == 204
    assert world.http.get("/v1/triggers/x").status_code == 404
    assert world.rows("out") == [1, 2]  # the output stays


def _pending(world: World, name: str) -> int:
    lag = world.status(name)["lag"]
    assert isinstance(lag, dict)
    return int(lag["pending_objects"])


def test_a_schedule_runs_the_window_of_a_trigger_that_waits(world: World) -> None:
    world.put("scheduled", _all(world), "out/", window={"count": 100})
    world.write("a.parquet", 1)
    event = encode(CloudEvent(id="1", source="/ping", type=PING_TYPE, data={"trigger": "scheduled"}), 0.0)
    assert world.http.post("/", content=event, headers={"content-type": STRUCTURED}).status_code == 202
    world.has_rows("out", [1])
    missing = encode(CloudEvent(id="1", source="/ping", type=PING_TYPE, data={"trigger": "nosuch"}), 0.0)
    assert world.http.post("/", content=missing, headers={"content-type": STRUCTURED}).status_code == 404


def test_a_tenant_sees_and_wakes_only_its_own_triggers_and_stays_in_its_folders(world: World) -> None:
    world.put("mine", _all(world), "out/")
    other = {"authorization": "Bearer other"}
    assert world.http.get("/v1/triggers/mine", headers=other).status_code == 404
    told: dict[str, list[object]] = {"Records": []}
    assert world.http.post("/ingest/s3", json=told, headers=other).json() == {"events": 0, "concerned": 0}
    outside = world.body(_all(world), "out/") | {"sink": "/elsewhere/out/"}
    refused = world.http.put("/v1/triggers/out", json=outside)
    assert refused.status_code in (400, 403), refused.text
    outside = world.body(pl.scan_parquet("/etc/*.parquet"), "out/") | {"source": "/etc/"}
    assert world.http.put("/v1/triggers/out", json=outside).status_code == 403


def test_a_token_for_producers_may_come_in_the_url_and_does_nothing_else(world: World) -> None:
    with httpx.Client(base_url=str(world.http.base_url)) as nobody:
        assert nobody.post("/ingest/s3?token=notify", json={"Records": []}).status_code == 202
        assert nobody.post("/ingest/s3?token=wrong", json={"Records": []}).status_code == 401
        assert nobody.post("/ingest/s3", json={"Records": []}).status_code == 401
        assert nobody.get("/v1/triggers?token=notify").status_code == 401
        header = {"authorization": "Bearer notify"}
        assert nobody.post("/ingest/s3", json={"no": "notification"}, headers=header).status_code == 400
        assert nobody.get("/v1/triggers", headers=header).status_code == 403
        assert nobody.post("/v1/queries", content=_all(world).serialize(), headers=header).status_code == 403


def test_the_engine_and_the_command_do_what_http_does(world: World) -> None:
    world.write("a.parquet", 1, -1)
    url = str(world.http.base_url)
    with frazil.connect(url, token="sub") as engine:
        engine.tables.put("numbers", f"{world.source}/*.parquet")
        statement = "SELECT v FROM numbers WHERE v > 0"
        made = engine.triggers.put(
            "engine", statement, source=f"{world.source}/", sink=f"{world.folder}/out/", suffix=".parquet"
        )
        assert made.sql == statement
        world.has_rows("out", [1])
        assert engine.triggers["engine"] == made
        assert "engine" in engine.triggers
        assert "nosuch" not in engine.triggers
        world.write("b.parquet", 2)
        engine.triggers.run("engine")
        world.has_rows("out", [1, 2])
        eventually(lambda: engine.triggers.status("engine").objects == 2, "both are counted")
        engine.triggers.replay("engine")
        world.has_rows("out", [1, 1, 2, 2])
        shown = _command("triggers", "show", "engine", "--url", url, "--token", "sub")
        assert "in the output: 4 objects" in shown
        engine.triggers.drop("engine")
        assert "engine" not in engine.triggers


def _command(*arguments: str) -> str:
    return subprocess.run(
        [str(Path(sys.executable).parent / "frazil"), *arguments], capture_output=True, check=True, text=True
    ).stdout


def test_a_local_engine_has_triggers_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pl.DataFrame({"v": [1, 2]}).write_parquet(tmp_path / "in" / "a.parquet")
    with frazil.local(max_functions=1) as engine:
        query = pl.scan_parquet(f"{tmp_path}/in/*.parquet").select(pl.col("v").sum())
        engine.triggers.put("sum", query, source=f"{tmp_path}/in/", sink=f"{tmp_path}/out/sum.parquet", mode="incremental")
        eventually(lambda: engine.triggers.status("sum").objects == 1, "published")
        pl.DataFrame({"v": [39]}).write_parquet(tmp_path / "in" / "b.parquet")
        engine.triggers.run("sum")
        eventually(lambda: engine.triggers.status("sum").objects == 2, "published")
        assert pl.read_parquet(tmp_path / "out" / "sum.parquet")["v"].item() == 42
