"""How much longer PDS-H takes through Frazil than in single-node Polars, on the same files and cores.

::

    python -m benchmarks.pdsh.speed --scale 10 --mode auto [--store s3] [--runs 3] [--queries 1,6] [--json FILE]

``auto`` is what a user gets who sets nothing; ``forced`` makes every scan many tasks and every exchange a real one. Each
query runs in Polars (streaming engine, this process) and in warm functions by turns; figures are medians, ratios are of
medians, and the last line is their geometric mean. Answers are compared. The exit code is 1 when an answer differs.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, Literal

import frazil
from benchmarks.pdsh.data import generate
from benchmarks.pdsh.harness import Outcome, run_polars, run_query
from benchmarks.pdsh.queries import QUERIES
from benchmarks.pdsh.run import places
from benchmarks.pdsh.tables import Tables

__all__ = ["Timing", "forced", "main"]

Mode = Literal["auto", "forced"]

_PARTS: Final = 8
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One query."""

    number: int
    polars_s: float
    """Median seconds of Polars."""

    frazil_s: float
    """Median seconds through Frazil, from the plan to the answer in this process."""

    tasks: int
    least_scan_tasks: int
    """Tasks of the scan stage that has the fewest."""

    exchanged_bytes: int
    """Bytes that all stages but the last gave to others."""

    peak_memory_bytes: int
    """Most resident memory of a function during a task."""

    difference: str | None
    """How the answers differ; None when they are equal."""

    @property
    def ratio(self) -> float:
        """Times as long as Polars."""
        return self.frazil_s / self.polars_s


def forced(scale: float) -> frazil.Settings:
    """Return settings under which a table is at least four scan tasks, if it can be, and all goes through the store."""
    return frazil.Settings(
        start_small=False,
        split_target_bytes=max(_MIB, int(8 * _MIB * scale)),
        min_tasks_per_scan=4,
        inline_limit_bytes=0,
    )


def _settings(mode: Mode, scale: float) -> frazil.Settings:
    return frazil.Settings() if mode == "auto" else forced(scale)


def measure(engine: frazil.Engine, number: int, here: Tables, there: Tables, runs: int) -> Timing:
    """Run a query by turns in Polars, on the tables `here`, and through `engine`, on the same tables `there`."""
    polars_s: list[float] = []
    outcomes: list[Outcome] = []
    for _ in range(runs):
        expected = run_polars(number, here)
        polars_s.append(expected[1])
        outcomes.append(run_query(engine, number, there, expected))
    found = outcomes[-1].figures
    stages = found.stages
    scans = [stage.tasks for stage in stages if stage.bytes_scanned]
    return Timing(
        number=number,
        polars_s=median(polars_s),
        frazil_s=median(one.seconds for one in outcomes),
        tasks=found.tasks,
        least_scan_tasks=min(scans, default=0),
        exchanged_bytes=sum(stage.bytes_out for stage in stages[:-1]),
        peak_memory_bytes=max(stage.peak_memory_bytes for stage in stages),
        difference=next((one.difference for one in outcomes if one.difference is not None), None),
    )


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pdsh.speed", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="scale factor of the data (default 1)")
    parser.add_argument("--mode", choices=("auto", "forced"), default="auto")
    parser.add_argument("--store", choices=("folder", "s3"), default="folder", help="for data and exchange")
    parser.add_argument("--queries", default="", help="numbers, e.g. 1,3,18 (default: all 22)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each query (default 3)")
    parser.add_argument("--functions", type=int, default=2, help="function processes (default 2)")
    parser.add_argument("--threads", type=int, help="Polars threads of a function (default: that of frazil.local)")
    parser.add_argument("--data", type=Path, default=Path(".demo"), help="folder that keeps the data (default .demo)")
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _arguments(argv)
    numbers = [int(number) for number in arguments.queries.split(",") if number] or list(QUERIES)
    data: Path = arguments.data / f"sf{arguments.scale:g}-{_PARTS}"
    generate(data, scale_factor=arguments.scale, parts=_PARTS)
    here = Tables.scan(str(data), scale_factor=arguments.scale)
    timings = []
    print("| query | Polars s | Frazil s | ratio | tasks | fewest of a scan | exchanged MiB | peak MiB | answer |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    with places(arguments.store, data, arguments.scale) as (there, store, options):
        settings = _settings(arguments.mode, arguments.scale)
        with frazil.local(
            max_functions=arguments.functions,
            threads_per_function=arguments.threads,
            store=store,
            storage_options=options,
            settings=settings,
        ) as engine:
            QUERIES[1](there).head(1).collect(engine=engine)  # warm functions
            for number in numbers:
                one = measure(engine, number, here, there, arguments.runs)
                timings.append(one)
                print(
                    f"| Q{number} | {one.polars_s:.3f} | {one.frazil_s:.3f} | {one.ratio:.2f} | {one.tasks} | "
                    f"{one.least_scan_tasks} | {one.exchanged_bytes / _MIB:.1f} | {one.peak_memory_bytes / _MIB:.0f} | "
                    f"{one.difference or 'equal'} |",
                    flush=True,
                )
    mean = geometric_mean([one.ratio for one in timings])
    print(f"geometric mean of the ratios: {mean:.3f}")
    if arguments.json is not None:
        found = {
            "benchmark": "pdsh.speed",
            "commit": _commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "mode": arguments.mode,
            "scale": arguments.scale,
            "store": arguments.store,
            "runs": arguments.runs,
            "geometric_mean": mean,
            "queries": [asdict(one) for one in timings],
        }
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if any(one.difference is not None for one in timings) else 0


if __name__ == "__main__":
    sys.exit(main())
