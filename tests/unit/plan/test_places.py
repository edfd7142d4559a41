"""What a plan reads and writes, as it names it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.places import places_of
from frazil_functions.arena import Arena
from frazil_functions.errors import PlanError

SCHEMA = {"k": pl.Int64}


def scan(path: str) -> pl.LazyFrame:
    return pl.scan_parquet(path, schema=SCHEMA)


@pytest.mark.parametrize(
    ("lf", "places"),
    [
        (pl.LazyFrame({"k": [1]}), ()),
        (scan("s3://b/x/*.parquet"), ("s3://b/x/*.parquet",)),
        (scan("/a").join(scan("/b"), on="k"), ("/a", "/b")),
        (pl.scan_csv(["/a", "/b"], schema=SCHEMA), ("/a", "/b")),
        (pl.scan_ndjson("/a", schema=SCHEMA), ("/a",)),
        (pl.concat([scan("/a"), scan("/b"), scan("/a")]), ("/a", "/b")),
        (scan("/a").sink_parquet("/out.parquet", lazy=True), ("/a", "/out.parquet")),
        (scan("/a").sink_csv(pl.PartitionBy("/out/", key="k"), lazy=True), ("/a", "/out/")),
        (pl.collect_all([scan("/a").sink_parquet("/o", lazy=True), scan("/b").sink_ipc("/p", lazy=True)], lazy=True), None),
    ],
)
def test_every_scan_and_sink_is_seen(lf: pl.LazyFrame, places: tuple[str, ...] | None) -> None:
    expected = ("/a", "/o", "/b", "/p") if places is None else places
    assert places_of(Arena.of(lf)) == expected


def test_tables_of_sql_are_seen_and_its_own_files_are_refused() -> None:
    with pl.SQLContext({"t": scan("/a")}, eager=False) as context:
        assert places_of(Arena.of(context.execute("SELECT k FROM t WHERE k IN (SELECT k FROM t)"))) == ("/a",)
        for function in ("read_parquet", '"read_csv"', "READ_IPC", "read_json", "read_ndjson/**/"):
            with pytest.raises(PlanError, match="table function of SQL"):
                places_of(Arena.of(context.execute(f"SELECT * FROM {function}('/secret')")))


@pytest.mark.parametrize("name", ["read_avro", "read_delta", "read_excel", "read_iceberg", "scan_parquet", "read_text"])
def test_polars_has_no_other_table_function_of_sql(name: str) -> None:
    with pytest.raises(pl.exceptions.SQLInterfaceError, match="not a supported table function"):
        pl.SQLContext({}).execute(f"SELECT * FROM {name}('/x')").collect()


def test_deleted_rows_of_an_iceberg_table_are_files_too() -> None:
    arena = Arena.of(scan("/a"))
    unified = arena.payload(0)["unified_scan_args"]
    assert isinstance(unified, dict)
    unified["deletion_files"] = {"IcebergPositionDelete": {0: ["/secret/deletes.parquet"]}}
    assert places_of(arena) == ("/a", "/secret/deletes.parquet")


def test_a_scan_of_an_unknown_form_is_refused() -> None:
    arena = Arena.of(scan("/a"))
    del arena.payload(0)["scan_type"]
    with pytest.raises(PlanError, match="unknown form"):
        places_of(arena)


def test_a_sink_that_is_no_path_is_refused(tmp_path: Path) -> None:
    arena = Arena.of(scan("/a").sink_parquet(tmp_path / "x", lazy=True))
    payload = arena.payload(arena.root)["payload"]
    assert isinstance(payload, dict)
    payload["Callback"] = payload.pop("File")
    with pytest.raises(PlanError, match="something else than a path"):
        places_of(arena)
