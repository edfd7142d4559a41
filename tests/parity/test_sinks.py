"""Files that functions write, read back and held against those that polars writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow.parquet as pq
import pytest

import frazil
from support.parity import assert_same

TINY: Final = frazil.Settings(start_small=False, max_rows_per_split=4, inline_limit_bytes=0)
ROWS: Final = 23


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(2, settings=TINY) as running:
        yield running


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    """Adversarial columns, in the order of `n`."""
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    pl.DataFrame(
        {
            "n": range(ROWS),
            "k": [("a/b", "é =", "", None, "..", "%")[n % 6] for n in range(ROWS)],
            "f": [(float("nan"), -0.0, 1.5, None, float("inf"))[n % 5] for n in range(ROWS)],
            "s": [None if n % 7 == 0 else f's,"{n}\n' for n in range(ROWS)],
            "t": [datetime(2024, 1, 1 + n, tzinfo=UTC) for n in range(ROWS)],
            "d": [date(2024, 1, 1 + n % 3) for n in range(ROWS)],
            "m": [Decimal(n) / 100 for n in range(ROWS)],
            "l": [list(range(n % 3)) for n in range(ROWS)],
            "c": pl.Series([("x", "y", None)[n % 3] for n in range(ROWS)], dtype=pl.Categorical),
        },
        schema_overrides={"m": pl.Decimal(10, 2)},
    ).write_parquet(path)
    return pl.scan_parquet(path)


FLAT: Final = ("n", "k", "s", "t", "d", "m")
"""Columns that CSV can hold."""


def files(folder: Path) -> list[str]:
    """Return the files below a folder, by name."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def nothing_is_staged(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if ".frazil" in path.name]


Write = Callable[[pl.LazyFrame, Any, Any], None]

FILES: Final[dict[str, tuple[str, Write]]] = {
    "parquet": ("x.parquet", lambda lf, to, e: lf.sink_parquet(to, engine=e)),
    "parquet, options": (
        "x.parquet",
        lambda lf, to, e: lf.sink_parquet(
            to,
            engine=e,
            compression="snappy",
            row_group_size=5,
            statistics=False,
            metadata={"who": "me"},
            sync_on_close="all",
        ),
    ),
    "parquet, any order": ("x.parquet", lambda lf, to, e: lf.sink_parquet(to, engine=e, maintain_order=False)),
    "ipc": ("x.arrow", lambda lf, to, e: lf.sink_ipc(to, engine=e, compression="zstd")),
    "csv": ("x.csv", lambda lf, to, e: lf.select(FLAT).sink_csv(to, engine=e)),
    "csv, options": (
        "x.csv.gz",
        lambda lf, to, e: lf.select(FLAT).sink_csv(
            to, engine=e, compression="gzip", include_header=False, separator=";", null_value="-", quote_style="always"
        ),
    ),
    "ndjson": ("x.jsonl", lambda lf, to, e: lf.select(*FLAT, "l").sink_ndjson(to, engine=e)),
    "in a new folder": ("new/er/x.parquet", lambda lf, to, e: lf.sink_parquet(to, engine=e, mkdir=True)),
}


def _read(path: Path) -> pl.DataFrame:
    readers: dict[str, Callable[..., pl.DataFrame]] = {".parquet": pl.read_parquet, ".arrow": pl.read_ipc}
    return readers[path.suffix](path)


@pytest.mark.parametrize("case", FILES)
def test_one_file_is_the_one_that_polars_writes(
    engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path, case: str
) -> None:
    name, write = FILES[case]
    ours, theirs = tmp_path / "a" / "ours", tmp_path / "theirs"
    ours.mkdir(parents=True)
    theirs.mkdir()
    lf = table.filter(pl.col("n") != 3).with_columns(more=pl.col("n") * 2)
    write(lf, ours / name, engine)
    write(lf, theirs / name, "streaming")
    assert files(ours) == files(theirs) == [name]
    assert nothing_is_staged(tmp_path)
    if name.endswith((".parquet", ".arrow")):
        assert_same(_read(ours / name), _read(theirs / name), ordered=True)
    else:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert engine.last_query is not None
    assert sum(stage.tasks for stage in engine.last_query.progress()) > 4


