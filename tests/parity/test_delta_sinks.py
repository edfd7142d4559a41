"""Sinks to real Delta tables by functions, against the tables that single-node Polars writes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

import frazil
from support.lake_rows import FRAME, assert_distributed, write_rows
from support.parity import assert_same
from support.polling import eventually
from support.seaweed import SeaweedFS

pytest.importorskip("deltalake")
from deltalake import DeltaTable, Field, Schema  # an extra
from deltalake.exceptions import DeltaError, SchemaMismatchError, TableNotFoundError  # an extra
from deltalake.schema import PrimitiveType  # an extra

MORE = FRAME.with_columns(
    u=pl.lit(3, dtype=pl.UInt32),
    z=pl.col("t").dt.replace_time_zone("Europe/Berlin"),
    n=pl.col("t").cast(pl.Datetime("ns")),
    b=pl.col("a") % 2 == 0,
    l=pl.concat_list("a"),
    s=pl.struct("a", "d"),
    m=pl.col("a").cast(pl.Decimal(10, 2)),
)
FILTERS = [
    pl.col("a") > 30,
    pl.col("p") == "k/1 é",
    pl.col("p").is_null(),
    pl.col("x").is_nan(),
    pl.col("x") >= 0,
    pl.col("t") > dt.datetime(2024, 1, 1, 20),  # noqa: DTZ001  # a column without a zone
    pl.col("z") > dt.datetime(2024, 1, 1, 20, tzinfo=dt.UTC),
]

Mode = Literal["error", "append", "overwrite", "ignore"]


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(settings=frazil.Settings(start_small=False, max_rows_per_split=9)) as started:
        yield started


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    return write_rows(tmp_path_factory.mktemp("rows"), MORE)


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.parquet")}


def _log(table: Path) -> pl.DataFrame:
    """What the log says of all files together."""
    log = pl.DataFrame(pl.Series(DeltaTable(table).get_add_actions(flatten=True)).struct.unnest())
    bounds = [
        name
        for name in log.columns
        if name.partition(".")[0] in ("min", "max") and name[4:] in ("a", "p", "d", "t", "u", "z", "n")
    ]
    return log.select(
        pl.col("^(num_records|null_count..)$").sum(),
        *(getattr(pl.col(name), name[:3])() for name in sorted(bounds)),
    )


@pytest.mark.parametrize("keys", [[], ["p"], ["d", "b"], ["a"]], ids=",".join)
def test_a_table_is_made_appended_to_and_overwritten_as_by_polars(
    engine: frazil.Engine, rows: pl.LazyFrame, tmp_path: Path, keys: list[str]
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    options = {"partition_by": keys} if keys else {}
    steps: list[tuple[Mode, pl.LazyFrame]]
    steps = [("error", rows), ("append", rows.filter(pl.col("a") > 9)), ("overwrite", rows), ("append", rows.head(0))]
    for version, (mode, lf) in enumerate(steps):
        engine.sink_delta(lf, ours, mode=mode, delta_write_options=options)
        lf.sink_delta(theirs, mode=mode, delta_write_options=options)
        if version < 3:
            assert_distributed(engine)
        assert DeltaTable(ours).version() == version
        columns = pl.scan_delta(ours).collect_schema().names()
        found, expected = pl.scan_delta(ours), pl.scan_delta(theirs).select(columns)
        assert_same(found.collect(), expected.collect(), ordered=False)
        for predicate in FILTERS if version in (0, 3) else ():
            assert_same(found.filter(predicate).collect(), expected.filter(predicate).collect(), ordered=False)
        assert_same(_log(ours), _log(theirs).select(_log(ours).columns), ordered=True)
    assert DeltaTable(ours).metadata().partition_columns == keys
    listed = {Path(uri).relative_to(ours) for uri in DeltaTable(ours, version=2).file_uris()}
    assert all((ours / path).is_file() for path in listed)


def test_what_happens_to_a_table_that_exists_is_said_by_the_mode(
    engine: frazil.Engine, rows: pl.LazyFrame, tmp_path: Path
) -> None:
    table = tmp_path / "t"
    with pytest.raises(pl.exceptions.ComputeError, match="parsing failed"):
        engine.sink_delta(rows.select(pl.col("p").str.to_integer()), table)
    eventually(lambda: not _files(tmp_path), "what was staged is deleted")
    engine.sink_delta(rows.select("a", "p").head(5), table, delta_write_options={"name": "n", "description": "d"})
    assert (DeltaTable(table).metadata().name, DeltaTable(table).metadata().description) == ("n", "d")
    before, last = _files(table), engine.last_query
    with pytest.raises(DeltaError, match="already exists"):
        engine.sink_delta(rows, table)
    engine.sink_delta(rows, table, mode="ignore")
    with pytest.raises(SchemaMismatchError, match="columns"):
        engine.sink_delta(rows.select("a"), table, mode="append")
    with pytest.raises(DeltaError, match="partitioning"):
        engine.sink_delta(rows.select("a", "p"), table, mode="append", delta_write_options={"partition_by": "p"})
    assert engine.last_query is last
    assert _files(table) == before
    engine.sink_delta(rows.select("p", pl.col("a").cast(pl.Int8)), DeltaTable(table), mode="append")
    assert pl.read_delta(table).schema == pl.Schema({"a": pl.Int64, "p": pl.String})
    with pytest.raises(pl.exceptions.InvalidOperationError, match="conversion"):
        engine.sink_delta(rows.select("p", a="p"), table, mode="append")
    options: dict[str, Any] = {"schema_mode": "overwrite"}
    engine.sink_delta(rows.select("x", a="p"), DeltaTable(table), mode="overwrite", delta_write_options=options)
    assert_same(pl.read_delta(table), rows.select("x", a="p").collect(), ordered=False)


def test_categories_become_strings_and_arrays_lists_and_numbers_that_delta_does_not_have_are_refused(
    engine: frazil.Engine, rows: pl.LazyFrame, tmp_path: Path
) -> None:
    category, array = pl.col("p").cast(pl.Categorical), pl.concat_list("a").cast(pl.Array(pl.Int16, 1))
    lf = rows.select(category, array, e=pl.lit("u").cast(pl.Enum(["u"])), l=pl.concat_list(category))
    engine.sink_delta(lf, tmp_path / "t")
    expected = rows.select("p", pl.concat_list("a").cast(pl.List(pl.Int16)), e=pl.lit("u"), l=pl.concat_list("p")).collect()
    assert_same(pl.read_delta(tmp_path / "t"), expected, ordered=False)
    with pytest.raises(TypeError, match="'y'"):
        engine.sink_delta(rows.select(y=pl.col("a").cast(pl.Int128)), tmp_path / "y")
    with pytest.raises(pl.exceptions.InvalidOperationError, match="conversion"):
        engine.sink_delta(rows.select(y=pl.lit(2**63, dtype=pl.UInt64) + pl.col("u")), tmp_path / "y")


@pytest.mark.parametrize(
    ("options", "mode", "said"),
    [
        ({"predicate": "a > 3"}, "overwrite", "predicate"),
        ({"schema_mode": "merge"}, "append", "schema_mode"),
        ({"partition_by": "x"}, "error", "Float64"),
        ({"partition_by": ["a", "p", "x", "d"]}, "error", "Float64"),
        ({}, "merge", "mode"),
    ],
)
def test_what_functions_cannot_write_is_refused_with_advice(
    engine: frazil.Engine, rows: pl.LazyFrame, tmp_path: Path, options: dict[str, Any], mode: Any, said: str
) -> None:
    with pytest.raises(ValueError, match=rf"{said}.*lf\.sink_delta"):
        engine.sink_delta(rows.select("a", "p", "x", "d"), tmp_path / "t", mode=mode, delta_write_options=options)
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nowhere"):
        engine.sink_delta(rows, tmp_path / "t", delta_write_options={"partition_by": "nowhere"})
    assert not _files(tmp_path)


def test_tables_whose_rows_are_checked_are_refused(engine: frazil.Engine, rows: pl.LazyFrame, tmp_path: Path) -> None:
    rows.select("a").drop_nulls().sink_delta(tmp_path / "t")
    DeltaTable(tmp_path / "t").alter.add_constraint({"positive": "a >= 0"})
    fields = [Field("a", PrimitiveType("long"), nullable=False), Field("p", PrimitiveType("string"))]
    DeltaTable.create(tmp_path / "n", Schema(fields))
    for name, said in (("t", "positive"), ("n", "a without nulls")):
        with pytest.raises(ValueError, match=said):
            engine.sink_delta(rows.select("a"), tmp_path / name, mode="append")


def test_files_of_a_commit_that_fails_are_deleted_and_those_of_one_that_was_made_stay(
    engine: frazil.Engine, rows: pl.LazyFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "t"
    engine.sink_delta(rows.select("a"), table)
    before = _files(table)
    commit = DeltaTable.create_write_transaction

    def refuse(*_: object, **__: object) -> None:
        raise DeltaError("the log is read-only")

    def lose(*arguments: Any, **options: Any) -> None:
        commit(*arguments, **options)
        raise DeltaError("no answer")

    for fails, kept in ((refuse, False), (lose, True)):
        with monkeypatch.context() as patched:
            patched.setattr(DeltaTable, "create_write_transaction", fails)
            with pytest.raises(DeltaError, match=r"read-only|no answer"):
                engine.sink_delta(rows.select("a"), table, mode="append")
        assert (_files(table) != before) == kept
    assert pl.scan_delta(table).select(pl.len()).collect().item() == 80


def test_two_who_append_at_once_both_append(engine: frazil.Engine, rows: pl.LazyFrame, tmp_path: Path) -> None:
    table = tmp_path / "t"
    engine.sink_delta(rows.select("a"), table)
    stale = DeltaTable(table)
    engine.sink_delta(rows.select("a"), table, mode="append")
    engine.sink_delta(rows.select("a"), stale, mode="append")
    assert pl.scan_delta(table).select(pl.len()).collect().item() == 120


def test_a_table_on_s3_is_written_and_read(engine: frazil.Engine, rows: pl.LazyFrame, seaweed: SeaweedFS) -> None:
    url, options = seaweed.url("delta/lake/t"), seaweed.storage_options
    with pytest.raises(TableNotFoundError):
        DeltaTable(url, storage_options=options)
    for mode in ("error", "append", "overwrite"):
        engine.sink_delta(rows, url, mode=mode, storage_options=options, delta_write_options={"partition_by": "p"})
        assert_distributed(engine)
    found = pl.scan_delta(url, storage_options=options).select("a", "p", "x")
    assert_same(found.collect(), MORE.select("a", "p", "x"), ordered=False)
    assert_same(found.collect(engine=engine), found.collect(), ordered=False)
    assert_distributed(engine)
    assert not [key for key in seaweed.keys("delta") if ".frazil" in key]
