"""A plan that was written is read as an equal one, of every kind of query, and runs to the same answer."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from benchmarks.pdsds import tiny
from benchmarks.pdsds.queries import QUERIES as PDSDS
from benchmarks.pdsds.queries import build
from benchmarks.pdsds.tables import scan
from benchmarks.pdsh.data import generate
from benchmarks.pdsh.harness import many_tasks
from benchmarks.pdsh.queries import QUERIES as PDSH
from benchmarks.pdsh.tables import Tables
from frazil._serialize import serialize
from frazil_coordinator.journal.plan_codec import PlannedQuery, decode_plan, encode_plan
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.report import planned_report
from frazil_coordinator.settings import Settings
from frazil_functions.errors import FrazilError
from support.in_stages import answer_in_stages
from support.memory_store import MemoryStore
from support.parity import assert_same
from support.plans import random_example
from support.random_tables import Choices

MANY = Settings(start_small=False, max_rows_per_split=4, shuffle_partitions=3)


def _planned(query: pl.LazyFrame, settings: Settings = MANY) -> StageGraph:
    return plan_query(serialize(query, max_plan_bytes=settings.max_plan_bytes), settings)


def _same(graph: StageGraph) -> StageGraph:
    """Write and read a plan, and hold it against the one that was written, by value and by text."""
    report = planned_report(graph)
    read = decode_plan(encode_plan(graph, report))
    assert read == PlannedQuery(graph=graph, report=report)
    assert repr(read.graph) == repr(graph)
    assert repr(read.report) == repr(report)
    assert encode_plan(read.graph, read.report) == encode_plan(graph, report)
    return read.graph


# Queries


def _rows(number: int = 40) -> pl.DataFrame:
    draw = random.Random(3)
    return pl.DataFrame(
        {
            "id": range(number),
            "key": [draw.choice(["a", "b", "c", None]) for _ in range(number)],
            "ratio": [draw.choice([0.5, float("nan"), float("inf"), -0.0, None]) for _ in range(number)],
            "day": [dt.date(2020, 1, 1) + dt.timedelta(days=draw.randrange(90)) for _ in range(number)],
            "moment": pl.Series(range(number)).cast(pl.Datetime("ns", "Europe/Paris")),
            "money": pl.Series(range(number)).cast(pl.Decimal(20, 2)),
            "wide": pl.Series([2**100 + one for one in range(number)], dtype=pl.Int128),
            "kind": pl.Series(draw.choices(["x", "y"], k=number), dtype=pl.Enum(["y", "x"])),
            "colour": pl.Series(draw.choices(["red", "blue"], k=number), dtype=pl.Categorical),
            "many": [[one, None] for one in range(number)],
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tables")
    rows = _rows()
    flat = rows.drop("many", "wide")
    for part in range(3):
        rows.write_parquet(place / f"part-{part}.parquet", row_group_size=7)
        rows.drop("wide").write_ipc(place / f"part-{part}.arrow")
        flat.write_csv(place / f"part-{part}.csv")
        flat.select("id", "key").write_ndjson(place / f"part-{part}.ndjson")
        inner = place / "hive" / f"year={2020 + part}"
        inner.mkdir(parents=True)
        rows.write_parquet(inner / "x.parquet")
    return place


_PARQUET: Mapping[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "filter": lambda lf: lf.filter(pl.col("id") > 20),
    "filter on a date": lambda lf: lf.filter(pl.col("day") >= dt.date(2020, 2, 1)),
    "filter on a moment": lambda lf: lf.filter(pl.col("moment").dt.year() > 1990),
    "filter on a wide integer": lambda lf: lf.filter(pl.col("wide") > 2**100 + 5),
    "group_by": lambda lf: lf.group_by("key").agg(pl.col("id").sum(), pl.col("ratio").max()),
    "groups that are whole": lambda lf: lf.group_by("key").agg(pl.col("id").median(), pl.col("day").n_unique()),
    "maintain_order": lambda lf: lf.group_by("key", maintain_order=True).agg(pl.col("id").first()),
    "window": lambda lf: lf.with_columns(mean=pl.col("id").mean().over("key")),
    "sort": lambda lf: lf.sort("money", "id", descending=[True, False], nulls_last=True),
    "top": lambda lf: lf.sort("id").head(5),
    "slice": lambda lf: lf.slice(7, 30),
    "join": lambda lf: lf.join(lf.filter(pl.col("id") < 9).select("id", other="key"), on="id"),
    "join of a frame": lambda lf: lf.join(pl.LazyFrame({"id": [1, 2, 3], "x": [b"a", b"b", None]}), on="id", how="left"),
    "cross": lambda lf: lf.select("id").join(lf.select(x="id"), how="cross").select(pl.len()),
    "concat": lambda lf: pl.concat([lf, lf.filter(pl.col("key") == "a")]),
    "aggregate": lambda lf: lf.select(pl.col("id").sum(), pl.col("ratio").min()),
    "row index": lambda lf: lf.with_row_index("n", offset=5).filter(pl.col("n") % 2 == 0),
    "unique": lambda lf: lf.select("key", "kind", "colour").unique(),
    "sql": lambda lf: pl.SQLContext(t=lf).execute("SELECT key, SUM(id) AS s FROM t GROUP BY key ORDER BY s"),
    "a fallback": lambda lf: lf.select(pl.col("id").sort().shuffle(seed=1).sum()),
}


@pytest.mark.parametrize("name", _PARQUET)
def test_a_plan_over_parquet_files_is_the_same_and_gives_the_same_answer(name: str, folder: Path) -> None:
    query = _PARQUET[name](pl.scan_parquet(folder / "*.parquet"))
    _answers(query)


def _answers(query: pl.LazyFrame, settings: Settings = MANY) -> StageGraph:
    read = _same(_planned(query, settings))
    actual = answer_in_stages(read, settings, MemoryStore(), unaggregated=True)
    assert_same(actual, query.collect(engine="streaming"), ordered=False)
    return read


_SOURCES: Mapping[str, Callable[[Path], pl.LazyFrame]] = {
    "csv": lambda place: pl.scan_csv(place / "*.csv", try_parse_dates=True),
    "csv with a row index": lambda place: pl.scan_csv(place / "*.csv", row_index_name="n"),
    "ipc": lambda place: pl.scan_ipc(place / "*.arrow"),
    "ndjson": lambda place: pl.scan_ndjson(place / "*.ndjson"),
    "hive": lambda place: pl.scan_parquet(place / "hive/**/*.parquet", hive_partitioning=True),
    "one file": lambda place: pl.scan_parquet(place / "part-0.parquet"),
    "rows": lambda place: pl.scan_parquet(place / "*.parquet", n_rows=50),
    "frame": lambda place: _rows().lazy(),
    "no rows": lambda place: _rows().clear().lazy(),
}


@pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")
def test_a_plan_over_an_iceberg_table_is_the_same_and_gives_the_same_answer(tmp_path: Path) -> None:
    """Members of such a scan have numbers as names: those of the table's columns."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=f"file://{tmp_path}/warehouse")
    catalog.create_namespace("n")
    frame = pl.DataFrame({"id": range(20), "key": ["a", "b"] * 10})
    table = catalog.create_table("n.t", schema=frame.to_arrow().schema)
    with table.update_spec() as update:
        update.add_identity("key")
    table.append(frame.to_arrow())
    _answers(pl.scan_iceberg(table).filter(pl.col("id") > 3))
    catalog.close()


