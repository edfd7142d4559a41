"""Rows for sinks to tables of a lake: keys that folders must escape, nulls, NaN, -0.0, days and times."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

import polars as pl

import frazil
from support.profiles import fallbacks, most_tasks, stages_of

__all__ = ["FRAME", "assert_distributed", "write_rows"]

FRAME: Final = pl.DataFrame(
    {
        "a": pl.Series([None if n == 7 else n for n in range(40)], dtype=pl.Int64),
        "p": [None if n == 11 else f"k/{n % 3} é" for n in range(40)],
        "x": [(None, -0.0, 0.0, float("nan"), 2.5)[n % 5] for n in range(40)],
        "d": [dt.date(2024, 1, 1 + n % 2) for n in range(40)],
        "t": [dt.datetime(2024, 1, 1, n % 24) for n in range(40)],  # noqa: DTZ001  # timestamps without a zone
    }
)


def write_rows(folder: Path, frame: pl.DataFrame = FRAME) -> pl.LazyFrame:
    """Return a scan of the rows in a file of many row groups."""
    path = folder / "rows.parquet"
    frame.write_parquet(path, row_group_size=5)
    return pl.scan_parquet(path)


def assert_distributed(engine: frazil.Engine) -> None:
    """The last query had a stage of several tasks, and no part of it fell back to one."""
    stages = stages_of(engine)
    assert most_tasks(stages) > 1
    assert not fallbacks(stages)
