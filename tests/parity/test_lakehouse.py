"""Real Delta and Iceberg tables, written here, against single-node Polars on the same tables."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

import frazil
from support.parity import assert_same
from support.profiles import fallbacks, most_tasks, stages_of
from support.seaweed import SeaweedFS

deltalake = pytest.importorskip("deltalake")
pytest.importorskip("pyiceberg")

FRAME = pl.DataFrame(
    {
        "a": range(40),
        "p": [f"k{n % 3}" for n in range(40)],
        "x": [None if n % 5 == 0 else n / 4 for n in range(40)],
        "d": [dt.date(2024, 1, 1 + n % 2) for n in range(40)],
    }
)


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(settings=frazil.Settings(start_small=False, max_rows_per_split=4)) as started:
        yield started


def _run(engine: frazil.Engine, lf: pl.LazyFrame) -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        actual = lf.collect(engine=engine)
        assert_same(actual, lf.collect(), ordered=True)
    return stages_of(engine)


def _check(engine: frazil.Engine, lf: pl.LazyFrame) -> None:
    stages = _run(engine, lf)
    assert most_tasks(stages) > 1
    assert not fallbacks(stages)


@pytest.mark.parametrize("partition_by", [None, "p", ["d", "p"]])
def test_delta_table_is_distributed_over_its_files(
    engine: frazil.Engine, tmp_path: Path, partition_by: str | list[str] | None
) -> None:
    options: dict[str, Any] = {} if partition_by is None else {"partition_by": partition_by}
    FRAME.head(25).write_delta(tmp_path / "t", delta_write_options=options)
    FRAME.slice(25).write_delta(tmp_path / "t", mode="append")
    lf = pl.scan_delta(tmp_path / "t")
    _check(engine, lf)
    _check(engine, lf.filter(pl.col("p") == "k1", pl.col("a") > 7).select("x", "a"))
    _check(engine, lf.group_by("p").agg(pl.col("a").sum(), pl.len()).sort("p"))
    joined = lf.join(pl.scan_delta(tmp_path / "t").filter(pl.col("a") < 9), on="a", how="semi").sort("a")
    _check(engine, joined)


def test_older_version_of_a_delta_table_is_read(engine: frazil.Engine, tmp_path: Path) -> None:
    FRAME.head(12).write_delta(tmp_path / "t")
    FRAME.slice(12).write_delta(tmp_path / "t", mode="overwrite")
    for version, rows in ((0, 12), (1, 28), (None, 28)):
        lf = pl.scan_delta(tmp_path / "t", version=version)
        _check(engine, lf)
        assert lf.collect(engine=engine).height == rows


def test_delta_table_that_was_opened_at_an_older_version_is_read_at_it(engine: frazil.Engine, tmp_path: Path) -> None:
    FRAME.head(12).write_delta(tmp_path / "t")
    FRAME.slice(12).write_delta(tmp_path / "t", mode="overwrite")
    lf = pl.scan_delta(deltalake.DeltaTable(tmp_path / "t", version=0))
    _check(engine, lf)
    assert lf.collect(engine=engine).height == 12


def test_column_that_was_added_to_a_delta_table_is_null_in_older_files(engine: frazil.Engine, tmp_path: Path) -> None:
    FRAME.head(10).write_delta(tmp_path / "t")
    more = FRAME.slice(10).with_columns(y=pl.col("a") * 2)
    more.write_delta(tmp_path / "t", mode="append", delta_write_options={"schema_mode": "merge"})
    _check(engine, pl.scan_delta(tmp_path / "t"))
    _check(engine, pl.scan_delta(tmp_path / "t").filter(pl.col("y").is_null()))


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")  # the other planner is a package of its own
    from pyiceberg.catalog.sql import SqlCatalog

    found = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse")
    found.create_namespace("n")
    yield found
    found.close()


def test_iceberg_table_is_distributed_over_its_files(engine: frazil.Engine, catalog: Any) -> None:
    table = catalog.create_table("n.t", schema=FRAME.to_arrow().schema)
    for start in (0, 15, 30):
        table.append(FRAME.slice(start, 15).to_arrow())
    lf = pl.scan_iceberg(table)
    _check(engine, lf)
    _check(engine, lf.filter(pl.col("a") > 11).group_by("p").agg(pl.col("x").sum(), pl.len()).sort("p"))
    first = table.snapshots()[0].snapshot_id
    _check(engine, pl.scan_iceberg(table, snapshot_id=first))
    assert pl.scan_iceberg(table, snapshot_id=first).collect(engine=engine).height == 15
    _check(engine, pl.scan_iceberg(table.metadata_location))


def test_renamed_and_added_columns_of_an_iceberg_table_are_found_in_older_files(engine: frazil.Engine, catalog: Any) -> None:
    from pyiceberg.types import LongType

    table = catalog.create_table("n.t", schema=FRAME.to_arrow().schema)
    table.append(FRAME.head(20).to_arrow())
    with table.update_schema() as update:
        update.rename_column("a", "b")
    with table.update_schema() as update:
        update.add_column("a", LongType())
    table.append(FRAME.slice(20).select(pl.col("a").alias("b"), "p", "x", "d", (-pl.col("a")).alias("a")).to_arrow())
    lf = pl.scan_iceberg(table)
    _check(engine, lf)
    # The first file has a column "a" too, and it is another one.
    _check(engine, lf.filter(pl.col("a").is_null()))
    _check(engine, lf.filter(pl.col("a") < 0))


@pytest.mark.parametrize("partitioned", [False, True])
def test_iceberg_table_with_deleted_rows_equals_polars(engine: frazil.Engine, catalog: Any, partitioned: bool) -> None:
    table = catalog.create_table("n.t", schema=FRAME.to_arrow().schema)
    if partitioned:
        with table.update_spec() as update:
            update.add_identity("p")
    table.append(FRAME.to_arrow())
    table.delete("a < 11")
    _check(engine, pl.scan_iceberg(table))


def _rows_read(engine: frazil.Engine, lf: pl.LazyFrame) -> int:
    """Return how many rows of its files a query reads, which is to answer as polars does."""
    _check(engine, lf)
    return int(stages_of(engine)[0]["rows_in"])


def test_partitioned_iceberg_table_is_distributed_and_its_files_left_out(engine: frazil.Engine, catalog: Any) -> None:
    from pyiceberg.types import DoubleType

    table = catalog.create_table("n.t", schema=FRAME.to_arrow().schema)
    with table.update_spec() as update:
        update.add_identity("p")
    rows = FRAME.with_columns(p=pl.when(pl.col("a") % 7 > 0).then("p"))
    table.append(rows.to_arrow())
    lf = pl.scan_iceberg(table)
    assert _rows_read(engine, lf) == 40
    assert _rows_read(engine, lf.filter(pl.col("p") == "k1")) == 11
    assert _rows_read(engine, lf.filter(pl.col("p").is_null())) == 6
    with table.update_schema() as update:
        update.rename_column("x", "y")
    with table.update_schema() as update:
        update.add_column("x", DoubleType())
    with table.update_spec() as update:
        update.remove_field("p")
        update.add_identity("d")
    table.append(rows.select(pl.col("a") + 100, "p", (pl.col("x") * 2).alias("y"), "d", "x").to_arrow())
    lf = pl.scan_iceberg(table)
    assert _rows_read(engine, lf) == 80
    assert _rows_read(engine, lf.filter(pl.col("a") > 50)) == 40
    # It has another name in the older files, of which one has a value below.
    assert _rows_read(engine, lf.filter(pl.col("y") < 0.4)) == 11
    # The older files have another column of this name; of the newer two, one has no value below.
    assert _rows_read(engine, lf.filter(pl.col("x") < 0.3)) == 60
    _check(engine, lf.filter(pl.col("d") == dt.date(2024, 1, 2)).group_by("p").agg(pl.col("x").sum()).sort("p"))


def test_partitioned_iceberg_table_that_polars_has_written_is_distributed(engine: frazil.Engine, catalog: Any) -> None:
    table = catalog.create_table("n.t", schema=FRAME.to_arrow().schema)
    with table.update_spec() as update:
        update.add_identity("p")
    FRAME.lazy().sink_iceberg(table, mode="append")
    assert "schema.name-mapping.default" in table.properties  # which is for files without numbers of their columns
    assert _rows_read(engine, pl.scan_iceberg(table).sort("a").filter(pl.col("p") == "k1")) == 13


@pytest.mark.filterwarnings("ignore")
def test_value_of_a_partition_that_is_not_in_its_file_is_kept(engine: frazil.Engine, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = {name: {b"PARQUET:field_id": str(number).encode()} for number, name in enumerate("apz", 1)}
    fields = [
        pa.field(name, kind, metadata=ids[name])
        for name, kind in zip("apz", (pa.int64(), pa.string(), pa.int64()), strict=True)
    ]
    pq.write_table(pa.table({"a": range(9)}, schema=pa.schema(fields[:1])), tmp_path / "0.parquet")
    pq.write_table(pa.table({"a": range(9), "p": ["in"] * 9}, schema=pa.schema(fields[:2])), tmp_path / "1.parquet")

    def scan(*numbers: int, present: bool = True) -> pl.LazyFrame:
        given = pl.Series(["zero", "one"])[list(numbers)]
        masks = pl.Series([present] * len(numbers))
        return pl.scan_parquet(
            [tmp_path / f"{number}.parquet" for number in numbers],
            glob=False,
            schema={"a": pl.Int64, "p": pl.String, "z": pl.Int64},
            missing_columns="insert",
            _column_mapping=("iceberg-column-mapping", pa.schema(fields), None),
            _default_values=("iceberg", ({2: given}, {3: pl.Series([7])}, {2: masks})),
        )

    reason = "a scan of files that lack columns by which their table is partitioned is not split"
    assert fallbacks(_run(engine, scan(0, 1))) == [reason]
    _check(engine, scan(1))
    assert scan(1).collect(engine=engine).row(0) == (0, "in", 7)
    _check(engine, scan(1, 0, present=False).drop("p"))


def test_iceberg_table_that_only_its_catalog_can_open_is_read(
    engine: frazil.Engine, tmp_path: Path, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    store = {
        "s3.endpoint": seaweed.endpoint,
        "s3.access-key-id": seaweed.access_key,
        "s3.secret-access-key": seaweed.secret_key,
        "s3.region": seaweed.region,
    }
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=seaweed.url("lakehouse/only"), **store)
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=FRAME.to_arrow().schema)
    table.append(FRAME.to_arrow())
    # What is given here opens the data files; that of the catalog, the metadata.
    lf = pl.scan_iceberg(table, storage_options=cast("Any", seaweed.storage_options))
    _check(engine, lf)
    _check(engine, lf.filter(pl.col("p") == "k1").group_by("d").agg(pl.col("x").sum()).sort("d"))
    catalog.close()
