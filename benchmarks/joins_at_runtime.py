"""Joins whose small side is found out while the query runs: what is read, moved and waited for, with and without adapting.

Facts that lie in the order of their day and know one of many parts each: joined with a few days (row groups and files are
left out), with a few parts (rows are dropped before the shuffle, or the facts are not shuffled), and, to see what adapting
costs where it can't profit, with many parts and with all. Each query runs as it was planned, with the switch to a broadcast,
and with runtime filters too, interleaved; medians of all runs::

    python -m benchmarks.joins_at_runtime [--rows 4000000] [--runs 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import polars as pl

import frazil

_MIB: Final = 1024 * 1024
_FILES: Final = 8
_PARTS: Final = 200_000
_DAYS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a query did."""

    seconds: float
    function_seconds: float
    tasks: int
    rows_read: int
    """Rows of the splits that were scanned, and of the blocks that were read."""

    moved_bytes: int
    """Bytes written to the exchange."""

    requests: int
    adaptations: tuple[str, ...]


def write_tables(folder: Path, rows: int) -> None:
    """Write facts in the order of their day, the parts and the days."""
    (folder / "facts").mkdir()
    for number in range(_FILES):
        row = pl.int_range(number * rows // _FILES, (number + 1) * rows // _FILES, dtype=pl.Int64)
        pl.select(
            day=(row * _DAYS // rows).cast(pl.Int32),
            part=(row.hash(1) % _PARTS).cast(pl.Int64),
            price=(row.hash(2) % 10_000).cast(pl.Float64),
            note=pl.format("note {}", row.hash(3) % 1_000_003),
        ).write_parquet(folder / "facts" / f"{number}.parquet", row_group_size=max(1, rows // _FILES // 4))
    part = pl.int_range(_PARTS, dtype=pl.Int64)
    pl.select(part=part, kind=(part % 1_000).cast(pl.Int32), label=pl.format("part {}", part.hash(4))).write_parquet(
        folder / "parts.parquet"
    )
    day = pl.int_range(_DAYS, dtype=pl.Int32)
    pl.select(day=day, month=day // 30, name=pl.format("day {}", day)).write_parquet(folder / "days.parquet")


def queries(folder: Path) -> dict[str, pl.LazyFrame]:
    """Return the queries by name."""
    facts = pl.scan_parquet(folder / "facts")
    parts, days = pl.scan_parquet(folder / "parts.parquet"), pl.scan_parquet(folder / "days.parquet")
    totals = (pl.len(), pl.col("price").sum(), pl.col("note").str.len_bytes().sum())
    return {
        "a month of 34": facts.join(days.filter(pl.col("month") == 7), on="day").select(*totals),
        "200 parts of 200,000": facts.join(parts.filter(pl.col("kind") == 7), on="part").select(
            *totals, pl.col("label").max()
        ),
        "200 parts, left": facts.join(parts.filter(pl.col("kind") == 7), on="part", how="left").select(
            *totals, pl.col("label").max()
        ),
        "every second part": facts.join(parts.filter(pl.col("kind") < 500), on="part").select(
            *totals, pl.col("label").max()
        ),
        "all parts": facts.join(parts, on="part").select(*totals, pl.col("label").max()),
    }


def measure(engine: frazil.Engine, query: pl.LazyFrame) -> tuple[pl.DataFrame, Run]:
    """Run a query, and return its answer and what it did."""
    submitted = engine.submit(query)
    answer = submitted.result()
    profile = submitted.profile()
    stages = cast("list[dict[str, Any]]", profile["stages"])
    return answer, Run(
        seconds=cast("float", profile["seconds"]),
        function_seconds=cast("float", profile["function_seconds"]),
        tasks=sum(stage["tasks"] for stage in stages),
        rows_read=sum(stage["rows_in"] for stage in stages),
        moved_bytes=sum(stage["bytes_out"] for stage in stages),
        requests=sum(sum(stage["requests"].values()) for stage in stages),
        adaptations=tuple(note for stage in stages for note in stage["adaptations"]),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    planned = frazil.Settings(
        start_small=False,
        broadcast_limit_bytes=_MIB // 2,
        shuffle_partitions=8,
        split_target_bytes=_MIB,
        inline_limit_bytes=0,
        runtime_filters=False,
        runtime_wait_s=0.0,
    )
    ways = {
        "as planned": planned,
        "joined in place": replace(planned, runtime_wait_s=10.0),
        "adapted": replace(planned, runtime_wait_s=10.0, runtime_filters=True),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, options.rows)
        expected = {query: lf.collect(engine="streaming") for query, lf in queries(folder).items()}
        seen: dict[tuple[str, str], list[Run]] = {}
        engines = {way: frazil.local(max_functions=2, settings=settings) for way, settings in ways.items()}
        try:
            for _ in range(options.runs):
                for query, lf in queries(folder).items():
                    for way, engine in engines.items():
                        answer, found = measure(engine, lf)
                        if not answer.equals(expected[query]):
                            raise SystemExit(f"{query}, {way}: a wrong answer\n{answer}\ninstead of\n{expected[query]}")
                        seen.setdefault((query, way), []).append(found)
        finally:
            for engine in engines.values():
                engine.close()
    print("| joined with | plan | s | function s | tasks | rows read | MiB moved | requests |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for (query, way), runs in seen.items():
        seconds, busy, tasks, rows, moved, requests = (
            statistics.median(getattr(run, name) for run in runs)
            for name in ("seconds", "function_seconds", "tasks", "rows_read", "moved_bytes", "requests")
        )
        print(
            f"| {query} | {way} | {seconds:.2f} | {busy:.2f} | {tasks:.0f} | {rows:,.0f} | {moved / _MIB:.1f} |"
            f" {requests:.0f} |"
        )
    for (query, way), runs in seen.items():
        for note in dict.fromkeys(note for run in runs for note in run.adaptations):
            print(f"{query}, {way}: {note}")


if __name__ == "__main__":
    main()
