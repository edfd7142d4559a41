"""How much faster a scan is on more functions, when each has a network card of its own and the store is far away.

::

    python -m benchmarks.scaling [--functions 1,2,4,8,16] [--scale 10] [--mb-s 20] [--runs 2] [--json FILE] [--svg FILE]

Data and exchange are in SeaweedFS, behind a proxy (:mod:`benchmarks.slow_store`) that lets each function process have
``--mb-s`` a second and holds up every GET as S3 would: 27 ms in the median, 106 ms at the 99th percentile, from a seeded
log-normal distribution. The query is PDS-H's sixth: four columns of lineitem, cut into at least 64 tasks, and one number
out of them. Functions are warm, the answer is compared with Polars' own. Efficiency is t(1) / (n · t(n)), of medians.

``cores busy`` is how much of this machine's CPU was used meanwhile, by everything on it: store, proxy, coordinator and all
functions share its cores, so that where it is near 100 % the curve shows the end of the machine and not of Frazil. The exit
code is 1 when an answer differs.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import obstore
import polars as pl

import frazil
from benchmarks.figures import QueryFigures, figures
from benchmarks.pdsh.data import generate, open_store
from benchmarks.pdsh.queries import QUERIES
from benchmarks.pdsh.tables import Tables
from benchmarks.plot import speedup_svg
from benchmarks.record import write_record
from benchmarks.seaweed import Seaweed, run_seaweed
from benchmarks.slow_store import Distance, run_slow_store

__all__ = ["Point", "main", "measure"]

_BUCKET: Final = "scaling"
_PARTS: Final = 8
_QUERY: Final = 6
_FLOOR: Final = 0.85
"""Efficiency that is aimed at, with 8 functions."""

_MB: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was measured with so many functions."""

    functions: int
    seconds: float
    """From the plan to the answer, median."""

    tasks: int
    mb_scanned: float
    mb_s: float
    """MB that came out of the store each second, during the query."""

    mb_sent: float
    """MB that the store sent to all processes, those of warming up included."""

    gets: int
    """GETs, those of warming up included."""

    busiest_share: float
    """Share of all bytes, those of warming up included, that the process got that got most."""

    processes: int
    """Processes that asked the store for more than 1 MB."""

    cores_busy: float
    """Share of the machine's CPU that was used meanwhile, whoever used it."""

    right: bool
    """Whether the answers were Polars' own."""


def _settings(tasks: int) -> frazil.Settings:
    return frazil.Settings(start_small=False, min_tasks_per_scan=tasks)