def test_the_options_of_a_parquet_file_are_the_users(engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path) -> None:
    table.sink_parquet(
        tmp_path / "x.parquet",
        engine=engine,
        compression="snappy",
        row_group_size=5,
        statistics=False,
        metadata={"who": "me"},
    )
    written = pq.ParquetFile(tmp_path / "x.parquet").metadata
    assert written.num_row_groups == 5
    assert written.row_group(0).column(0).compression == "SNAPPY"
    assert not written.row_group(0).column(0).is_stats_set
    assert (written.metadata or {})[b"who"] == b"me"


PARTITIONED: Final[dict[str, Callable[[Any], pl.PartitionBy]]] = {
    "a key": lambda to: pl.PartitionBy(to, key="d"),
    "a key with names to quote": lambda to: pl.PartitionBy(to, key="k"),
    "two keys, one an expression": lambda to: pl.PartitionBy(to, key=[(pl.col("n") % 2).alias("odd"), "d"]),
    "a key that is not written": lambda to: pl.PartitionBy(to, key="c", include_key=False),
    "a key, rows": lambda to: pl.PartitionBy(to, key="d", max_rows_per_file=3),
    "rows": lambda to: pl.PartitionBy(to, max_rows_per_file=5),
    "bytes": lambda to: pl.PartitionBy(to, approximate_bytes_per_file=200),
}


@pytest.mark.parametrize("shape", ["many tasks", "lies by the key", "one task", "empty"])
@pytest.mark.parametrize("case", PARTITIONED)
def test_partitions_are_the_files_that_polars_writes(
    engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path, case: str, shape: str
) -> None:
    lf = {
        "many tasks": table,
        "lies by the key": table.group_by("k", "d", "c", "n").agg(pl.col("m").sum()),
        "one task": table.head(3),
        "empty": table.filter(pl.col("n") < 0),
    }[shape]
    ordered = shape != "lies by the key"
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    partition = PARTITIONED[case]
    for _ in range(2):  # writing again replaces the files
        lf.sink_parquet(partition(ours), engine=engine)
    lf.sink_parquet(partition(theirs))
    if shape != "lies by the key" or "bytes" not in case:
        assert (files(ours) if ours.exists() else []) == (files(theirs) if theirs.exists() else [])
    assert nothing_is_staged(tmp_path)
    if theirs.exists() and files(theirs):
        assert_same(_hive(ours), _hive(theirs), ordered=ordered)


def _hive(folder: Path) -> pl.DataFrame:
    return pl.scan_parquet(f"{folder}/", hive_partitioning=True).collect()


