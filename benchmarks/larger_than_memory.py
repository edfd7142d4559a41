"""A sort, a join and whole groups of data larger than the memory of a function, with the limit enforced.

Functions get ``--limit`` MiB of resident memory each, the interpreter and Polars included; one that uses more fails its
task. The data have ``--times`` times as many bytes in memory. Each answer is compared with that of single-node Polars, and
the largest peak of any task must lie below the limit::

    python -m benchmarks.larger_than_memory [--limit 512] [--times 4]

Nothing is said of speed: on one machine the functions share its cores, and the files lie in its page cache.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import polars as pl

import frazil

_MIB: Final = 1024 * 1024
_FILES: Final = 16
_ROW_BYTES: Final = 48
"""Of a row in memory, about: three numbers and a text of 24 letters that the engine holds out of line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a query did."""

    seconds: float
    peak_bytes: int
    tasks: int
    failed: int
    """Attempts that failed, by memory or otherwise."""

    adaptations: tuple[str, ...]


def write_tables(folder: Path, rows: int) -> tuple[Path, Path, int]:
    """Write facts of `rows` rows and parts of a quarter of them; return both folders, and their bytes in memory."""
    size = 0
    for name, count in (("facts", rows), ("parts", rows // 4)):
        (folder / name).mkdir()
        for number in range(_FILES):
            frame = _rows(number * count // _FILES, (number + 1) * count // _FILES, rows // 4, unique=name == "parts")
            size += int(frame.estimated_size())
            frame.write_parquet(folder / name / f"{number:02}.parquet", row_group_size=100_000)
    return folder / "facts", folder / "parts", size


def _rows(start: int, end: int, keys: int, *, unique: bool) -> pl.DataFrame:
    number = pl.int_range(start, end, dtype=pl.Int64)
    key = number if unique else (number.hash(1) % keys).cast(pl.Int64)
    text = pl.format("{}-{}", number.hash(3) % 1_000_000_007, number.hash(4) % 1_000_000_007)
    return pl.select(key=key, x=number.hash(2).cast(pl.Float64) / 2**64, number=number, text=text)


def queries(facts: Path, parts: Path) -> dict[str, pl.LazyFrame]:
    """Return the queries by name; each of them moves all rows and columns of its tables."""
    fact, part = pl.scan_parquet(facts), pl.scan_parquet(parts)
    checked = pl.col("text").str.len_bytes().sum().alias("letters")
    return {
        "sort": fact.sort("x"),
        "join": fact.join(part, on="key").select(pl.len(), pl.col("x").max(), pl.col("number_right").sum(), checked),
        "whole groups": fact.group_by("key")
        .agg(pl.col("x").median(), pl.col("text").sort_by("number").last())
        .select(pl.len(), pl.col("x").sum().round(6), pl.col("key").sum(), checked),
    }


def summary(batches: Iterator[pl.DataFrame]) -> pl.DataFrame:
    """Return rows, order and content of a result that is never held whole: ascending by `x`, and a hash of its rows."""
    rows, last, ascending, digest = 0, -1.0, True, 0
    for batch in batches:
        if not batch.height or "x" not in batch.columns or "text" not in batch.columns:
            return batch
        ascending &= bool(batch["x"].is_sorted()) and batch["x"][0] >= last
        last = batch["x"][-1]
        rows += batch.height
        digest = (digest + int(batch.hash_rows(7).cast(pl.UInt32, wrap_numerical=True).cast(pl.UInt64).sum())) % 2**62
    return pl.DataFrame({"rows": [rows], "ascending": [ascending], "digest": [digest]})


def measure(engine: frazil.Engine, query: pl.LazyFrame) -> tuple[pl.DataFrame, Measured]:
    """Run a query, and return a summary of its answer and what its profile says."""
    start = time.perf_counter()
    submitted = engine.submit(query)
    answer = summary(submitted.batches())
    profile = submitted.profile()
    stages = cast("list[dict[str, Any]]", profile["stages"])
    return answer, Measured(
        seconds=time.perf_counter() - start,
        peak_bytes=max(stage["peak_memory_bytes"] for stage in stages),
        tasks=sum(stage["tasks"] for stage in stages),
        failed=sum(len(stage["failed_attempts"]) for stage in stages),
        adaptations=tuple(note for stage in stages for note in stage["adaptations"]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one table, and return 1 when an answer is wrong or a limit was not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=512, help="memory of a function, in MiB")
    parser.add_argument("--times", type=float, default=4.0, help="data in memory, as a multiple of the limit")
    parser.add_argument("--functions", type=int, default=2)
    options = parser.parse_args(arguments)
    limit = options.limit * _MIB
    with tempfile.TemporaryDirectory() as folder:
        facts, parts, size = write_tables(Path(folder), int(options.times * limit / 1.25 / _ROW_BYTES))
        print(f"{size / _MIB:,.0f} MiB of data, {options.limit} MiB a function, {options.functions} functions\n")
        settings = frazil.Settings(start_small=False, function_memory_bytes=limit, broadcast_limit_bytes=0)
        with frazil.local(max_functions=options.functions, settings=settings) as engine:
            return _table(queries(facts, parts), lambda query: measure(engine, query), limit, size)


def _table(
    named: dict[str, pl.LazyFrame], run: Callable[[pl.LazyFrame], tuple[pl.DataFrame, Measured]], limit: int, size: int
) -> int:
    print(
        "| query | answer | peak of a task, MiB | limit, MiB | data, times the limit | tasks | failed attempts | seconds |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    wrong = 0
    told: list[str] = []
    for name, query in named.items():
        answer, found = run(query)
        same = answer.equals(summary(iter([query.collect(engine="streaming")])))
        wrong += not same or found.peak_bytes > limit
        told += [f"{name}: {note}" for note in found.adaptations]
        print(
            f"| {name} | {'equal' if same else 'WRONG'} | {found.peak_bytes / _MIB:,.0f} | {limit / _MIB:,.0f} "
            f"| {size / limit:.1f} | {found.tasks} | {found.failed} | {found.seconds:.1f} |",
            flush=True,
        )
    print("\n" + "\n".join(f"* {note}" for note in told))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
