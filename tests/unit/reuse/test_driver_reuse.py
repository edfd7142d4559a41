"""Drivers that share: queries of every kind run again, at the same time, after a crash and over lost objects."""

from __future__ import annotations

import asyncio
import builtins
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.reuse.reuse import Reuse
from frazil_coordinator.schedule.commits import Commit, TaskCommitted
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_functions.errors import CancelledQueryError, StorageError
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.ids import QueryId
from frazil_functions.storage import ObjectInfo
from frazil_functions.task import ExchangeInput
from support.driven import KINDS, KeptLog, queries
from support.memory_store import MemoryStore
from support.parity import assert_same
from support.polling import eventually_async
from support.scanning import ScanPlatform

TINY = Settings(
    start_small=False,
    max_rows_per_split=10,
    shuffle_partitions=3,
    inline_limit_bytes=0,
    codec="ipc",
    retry_backoff_s=0.0,
    reuse="tasks",
)


@dataclass
class World:
    """One coordinator's store, platform and reuse."""

    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.platform = ScanPlatform(self.store, max_in_flight=8)
        self.reuse = Reuse(self.store, 1_000.0)
        self.slots = Slots(8)
        self.logs: dict[str, KeptLog] = {}

    def restart(self) -> None:
        """Forget what is in memory."""
        self.reuse = Reuse(self.store, 1_000.0)
        self.platform.sent.clear()

    def driver(
        self, name: str, graph: StageGraph, *, tenant: str = "t", history: Sequence[Commit] = (), settings: Settings = TINY
    ) -> QueryDriver:
        self.logs[name] = KeptLog(commits=list(history), delay_s=0.001)
        return QueryDriver(
            query=QueryId(name),
            graph=graph,
            platform=self.platform,
            exchange_prefix="x",
            settings=settings,
            slots=self.slots,
            log=self.logs[name],
            history=history,
            sharing=self.reuse.sharing(QueryId(name), tenant, settings),
        )

    async def run(
        self,
        name: str,
        graph: StageGraph,
        *,
        tenant: str = "t",
        history: Sequence[Commit] = (),
        settings: Settings = TINY,
    ) -> tuple[pl.DataFrame, Profile]:
        driver = self.driver(name, graph, tenant=tenant, history=history, settings=settings)
        try:
            blocks = await driver.run()
        finally:
            self.reuse.left(QueryId(name))
        answer = await asyncio.to_thread(self._read, graph, ExchangeInput(blocks=blocks))
        self.store.delete_prefix("x")  # as it goes when a query has ended
        await self.reuse.settled()
        return answer, driver.profile()

    def _read(self, graph: StageGraph, given: ExchangeInput) -> pl.DataFrame:
        frames = [frame for frame in read_exchange(self.store, given) if frame.width]
        return pl.concat(frames) if frames else pl.DataFrame(schema=graph.schema)


def ran(profile: Profile) -> int:
    return sum(stage["attempts"] for stage in profile["stages"])


def reused(profile: Profile) -> int:
    return sum(stage["reused"] for stage in profile["stages"])


@pytest.fixture
def tables(tmp_path: Path) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    keys = [0 if n % 2 else n % 9 for n in range(100)]
    pl.DataFrame({"k": keys, "x": [float(n) for n in range(100)]}).write_parquet(tmp_path / "facts.parquet")
    names = pl.DataFrame({"k": list(range(9)) * 5, "name": [f"n{n}" for n in range(45)]})
    names.write_parquet(tmp_path / "names.parquet")
    return pl.scan_parquet(tmp_path / "facts.parquet"), pl.scan_parquet(tmp_path / "names.parquet")


