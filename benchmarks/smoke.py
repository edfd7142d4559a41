"""The regression gate: counts and ratios against recorded limits, in a minute, on a machine however busy.

::

    python -m benchmarks.smoke [--only NAME,…] [--json FILE]

No figure is seconds. What Python does is counted in lines run, which nothing else on the machine changes; requests and
bytes are exact; what Polars and imports cost is CPU seconds as a multiple of those of a yardstick in the same run.
Limits are in ``benchmarks/smoke_limits.json``: about a tenth above what was found (requests: nothing above; ratios: more,
where a busy machine moves them). The exit code is 1 when a figure is above its limit; the last lines then name figure, limit
and the benchmark that tells more. Whoever makes something cheaper lowers the limit in the same commit; whoever raises one
says why there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

import frazil
from benchmarks.exchange_speed import frame_of, measure
from benchmarks.figures import figures
from benchmarks.growth import write_files
from benchmarks.import_time import FUNCTION, POLARS, medians
from benchmarks.lines import lines_run
from benchmarks.record import write_record
from benchmarks.simulation import plan_of, simulate
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings
from frazil_functions.exchange.format import block_refs
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.exchange.writer import ExchangeWriter
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import ExchangeInput, Output, TaskStats

__all__ = ["LIMITS", "Limit", "main", "over", "read_limits"]

LIMITS: Final = Path(__file__).parent / "smoke_limits.json"
_MIB: Final = 1 << 20


class Limit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a figure may be."""

    figure: str
    """What is measured, in words with its unit."""

    limit: float
    """Most that passes."""

    command: str
    """What tells more about it."""


Found = dict[str, float]


def read_limits() -> dict[str, Limit]:
    """Return the limits by name, in their order."""
    return msgspec.json.decode(LIMITS.read_bytes(), type=dict[str, Limit])


def over(found: Found, limits: dict[str, Limit]) -> list[str]:
    """Return a line for each figure that is above its limit, or was not measured."""
    lines = []
    for name, limit in limits.items():
        if name not in found:
            lines.append(f"{name} ({limit.figure}) was not measured, but has a limit in benchmarks/{LIMITS.name}")
        elif found[name] > limit.limit:
            lines.append(
                f"{name} ({limit.figure}) is {found[name]:,.3f}, above its limit of {limit.limit:g} in "
                f"benchmarks/{LIMITS.name}; look closer: {limit.command}"
            )
    lines += [f"{name} has no limit in benchmarks/{LIMITS.name}" for name in found if name not in limits]
    return lines


def _imports() -> Found:
    with tempfile.TemporaryDirectory() as folder:
        polars_s, function_s = medians((POLARS, FUNCTION), 7, Path(folder))
    return {"import_ratio": function_s / polars_s}


def _tasks() -> Found:
    """Return what the coordinator does for a task, of few and of four times as many."""
    per_task = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = partial(simulate, functions=40, queries=1, stretch=4.0, with_events=True)
        run(plan_of(folder, 20, 2))  # what is made once
        for tasks in (100, 400):
            graph = plan_of(folder, tasks, 2)
            ran = run(graph).tasks
            per_task.append(lines_run(partial(run, graph)) / ran)
        seen = simulate(plan_of(folder, 2000, 2), functions=500, queries=1, stretch=4.0)
    return {
        "task_lines": per_task[1],
        "task_lines_growth": per_task[1] / per_task[0],
        "task_journal_requests": seen.requests_per_task,
        "task_journal_bytes": seen.journal_bytes / seen.tasks,
    }


def _planning() -> Found:
    """Return what planning does for a file and for a node of the plan, and what of a plan goes to each task."""
    found: Found = {}
    settings = Settings(start_small=False, split_target_bytes=1)
    fragments, lines = [], []
    for count in (100, 1000):
        with tempfile.TemporaryDirectory() as name:
            write_files(Path(name), count)
            query = pl.scan_parquet(name).group_by("k").agg(pl.col("v").sum()).serialize()
            graph = plan_query(query, settings)  # reads the footers
            lines.append(lines_run(partial(plan_query, query, settings)))
            fragments.append(max(len(stage.fragment) for stage in graph.stages))
    found["plan_lines_per_file"] = (lines[1] - lines[0]) / 900
    found["plan_fragment_bytes"] = fragments[1]
    found["plan_fragment_growth"] = fragments[1] / fragments[0]
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), 2)
        found["plan_lines_per_group_by"], _ = _per_node(pl.scan_parquet(name), _count_again, settings)
        found["plan_lines_per_filter"], found["plan_filter_growth"] = _per_node(pl.scan_parquet(name), _filter, settings)
    return found


def _count_again(lf: pl.LazyFrame, number: int) -> pl.LazyFrame:
    return lf.group_by(f"k{number - 1}" if number else "k").agg(pl.len().alias(f"k{number}"))


