"""A table that grows by 1 %: what the same query costs then, beside what it costs without reuse.

A table of files is written, and a group_by over it is run by local functions: without reuse; with reuse for the
first time, which keeps answers; then 1 % of files are added, and it is run again in both ways. Each run has a
coordinator of its own that remembers nothing, so that what is kept is read from the store, and functions that have run
another query before. Each answer is compared with that of Polars. Function seconds are the sum over the tasks; seconds
are those from submission to the answer; requests are those of functions to the exchange store. The last
two columns are shares of function seconds. The page cache is warm in all ways. Medians of several rounds::

    python -m benchmarks.incremental [--files 200] [--rows 200000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, cast

import polars as pl

import frazil
from benchmarks.pdsh.compare import difference
from benchmarks.record import write_record

__all__ = ["Run", "main", "measure_round"]

_WAYS: Final = ("off, 1 % more", "tasks, first", "tasks, 1 % more", "tasks, no change", "result, no change")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a query did."""

    seconds: float
    function_seconds: float
    mib_scanned: float
    tasks: int
    """Attempts that were sent."""

    requests: int


def write_file(folder: Path, number: int, rows: int) -> None:
    """Write one file: keys of which there are 1,000, texts, numbers."""
    row = pl.int_range(number * rows, (number + 1) * rows, dtype=pl.Int64)
    pl.select(
        k=(row.hash(1) % 1_000).cast(pl.Int32),
        name=pl.format("name-{}", row.hash(2) % 5_000),
        x=(row.hash(3) % 1_000_000).cast(pl.Float64) / 7.0,
        y=(row.hash(4) % 100_000).cast(pl.Int64),
    ).write_parquet(folder / f"part-{number:06}.parquet")


def query_of(folder: Path) -> pl.LazyFrame:
    """Return the query over all files that there are now."""
    table = pl.scan_parquet(folder / "*.parquet").filter(pl.col("name").str.ends_with("7").not_())
    return (
        table.group_by("k")
        .agg(pl.col("x").sum(), pl.col("y").max(), mean=pl.col("x").mean(), last=pl.col("name").max(), n=pl.len())
        .sort("k")
    )


def run(folder: Path, store: Path, warm: Path, reuse: str, expected: pl.DataFrame) -> Run:
    """Run the query once by a new coordinator, and compare its answer."""
    settings = frazil.Settings(reuse=reuse, result_ttl_s=600.0)  # type: ignore[arg-type]  # one of the three
    with frazil.local(max_functions=2, settings=settings, store=str(store)) as engine:
        for number in range(8):  # anew, and each its task, so that both functions are started now
            write_file(warm, number, rows=1_000)
        engine.submit(query_of(warm), reuse="tasks").result()
        began = time.perf_counter()
        submitted = engine.submit(query_of(folder))
        answer = submitted.result()
        seconds = time.perf_counter() - began
        profile = submitted.profile()
    if (found := difference(answer, expected, order={"k": False})) is not None:
        raise SystemExit(f"reuse={reuse}: a wrong answer: {found}")
    stages = cast("list[dict[str, Any]]", profile["stages"])
    return Run(
        seconds=seconds,
        function_seconds=cast("float", profile["function_seconds"]),
        mib_scanned=cast("int", profile["bytes_scanned"]) / 2**20,
        tasks=sum(stage["attempts"] for stage in stages),
        requests=sum(sum(stage["requests"].values()) for stage in stages),
    )


def measure_round(files: int, rows: int) -> dict[str, Run]:
    """Return what the query did in each way, over a table that is written anew."""
    with tempfile.TemporaryDirectory() as name:
        folder, store, warm = (Path(name) / part for part in ("table", "store", "warm"))
        for made in (folder, warm):
            made.mkdir()
        for number in range(files):
            write_file(folder, number, rows)
        first = run(folder, store, warm, "tasks", query_of(folder).collect(engine="streaming"))
        for number in range(files, files + max(1, files // 100)):
            write_file(folder, number, rows)
        expected = query_of(folder).collect(engine="streaming")
        more = run(folder, store, warm, "tasks", expected)
        without = run(folder, store, warm, "off", expected)
        again = run(folder, store, warm, "tasks", expected)
        run(folder, store, warm, "result", expected)
        result = run(folder, store, warm, "result", expected)
    return dict(zip(_WAYS, (without, first, more, again, result), strict=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--rows", type=int, default=200_000, help="of each file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    options = parser.parse_args(arguments)
    rounds = [measure_round(options.files, options.rows) for _ in range(options.rounds)]
    print("| reuse | s | function s | MiB scanned | tasks run | requests of functions | of `off` | of the first |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    off, first = (statistics.median(one[way].function_seconds for one in rounds) for way in _WAYS[:2])
    for way in _WAYS:
        runs = [one[way] for one in rounds]
        seconds, busy, scanned, tasks, requests = (
            statistics.median(getattr(run, figure) for run in runs)
            for figure in ("seconds", "function_seconds", "mib_scanned", "tasks", "requests")
        )
        shares = f"{busy / off:.1%} | {busy / first:.1%}"
        print(f"| {way} | {seconds:.2f} | {busy:.2f} | {scanned:.1f} | {tasks:.0f} | {requests:.0f} | {shares} |")

    if options.json is not None:
        found = [{way: asdict(run) for way, run in one.items()} for one in rounds]
        write_record(options.json, "incremental", {"files": options.files, "rows": options.rows, "rounds": found})


if __name__ == "__main__":
    main()