@pytest.mark.parametrize(
    "write",
    [
        lambda lf, to, e: lf.sink_csv(pl.PartitionBy(to, key="d"), engine=e, compression="gzip"),
        lambda lf, to, e: lf.sink_ndjson(pl.PartitionBy(to, max_rows_per_file=4), engine=e),
        lambda lf, to, e: lf.sink_ipc(pl.PartitionBy(to, key="d", max_rows_per_file=4), engine=e),
    ],
    ids=["csv", "ndjson", "ipc"],
)
def test_partitions_of_other_formats_have_the_names_and_the_bytes_of_polars(
    engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path, write: Write
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    lf = table.select(FLAT)
    write(lf, ours, engine)
    write(lf, theirs, "streaming")
    assert files(ours) == files(theirs)
    for name in files(ours):
        if name.endswith(".ipc"):
            assert_same(pl.read_ipc(ours / name), pl.read_ipc(theirs / name), ordered=True)
        else:
            assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_a_folder_gets_a_file_of_every_task_and_their_names_are_in_the_order_of_the_rows(
    engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path
) -> None:
    target = f"{tmp_path}/lake/"
    table.sink_parquet(target, engine=engine)
    names = files(tmp_path / "lake")
    assert len(names) == 6
    assert nothing_is_staged(tmp_path)
    assert_same(pl.scan_parquet(target).collect(), table.collect(), ordered=True)
    table.sort("n", descending=True).sink_parquet(target, engine=engine)
    added = pl.concat([table.collect(), table.sort("n", descending=True).collect()])
    assert set(names) < set(files(tmp_path / "lake"))
    assert_same(pl.scan_parquet(target).collect(), added, ordered=True)


@pytest.mark.parametrize("ending", ["csv", "csv.zst", "jsonl", "ipc"])
def test_a_folder_of_every_format_is_read_back_by_polars(
    engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path, ending: str
) -> None:
    lf, target = table.select("n", "k"), f"{tmp_path}/out/"
    write: dict[str, Callable[[], object]] = {
        "csv": lambda: lf.sink_csv(target, engine=engine),
        "csv.zst": lambda: lf.sink_csv(target, engine=engine, compression="zstd"),
        "jsonl": lambda: lf.sink_ndjson(target, engine=engine),
        "ipc": lambda: lf.sink_ipc(target, engine=engine),
    }
    write[ending]()
    assert all(name.endswith(f".{ending}") for name in files(tmp_path / "out"))
    scans: dict[str, Callable[[str], pl.LazyFrame]] = {"jsonl": pl.scan_ndjson, "ipc": pl.scan_ipc}
    scan = scans.get(ending, pl.scan_csv)
    assert_same(scan(target).select("n").collect(), lf.select("n").collect(), ordered=True)


def test_no_rows_make_one_file_with_the_schema(engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path) -> None:
    empty = table.filter(pl.col("n") < 0)
    empty.sink_parquet(tmp_path / "x.parquet", engine=engine)
    empty.sink_parquet(f"{tmp_path}/lake/", engine=engine)
    assert_same(pl.read_parquet(tmp_path / "x.parquet"), empty.collect(), ordered=True)
    assert len(files(tmp_path / "lake")) == 1
    assert_same(pl.read_parquet(tmp_path / "lake"), empty.collect(), ordered=True)


def test_tasks_without_rows_leave_no_file(engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path) -> None:
    table.filter(pl.col("n") == 9).sink_parquet(f"{tmp_path}/lake/", engine=engine)
    assert len(files(tmp_path / "lake")) == 1


def test_several_sinks_in_one_plan_run_as_queries_of_their_own(
    engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path
) -> None:
    sinks = [table.filter(pl.col("n") % 2 == n).sink_parquet(tmp_path / f"{n}.parquet", lazy=True) for n in (0, 1)]
    assert pl.collect_all(sinks, lazy=True).collect(engine=engine).shape == (0, 0)
    for n in (0, 1):
        assert_same(pl.read_parquet(tmp_path / f"{n}.parquet"), table.filter(pl.col("n") % 2 == n).collect(), ordered=True)
    with pytest.raises(frazil.PlanError, match="several sinks"):
        engine.submit(pl.collect_all(sinks, lazy=True))


def test_rows_without_columns_are_written_by_a_key_that_is_a_literal(engine: frazil.Engine, tmp_path: Path) -> None:
    pl.LazyFrame(height=5).sink_parquet(pl.PartitionBy(tmp_path / "x", key=pl.lit(1, dtype=pl.Int64)), engine=engine)
    assert_same(pl.read_parquet(tmp_path / "x"), pl.DataFrame({"literal": [1] * 5}), ordered=True)


def test_a_delta_table_is_written_by_this_process_from_the_rows_as_they_come(
    engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path
) -> None:
    pytest.importorskip("deltalake")
    lf = table.select("n", "s")
    lf.sink_delta(tmp_path / "delta", engine=engine)
    lf.sink_delta(tmp_path / "delta", mode="append", engine=engine)
    assert_same(pl.read_delta(str(tmp_path / "delta")), pl.concat([lf.collect()] * 2), ordered=False)


def test_one_task_for_one_file_is_said_and_is_no_fallback(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    text = engine.explain(table.sink_parquet("/tmp/x.parquet", lazy=True))
    assert "(one file, by one task)" in text
    assert "! one task" not in text


def test_a_file_that_is_there_is_replaced_and_a_link_is_followed(
    engine: frazil.Engine, table: pl.LazyFrame, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real" / "x.csv")
    table.select("n").sink_csv(tmp_path / "link.csv", engine=engine)
    assert (tmp_path / "link.csv").is_symlink()
    assert_same(pl.read_csv(tmp_path / "real" / "x.csv"), table.select("n").collect(), ordered=True)
