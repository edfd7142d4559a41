"""Objects of the exchange that are gone or damaged: their tasks run again, and the answer stays that of Polars."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import polars as pl
import pytest

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.schedule.commits import Commit, TaskCommitted, TaskLost
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_functions.errors import BlockError, FrazilError, to_wire
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.ids import QueryId
from frazil_functions.run import run_task
from frazil_functions.task import Descriptor, ExchangeInput, Failed, Started, Succeeded, TaskEvent, TaskRequest
from support.driven import KINDS as ALL_KINDS
from support.driven import KeptLog, queries
from support.memory_store import MemoryStore
from support.parity import assert_same

TINY = Settings(
    start_small=False, max_rows_per_split=10, shuffle_partitions=3, inline_limit_bytes=0, codec="ipc", retry_backoff_s=0.0
)


@dataclass
class Platform:
    """Runs tasks in threads, and takes away or damages what some of them wrote."""

    store: MemoryStore
    victims: set[tuple[int, int]]
    damage: Callable[[MemoryStore, str], None]
    late: bool = False
    """Whether the objects go when some reader has read them, not before."""

    times: int = 1
    """Executions of each whose objects go."""

    other_bytes: bool = False
    """Whether a task that runs again writes other bytes."""

    max_in_flight: int = 1
    shares_files: bool = True
    sent: list[str] = field(default_factory=list)
    written: dict[tuple[int, int], int] = field(default_factory=dict)
    doomed: list[str] = field(default_factory=list)

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        self.sent.append(request.id.partition("/")[2])
        yield Started(cold_start=False)
        victim = (int(request.stage), int(request.task))
        times = self.written[victim] = self.written.get(victim, 0) + 1
        if self.other_bytes and victim in self.victims and times > 1:
            request = msgspec.structs.replace(request, output=msgspec.structs.replace(request.output, codec="ipc_zstd"))
        try:
            descriptor = await asyncio.to_thread(run_task, request, store=self.store)
        except FrazilError as error:
            yield Failed(error=to_wire(error))
            return
        self._take_away(request, victim, descriptor, times)
        yield Succeeded(descriptor=descriptor)

    def _take_away(self, request: TaskRequest, victim: tuple[int, int], descriptor: Descriptor, times: int) -> None:
        if victim in self.victims and times <= self.times and descriptor.key is not None:
            self.doomed.append(descriptor.key)
        read = {block.key for given in request.inputs if isinstance(given, ExchangeInput) for block in given.blocks}
        for key in [one for one in self.doomed if not self.late or one in read]:
            self.doomed.remove(key)
            self.damage(self.store, key)

    def status(self) -> PlatformStatus:
        return PlatformStatus(functions=0, busy=0, started_total=0, died_total=0)

    async def aclose(self) -> None:
        return None


def gone(store: MemoryStore, key: str) -> None:
    store.delete([key])


def damaged(store: MemoryStore, key: str) -> None:
    store.put(key, [bytes(byte ^ 1 for byte in store.get(key))])


def run(
    graph: StageGraph, platform: Platform, history: Sequence[Commit] = (), settings: Settings = TINY
) -> tuple[pl.DataFrame, Profile, list[Commit]]:
    log = KeptLog(commits=list(history))

    async def drive() -> tuple[pl.DataFrame, Profile]:
        driver = QueryDriver(
            query=QueryId("q"),
            graph=graph,
            platform=platform,
            exchange_prefix="x",
            settings=settings,
            slots=Slots(1),
            log=log,
            history=history,
        )
        blocks = await driver.run()
        frames = list(read_exchange(platform.store, ExchangeInput(blocks=blocks)))
        answer = pl.concat(frames) if frames else pl.DataFrame(schema=graph.schema)
        return answer, driver.profile()

    return *asyncio.run(drive()), log.commits


KINDS = tuple(kind for kind in ALL_KINDS if kind != "first rows")
"""Each object of those has one reader, so none is missed once it was read."""


@pytest.fixture
def tables(tmp_path: Path) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    keys = [0 if n % 2 else n % 9 for n in range(60)]
    pl.DataFrame({"k": keys, "x": [float(n * 7 % 60) for n in range(60)]}).write_parquet(tmp_path / "facts.parquet")
    pl.DataFrame({"k": list(range(9)) * 2, "name": [f"n{n}" for n in range(18)]}).write_parquet(tmp_path / "names.parquet")
    return pl.scan_parquet(tmp_path / "facts.parquet"), pl.scan_parquet(tmp_path / "names.parquet")


def _lost(profile: Profile) -> int:
    return sum(stage["lost"] for stage in profile["stages"])


def _writers(graph: StageGraph) -> list[tuple[int, int]]:
    """The first task of each stage but the root."""
    return [(stage.id, 0) for stage in graph.stages[:-1]]


@pytest.mark.parametrize("other_bytes", [False, True], ids=["", "other bytes"])
@pytest.mark.parametrize(("damage", "late"), [(gone, False), (damaged, True)], ids=["gone at once", "damaged when read"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_whose_object_is_lost_runs_again_and_the_answer_stays(
    tables: tuple[pl.LazyFrame, pl.LazyFrame],
    kind: str,
    damage: Callable[[MemoryStore, str], None],
    late: bool,
    other_bytes: bool,
) -> None:
    query = queries(*tables)[kind]
    expected, graph = query.collect(), plan_query(query.serialize(), TINY)
    found = 0
    for victim in _writers(graph):
        platform = Platform(MemoryStore(), {victim}, damage, late=late, other_bytes=other_bytes)
        answer, profile, commits = run(graph, platform)
        assert_same(answer, expected, ordered=True)
        lost = [one for one in commits if isinstance(one, TaskLost)]
        assert {(one.stage, one.task) for one in lost} <= {victim}
        assert _lost(profile) == len(lost) <= 1
        found += len(lost)
    assert found >= 1, "no object was missed"


@pytest.mark.parametrize("kind", KINDS)
def test_objects_of_all_stages_may_be_lost_in_one_query(tables: tuple[pl.LazyFrame, pl.LazyFrame], kind: str) -> None:
    query = queries(*tables)[kind]
    graph = plan_query(query.serialize(), TINY)
    platform = Platform(MemoryStore(), set(_writers(graph)), gone, times=2)
    answer, profile, _ = run(graph, platform)
    assert_same(answer, query.collect(), ordered=True)
    assert _lost(profile) >= 2


def test_only_the_writer_runs_again_when_it_writes_the_same_bytes(tables: tuple[pl.LazyFrame, pl.LazyFrame]) -> None:
    facts, _ = tables
    graph = plan_query(facts.sort("x").serialize(), TINY)
    platform = Platform(MemoryStore(), {(0, 0)}, gone, late=True)
    _, profile, commits = run(graph, platform)
    answered = [f"{one.stage}/{one.task}" for one in commits if isinstance(one, TaskCommitted)]
    assert [one for one in answered if answered.count(one) > 1] == ["0/0", "0/0"]
    assert [stage["lost"] for stage in profile["stages"]] == [1, *[0] * (len(graph.stages) - 1)]


def test_all_that_was_made_of_a_lost_output_is_made_again_when_other_bytes_take_its_place(
    tables: tuple[pl.LazyFrame, pl.LazyFrame],
) -> None:
    facts, _ = tables
    query = facts.group_by("k").agg(pl.col("x").median()).sort("k")
    graph = plan_query(query.serialize(), TINY)
    platform = Platform(MemoryStore(), {(0, 0)}, gone, late=True, other_bytes=True)
    answer, profile, commits = run(graph, platform)
    assert_same(answer, query.collect(), ordered=True)
    (lost,) = (number for number, one in enumerate(commits) if isinstance(one, TaskLost))
    before = [one for one in commits[:lost] if isinstance(one, TaskCommitted) and one.stage > 0]
    after = {(one.stage, one.task): one.attempt for one in commits[lost:] if isinstance(one, TaskCommitted)}
    assert before, "nobody had read it yet"
    assert all(after[one.stage, one.task] >= 1000 for one in before), "an answer made of the lost output counted"
    assert [stage["tasks"] for stage in profile["stages"]] == [len(stage["task_list"]) for stage in profile["stages"]]


def test_an_object_that_is_lost_again_and_again_fails_the_query_with_what_its_reader_saw(
    tables: tuple[pl.LazyFrame, pl.LazyFrame],
) -> None:
    graph = plan_query(tables[0].sort("x").serialize(), TINY)
    platform = Platform(MemoryStore(), {(0, 0)}, gone, times=1000)
    with pytest.raises(BlockError, match="the task was tried") as caught:
        run(graph, platform, settings=TINY)
    assert caught.value.where["object"].startswith("x/")
    assert platform.written[0, 0] == 1 + TINY.max_attempts


@pytest.mark.parametrize("other_bytes", [False, True], ids=["", "other bytes"])
@pytest.mark.parametrize("kind", KINDS)
def test_another_coordinator_goes_on_after_any_record_of_a_query_that_lost_objects(
    tables: tuple[pl.LazyFrame, pl.LazyFrame], kind: str, other_bytes: bool
) -> None:
    query = queries(*tables)[kind]
    expected, graph = query.collect(), plan_query(query.serialize(), TINY)
    store = MemoryStore()
    _, _, commits = run(graph, Platform(store, set(_writers(graph)), gone, late=True, other_bytes=other_bytes))
    assert any(isinstance(one, TaskLost) for one in commits)
    for cut in range(0, len(commits) + 1, 3):
        answer, _, again = run(graph, Platform(store, set(), gone), commits[:cut])
        assert_same(answer, expected, ordered=True)
        assert again[:cut] == commits[:cut]
