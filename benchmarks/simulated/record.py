"""Record how long tasks take: all tasks of the 22 queries of PDS-H, run for real, as quantiles by kind of stage.

::

    python -m benchmarks.simulated.record [--scale 1] [--split-mib 8] [--data FOLDER]

It writes `durations.json` beside this file, which :mod:`benchmarks.simulation` draws from. One function runs at a time,
so that tasks don't take each other's cores.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import polars as pl

import frazil
from benchmarks.pdsh.data import generate
from benchmarks.pdsh.queries import QUERIES
from benchmarks.pdsh.tables import Tables
from benchmarks.simulated.durations import FILE, QUANTILES, Durations

_MIB: Final = 1 << 20
_PARTS: Final = 4


def durations_of(data: Path, scale: float, split_bytes: int) -> dict[str, list[float]]:
    """Run all queries over `data`, and return the seconds of their tasks in functions, by kind of stage."""
    found: dict[str, list[float]] = defaultdict(list)
    tables = Tables.scan(str(data), scale_factor=scale)
    settings = frazil.Settings(start_small=False, split_target_bytes=split_bytes, shuffle_target_bytes=2 * split_bytes)
    with frazil.local(1, settings=settings) as engine:
        for number, query in QUERIES.items():
            submitted = engine.submit(query(tables))
            submitted.result()
            stages = cast("list[dict[str, Any]]", submitted.profile()["stages"])
            for stage in stages:
                found[stage["kind"]] += [task["seconds"] for task in stage["task_list"]]
            print(f"query {number}: {sum(len(stage['task_list']) for stage in stages)} tasks", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Record, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--split-mib", type=int, default=8)
    parser.add_argument("--data", type=Path, default=Path(".demo/durations"))
    options = parser.parse_args(arguments)
    data = (options.data / f"sf{options.scale:g}").absolute()
    generate(data, scale_factor=options.scale, parts=_PARTS)
    found = durations_of(data, options.scale, options.split_mib * _MIB)
    origin = (
        f"benchmarks.simulated.record: tasks of the 22 queries of PDS-H at scale factor {options.scale:g}, splits of "
        f"{options.split_mib} MiB, one local function, polars {pl.__version__}, {os.cpu_count()} cores, "
        f"{platform.machine()}, {dt.datetime.now(tz=dt.UTC):%Y-%m-%d}"
    )
    durations = Durations(
        origin=origin,
        tasks={kind: len(seconds) for kind, seconds in sorted(found.items())},
        quantiles_s={kind: _quantiles(seconds) for kind, seconds in sorted(found.items())},
    )
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(durations), indent=1) + b"\n")


def _quantiles(seconds: list[float]) -> tuple[float, ...]:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return tuple(round(ordered[round(last * step / (QUANTILES - 1))], 4) for step in range(QUANTILES))


if __name__ == "__main__":
    main()