@pytest.mark.parametrize("restarted", [False, True], ids=["remembered", "from the store"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_query_that_runs_again_runs_nothing(
    tables: tuple[pl.LazyFrame, pl.LazyFrame], kind: str, restarted: bool
) -> None:
    query, world = queries(*tables)[kind], World()
    graph = plan_query(query.serialize(), TINY)
    first, profile = await world.run("a", graph)
    assert_same(first, query.collect(), ordered=True)
    assert all(task["reused"] is False or reused(profile) for stage in profile["stages"] for task in stage["task_list"])
    if restarted:
        world.restart()
    world.platform.sent.clear()
    again, second = await world.run("b", graph)
    assert_same(again, query.collect(), ordered=True)
    never = {stage["stage"] for stage in second["stages"] if stage["not_reused"]}
    assert {request.stage for request in world.platform.sent} <= never | _behind(graph, never)
    assert (never != set()) == (kind == "first rows"), "how many tasks a head needs depends on when they answer"
    commits = [one for one in world.logs["b"].commits if isinstance(one, TaskCommitted)]
    assert sum(one.reused for one in commits) == reused(second)
    assert (reused(second) > 0) == (kind != "first rows")


def _behind(graph: StageGraph, stages: set[int]) -> set[int]:
    found = set(stages)
    for stage in graph.stages:
        if found.intersection(stage.producers):
            found.add(stage.id)
    return found


async def test_answers_that_are_there_do_not_let_the_next_stage_wait_for_company(
    tables: tuple[pl.LazyFrame, pl.LazyFrame],
) -> None:
    """Also where a stage turned out to have fewer tasks than were planned."""
    query, world = queries(*tables)["two steps"], World()
    joining = replace(TINY, coalesce_bytes=1 << 20)
    graph = plan_query(query.serialize(), joining)
    await world.run("a", graph, settings=joining)
    await world.run("b", graph, settings=joining)
    answers = [commit for commit in world.logs["b"].commits if isinstance(commit, TaskCommitted)]
    assert all(commit.reused for commit in answers)
    assert len(answers) < sum(stage.tasks for stage in graph.stages)
    last = {commit.stage: commit.ref for commit in answers}
    assert set(last.values()) <= world.logs["b"].urgent


async def test_another_tenant_gets_nothing_of_it(tables: tuple[pl.LazyFrame, pl.LazyFrame]) -> None:
    query, world = queries(*tables)["two steps"], World()
    graph = plan_query(query.serialize(), TINY)
    _, first = await world.run("a", graph, tenant="a")
    answer, second = await world.run("b", graph, tenant="b")
    assert_same(answer, query.collect(), ordered=True)
    assert (reused(second), ran(second)) == (0, ran(first))


@pytest.mark.parametrize("damaged", [False, True], ids=["gone", "damaged"])
@pytest.mark.parametrize("kind", ["two steps", "a sort", "a skewed join", "a union"])
async def test_kept_answers_whose_data_is_lost_cost_their_tasks_and_are_kept_again(
    tables: tuple[pl.LazyFrame, pl.LazyFrame], kind: str, damaged: bool
) -> None:
    query, world = queries(*tables)[kind], World()
    graph = plan_query(query.serialize(), TINY)
    await world.run("a", graph)
    # The data of scans only: the result that is read at the end has nobody behind it who could ask for it again.
    scans = {stage.id for stage in graph.stages if not stage.producers}
    keys = [c.descriptor.key for c in world.logs["a"].commits if isinstance(c, TaskCommitted) and c.stage in scans]
    for key in [key for key in keys if key is not None][::2]:
        if damaged:
            world.store.put(key, [bytes(byte ^ 1 for byte in world.store.get(key))])
        else:
            world.store.delete([key])
    last = [c for c in world.logs["a"].commits if isinstance(c, TaskCommitted) and c.stage not in scans]
    for answered in last:  # so that those who read them run again
        assert answered.descriptor.key is not None
        for info in world.store.list("kept"):
            if "/tasks/" in info.key and answered.descriptor.key.split("/")[-2] in info.key:
                world.store.delete([info.key])
    world.restart()
    answer, profile = await world.run("b", graph)
    assert_same(answer, query.collect(), ordered=True)
    assert sum(stage["lost"] for stage in profile["stages"]) > 0
    world.restart()
    answer, profile = await world.run("c", graph)
    assert_same(answer, query.collect(), ordered=True)
    assert (ran(profile), sum(stage["lost"] for stage in profile["stages"])) == (0, 0)


async def test_a_kept_result_whose_data_is_lost_or_damaged_is_made_again(
    tables: tuple[pl.LazyFrame, pl.LazyFrame],
) -> None:
    query, world = queries(*tables)["a sort"], World()
    graph = plan_query(query.serialize(), TINY)
    await world.run("a", graph)
    last = [c for c in world.logs["a"].commits if isinstance(c, TaskCommitted) and c.stage == graph.root.id]
    keys = [one.descriptor.key for one in last if one.descriptor.key is not None]
    assert len(keys) >= 2
    for remembers in (True, False):
        world.store.delete(keys[:1])
        world.store.put(keys[1], [bytes(byte ^ 1 for byte in world.store.get(keys[1]))])
        if not remembers:
            world.restart()
        answer, profile = await world.run(f"b{remembers}", graph)
        assert_same(answer, query.collect(), ordered=True)
        assert (profile["stages"][-1]["attempts"], ran(profile)) == (2, 2)
        last = [c for c in world.logs[f"b{remembers}"].commits if isinstance(c, TaskCommitted) and not c.reused]
        keys = [one.descriptor.key for one in last if one.descriptor.key is not None]


@pytest.mark.parametrize("kind", ["two steps", "a skewed join", "a sort", "a window"])
async def test_another_coordinator_goes_on_with_a_query_of_which_a_part_was_reused(
    tables: tuple[pl.LazyFrame, pl.LazyFrame], kind: str
) -> None:
    query, world = queries(*tables)[kind], World()
    graph = plan_query(query.serialize(), TINY)
    await world.run("a", graph)
    entries = [info.key for info in world.store.list("kept") if "/tasks/" in info.key]
    world.store.delete(entries[::3])
    world.restart()
    await world.run("b", graph)
    commits = world.logs["b"].commits
    for cut in range(0, len(commits) + 1, 4):
        world.restart()
        history = commits[:cut]
        answer, _ = await world.run(f"b{cut}", graph, history=history)
        assert_same(answer, query.collect(), ordered=True)
        done = {(one.stage, one.task) for one in history if isinstance(one, TaskCommitted)}
        assert done.isdisjoint((request.stage, request.task) for request in world.platform.sent)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "first rows"])
