"""Sinks to real Iceberg tables, against the tables that single-node Polars writes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pytest

import frazil
from support.lake_rows import FRAME, assert_distributed, write_rows
from support.parity import assert_same
from support.polling import eventually
from support.seaweed import SeaweedFS

if TYPE_CHECKING:
    from pyiceberg.table import Table

pytest.importorskip("pyiceberg")
pytestmark = pytest.mark.filterwarnings("ignore:Iceberg scan planning")


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(settings=frazil.Settings(start_small=False, max_rows_per_split=9)) as started:
        yield started


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    return write_rows(tmp_path_factory.mktemp("rows"))


class Iceberg:
    """A catalog, and tables in it."""

    def __init__(self, folder: Path) -> None:
        from pyiceberg.catalog.sql import SqlCatalog

        self.folder = folder
        self.catalog = SqlCatalog("c", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
        self.catalog.create_namespace("ns")

    def table(self, name: str, partitions: tuple[tuple[int, Any], ...] = (), **options: Any) -> Table:
        from pyiceberg.partitioning import PartitionField, PartitionSpec
        from pyiceberg.schema import Schema
        from pyiceberg.types import DateType, DoubleType, LongType, NestedField, StringType, TimestampType

        types = [LongType(), StringType(), DoubleType(), DateType(), TimestampType()]
        fields = [NestedField(n + 1, name, kind) for n, (name, kind) in enumerate(zip(FRAME.columns, types, strict=True))]
        spec = [PartitionField(source, 1000 + n, how, f"f{n}") for n, (source, how) in enumerate(partitions)]
        return self.catalog.create_table(f"ns.{name}", Schema(*fields), partition_spec=PartitionSpec(*spec), **options)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.rglob("*.parquet")}


@pytest.fixture
def iceberg(tmp_path: Path) -> Iceberg:
    return Iceberg(tmp_path)


def _partitions(name: str) -> tuple[tuple[int, Any], ...]:
    from pyiceberg import transforms

    return {
        "none": (),
        "a string": ((2, transforms.IdentityTransform()),),
        "a float": ((3, transforms.IdentityTransform()),),
        "day and bucket": ((5, transforms.DayTransform()), (1, transforms.BucketTransform(3))),
        "date and truncated": ((4, transforms.IdentityTransform()), (2, transforms.TruncateTransform(1))),
    }[name]


def _partitions_of(table: Table) -> list[str]:
    return sorted(repr(task.file.partition) for task in table.scan().plan_files())


@pytest.mark.parametrize("partitions", ["none", "a string", "a float", "day and bucket", "date and truncated"])
def test_an_iceberg_table_is_appended_to_and_overwritten_as_by_polars(
    engine: frazil.Engine, rows: pl.LazyFrame, iceberg: Iceberg, partitions: str
) -> None:
    ours, theirs = (iceberg.table(name, _partitions(partitions)) for name in ("ours", "theirs"))
    # pyiceberg can't delete from a partition of NaN.
    second: Literal["append", "overwrite"] = "append" if partitions == "a float" else "overwrite"
    modes: tuple[tuple[Literal["append", "overwrite"], pl.LazyFrame], ...]
    modes = ("append", rows.filter(pl.col("a") > 9)), (second, rows.head(25))
    for mode, lf in modes:
        answer = lf.sink_iceberg(ours, mode=mode, engine=engine)
        assert_distributed(engine)
        lf.sink_iceberg(theirs, mode=mode)
        assert answer.rows() == [(ours.metadata_location,)]
        assert_same(pl.scan_iceberg(ours).collect(), pl.scan_iceberg(theirs).collect(), ordered=False)
        if partitions != "none":
            assert set(_partitions_of(ours)) == set(_partitions_of(theirs))
    statistics = [next(iter(table.scan().plan_files())).file.null_value_counts for table in (ours, theirs)]
    assert statistics[0].keys() == statistics[1].keys()


def test_a_table_is_created_evolved_and_filtered_rows_are_replaced(
    engine: frazil.Engine, rows: pl.LazyFrame, iceberg: Iceberg
) -> None:
    from pyiceberg.exceptions import NoSuchTableError

    with pytest.raises(NoSuchTableError):
        rows.sink_iceberg("ns.new", mode="append", catalog=iceberg.catalog, engine=engine)
    engines: dict[str, Any] = {"ours": engine, "theirs": "streaming"}
    for name, how in engines.items():
        first = rows.select("a", "p", pl.col("x").cast(pl.Float32))
        first.sink_iceberg(f"ns.{name}", mode="append", catalog=iceberg.catalog, create_if_not_exists=True, engine=how)
        table = iceberg.catalog.load_table(f"ns.{name}")
        more = rows.select("a", "p", y="d").head(12)
        more.sink_iceberg(table, mode="append", schema_mode="merge", engine=how)
        few = more.head(7)
        few.sink_iceberg(table, mode="overwrite", overwrite_filter=pl.col("a") < 10, schema_mode="merge", engine=how)
    ours, theirs = (pl.scan_iceberg(iceberg.catalog.load_table(f"ns.{name}")).collect() for name in ("ours", "theirs"))
    assert_same(ours, theirs, ordered=False)
    assert ours.columns == ["a", "p", "x", "y"]


def test_the_files_of_a_commit_that_fails_are_deleted_and_the_table_is_as_it_was(
    engine: frazil.Engine, rows: pl.LazyFrame, iceberg: Iceberg, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = iceberg.table("t")
    rows.head(5).sink_iceberg(table, mode="append", engine=engine)
    before, place = iceberg.files(), table.metadata_location

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("the catalog is read-only")

    with monkeypatch.context() as patched:
        patched.setattr(type(iceberg.catalog), "commit_table", refuse)
        with pytest.raises(ValueError, match="read-only"):
            rows.sink_iceberg(table, mode="overwrite", engine=engine)
    assert iceberg.files() == before
    assert iceberg.catalog.load_table("ns.t").metadata_location == place
    with pytest.raises(pl.exceptions.ComputeError, match="parsing failed"):
        rows.with_columns(a=pl.col("p").str.to_integer()).sink_iceberg(table, mode="append", engine=engine)
    eventually(lambda: iceberg.files() == before, "what was staged is deleted")


def test_a_sink_to_a_table_is_collected_not_submitted(engine: frazil.Engine, rows: pl.LazyFrame, iceberg: Iceberg) -> None:
    from polars.io.iceberg._sink import IcebergSinkState

    sink = IcebergSinkState.new(iceberg.table("t"), mode="append").attach_sink(rows)
    with pytest.raises(frazil.FrazilError, match="collect it"):
        engine.submit(sink)


def test_a_table_on_s3_is_written_and_read(
    engine: frazil.Engine, rows: pl.LazyFrame, seaweed: SeaweedFS, tmp_path: Path
) -> None:
    from pyiceberg.catalog.sql import SqlCatalog

    s3 = {"endpoint": seaweed.endpoint, "region": seaweed.region}
    s3 |= {"access-key-id": seaweed.access_key, "secret-access-key": seaweed.secret_key}
    warehouse = seaweed.url("iceberg/warehouse")
    properties = {f"s3.{name}": value for name, value in s3.items()}
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=warehouse, **properties)
    catalog.create_namespace("ns")
    lf = rows.filter(pl.col("a") > 5)
    table = catalog.create_table("ns.t", lf.collect().to_arrow().schema)
    for _ in range(2):
        lf.sink_iceberg(table, mode="append", storage_options=properties, engine=engine)
        assert_distributed(engine)
    found = pl.scan_iceberg(table, storage_options=properties).filter(pl.col("d") == dt.date(2024, 1, 2))
    assert_same(found.collect(engine=engine), found.collect(), ordered=False)
    assert_distributed(engine)
    assert found.collect().height == 2 * lf.filter(pl.col("d") == dt.date(2024, 1, 2)).collect().height
