"""Every kind of files and option of a scan, over tiny splits, against single-node Polars on the same files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import frazil
from support.profiles import collect_same, fallbacks, most_tasks, stages_of
from support.seaweed import SeaweedFS

FRAME = pl.DataFrame(
    {
        "a": range(30),
        "s": [None if n % 7 == 0 else f"s{n % 5}" for n in range(30)],
        "x": [n / 4 for n in range(30)],
        "d": [dt.date(2024, 1, 1 + n) for n in range(30)],
    }
)
Build = Callable[[str], pl.LazyFrame]


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(settings=frazil.Settings(start_small=False, max_rows_per_split=4)) as started:
        yield started


def _write(root: Path) -> None:
    """Write flat files, an empty one among them; hive partitions; and files that differ in their columns."""
    for name in ("flat", "csv", "ndjson", "other", "text"):
        (root / name).mkdir(parents=True)
    for number, (start, rows) in enumerate([(0, 9), (9, 0), (9, 14), (23, 7)]):
        part = FRAME.slice(start, rows)
        part.write_parquet(root / "flat" / f"{number}.parquet", row_group_size=5)
        part.write_csv(root / "csv" / f"{number}.csv")
        if rows:
            part.write_ndjson(root / "ndjson" / f"{number}.ndjson")
            part.write_csv(root / "text" / f"{number}.csv", separator=";", include_header=False, null_value="-")
    for day in (1, 2, 3):
        for country in ("de", "__HIVE_DEFAULT_PARTITION__", "x%2Fy"):
            folder = root / "hive" / f"day=2024-01-0{day}" / f"country={country}"
            folder.mkdir(parents=True)
            FRAME.slice(day * 3, 3).write_parquet(folder / "0.parquet")
    (root / "csv" / "9.csv").touch()
    (root / "ndjson" / "9.ndjson").touch()
    FRAME.head(10).write_parquet(root / "other" / "0.parquet")
    FRAME.slice(10, 10).drop("s").with_columns(extra=1).write_parquet(root / "other" / "1.parquet")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    # The name of a folder above the scan looks like a partition, and is none.
    folder = tmp_path_factory.mktemp("sources") / "env=test"
    _write(folder)
    return str(folder)


PARQUET: dict[str, tuple[str, dict[str, Any]]] = {
    "folder": ("flat/", {}),
    "glob": ("flat/*.parquet", {"glob": True}),
    "row index": ("flat/*.parquet", {"row_index_name": "i", "row_index_offset": 7}),
    "n_rows": ("flat/*.parquet", {"n_rows": 17}),
    "row index and n_rows": ("flat/*.parquet", {"row_index_name": "i", "n_rows": 17}),
    "file paths": ("flat/*.parquet", {"include_file_paths": "file", "row_index_name": "i"}),
    "hive": ("hive/", {}),
    "hive without dates": ("hive/", {"try_parse_hive_dates": False}),
    "hive schema": ("hive/", {"hive_schema": {"day": pl.String, "country": pl.Categorical}}),
    "hive glob": ("hive/*/*/*.parquet", {"hive_partitioning": True}),
    "hive with all": ("hive/", {"row_index_name": "i", "include_file_paths": "file", "n_rows": 16}),
    "hive ignored": ("hive/", {"hive_partitioning": False}),
    "missing and extra": ("other/*.parquet", {"missing_columns": "insert", "extra_columns": "ignore"}),
}


def _check(engine: frazil.Engine, lf: pl.LazyFrame) -> None:
    stages = collect_same(engine, lf)
    assert most_tasks(stages) > 1
    assert not fallbacks(stages)


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_scan_is_split_and_equals_polars(engine: frazil.Engine, root: str, name: str) -> None:
    path, options = PARQUET[name]
    lf = pl.scan_parquet(f"{root}/{path}", **options)
    _check(engine, lf)
    _check(engine, lf.filter(pl.col("a") > 4).with_columns(y=pl.col("x") * 2))


def test_hive_columns_filter_group_and_project(engine: frazil.Engine, root: str) -> None:
    lf = pl.scan_parquet(f"{root}/hive/")
    _check(engine, lf.filter(pl.col("day") > dt.date(2024, 1, 1)).select("country", "a"))
    _check(engine, lf.select("day"))
    _check(engine, lf.group_by("country").agg(pl.col("a").sum(), pl.len()).sort("country"))


def test_row_index_survives_filters_and_slices(engine: frazil.Engine, root: str) -> None:
    lf = pl.scan_parquet(f"{root}/flat/*.parquet", row_index_name="i", row_index_offset=2)
    _check(engine, lf.filter(pl.col("i") % 3 == 0).select("i", "a"))
    _check(engine, lf.slice(7, 11))
    _check(engine, lf.filter(pl.col("i") > 12).group_by("s").agg(pl.col("i").max()).sort("s"))


TEXT: dict[str, Build] = {
    "csv": lambda root: pl.scan_csv(f"{root}/csv/*.csv"),
    "csv dates": lambda root: pl.scan_csv(f"{root}/csv/*.csv", try_parse_dates=True),
    "csv file paths": lambda root: pl.scan_csv(f"{root}/csv/*.csv", include_file_paths="file"),
    "csv overrides": lambda root: pl.scan_csv(f"{root}/csv/*.csv", schema_overrides={"a": pl.Int8, "x": pl.String}),
    "csv no inference": lambda root: pl.scan_csv(f"{root}/csv/*.csv", infer_schema=False),
    "csv without header": lambda root: pl.scan_csv(f"{root}/text/*.csv", separator=";", has_header=False, null_values="-"),
    "csv schema": lambda root: pl.scan_csv(
        f"{root}/text/*.csv",
        separator=";",
        has_header=False,
        null_values=["-"],
        schema={"n": pl.Int16, "t": pl.String, "y": pl.Float32, "when": pl.Date},
    ),
    "csv row index": lambda root: pl.scan_csv(f"{root}/csv/*.csv", row_index_name="i", row_index_offset=3),
    "csv new names": lambda root: pl.scan_csv(f"{root}/csv/*.csv", new_columns=["q", "r", "t", "u"]),
    "ndjson row index": lambda root: pl.scan_ndjson(f"{root}/ndjson/*.ndjson", row_index_name="i"),
    "ndjson": lambda root: pl.scan_ndjson(f"{root}/ndjson/*.ndjson"),
    "ndjson file paths": lambda root: pl.scan_ndjson(f"{root}/ndjson/*.ndjson", include_file_paths="file"),
    "ndjson overrides": lambda root: pl.scan_ndjson(f"{root}/ndjson/*.ndjson", schema_overrides={"a": pl.Float32}),
}


@pytest.mark.parametrize("name", TEXT)
def test_text_files_are_split_and_equal_polars(engine: frazil.Engine, root: str, name: str) -> None:
    _check(engine, TEXT[name](root))


@pytest.mark.parametrize("rows", [0, 1, 11, 29, 30, 31, 20_000_000])
def test_first_rows_of_text_files_are_read_by_tasks(engine: frazil.Engine, root: str, rows: int) -> None:
    for lf in (
        pl.scan_csv(f"{root}/csv/*.csv", n_rows=rows, schema_overrides={"a": pl.Int64}),
        pl.scan_ndjson(f"{root}/ndjson/*.ndjson", n_rows=rows, row_index_name="i", include_file_paths="file"),
    ):
        for query in (
            lf,
            lf.filter(pl.col("a") > 7).select("x", "a"),
            lf.group_by("s").agg(pl.col("a").sum()).sort("s"),
            # Nothing that is known of the other side may reach the rows before they are counted.
            lf.join(pl.LazyFrame({"a": [9, 10, 28]}), on="a", how="semi", maintain_order="left"),
        ):
            assert not fallbacks(collect_same(engine, query))
    if rows > 23:
        _check(engine, pl.scan_csv(f"{root}/csv/*.csv", n_rows=rows))


def test_several_folders_are_split_with_the_partitions_below_them(engine: frazil.Engine, root: str) -> None:
    folders = [f"{root}/hive/day=2024-01-0{day}" for day in (3, 1)]
    _check(engine, pl.scan_parquet(folders, row_index_name="i"))
    _check(engine, pl.scan_parquet([f"{folder}/" for folder in folders], hive_partitioning=True, include_file_paths="f"))
    lf = pl.scan_parquet(folders, hive_partitioning=True).filter(pl.col("country") == "de")
    _check(engine, lf)
    assert stages_of(engine)[0]["rows_in"] == 6  # of 18


def test_sources_on_s3(engine: frazil.Engine, seaweed: SeaweedFS, root: str) -> None:
    base = Path(root)
    for file in sorted(base.rglob("*.*")):
        if file.is_file():
            seaweed.put("sources", f"env=test/{file.relative_to(base)}", file.read_bytes())
    url = seaweed.url("sources/env=test")
    storage: dict[str, Any] = {"storage_options": seaweed.storage_options}
    _check(engine, pl.scan_parquet(f"{url}/hive/", row_index_name="i", **storage))
    _check(engine, pl.scan_parquet(f"{url}/flat/*.parquet", n_rows=17, include_file_paths="file", **storage))
    _check(engine, pl.scan_csv(f"{url}/csv/*.csv", **storage))