def _cpu() -> tuple[float, float]:
    """Return the busy and all ticks of this machine's cores since it started."""
    ticks = [float(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def _tables(root: str, scale: float, options: dict[str, str]) -> Tables:
    return Tables.scan(root, scale_factor=scale, storage_options=options)


def measure(
    server: Seaweed, functions: int, expected: pl.DataFrame, distance: Distance, *, scale: float, tasks: int, runs: int
) -> Point:
    """Run the query on so many warm functions, and return what was seen."""
    seconds, busy, right = [], [], True
    profiles: list[QueryFigures] = []
    with run_slow_store(server.endpoint, distance) as slow:
        options = {**server.storage_options, "aws_endpoint_url": slow.endpoint}
        tables = _tables(f"s3://{_BUCKET}/data", scale, options)
        engine = frazil.local(
            max_functions=functions,
            threads_per_function=2,
            store=f"s3://{_BUCKET}/exchange-{functions}",
            storage_options=options,
            settings=_settings(tasks),
        )
        with engine:
            # As many tasks as the query has, over one small column: every function starts, footers are read.
            tables.lineitem.select(pl.col("l_tax").max()).collect(engine=engine)
            for _ in range(runs):
                before, began = _cpu(), time.perf_counter()
                query = engine.submit(QUERIES[_QUERY](tables))
                answer = query.result()
                seconds.append(time.perf_counter() - began)
                after = _cpu()
                busy.append((after[0] - before[0]) / max(1.0, after[1] - before[1]))
                profiles.append(figures(query.profile()))
                right = right and bool(((answer - expected) / expected).to_series().abs().max() < 1e-9)  # type: ignore[operator]  # one float
    scan = profiles[-1].stages[0]
    mb = scan.bytes_scanned / _MB
    large = [size for size in slow.bytes_sent.values() if size > _MB]
    return Point(
        functions=functions,
        seconds=median(seconds),
        tasks=scan.tasks,
        mb_scanned=mb,
        mb_s=mb / median(seconds),
        mb_sent=sum(slow.bytes_sent.values()) / _MB,
        gets=sum(slow.gets.values()),
        busiest_share=max(large, default=0) / max(1, sum(large)),
        processes=len(large),
        cores_busy=median(busy),
        right=right,
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--functions", default="1,2,4,8,16", help="how many, ascending (default 1,2,4,8,16)")
    parser.add_argument("--scale", type=float, default=10.0, help="scale factor of the data (default 10)")
    parser.add_argument("--tasks", type=int, default=128, help="scan tasks at least, as far as there are row groups")
    parser.add_argument("--mb-s", type=float, default=20.0, help="MB a second of each function (default 20)")
    parser.add_argument("--runs", type=int, default=2, help="runs of the query on each number of functions (default 2)")
    parser.add_argument("--data", type=Path, default=Path(".demo"), help="folder that keeps the data (default .demo)")
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    parser.add_argument("--svg", type=Path, help="file that gets the curve, e.g. docs/scaling.svg")
    return parser.parse_args(argv)


def _print(points: Sequence[Point]) -> None:
    print(
        "| functions | s | times as fast | efficiency | MB/s | of one function's | tasks | busiest | cores busy | answer |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|")
    first = points[0]
    for point in points:
        times = first.seconds * first.functions / point.seconds
        print(
            f"| {point.functions} | {point.seconds:.2f} | {times:.2f} | {times / point.functions:.0%} | {point.mb_s:.1f} | "
            f"{point.mb_s / point.functions:.1f} | {point.tasks} | "
            f"{point.mb_sent:.0f} | {point.gets} | {point.busiest_share:.0%} | {point.cores_busy:.0%} | "
            f"{'equal' if point.right else 'DIFFERENT'} |"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit code."""
    options = _arguments(argv)
    data: Path = options.data / f"sf{options.scale:g}-{_PARTS}"
    generate(data, scale_factor=options.scale, parts=_PARTS)
    expected = QUERIES[_QUERY](_tables(str(data), options.scale, {})).collect(engine="streaming")
    distance = Distance(bytes_s=options.mb_s * _MB)
    points = []
    with tempfile.TemporaryDirectory(prefix="frazil-scaling-") as name:
        secret = secrets.token_hex(16)
        with run_seaweed(Path(name) / "weed", access_key="scaling", secret_key=secret, buckets=[_BUCKET]) as server:
            store = open_store(f"s3://{_BUCKET}/data", server.storage_options)
            for path in sorted((data / "lineitem").glob("*.parquet")):
                obstore.put(store, f"lineitem/{path.name}", path)
            for count in map(int, options.functions.split(",")):
                run = {"scale": options.scale, "tasks": options.tasks, "runs": options.runs}
                points.append(measure(server, count, expected, distance, **run))
                print(f"{count} functions: {points[-1].seconds:.2f} s", file=sys.stderr, flush=True)
    print(
        f"scale factor {options.scale:g}, {points[0].mb_scanned:.0f} MB scanned, {options.mb_s:g} MB/s a function, "
        f"medians of {options.runs} runs\n"
    )
    _print(points)
    first = points[0].seconds * points[0].functions
    speedups = [first / point.seconds for point in points]
    if options.svg is not None:
        title = f"PDS-H Q6, scale factor {options.scale:g}, {options.mb_s:g} MB/s a function"
        options.svg.write_text(speedup_svg(title, [point.functions for point in points], speedups, floor=_FLOOR))
    if options.json is not None:
        found = [{**asdict(one), "speedup": times} for one, times in zip(points, speedups, strict=True)]
        write_record(options.json, "scaling", {"scale": options.scale, "mb_s": options.mb_s, "points": found})
    return 0 if all(point.right for point in points) else 1


if __name__ == "__main__":
    sys.exit(main())
