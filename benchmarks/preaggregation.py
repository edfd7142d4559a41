"""Keys that come once, and keys that come often: a group_by whose first step is always done, and left out when useless.

Function seconds of the stage that scans, and bytes that it sends; medians of interleaved runs::

    python -m benchmarks.preaggregation [--rows 8000000] [--runs 5]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import polars as pl

import frazil

_MIB: Final = 1024 * 1024
_FILES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a query did."""

    seconds: float
    function_seconds: float
    """Of the stage that scans."""

    sent_mib: float
    adaptations: tuple[str, ...]


def write_table(folder: Path, rows: int) -> None:
    """Write rows with a key that comes once, and one that comes often."""
    for number in range(_FILES):
        row = pl.int_range(number * rows // _FILES, (number + 1) * rows // _FILES, dtype=pl.Int64)
        pl.select(
            once=row.hash(1).cast(pl.Int64, wrap_numerical=True),
            often=(row.hash(2) % 1_000).cast(pl.Int64),
            x=(row.hash(3) % 1_000).cast(pl.Float64),
            y=(row.hash(4) % 1_000).cast(pl.Int64),
        ).write_parquet(folder / f"{number}.parquet")


def measure(engine: frazil.Engine, query: pl.LazyFrame) -> tuple[pl.DataFrame, Run]:
    """Return the answer, and what the query did."""
    submitted = engine.submit(query)
    answer = submitted.result()
    profile = submitted.profile()
    scan, *_ = cast("list[dict[str, Any]]", profile["stages"])
    return answer, Run(
        seconds=cast("float", profile["seconds"]),
        function_seconds=scan["function_seconds"],
        sent_mib=scan["bytes_out"] / _MIB,
        adaptations=tuple(scan["adaptations"]),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    settings = frazil.Settings(
        start_small=False, shuffle_partitions=4, split_target_bytes=_MIB, inline_limit_bytes=0, codec="ipc_lz4"
    )
    ways = {"always": replace(settings, preaggregate_share=2.0), "while it is of use": settings}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        engines = {way: frazil.local(max_functions=2, settings=own) for way, own in ways.items()}
        for engine in engines.values():
            stack.callback(engine.close)
        write_table(Path(name), options.rows)
        table = pl.scan_parquet(name)
        queries = {
            key: table.group_by(key).agg(pl.col("x").sum(), pl.col("y").max(), pl.len()).select(pl.all().sum())
            for key in ("once", "often")
        }
        expected = {key: query.collect(engine="streaming") for key, query in queries.items()}
        seen: dict[tuple[str, str], list[Run]] = {}
        for _ in range(options.runs):
            for key, query in queries.items():
                for way, engine in engines.items():
                    answer, found = measure(engine, query)
                    if not answer.equals(expected[key]):
                        raise SystemExit(f"{key}, {way}: a wrong answer\n{answer}\ninstead of\n{expected[key]}")
                    seen.setdefault((key, way), []).append(found)
    print("| keys come | first step | s | function s of the scan | MiB sent |")
    print("|---|---|---:|---:|---:|")
    for (key, way), runs in seen.items():
        seconds, busy, sent = (
            statistics.median(getattr(run, figure) for run in runs) for figure in ("seconds", "function_seconds", "sent_mib")
        )
        print(f"| {key} | {way} | {seconds:.2f} | {busy:.2f} | {sent:.1f} |")
    for (key, way), runs in seen.items():
        for note in dict.fromkeys(note for run in runs for note in run.adaptations):
            print(f"{key}, {way}: {note}")


if __name__ == "__main__":
    main()
