"""One key with half of the rows: how evenly tasks of a join and of whole groups share the work, left and cut.

The same query runs with skewed partitions left as they are and cut, interleaved; for the tasks behind the shuffle (of all
stages that read a fifth of what the one reads that reads most, or more), the table shows the seconds of the longest over
those of the median one, medians of all runs, and the rows likewise::

    python -m benchmarks.skew [--rows 4000000] [--runs 5]

One function at a time, so that tasks do not take each other's cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import polars as pl

import frazil

_MIB: Final = 1024 * 1024
_FILES: Final = 8
_KEYS: Final = 50_000
_HOT: Final = 7
_LEAST_SHARE: Final = 0.2
"""Stages count that read at least so much of what the one reads that reads most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the tasks behind the shuffle differ."""

    tasks: int
    seconds_ratio: float
    """Of the longest task over the median one."""

    rows_ratio: float
    longest_s: float
    query_s: float


def write_tables(folder: Path, rows: int) -> None:
    """Write facts, half of which have one key, and one part for each key."""
    (folder / "facts").mkdir()
    for number in range(_FILES):
        row = pl.int_range(number * rows // _FILES, (number + 1) * rows // _FILES, dtype=pl.Int64)
        key = pl.when(row % 2 == 0).then(_HOT).otherwise((row.hash(1) % _KEYS).cast(pl.Int64))
        frame = pl.select(key=key, x=(row.hash(2) % 1000).cast(pl.Float64), text=pl.format("t{}", row.hash(3) % 1_000_003))
        frame.write_parquet(folder / "facts" / f"{number}.parquet")
    pl.select(key=pl.int_range(_KEYS, dtype=pl.Int64), name=pl.format("n{}", pl.int_range(_KEYS))).write_parquet(
        folder / "parts.parquet"
    )


def queries(folder: Path) -> dict[str, pl.LazyFrame]:
    """Return the queries by name."""
    facts, parts = pl.scan_parquet(folder / "facts"), pl.scan_parquet(folder / "parts.parquet")
    letters = (pl.col("text").str.len_bytes() + pl.col("name").str.len_bytes()).sum()
    return {
        "join": facts.join(parts, on="key").select(letters, pl.col("x").max()),
        "whole groups": facts.group_by("key").agg(pl.col("x").median(), pl.col("text").n_unique()).select(pl.all().sum()),
        "medians": facts.group_by("key").agg(pl.col("x").median()).select(pl.all().sum()),
        "distinct values": facts.group_by("key").agg(pl.col("text").n_unique()).select(pl.all().sum()),
    }


def spread(engine: frazil.Engine, query: pl.LazyFrame) -> tuple[pl.DataFrame, Spread]:
    """Run a query, and return its answer and how even the tasks were that did the work behind the shuffle."""
    begun = time.perf_counter()
    submitted = engine.submit(query)
    answer = submitted.result()
    query_s = time.perf_counter() - begun
    stages = cast("list[dict[str, Any]]", submitted.profile()["stages"])
    read = max(stage["bytes_in"] for stage in stages)
    tasks = [task for stage in stages if stage["bytes_in"] >= _LEAST_SHARE * read for task in stage["task_list"]]
    seconds = sorted(task["seconds"] for task in tasks)
    rows = sorted(task["rows_in"] for task in tasks)
    return answer, Spread(
        tasks=len(seconds),
        seconds_ratio=seconds[-1] / statistics.median(seconds),
        rows_ratio=rows[-1] / max(1.0, statistics.median(rows)),
        longest_s=seconds[-1],
        query_s=query_s,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    left = frazil.Settings(
        start_small=False,
        broadcast_limit_bytes=0,
        shuffle_partitions=8,
        split_target_bytes=_MIB,
        coalesce_bytes=0,
        inline_limit_bytes=0,
        skew_bytes=1 << 50,
    )
    ways = {"left as it is": left, "cut": replace(left, skew_bytes=_MIB, skew_factor=2.0)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, options.rows)
        seen: dict[tuple[str, str], list[Spread]] = {}
        expected = {query: lf.collect(engine="streaming") for query, lf in queries(folder).items()}
        engines = {way: frazil.local(max_functions=1, settings=settings) for way, settings in ways.items()}
        try:
            for _ in range(options.runs):
                for query, lf in queries(folder).items():
                    for way, engine in engines.items():
                        answer, found = spread(engine, lf)
                        if not answer.equals(expected[query]):
                            raise SystemExit(f"{query}, {way}: a wrong answer\n{answer}\ninstead of\n{expected[query]}")
                        seen.setdefault((query, way), []).append(found)
        finally:
            for engine in engines.values():
                engine.close()
    print(
        "| query | skewed ones | tasks | longest / median, seconds | largest / median, rows | longest task, s | query, s |"
    )
    print("|---|---|---:|---:|---:|---:|---:|")
    for (query, way), runs in seen.items():
        seconds, rows, longest, whole = (
            statistics.median(getattr(run, name) for run in runs)
            for name in ("seconds_ratio", "rows_ratio", "longest_s", "query_s")
        )
        print(f"| {query} | {way} | {runs[0].tasks} | {seconds:.1f} | {rows:.1f} | {longest:.2f} | {whole:.2f} |")


if __name__ == "__main__":
    main()
