"""What the coordinator itself costs: 1,000 functions and 100,000 tasks through its real parts, in virtual time.

::

    python -m benchmarks.simulation [--functions 1000] [--tasks 100000] [--queries 10] [--stretch 16] [--profile FILE]

Tasks take as long as those of :mod:`benchmarks.simulated.record` did, times `--stretch`: those read splits of 8 MiB, and the
default is 128. The CPU that the coordinator uses passes in virtual time too, so it delays the next tasks as it would on one
core. A slot idles because of dispatch while it is free and there is a task for it.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.simulated.durations import read_durations
from benchmarks.simulated.virtual_time import BlockingTakesTime, run_virtually
from benchmarks.simulated.world import STORE_S, SimulatedPlatform, World, recorded
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings

__all__ = ["Figures", "plan_of", "simulate"]

_ROWS_PER_SPLIT: Final = 4
_PARTITIONS: Final = 32
_MS: Final = 1000.0
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a simulation showed."""

    tasks: int
    cpu_s: float
    virtual_s: float
    busy_s: float
    """Seconds that functions worked, of all tasks together."""

    idle_slot_s: float
    """Seconds for which a slot was free and a task waited for one, of all slots together."""

    functions: int
    journal_requests: int
    journal_bytes: int
    memory_bytes: int
    """Most resident memory of the process, beyond what it had before."""

    @property
    def cpu_ms_per_task(self) -> float:
        """CPU of the coordinator, in milliseconds."""
        return self.cpu_s / self.tasks * _MS

    @property
    def idle_share(self) -> float:
        """Share of the slots' time for which they idled because of dispatch."""
        return self.idle_slot_s / (self.functions * self.virtual_s)

    @property
    def requests_per_task(self) -> float:
        """Requests to the journal's store."""
        return self.journal_requests / self.tasks


def plan_of(folder: Path, tasks: int, partitions: int = _PARTITIONS) -> StageGraph:
    """Return a real plan of about so many tasks: two scans shuffled, joined and grouped, and the ten largest."""
    settings = Settings(
        start_small=False,
        max_rows_per_split=_ROWS_PER_SPLIT,
        shuffle_partitions=partitions,
        broadcast_limit_bytes=0,
        runtime_filters=False,
    )
    left, right = folder / "left.parquet", folder / "right.parquet"
    for path, share in ((left, 2), (right, 1)):
        rows = _ROWS_PER_SPLIT * max(1, tasks * share // 3)
        pl.select(k=pl.int_range(rows), v=pl.int_range(rows)).write_parquet(path)
    joined = pl.scan_parquet(left).join(pl.scan_parquet(right), on="k")
    query = joined.group_by(pl.col("v") % 1000).agg(pl.col("v_right").sum()).sort("v_right").head(10)
    return plan_query(query.serialize(), settings)


class _Idling:
    """Adds up for how long slots idle while tasks wait."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._since = self._now()
        self._idle = 0
        self.slot_s = 0.0

    def note(self) -> None:
        """Add what was until now; called after each change."""
        now, slots, platform = self._now(), self._world.slots, self._world.platform
        self.slot_s += self._idle * (now - self._since)
        self._since = now
        self._idle = min(platform.functions - platform.in_flight, slots.wanted + slots.taken - platform.in_flight)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


async def _run(graph: StageGraph, functions: int, queries: int, stretch: float, *, with_events: bool) -> Figures:
    platform = SimulatedPlatform(functions, recorded(read_durations(), graph, stretch, seed=1), with_events=with_events)
    world = World(platform, lambda _: graph)
    idling = _Idling(world)
    platform.on_change = idling.note
    began_cpu, began, memory = time.thread_time(), asyncio.get_running_loop().time(), _memory_bytes()
    async with asyncio.TaskGroup() as group:
        for _ in range(queries):
            group.create_task(world.query())
    idling.note()
    return Figures(
        tasks=platform.tasks,
        cpu_s=time.thread_time() - began_cpu,
        virtual_s=asyncio.get_running_loop().time() - began,
        busy_s=platform.busy_s,
        idle_slot_s=idling.slot_s,
        functions=functions,
        journal_requests=world.journal_requests,
        journal_bytes=world.journal_bytes,
        memory_bytes=_memory_bytes() - memory,
    )


def simulate(
    graph: StageGraph,
    *,
    functions: int,
    queries: int,
    stretch: float = 1.0,
    with_cpu: bool = False,
    with_events: bool = False,
) -> Figures:
    """Run a plan several times at once.

    Parameters
    ----------
    graph
        The plan.
    functions
        Tasks that run at once.
    queries
        How often it runs at once.
    stretch
        What the recorded durations are multiplied by.
    with_cpu
        Whether the CPU of the coordinator passes in virtual time.
    with_events
        Whether requests and answers are encoded and decoded.
    """
    loop = partial(BlockingTakesTime, STORE_S, with_cpu=with_cpu)
    return run_virtually(_run(graph, functions, queries, stretch, with_events=with_events), loop)


def _memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--functions", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--partitions", type=int, default=_PARTITIONS)
    parser.add_argument("--stretch", type=float, default=16.0)
    parser.add_argument("--profile", type=Path, help="write what cProfile saw; the figures are of no use then")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        graph = plan_of(Path(folder), options.tasks // options.queries, options.partitions)
    print("stages:", ", ".join(f"{stage.kind} × {stage.tasks}" for stage in graph.stages))
    gc.collect()
    run = partial(
        simulate,
        graph,
        functions=options.functions,
        queries=options.queries,
        stretch=options.stretch,
        with_cpu=True,
        with_events=True,
    )
    if options.profile is None:
        seen = run()
    else:
        with cProfile.Profile() as profile:
            seen = run()
        profile.dump_stats(options.profile)
    print(_table(seen))


def _table(seen: Figures) -> str:
    mean = seen.busy_s / seen.tasks
    rows = {
        "tasks": f"{seen.tasks:,}",
        "mean seconds of a task": f"{mean:.2f}",
        "virtual seconds": f"{seen.virtual_s:,.1f}",
        "tasks in a virtual second": f"{seen.tasks / seen.virtual_s:,.0f}",
        "CPU of the coordinator, ms a task": f"{seen.cpu_ms_per_task:.2f}",
        "slots busy": f"{seen.busy_s / (seen.functions * seen.virtual_s):.1%}",
        "slots idle because of dispatch": f"{seen.idle_share:.2%}",
        "requests to the journal a task": f"{seen.requests_per_task:.4f}",
        "bytes of journal a task": f"{seen.journal_bytes / seen.tasks:,.0f}",
        "most memory beyond that of the start, MiB": f"{seen.memory_bytes / _MIB:,.0f}",
    }
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


if __name__ == "__main__":
    main()
