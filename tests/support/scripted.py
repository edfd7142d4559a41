"""A platform that does what a script says, and small stage graphs to run on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import polars as pl

from frazil_coordinator.plan.model import ExchangeSource, ExchangeSpec, ScanSource, Source, Stage, StageGraph, StageKind
from frazil_coordinator.platform.base import PlatformStatus
from frazil_functions.errors import FrazilError, to_wire
from frazil_functions.ids import StageId
from frazil_functions.task import (
    BlockInfo,
    Descriptor,
    Failed,
    Heartbeat,
    Split,
    Started,
    Succeeded,
    TaskEvent,
    TaskRequest,
    TaskStats,
)

__all__ = [
    "Script",
    "ScriptedPlatform",
    "Step",
    "chain_graph",
    "fail",
    "forever",
    "graph_of",
    "heartbeat",
    "stage_of",
    "started",
    "succeed",
]

Step: TypeAlias = TaskEvent | FrazilError | float
"""An event to send, an error to raise, or seconds to wait."""

Script: TypeAlias = Callable[[TaskRequest], Sequence[Step]]
"""What happens to a request. A list without a last event is a torn stream."""

forever: float = 1e12
started = Started(cold_start=False)
heartbeat = Heartbeat(rows=1, bytes=1, memory_bytes=1)


def fail(error: FrazilError) -> Failed:
    return Failed(error=to_wire(error), stats=TaskStats(seconds=0.25, requests={"get": 1}))


def succeed(request: TaskRequest, *, rows: int = 10, blocks: int = 1) -> Succeeded:
    """Return the success of an attempt that wrote `blocks` blocks of `rows` rows each."""
    infos = tuple(
        BlockInfo(partition=number, offset=100 * number, length=100, rows=rows, crc32c=7, codec="ipc")
        for number in range(blocks)
    )
    stats = TaskStats(
        rows_in=2 * rows,
        rows_out=rows * blocks,
        bytes_in=50,
        bytes_out=100 * blocks,
        requests={"get": 2, "put": 1},
        seconds=0.5,
        peak_memory_bytes=1000 + request.task,
    )
    return Succeeded(descriptor=Descriptor(key=f"{request.output.prefix}/{request.attempt}-x", blocks=infos, stats=stats))


def _one_second(request: TaskRequest) -> Sequence[Step]:
    return [started, 1.0, succeed(request)]


@dataclass
class ScriptedPlatform:
    """Runs `script`; remembers what it was asked, and what was cancelled."""

    script: Script = field(default_factory=lambda: _one_second)
    max_in_flight: int = 1000
    shares_files: bool = True
    requests: list[TaskRequest] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for step in self.script(request):
                if isinstance(step, FrazilError):
                    raise step
                if isinstance(step, float | int):
                    await asyncio.sleep(step)
                else:
                    yield step
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request.id)
            raise
        finally:
            self.in_flight -= 1

    @property
    def ids(self) -> list[str]:
        """``stage/task/attempt`` of each request, in order."""
        return [request.id.partition("/")[2] for request in self.requests]

    def status(self) -> PlatformStatus:
        return PlatformStatus(functions=0, busy=self.in_flight, started_total=0, died_total=0)

    async def aclose(self) -> None:
        return None


def stage_of(
    number: int,
    tasks: int,
    *sources: Source,
    kind: StageKind = "map",
    output: ExchangeSpec | None = None,
    fragment: bytes = b"fragment",
) -> Stage:
    """Return a stage; without `sources`, one that scans."""
    scan = ScanSource(splits=tuple((Split(path=f"{task}.parquet", offset=0, rows=1),) for task in range(tasks)))
    return Stage(
        id=StageId(number),
        kind=kind,
        fragment=fragment,
        sources=sources or (scan,),
        tasks=tasks,
        output=output or ExchangeSpec(kind="single"),
    )


def graph_of(*stages: Stage) -> StageGraph:
    return StageGraph(stages=stages, schema=pl.Schema({"a": pl.Int64()}))


def chain_graph(*tasks: int) -> StageGraph:
    """Return stages one after the other, with so many tasks, each reading all of the one before."""
    return graph_of(
        *(
            stage_of(number, count, *([ExchangeSource(stage=StageId(number - 1), read="all")] if number else []))
            for number, count in enumerate(tasks)
        )
    )
