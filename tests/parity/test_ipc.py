"""Arrow IPC files, split by their record batches, against single-node Polars on the same files."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import polars as pl
import pyarrow as pa
import pytest

import frazil
from frazil_coordinator.plan.planner import plan_query
from support.profiles import collect_same, fallbacks, most_tasks
from support.seaweed import SeaweedFS

FRAME = pl.DataFrame(
    {
        "a": range(50),
        "s": [None if n % 7 == 0 else f"s{n % 5}" for n in range(50)],
        "l": [[n, None] if n % 3 else [] for n in range(50)],
        "t": [{"d": dt.date(2024, 1, 1), "n": n} for n in range(50)],
    }
).with_columns(
    c=pl.col("s").cast(pl.Categorical),
    e=pl.col("s").cast(pl.Enum([f"s{n}" for n in range(5)])),
    m=pl.col("a").cast(pl.Decimal(10, 2)),
    z=pl.col("a").cast(pl.Datetime("ms", "Europe/Berlin")),
)


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(settings=frazil.Settings(start_small=False, max_rows_per_split=4)) as started:
        yield started


def _check(engine: frazil.Engine, lf: pl.LazyFrame, *, whole: bool = False) -> None:
    stages = collect_same(engine, lf)
    assert (most_tasks(stages) > 4) != whole
    assert bool(fallbacks(stages)) == whole


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ipc")
    for name in ("flat", "other"):
        (root / name).mkdir()
    for number, (start, rows, compression) in enumerate([(0, 20, "uncompressed"), (20, 0, "lz4"), (20, 30, "zstd")]):
        part = FRAME.slice(start, rows)
        part.write_ipc(
            root / "flat" / f"{number}.arrow", compression=cast("Literal['lz4']", compression), record_batch_size=7
        )
        folder = root / "hive" / f"day=2024-01-0{number + 1}" / "k=x%2Fy"
        folder.mkdir(parents=True)
        part.write_ipc(folder / "0.arrow")
    FRAME.write_ipc(root / "other" / "0.arrow")
    FRAME.drop("s").write_ipc(root / "other" / "1.arrow")
    return root


SCANS: dict[str, tuple[str, dict[str, Any]]] = {
    "folder": ("flat/", {}),
    "glob": ("flat/*.arrow", {}),
    "one file": ("flat/2.arrow", {}),
    "row index": ("flat/", {"row_index_name": "i", "row_index_offset": 3}),
    "n_rows": ("flat/*.arrow", {"n_rows": 27}),
    "file paths": ("flat/*.arrow", {"include_file_paths": "file"}),
    "all": ("flat/", {"include_file_paths": "file", "row_index_name": "i", "n_rows": 33}),
    "hive": ("hive/", {}),
    "hive schema": ("hive/", {"hive_schema": {"day": pl.String, "k": pl.Categorical}, "row_index_name": "i"}),
    "hive without dates": ("hive/", {"try_parse_hive_dates": False, "include_file_paths": "file"}),
}


@pytest.mark.parametrize("name", SCANS)
def test_ipc_scan_is_split_and_equals_polars(engine: frazil.Engine, root: Path, name: str) -> None:
    path, options = SCANS[name]
    lf = pl.scan_ipc(f"{root}/{path}", **options)
    _check(engine, lf)
    _check(engine, lf.filter(pl.col("a") > 21, pl.col("s") != "s1").select("a", "c", "l", pl.col("t").struct.field("n")))


def test_files_of_several_paths_keep_their_order(engine: frazil.Engine, root: Path) -> None:
    paths = [root / "flat" / "2.arrow", root / "flat" / "0.arrow"]
    _check(engine, pl.scan_ipc(paths, row_index_name="i").group_by("e").agg(pl.col("i").sum(), pl.len()).sort("e"))


def test_files_with_different_columns_are_left_to_polars(engine: frazil.Engine, root: Path) -> None:
    lf = pl.scan_ipc(root / "other" / "*.arrow")
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        lf.collect()
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        lf.collect(engine=engine)


def test_file_of_pyarrow_is_split_by_its_batches(engine: frazil.Engine, tmp_path: Path) -> None:
    table = FRAME.select("a", "s", "l").to_arrow()
    with pa.OSFile(str(tmp_path / "0.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=11)
    _check(engine, pl.scan_ipc(tmp_path / "0.arrow"))
    graph = plan_query(
        pl.scan_ipc(tmp_path / "0.arrow").serialize(), frazil.Settings(start_small=False, split_target_bytes=1)
    )
    assert graph.stages[0].tasks == 5


def test_ipc_on_s3_is_split_without_reading_its_batches(engine: frazil.Engine, seaweed: SeaweedFS) -> None:
    url = seaweed.url("ipc/0.arrow")
    data = io.BytesIO()
    FRAME.write_ipc(data, record_batch_size=9)
    seaweed.put("ipc", "0.arrow", data.getvalue())
    _check(engine, pl.scan_ipc(url, storage_options=cast("Any", seaweed.storage_options), row_index_name="i"))


def test_broken_file_is_named(engine: frazil.Engine, root: Path, tmp_path: Path) -> None:
    data = (root / "flat" / "0.arrow").read_bytes()
    (tmp_path / "0.arrow").write_bytes(data)
    (tmp_path / "1.arrow").write_bytes(data[:-20] + b"\xff" * 14 + b"ARROW1")
    with pytest.raises(pl.exceptions.ComputeError) as caught:
        pl.scan_ipc(tmp_path / "*.arrow").collect(engine=engine)
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert told.count("1.arrow") == 1
