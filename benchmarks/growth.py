"""How the cost of planning grows: with the number of files, and with the number of partitions of a shuffle.

::

    python -m benchmarks.growth [--files 10,100,1000,10000] [--partitions 10,100,1000]

Files are small Parquet files in a folder. Cold is the first plan of a table, whose footers have to be read; warm the next
one, of another query over the same files. Partitions are those of a group_by over 64 scan tasks, laid out by the real
barrier from the answers of made-up tasks. Memory is what Python and NumPy allocated at most (tracemalloc), in runs of their
own. `times linear` is the cost divided by n, as a multiple of that of the row before: 1 is linear.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.simulated.world import answer_of
from frazil_coordinator.plan.model import ScanSource, StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.schedule.barrier import Barrier
from frazil_coordinator.schedule.bind import output_for
from frazil_coordinator.settings import Settings
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.ids import QueryId, TaskIndex
from frazil_functions.task import Descriptor, TaskRequest

__all__ = ["main", "write_files"]

_MIB: Final = 1 << 20
_SCANS: Final = 64


def write_files(folder: Path, count: int) -> None:
    """Write so many small files."""
    first = folder / "first.parquet"
    pl.select(k=pl.int_range(64) % 7, v=pl.int_range(64), s=pl.lit("text")).write_parquet(first)
    data = first.read_bytes()
    first.unlink()
    for number in range(count):
        (folder / f"{number:06}.parquet").write_bytes(data)


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _most_bytes(act: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def by_files(counts: Sequence[int]) -> None:
    """Print what planning costs by number of files."""
    print("| files | tasks | cold s | warm s | warm: times linear | MiB at most |\n|---:|---:|---:|---:|---:|---:|")
    settings = Settings(start_small=False, split_target_bytes=1)
    before = None
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="frazil-growth-") as name:
            folder = Path(name)
            write_files(folder, count)
            scan = pl.scan_parquet(folder)
            plan = scan.group_by("k").agg(pl.col("v").sum()).serialize()
            other = scan.filter(pl.col("v") >= 0).group_by("k").agg(pl.col("v").max()).serialize()
            cold = _seconds(partial(plan_query, plan, settings))
            warm = min(_seconds(partial(plan_query, other, settings)) for _ in range(2))
            most = _most_bytes(partial(plan_query, other, settings))
            graph = plan_query(other, settings)
        tasks = sum(len(source.splits) for source in graph.stages[0].sources if isinstance(source, ScanSource))
        grown = "" if before is None else f"{warm / count / before:.2f}"
        before = warm / count
        print(f"| {count:,} | {tasks:,} | {cold:.2f} | {warm:.2f} | {grown} | {most / _MIB:.1f} |", flush=True)


def _answers(graph: StageGraph, settings: Settings) -> tuple[Descriptor, ...]:
    """Return made-up answers of all tasks of the first stage."""
    stage = graph.stages[0]
    (source,) = (one for one in stage.sources if isinstance(one, ScanSource))
    found = []
    for task in range(len(source.splits)):
        output = output_for(stage, TaskIndex(task), query=QueryId("q"), settings=settings, exchange_prefix="x")
        request = TaskRequest(
            query=QueryId("q"),
            stage=stage.id,
            task=TaskIndex(task),
            attempt=0,
            fragment=b"",
            inputs=(),
            output=output,
            polars_version=pl.__version__,
            protocol_version=PROTOCOL_VERSION,
        )
        found.append(answer_of(request, 1.0).descriptor)
    return tuple(found)


def _lay_out(graph: StageGraph, settings: Settings, answers: tuple[Descriptor, ...]) -> None:
    barrier = Barrier(graph, settings, None)
    barrier.lay_out(graph.stages[1].id, lambda stage: answers if stage == 0 else None, barrier.factors)


def by_partitions(counts: Sequence[int]) -> None:
    """Print what laying out a stage costs by number of partitions."""
    print("| partitions | blocks | plan s | lay out s | times linear | MiB at most |\n|---:|---:|---:|---:|---:|---:|")
    before = None
    with tempfile.TemporaryDirectory(prefix="frazil-growth-") as name:
        folder = Path(name)
        write_files(folder, _SCANS)
        plan = pl.scan_parquet(folder).group_by("k").agg(pl.col("v").median()).serialize()
        for count in counts:
            settings = Settings(start_small=False, split_target_bytes=1, shuffle_partitions=count, two_level_requests=None)
            planned = min(_seconds(partial(plan_query, plan, settings)) for _ in range(2))
            graph = plan_query(plan, settings)
            answers = _answers(graph, settings)

            lay_out = partial(_lay_out, graph, settings, answers)
            seconds, most = min(_seconds(lay_out) for _ in range(2)), _most_bytes(lay_out)
            grown = "" if before is None else f"{seconds / count / before:.2f}"
            before = seconds / count
            blocks = sum(len(answer.blocks) for answer in answers)
            print(f"| {count:,} | {blocks:,} | {planned:.3f} | {seconds:.3f} | {grown} | {most / _MIB:.1f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--files", default="10,100,1000,10000")
    parser.add_argument("--partitions", default="10,100,1000")
    options = parser.parse_args(argv)
    by_files([int(count) for count in options.files.split(",") if count])
    print()
    by_partitions([int(count) for count in options.partitions.split(",") if count])


if __name__ == "__main__":
    main()