@pytest.mark.parametrize("size", [1, 10_000_000])
@pytest.mark.parametrize("name", _SOURCES)
def test_a_plan_over_any_source_is_the_same_and_gives_the_same_answer(name: str, size: int, folder: Path) -> None:
    settings = _cut_at(size)
    lf = _SOURCES[name](folder)
    _answers(lf, settings)
    _answers(lf.filter(pl.col("id") > 3).group_by("key").agg(pl.len()), settings)


def _cut_at(size: int) -> Settings:
    return replace(MANY, split_target_bytes=size, max_rows_per_split=None)


_SINKS: Mapping[str, Callable[[pl.LazyFrame, str], pl.LazyFrame]] = {
    "a file": lambda lf, place: lf.sink_parquet(f"{place}/x.parquet", lazy=True),
    "a folder": lambda lf, place: lf.sink_ipc(f"{place}/new/", mkdir=True, lazy=True),
    "by a key": lambda lf, place: lf.sink_csv(pl.PartitionBy(f"{place}/by/", key="key"), mkdir=True, lazy=True),
    "by rows": lambda lf, place: lf.sink_parquet(
        pl.PartitionBy(f"{place}/rows/", max_rows_per_file=9), mkdir=True, lazy=True
    ),
    "with credentials": lambda lf, place: lf.sink_parquet(
        "s3://bucket/x.parquet",
        storage_options={"aws_access_key_id": "me", "aws_secret_access_key": "known to few"},
        lazy=True,
    ),
}


@pytest.mark.parametrize("name", _SINKS)
def test_a_plan_with_a_sink_is_the_same(name: str, folder: Path, tmp_path: Path) -> None:
    lf = pl.scan_parquet(folder / "*.parquet").drop("many", "wide")
    graph = _same(_planned(_SINKS[name](lf, str(tmp_path))))
    assert graph.sink is not None
    assert ("known to few" in repr(graph.sink.cloud_options)) == (name == "with credentials")


@pytest.fixture(scope="module")
def pdsh(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    place = tmp_path_factory.mktemp("tpch")
    generate(place, scale_factor=0.01, parts=2)
    return Tables.scan(str(place), scale_factor=0.01)


@pytest.mark.parametrize("number", PDSH)
def test_the_plan_of_a_pdsh_query_is_the_same(number: int, pdsh: Tables) -> None:
    _same(_planned(PDSH[number](pdsh), many_tasks(broadcast=number % 2 == 0)))


@pytest.fixture(scope="module")
def pdsds(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, pl.LazyFrame]:
    place = tmp_path_factory.mktemp("tpcds")
    tiny.generate(place)
    return scan(place)


@pytest.mark.parametrize("number", list(PDSDS)[::6])
def test_the_plan_of_a_pdsds_query_is_the_same(number: int, pdsds: Mapping[str, pl.LazyFrame]) -> None:
    _same(_planned(build(number, pdsds), many_tasks(split_rows=300, broadcast=False)))


def test_random_plans_are_the_same(tmp_path: Path) -> None:
    planned = 0
    for number in range(60):
        example = random_example(Choices(random.Random(number).randint), tmp_path)
        try:
            graph = _planned(example.plan.lf, example.settings)
        except (FrazilError, pl.exceptions.PolarsError):
            continue  # refused as polars refuses it
        if "Object" not in str(graph.schema):
            planned += 1
            _same(graph)
    assert planned > 40
