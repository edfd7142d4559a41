"""A driver that goes on where another one was cut off: whatever that one had written down is not done again, and fits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.schedule.commits import Commit, TaskCommitted, TaskDivided
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_functions.errors import OutOfMemoryError, to_wire
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.run import run_task
from frazil_functions.task import ExchangeInput, Failed, Started, Succeeded, TaskEvent, TaskRequest
from support.driven import KINDS, KeptLog, queries
from support.memory_store import MemoryStore
from support.parity import assert_same

TINY = Settings(
    start_small=False,
    max_rows_per_split=10,
    shuffle_partitions=3,
    inline_limit_bytes=0,
    coalesce_bytes=600,
    skew_bytes=400,
    skew_factor=1.5,
    retry_backoff_s=0.0,
)


@dataclass
class Platform:
    """Runs tasks in threads; the first attempts of some run out of memory."""

    store: MemoryStore
    out_of_memory: frozenset[tuple[int, int]] = frozenset()
    max_in_flight: int = 3
    shares_files: bool = True
    sent: list[tuple[StageId, TaskIndex]] = field(default_factory=list)

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        self.sent.append((request.stage, request.task))
        yield Started(cold_start=False)
        if (request.stage, request.task) in self.out_of_memory and request.attempt == 0:
            yield Failed(error=to_wire(OutOfMemoryError("no memory")))
            return
        yield Succeeded(descriptor=await asyncio.to_thread(run_task, request, store=self.store))

    def status(self) -> PlatformStatus:
        return PlatformStatus(functions=0, busy=0, started_total=0, died_total=0)

    async def aclose(self) -> None:
        return None


@dataclass
class Ran:
    """A run of a query."""

    answer: pl.DataFrame
    commits: list[Commit]
    layouts: dict[StageId, Layout]
    sent: list[tuple[StageId, TaskIndex]]


def run(
    graph: StageGraph,
    store: MemoryStore,
    history: Sequence[Commit] = (),
    *,
    out_of_memory: frozenset[tuple[int, int]] = frozenset(),
) -> Ran:
    platform, log = Platform(store, out_of_memory), KeptLog(commits=list(history), delay_s=0.002)

    async def drive() -> Ran:
        driver = QueryDriver(
            query=QueryId("q"),
            graph=graph,
            platform=platform,
            exchange_prefix="x",
            settings=TINY,
            slots=Slots(3),
            log=log,
            history=history,
        )
        blocks = await driver.run()
        frames = list(read_exchange(store, ExchangeInput(blocks=blocks)))
        answer = pl.concat([frame for frame in frames if frame.width]) if frames else pl.DataFrame(schema=graph.schema)
        return Ran(answer, log.commits, driver._stages.barrier.layouts, platform.sent)

    return asyncio.run(drive())


@pytest.fixture
def tables(tmp_path: Path) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Facts, half of which have one key, and a table of names of which few are wanted."""
    keys = [0 if n % 2 else n % 9 for n in range(100)]
    pl.DataFrame({"k": keys, "x": [float(n) for n in range(100)]}).write_parquet(tmp_path / "facts.parquet")
    names = pl.DataFrame({"k": list(range(9)) * 5, "name": [f"n{n}" for n in range(45)]})
    names.write_parquet(tmp_path / "names.parquet")
    return pl.scan_parquet(tmp_path / "facts.parquet"), pl.scan_parquet(tmp_path / "names.parquet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("out_of_memory", [frozenset(), frozenset({(0, 1), (1, 0), (2, 1)})], ids=["", "divided"])
def test_a_driver_goes_on_after_any_number_of_records(
    tables: tuple[pl.LazyFrame, pl.LazyFrame], kind: str, out_of_memory: frozenset[tuple[int, int]]
) -> None:
    query, store = queries(*tables)[kind], MemoryStore()
    graph = plan_query(query.serialize(), TINY)
    whole = run(graph, store, out_of_memory=out_of_memory)
    assert_same(whole.answer, query.collect(), ordered=True)
    for cut in range(0, len(whole.commits) + 1, 3):
        history = whole.commits[:cut]
        again = run(graph, store, history, out_of_memory=out_of_memory)
        assert_same(again.answer, query.collect(), ordered=True)
        done = {(one.stage, one.task) for one in history if isinstance(one, TaskCommitted | TaskDivided)}
        assert done.isdisjoint(again.sent), f"after {cut} records"


@pytest.mark.parametrize("kind", KINDS)
def test_the_tasks_are_those_that_were_decided_before(tables: tuple[pl.LazyFrame, pl.LazyFrame], kind: str) -> None:
    """The same stages with the same tasks, inputs and notes, though nobody measured or waited for anything again."""
    query, store = queries(*tables)[kind], MemoryStore()
    graph = plan_query(query.serialize(), TINY)
    whole = run(graph, store, out_of_memory=frozenset({(0, 1), (1, 0)}))
    again = run(graph, store, whole.commits)
    assert again.sent == []
    assert again.layouts == whole.layouts
    assert again.commits == whole.commits
