"""What a user waits for a small query when everything is warm: one file of 1 MB, a filter and a group_by.

::

    python -m benchmarks.warm_query [--runs 100]

Three ways by turns: Polars' streaming engine in this process, `frazil.local()`, and `frazil.connect()` to a `frazil serve`
with a journal on a folder. The answers are compared. Then where the milliseconds of the last two go, of one query more.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl
from polars.testing import assert_frame_equal

import frazil
from benchmarks.figures import figures
from benchmarks.load import percentile
from benchmarks.processes import free_ports, program, run_process, wait_until_healthy

__all__ = ["main", "query"]

_ROWS: Final = 70_000
_MS: Final = 1000.0
_WARM: Final = 5


def query(folder: Path) -> pl.LazyFrame:
    """Write a file of about 1 MB, unless it is there, and return a query over it."""
    path = folder / "rows.parquet"
    if not path.exists():
        row = pl.int_range(_ROWS, dtype=pl.Int64)
        frame = pl.select(k=row % 97, v=(row * 7919) % 10_007 * 0.25, s=pl.format("text {}", row * 31 % 9973), n=row.hash())
        frame.write_parquet(path)
    return pl.scan_parquet(path).filter(pl.col("v") > 500).group_by("k").agg(pl.col("v").sum(), pl.len()).sort("k")


def measure(ways: dict[str, Any], lf: pl.LazyFrame, runs: int) -> dict[str, list[float]]:
    """Return the milliseconds of each run of each way, by turns."""
    seen: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, pl.DataFrame] = {}
    for run in range(runs + _WARM):
        for name, engine in ways.items():
            began = time.perf_counter()
            answers[name] = lf.collect(engine=engine)
            if run >= _WARM:
                seen[name].append((time.perf_counter() - began) * _MS)
    for answer in answers.values():
        assert_frame_equal(answer, answers["polars"])
    return seen


def _parts(engine: frazil.Engine, lf: pl.LazyFrame) -> str:
    """Return where the milliseconds of one query go."""
    began = time.perf_counter()
    found = engine.submit(lf)
    sent = time.perf_counter()
    found.result()
    ended = time.perf_counter()
    seen = figures(found.profile())
    inside, function = seen.seconds * _MS, seen.function_seconds * _MS
    submit, rest = (sent - began) * _MS, (ended - sent) * _MS
    return f"submit {submit:.1f}, then {rest:.1f}; of both: driving {inside:.1f}, of which in the function {function:.1f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.warm_query", description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    runs: int = parser.parse_args(argv).runs
    token = secrets.token_hex(16)
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="frazil-warm-") as name:
        folder = Path(name)
        lf = query(folder)
        command = [program("frazil"), "serve", "--port", str(port), "--store", str(folder / "store"), "--max-functions", "1"]
        url, log, secret = f"http://127.0.0.1:{port}", folder / "log", {"FRAZIL_TOKEN": token}
        with run_process(command, log=log, env=secret, grace_s=15.0) as process, frazil.local(1) as near:
            wait_until_healthy(f"{url}/readyz", name="the coordinator", process=process, log=log)
            with frazil.connect(url, token=token) as far:
                ways = {"polars": "streaming", "frazil.local()": near, "frazil.connect()": far}
                seen = measure(ways, lf, runs)
                print(f"{(folder / 'rows.parquet').stat().st_size} bytes, {runs} runs by turns\n")
                print("| | p50 ms | p95 ms | beyond Polars' p50 |\n|---|---:|---:|---:|")
                base = percentile(seen["polars"], 0.5)
                for label, times in seen.items():
                    middle = percentile(times, 0.5)
                    print(f"| {label} | {middle:.1f} | {percentile(times, 0.95):.1f} | {middle - base:+.1f} |")
                for label, engine in (("frazil.local()", near), ("frazil.connect()", far)):
                    print(f"{label}: {_parts(engine, lf)}")


if __name__ == "__main__":
    main()
