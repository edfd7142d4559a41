"""A platform that runs fragments without inputs in this process, and a planner that makes stages of them.

What it runs is real (Polars, the exchange writer, the store); that it is in this process lets a test hold an attempt.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import polars as pl

from frazil_coordinator.plan.model import ExchangeSource, ExchangeSpec, Stage, StageGraph
from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.settings import Settings
from frazil_functions.errors import FrazilError, PlanError, QueryError, to_wire
from frazil_functions.exchange.writer import ExchangeWriter
from frazil_functions.ids import StageId
from frazil_functions.sealed import fragment_of
from frazil_functions.storage import Store
from frazil_functions.task import Failed, Started, Succeeded, TaskEvent, TaskRequest, TaskStats

__all__ = ["FragmentPlatform", "Gate", "plan_in_stages"]


def plan_in_stages(stages: int, *, tasks: int = 1) -> Callable[[bytes, Settings], StageGraph]:
    """Return a planner that makes `stages` stages in a row, each of `tasks` tasks that run the whole plan.

    The later ones name the one before as their source and don't read it.
    """

    def plan(plan: bytes, settings: Settings) -> StageGraph:
        if not plan.startswith(b"DSL_VERSION"):
            raise PlanError("not a plan")
        schema = pl.LazyFrame.deserialize(io.BytesIO(plan)).collect_schema()
        return StageGraph(
            stages=tuple(
                Stage(
                    id=StageId(number),
                    kind="single",
                    fragment=plan,
                    sources=(ExchangeSource(stage=StageId(number - 1), read="all"),) if number else (),
                    tasks=tasks,
                    output=ExchangeSpec(kind="single"),
                    fallbacks=("a reason",),
                )
                for number in range(stages)
            ),
            schema=schema,
        )

    return plan


class Gate:
    """Holds attempts until the test opens it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, request: TaskRequest) -> None:
        self.reached.set()
        await self.open.wait()


@dataclass
class FragmentPlatform:
    """Runs fragments in a thread, after `before` let them; remembers the requests."""

    store: Store
    before: Callable[[TaskRequest], Awaitable[None]] | None = None
    max_in_flight: int = 4
    shares_files: bool = True
    requests: list[TaskRequest] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """Keys that attempts had chosen when they were cancelled."""

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        self.requests.append(request)
        yield Started(cold_start=False)
        key = f"{request.output.prefix}/{request.attempt}-{len(self.requests)}"
        try:
            if self.before is not None:
                await self.before(request)
        except FrazilError as error:
            yield Failed(error=to_wire(error))
            return
        except asyncio.CancelledError:
            self.late.append(key)
            raise
        yield await asyncio.to_thread(self._run, request, key)

    def _run(self, request: TaskRequest, key: str) -> TaskEvent:
        fragment = fragment_of(request, self.store)
        try:
            frame = pl.LazyFrame.deserialize(io.BytesIO(fragment)).collect()
        except pl.exceptions.PolarsError as error:
            return Failed(error=to_wire(QueryError(str(error), exception=type(error).__name__)))
        writer = ExchangeWriter(request.output, store=self.store, key=key, map_index=request.task)
        for part in frame.iter_slices(50_000):
            writer.write(part)
        written = writer.finish()
        puts = {"put": 1} if written.key is not None else {}
        stats = TaskStats(rows_out=written.rows, bytes_out=written.bytes, requests=puts, seconds=0.01)
        return Succeeded(descriptor=written.descriptor(stats))

    def status(self) -> PlatformStatus:
        return PlatformStatus(functions=0, busy=0, started_total=0, died_total=0)

    async def aclose(self) -> None:
        return None
