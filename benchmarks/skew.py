"""One key with half of the rows: how evenly tasks of a join and of whole groups share the work, left and cut.

The same query runs with skewed partitions left as they are and cut, interleaved. The tasks that count are those behind the
shuffle, of all stages that read a fifth of what the one reads that reads most, or more. A task's seconds are the least of
its runs: it reads the same rows each time, and what else the machine does only adds to them. The table shows the seconds of
the longest task over those of the median one: among all that count, which do different work, and in its own stage (the
stage where that is most); and the rows of the largest over those of the median one::

    python -m benchmarks.skew [--rows 4000000] [--runs 5]

One function at a time, so that tasks do not take each other's cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
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
class Run:
    """What the tasks behind the shuffle did in one run, by stage and task."""

    seconds: dict[tuple[int, int], float]
    rows: dict[tuple[int, int], int]
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


def run(engine: frazil.Engine, query: pl.LazyFrame) -> tuple[pl.DataFrame, Run]:
    """Run a query, and return its answer and what the tasks did that did the work behind the shuffle."""
    begun = time.perf_counter()
    submitted = engine.submit(query)
    answer = submitted.result()
    query_s = time.perf_counter() - begun
    stages = cast("list[dict[str, Any]]", submitted.profile()["stages"])
    read = max(stage["bytes_in"] for stage in stages)
    tasks = {
        (stage["stage"], task["task"]): task
        for stage in stages
        if stage["bytes_in"] >= _LEAST_SHARE * read
        for task in stage["task_list"]
    }
    return answer, Run(
        seconds={place: task["seconds"] for place, task in tasks.items()},
        rows={place: task["rows_in"] for place, task in tasks.items()},
        query_s=query_s,
    )


def ratio(values: Iterable[float]) -> float:
    """Return the largest over the median one."""
    ordered = sorted(values)
    return ordered[-1] / max(1e-9, statistics.median(ordered))


def line(query: str, way: str, runs: Sequence[Run]) -> str:
    """Return a line of the table."""
    if any(one.rows.keys() != runs[0].rows.keys() for one in runs):
        raise SystemExit(f"{query}, {way}: other tasks in another run")
    seconds = {task: min(one.seconds[task] for one in runs) for task in runs[0].seconds}
    stages = {stage for stage, _ in seconds}
    own = max(ratio(taken for (stage, _), taken in seconds.items() if stage == one) for one in stages)
    whole = statistics.median(one.query_s for one in runs)
    rows = ratio(runs[0].rows.values())
    return (
        f"| {query} | {way} | {len(seconds)} | {ratio(seconds.values()):.1f} | {own:.1f} | {rows:.1f} "
        f"| {max(seconds.values()):.2f} | {whole:.2f} |"
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
        seen: dict[tuple[str, str], list[Run]] = {}
        expected = {query: lf.collect(engine="streaming") for query, lf in queries(folder).items()}
        engines = {way: frazil.local(max_functions=1, settings=settings) for way, settings in ways.items()}
        try:
            for _ in range(options.runs):
                for query, lf in queries(folder).items():
                    for way, engine in engines.items():
                        answer, found = run(engine, lf)
                        if not answer.equals(expected[query]):
                            raise SystemExit(f"{query}, {way}: a wrong answer\n{answer}\ninstead of\n{expected[query]}")
                        seen.setdefault((query, way), []).append(found)
        finally:
            for engine in engines.values():
                engine.close()
    print(
        "| query | skewed ones | tasks | longest / median, s | in its stage | most / median, rows | longest, s | query, s |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for (query, way), runs in seen.items():
        print(line(query, way, runs))


if __name__ == "__main__":
    main()
