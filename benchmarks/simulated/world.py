"""The coordinator's real parts on functions that only wait, all in virtual time.

Real are admission, slots, the driver with its state machine and layouts, the journal's log and segments, the encoding of
events both ways, metrics and registry. Made up are the functions' answers, after the seconds that real tasks took, and the
store, which is in memory and takes `STORE_S` a request. Next: :mod:`benchmarks.simulation` for figures.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from benchmarks.simulated.durations import Durations
from benchmarks.simulated.memory_store import MemoryStore
from frazil_coordinator.admission import Admission
from frazil_coordinator.execution import Execution
from frazil_coordinator.hygiene import Cleaner
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.metrics import new_metrics
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.recovery import accept
from frazil_coordinator.registry import QueryRecord, Registry
from frazil_coordinator.reuse.reuse import Reuse
from frazil_coordinator.schedule.peaks import Peaks
from frazil_coordinator.schedule.slots import Slots, SlotShare
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import DEFAULT_TENANT, Tenants
from frazil_functions.cloudevent import encode_line, encode_task, parse_line
from frazil_functions.ids import QueryId
from frazil_functions.task import (
    BlockInfo,
    Descriptor,
    ExchangeInput,
    Heartbeat,
    Started,
    Succeeded,
    TaskEvent,
    TaskRequest,
    TaskStats,
)

__all__ = ["STORE_S", "SimulatedPlatform", "World", "answer_of", "recorded"]

STORE_S: Final = 0.03
"""Virtual seconds of a PUT to the journal."""

_NETWORK_S: Final = 0.002
_HEARTBEAT_S: Final = 5.0
_BLOCK_BYTES: Final = 100_000
_ROWS: Final = 1_000
_KEY: Final = "a key of the simulation"


@dataclass
class SimulatedPlatform:
    """Functions that wait, and answer as real ones do.

    `seconds_of` says how long for a request.
    """

    functions: int
    seconds_of: Callable[[TaskRequest], float]
    with_events: bool = False
    """Whether requests and answers are encoded and decoded as on the wire."""

    shares_files: bool = False
    in_flight: int = 0
    most: Counter[str] = field(default_factory=Counter)
    """Most tasks in flight at once, by query."""

    running: Counter[str] = field(default_factory=Counter)
    """Tasks in flight, by query."""

    tasks: int = 0
    busy_s: float = 0.0
    """Seconds that functions worked, of all tasks together."""

    on_change: Callable[[], None] = lambda: None
    """Called when a task has begun or ended."""

    on_begin: Callable[[TaskRequest], object] = lambda _: None
    """Called with each task that begins."""

    @property
    def max_in_flight(self) -> int:
        """As many as there are functions."""
        return self.functions

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        """Answer after a while."""
        seconds = self.seconds_of(request)
        if self.with_events:
            encode_task(request, keys=[_KEY], source="/frazil/simulation")
        self.count(request, 1)
        self.on_begin(request)
        try:
            await asyncio.sleep(_NETWORK_S)
            yield self._sent(request, Started(cold_start=False))
            left = seconds
            while left > _HEARTBEAT_S:
                await asyncio.sleep(_HEARTBEAT_S)
                left -= _HEARTBEAT_S
                yield self._sent(request, Heartbeat(rows=1, bytes=1, memory_bytes=1))
            await asyncio.sleep(left)
        finally:
            self.count(request, -1)
        self.tasks += 1
        self.busy_s += seconds
        yield self._sent(request, answer_of(request, seconds))

    def status(self) -> PlatformStatus:
        """Return how many functions there are."""
        return PlatformStatus(functions=self.functions, busy=self.in_flight, started_total=self.functions, died_total=0)

    async def aclose(self) -> None:
        """Do nothing."""

    def count(self, request: TaskRequest, change: int) -> None:
        """Note that a task has begun (1) or ended (-1)."""
        self.in_flight += change
        self.running[request.query] += change
        self.most[request.query] = max(self.most[request.query], self.running[request.query])
        self.on_change()

    def _sent(self, request: TaskRequest, event: TaskEvent) -> TaskEvent:
        if not self.with_events:
            return event
        line = encode_line(event, attempt=request.id, sequence=0, source="/function", now_unix_s=0.0)
        return parse_line(line, attempt=request.id)


def answer_of(request: TaskRequest, seconds: float) -> Succeeded:
    """Return the answer of a task that wrote a block for each partition."""
    blocks = _copied(request) if request.output.kind == "combined" else _written(request)
    count = len(blocks)
    stats = TaskStats(
        rows_in=_ROWS,
        rows_out=_ROWS * count,
        bytes_out=_BLOCK_BYTES * count,
        requests={"put": 1, "get": len(request.inputs)},
        seconds=seconds,
        peak_memory_bytes=1 << 28,
    )
    return Succeeded(descriptor=Descriptor(key=f"{request.output.prefix}/{request.attempt}-x", blocks=blocks, stats=stats))


def _written(request: TaskRequest) -> tuple[BlockInfo, ...]:
    output = request.output
    return tuple(
        BlockInfo(
            partition=number,
            offset=number * _BLOCK_BYTES,
            length=_BLOCK_BYTES,
            rows=_ROWS,
            crc32c=number,
            codec="parquet_zstd",
        )
        for number in range(output.partitions if output.kind in ("hash", "range") else 1)
    )


def _copied(request: TaskRequest) -> tuple[BlockInfo, ...]:
    blocks = [block for given in request.inputs if isinstance(given, ExchangeInput) for block in given.blocks]
    return tuple(
        BlockInfo(
            partition=number,
            offset=number * _BLOCK_BYTES,
            length=block.length,
            rows=block.rows,
            crc32c=block.crc32c,
            codec=block.codec,
        )
        for number, block in enumerate(blocks)
    )


class _WatchedSlots(Slots):
    """Slots whose changes the platform's watcher is told of too."""

    def __init__(self, platform: SimulatedPlatform, *, ageing_s: float, clock: Callable[[], float]) -> None:
        super().__init__(platform.max_in_flight, ageing_s=ageing_s, clock=clock)
        self._platform = platform

    def changed(self, share: SlotShare, held: int) -> None:
        """Note a change."""
        super().changed(share, held)
        self._platform.on_change()