async def test_equal_queries_at_the_same_time_run_each_task_once(
    tables: tuple[pl.LazyFrame, pl.LazyFrame], kind: str
) -> None:
    query, world = queries(*tables)[kind], World()
    graph = plan_query(query.serialize(), TINY)
    async with asyncio.TaskGroup() as group:
        runs = [group.create_task(world.driver(f"q{number}", graph).run()) for number in range(4)]
    for run in runs:
        answer = world._read(graph, ExchangeInput(blocks=run.result()))
        assert_same(answer, query.collect(), ordered=True)
    shared = Counter(request.output.prefix for request in world.platform.sent if "/data/" in request.output.prefix)
    assert shared
    assert set(shared.values()) == {1}


async def test_who_waits_for_a_query_that_is_cancelled_runs_its_tasks_itself(
    tables: tuple[pl.LazyFrame, pl.LazyFrame],
) -> None:
    query, world = queries(*tables)["two steps"], World()
    graph = plan_query(query.serialize(), TINY)
    gate = asyncio.Event()
    world.platform.before = lambda request: gate if request.query == "first" else None
    first, second = world.driver("first", graph), world.driver("second", graph)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(_cancelled(first))
        await eventually_async(lambda: bool(world.platform.sent), "the first query sent a task")
        waiting = group.create_task(second.run())
        for _ in range(200):
            await asyncio.sleep(0.001)
        assert not waiting.done()
        led = {request.task for request in world.platform.sent if request.query == "first"}
        assert led
        assert led.isdisjoint(request.task for request in world.platform.sent if request.query == "second")
        first.cancel()
        await running
    answer = world._read(graph, ExchangeInput(blocks=waiting.result()))
    assert_same(answer, query.collect(), ordered=True)
    assert led <= {request.task for request in world.platform.sent if request.query == "second"}


async def _cancelled(driver: QueryDriver) -> None:
    with pytest.raises(CancelledQueryError):
        await driver.run()


class RefusingStore(MemoryStore):
    """A store that refuses whatever names answers that are kept."""

    def _refuse(self, key: str) -> None:
        if "/tasks/" in f"{key}/":
            raise StorageError("not now")

    def get(self, key: str) -> bytes:
        self._refuse(key)
        return super().get(key)

    def create(self, key: str, data: bytes) -> bool:
        self._refuse(key)
        return super().create(key, data)

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        self._refuse(prefix)
        return super().list(prefix)


@pytest.mark.parametrize("rows", [10, 4], ids=["by GET", "by LIST"])
async def test_a_store_that_refuses_to_look_up_and_to_keep_answers_costs_reuse_and_nothing_else(
    tables: tuple[pl.LazyFrame, pl.LazyFrame], caplog: pytest.LogCaptureFixture, rows: int
) -> None:
    query, world = queries(*tables)["two steps"], World(RefusingStore())
    graph = plan_query(query.serialize(), replace(TINY, max_rows_per_split=rows))
    for name in ("a", "b"):
        world.restart()
        answer, profile = await world.run(name, graph)
        assert_same(answer, query.collect(), ordered=True)
        assert reused(profile) == 0
    assert {"answer not kept"} < {record.message for record in caplog.records}