def _filter(lf: pl.LazyFrame, number: int) -> pl.LazyFrame:
    return lf.filter(pl.col("v") > number)


def _per_node(lf: pl.LazyFrame, add: Callable[[pl.LazyFrame, int], pl.LazyFrame], settings: Settings) -> tuple[float, float]:
    """Return the lines that planning runs for a node more, and how much more that is in a plan of 60 than in one of 20."""
    lines, query = [], lf
    for number in range(61):
        if number % 20 == 0:
            plan = query.serialize()
            plan_query(plan, settings)
            lines.append(lines_run(partial(plan_query, plan, settings)))
        query = add(query, number)
    each = [(after - before) / 20 for before, after in pairwise(lines)]
    return each[0], each[2] / each[0]


def _exchange() -> Found:
    """Return the requests and lines of a shuffle, and the CPU of writing and reading beside plain IPC files."""
    maps, partitions = 8, 32
    frame = pl.select(k=pl.int_range(20_000), v=pl.int_range(20_000).hash())
    output = Output(kind="hash", partitions=partitions, hash_keys=(pl.col("k").meta.serialize(),), inline_limit_bytes=0)
    with tempfile.TemporaryDirectory() as name:
        store = CountingStore(FolderStore(Path(name)))

        def write(task: int) -> ExchangeInput:
            writer = ExchangeWriter(output, store=store, key=f"q/{task}", map_index=task)
            writer.write(frame)
            return ExchangeInput(blocks=block_refs(writer.finish().descriptor(TaskStats()), task))

        made = [write(task) for task in range(maps)]
        puts = store.requests["put"]
        for source in made:
            for block in source.blocks:
                list(read_exchange(store, ExchangeInput(blocks=(block,))))
        gets = store.requests["get"]
        lines = lines_run(partial(write, maps)) / partitions
        read_lines = lines_run(lambda: list(read_exchange(store, made[0]))) / partitions
    with tempfile.TemporaryDirectory() as name:
        cell = measure("flat", frame_of("flat", 64 * _MIB), 16, "auto", 5, Path(name))
    return {
        "exchange_put_per_task": puts / maps,
        "exchange_get_per_block": gets / (maps * partitions),
        "exchange_write_lines_per_block": lines,
        "exchange_read_lines_per_block": read_lines,
        "exchange_write_cpu_ratio": cell.write_s / cell.plain_write_s,
        "exchange_read_cpu_ratio": cell.read_s / cell.plain_read_s,
    }


def _query() -> Found:
    """Return the tasks and store requests of one query through two functions, and what of it is not in a function."""
    settings = frazil.Settings(start_small=False, split_target_bytes=1, shuffle_partitions=4, inline_limit_bytes=0)
    with tempfile.TemporaryDirectory() as name, frazil.local(2, settings=settings) as engine:
        write_files(Path(name), 8)
        lf = pl.scan_parquet(name).group_by("k").agg(pl.col("v").median()).sort("k")
        answer = lf.collect(engine=engine)
        if not answer.equals(lf.collect()):
            raise RuntimeError(f"a wrong answer: {answer}")
        found = figures(engine.last_query.profile())  # type: ignore[union-attr]  # there is one
    return {
        "query_tasks": found.tasks,
        "query_store_requests": sum(found.requests.values()),
        "query_exchanged_bytes": sum(stage.bytes_out for stage in found.stages[:-1]),
    }


_GROUPS: Final[dict[str, Callable[[], Found]]] = {
    "import": _imports,
    "tasks": _tasks,
    "planning": _planning,
    "exchange": _exchange,
    "query": _query,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smoke", description=__doc__)
    parser.add_argument("--only", default="", help=f"some of {', '.join(_GROUPS)}, parted by commas (default: all)")
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    options = parser.parse_args(argv)
    wanted = options.only.split(",") if options.only else list(_GROUPS)
    unknown = [name for name in wanted if name not in _GROUPS]
    if unknown:
        parser.error(f"there is no {unknown[0]}: {', '.join(_GROUPS)}")
    limits, found = read_limits(), {}
    print("| figure | found | limit |\n|---|---:|---:|")
    for name in wanted:
        began = time.perf_counter()
        for figure, value in _GROUPS[name]().items():
            found[figure] = value
            limit = limits.get(figure)
            print(
                f"| {limit.figure if limit else figure} | {value:,.2f} | {f'{limit.limit:,g}' if limit else '–'} |",
                flush=True,
            )
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    if options.json is not None:
        write_record(options.json, "smoke", {"figures": found})
    wrong = over(found, limits if not options.only else {name: limits[name] for name in found if name in limits})
    for line in wrong:
        print(f"bench-smoke: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