class World:
    """A coordinator without planner and HTTP.

    To be made inside a running loop of :class:`~benchmarks.simulated.virtual_time.BlockingTakesTime`.

    Parameters
    ----------
    platform
        Its functions.
    tenants
        Who shares it.
    settings
        Of all queries.
    graph
        What every query is cut into; or which, by the bytes of its "plan".
    """

    def __init__(
        self,
        platform: SimulatedPlatform,
        graph: Callable[[bytes], StageGraph],
        *,
        tenants: Tenants | None = None,
        settings: Settings | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.settings = settings or Settings()
        self.platform = platform
        self.store = MemoryStore()
        self.metrics = new_metrics()
        self._journal_store = MemoryStore()
        self.journal = Journal(store=self._journal_store, sealer=Sealer.of(["a secret of the simulation"]))
        self.slots = _WatchedSlots(platform, ageing_s=self.settings.ageing_s, clock=loop.time)
        self.admission = Admission(tenants or Tenants(), self.settings.ageing_s, loop.time)
        self.registry = Registry(self.settings.max_queries)
        self._submitted = 0
        self.on_query: Callable[[QueryRecord], object] = lambda _: None
        """Called with each query that is submitted."""

        self.execution = Execution(
            planner=lambda plan, _: graph(plan),
            platform=platform,
            store=self.store,
            exchange_prefix="exchange",
            slots=self.slots,
            admission=self.admission,
            peaks=Peaks(),
            cleaner=Cleaner(self.store, "exchange", ()),
            threads=ThreadPoolExecutor(1),  # never used: the loop has none
            metrics=self.metrics,
            journal=self.journal,
            reuse=Reuse(self.store, self.settings.reuse_ttl_s),
            clock=loop.time,
        )

    @property
    def journal_requests(self) -> int:
        """Requests to the journal's store."""
        return self._journal_store.requests.total()

    @property
    def journal_bytes(self) -> int:
        """Bytes of the journal."""
        return self._journal_store.size

    async def query(self, plan: bytes = b"", *, tenant: str = DEFAULT_TENANT, priority: int = 0) -> QueryRecord:
        """Run a query to its end, and return its record.

        Raises
        ------
        FrazilError
            When it is refused, or fails.
        """
        self._submitted += 1
        query = QueryId(f"{self._submitted:016x}")
        record = QueryRecord(query, self.settings, (), tenant=tenant, priority=priority)
        self.admission.enter(record)
        self.on_query(record)
        self.registry.add(record)
        record.log = await accept(self.journal, record, plan)
        await self.execution.run(record, plan)
        if record.error is not None:
            raise record.error
        return record


def recorded(durations: Durations, graph: StageGraph, stretch: float, seed: int) -> Callable[[TaskRequest], float]:
    """Return how long the tasks of a plan take: as long as those of that kind did, times `stretch`."""
    source = random.Random(seed)
    kinds = [stage.kind if stage.kind in durations.quantiles_s else "map" for stage in graph.stages]
    return lambda request: stretch * durations.draw(kinds[request.stage], source)
