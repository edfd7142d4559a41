"""What a query of a few kilobytes costs: blocks of ten rows, and whole queries through warm local functions.

Runs are interleaved, figures are medians::

    python -m benchmarks.small_queries [--runs 30] [--blocks 500]

The first table is CPU of this process, of all its threads, for a block of 8 rows: encoding and decoding with each codec. The
second is what a user waits for a query over a file of 200 rows, beside single-node Polars: planned as one task, as
defaults do, and cut into tiny tasks.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import polars as pl
from polars.testing import assert_frame_equal

import frazil
from frazil_functions.exchange.codec import decode_block, encode_block
from frazil_functions.task import Codec

_CODECS: Final[tuple[Codec, ...]] = ("ipc", "ipc_zstd", "parquet_zstd", "ipc_stream")
"""Of :data:`frazil_functions.task.Codec`; ``ipc_stream_zstd`` costs what its two parts do."""

_MS: Final = 1000.0


def block_costs(blocks: int) -> dict[str, tuple[float, float]]:
    """Return CPU milliseconds to encode and to decode a block of 8 rows and 4 columns, by codec."""
    texts, halves = [f"text {n}" for n in range(8)], [n / 2 for n in range(8)]
    frame = pl.DataFrame({"a": range(8), "b": halves, "c": texts, "d": [None, 1] * 4})
    costs: dict[str, tuple[float, float]] = {}
    for codec in _CODECS:
        encoded = encode_block(frame, codec)
        write = _cpu_ms(partial(encode_block, frame, codec), blocks)
        costs[codec] = write, _cpu_ms(partial(decode_block, encoded, codec, rows=frame.height), blocks)
    return costs


def _cpu_ms(act: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        act()
    return (time.process_time() - start) / times * _MS


def write_files(folder: Path) -> None:
    """Write 200 rows in one file of 10 row groups."""
    row = pl.int_range(200, dtype=pl.Int64)
    frame = pl.select(k=row % 7, v=row * 0.5, s=pl.format("text {}", row % 13))
    frame.write_parquet(folder / "rows.parquet", row_group_size=20)


def queries(folder: Path) -> dict[str, pl.LazyFrame]:
    """Return what is measured."""
    rows = pl.scan_parquet(folder / "rows.parquet")
    sums = rows.group_by("k").agg(pl.col("v").sum())
    return {
        "filter": rows.filter(pl.col("v") > 50),
        "group_by": sums,
        "join": rows.join(sums, on="k").sort("v", "s"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--blocks", type=int, default=500)
    options = parser.parse_args(arguments)
    print("| CPU ms a block of 8 rows | encode | decode |\n|---|---:|---:|")
    for codec, (write, read) in block_costs(options.blocks).items():
        print(f"| {codec} | {write:.3f} | {read:.3f} |")
    print(f"\nmedians of {options.runs} interleaved runs\n")
    print("| query | Polars, ms | one task, ms | tiny tasks, ms | tasks | ms a task |\n|---|---:|---:|---:|---:|---:|")
    tiny = frazil.Settings(start_small=False, max_rows_per_split=20)
    with tempfile.TemporaryDirectory() as name, frazil.local(2) as whole, frazil.local(2, settings=tiny) as cut:
        write_files(Path(name))
        for label, lf in queries(Path(name)).items():
            print(f"| {label} {_row(lf, whole, cut, options.runs)}")


def _row(lf: pl.LazyFrame, whole: frazil.Engine, cut: frazil.Engine, runs: int) -> str:
    engines: dict[str, Any] = {"polars": "streaming", "whole": whole, "cut": cut}
    seen: dict[str, list[float]] = {name: [] for name in engines}
    answers: dict[str, pl.DataFrame] = {}
    for _ in range(runs + 1):
        for name, engine in engines.items():
            start = time.perf_counter()
            answers[name] = lf.collect(engine=engine)
            seen[name].append((time.perf_counter() - start) * _MS)
    for answer in answers.values():
        assert_frame_equal(answer, answers["polars"], check_row_order=False)
    polars, one, many = (statistics.median(times[1:]) for times in seen.values())  # the first one starts functions
    query = cut.last_query
    tasks = 0 if query is None else sum(stage["tasks"] for stage in cast("list[dict[str, Any]]", query.profile()["stages"]))
    return f"| {polars:.1f} | {one:.1f} | {many:.1f} | {tasks} | {many / max(tasks, 1):.1f} |"


if __name__ == "__main__":
    main()
