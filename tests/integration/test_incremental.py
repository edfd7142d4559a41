"""After files arrive only what changed runs, on real function processes over a folder and over SeaweedFS (docs/reuse.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import frazil
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.scanned import scanned_bytes
from frazil_coordinator.schedule.bind import bind_stage
from support.parity import assert_same
from support.seaweed import SeaweedFS

FILES = 50
BUCKET = "incremental"
REUSE = frazil.Settings(reuse="tasks")


@dataclass
class Table:
    """A table of files, in a folder or in a bucket."""

    url: str
    options: dict[str, str]
    files: list[str] = field(default_factory=list)

    def write(self, name: str, seed: int, rows: int = 400) -> None:
        frame = pl.DataFrame({"k": [(n * 7 + seed) % 11 for n in range(rows)], "v": [(n * seed) % 97 for n in range(rows)]})
        frame.write_parquet(f"{self.url}/{name}", storage_options=self.options or None, credential_provider=None)
        self.files.append(name)

    def scan(self) -> pl.LazyFrame:
        """Return a new scan: Polars lists the files of a LazyFrame once."""
        return self._scan("*.parquet")

    def _scan(self, name: str) -> pl.LazyFrame:
        return pl.scan_parquet(f"{self.url}/{name}", storage_options=self.options or None, credential_provider=None)

    def groups(self, name: str = "*.parquet") -> pl.LazyFrame:
        return self._scan(name).group_by("k").agg(pl.col("v").sum(), n=pl.len(), m=pl.col("v").max()).sort("k")

    def bytes_of(self, name: str) -> int:
        """Return the bytes that the query reads of one file."""
        graph = plan_query(self.groups(name).serialize(), frazil.Settings(start_small=False))
        return sum(scanned_bytes(graph.stages[0], bind_stage(graph.stages[0], {}, graph)))


@pytest.fixture(params=["folder", "seaweed"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Table:
    if request.param == "folder":
        (tmp_path / "t").mkdir()
        return Table(str(tmp_path / "t"), {})
    server: SeaweedFS = request.getfixturevalue("seaweed")
    return Table(server.url(f"{BUCKET}/{tmp_path.name}"), server.storage_options)


@pytest.fixture
def engine(table: Table, tmp_path: Path) -> Iterator[frazil.Engine]:
    """An engine whose exchange lies where the table lies."""
    store = f"{table.url}/../x" if table.options == {} else f"{table.url}/x"
    with frazil.local(max_functions=2, settings=REUSE, store=store, storage_options=table.options or None) as made:
        yield made


def profile(engine: frazil.Engine) -> dict[str, Any]:
    assert engine.last_query is not None
    return dict(engine.last_query.profile())


def run(engine: frazil.Engine, lf: pl.LazyFrame) -> dict[str, Any]:
    """Hold the engine to the answer of Polars, and return its profile."""
    assert_same(lf.collect(engine=engine), lf.collect(), ordered=True)
    return profile(engine)


def scans(found: dict[str, Any]) -> tuple[int, int]:
    """Return how many tasks of the first stage ran, and how many were reused."""
    stage = found["stages"][0]
    return stage["attempts"], stage["reused"]


def test_a_file_more_in_a_table_of_50_costs_the_scan_of_that_file(table: Table, engine: frazil.Engine) -> None:
    for number in range(FILES):
        table.write(f"day-{number:03}.parquet", number + 1)
    first = run(engine, table.groups())
    assert scans(first) == (FILES, 0)
    assert first["bytes_scanned"] == sum(map(table.bytes_of, table.files))

    table.write(f"day-{FILES:03}.parquet", 1_000)
    second = run(engine, table.groups())
    assert scans(second) == (1, FILES)
    assert second["bytes_scanned"] == table.bytes_of(table.files[-1])
    assert second["stages"][0]["bytes_not_scanned"] == first["bytes_scanned"]
    (ran,) = [task for task in second["stages"][0]["task_list"] if not task["reused"]]
    assert ran["task"] == FILES, "the tasks stand in the order of the files"

    assert engine.last_query is not None
    assert f"answers of {FILES} of {FILES + 1} tasks reused" in engine.last_query.explain(analyze=True)

    again = run(engine, table.groups())
    assert again["bytes_scanned"] == 0
    assert sum(stage["attempts"] for stage in again["stages"]) == 0, "nothing changed: nothing runs"


def test_an_equal_query_is_answered_with_the_earlier_result_while_that_is_young_enough(table: Table, tmp_path: Path) -> None:
    table.write("a.parquet", 3)
    table.write("b.parquet", 4)
    store = f"{table.url}/../x" if table.options == {} else f"{table.url}/x"
    settings = frazil.Settings(reuse="result", inline_limit_bytes=0)
    with frazil.local(max_functions=1, settings=settings, store=store, storage_options=table.options or None) as engine:
        run(engine, table.groups())
        first = engine.last_query
        assert first is not None
        second = run(engine, table.groups())
        assert second["result_of"] == first.id
        assert (second["stages"], second["bytes_scanned"]) == ([], 0)
        assert "STAGE" in (engine.last_query or first).explain(analyze=True)
        table.write("b.parquet", 5)
        third = run(engine, table.groups())
        assert "result_of" not in third, "a file has another etag"
        assert scans(third) == (1, 1)
    old = frazil.Settings(reuse="result", inline_limit_bytes=0, max_age_s=0.0)
    with frazil.local(max_functions=1, settings=old, store=store, storage_options=table.options or None) as engine:
        assert "result_of" not in run(engine, table.groups())


def test_a_file_that_is_replaced_or_comes_in_the_middle_or_goes_changes_no_other_task(
    table: Table, engine: frazil.Engine
) -> None:
    for number in range(0, 20, 2):
        table.write(f"day-{number:03}.parquet", number + 1)
    assert scans(run(engine, table.groups())) == (10, 0)
    table.write("day-007.parquet", 70)
    assert scans(run(engine, table.groups())) == (1, 10)
    table.write("day-004.parquet", 71)
    assert scans(run(engine, table.groups())) == (1, 10), "one of them has another etag"
