"""The fault table, row by row, at three levels: the answer stays that of Polars, a fault costs what its row says, and
nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args, get_type_hints

import polars as pl
import pytest

import frazil
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.records import decode_segment
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.platform.base import Platform, PlatformStatus
from frazil_coordinator.platform.knative import KnativePlatform
from frazil_coordinator.platform.local import LocalPlatform
from frazil_coordinator.schedule.commits import Commit, TaskCommitted
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.errors import FrazilError, PlatformError
from frazil_functions.ids import QueryId
from frazil_functions.storage import FolderStore, Store, open_store
from frazil_functions.task import BlockRef, Started, TaskEvent, TaskRequest
from support.counting_s3 import RequestLog, S3Request, count_requests
from support.driven import KeptLog
from support.fault_table import Kind, Level, Row, Strikes, rows, victim
from support.faults import Ingress, faulty_ingress
from support.functions import KEY, Function, function_process, never_done
from support.mortal import KEYS, TOKEN, DyingStore, When, mortal_coordinator
from support.parity import assert_same
from support.polling import eventually_async
from support.processes import free_ports
from support.scripted import Script, ScriptedPlatform, Step, chain_graph, fail, forever, started, succeed
from support.seaweed import SeaweedFS
from support.struck import ObservedPlatform, StruckStore, TaskPlatform, attempt_of, error_of
from support.virtual_time import run_virtually

OPTIONS: Final[dict[str, object]] = {
    "start_small": False,
    "max_rows_per_split": 10,
    "broadcast_limit_bytes": 0,
    "inline_limit_bytes": 0,
    "retry_backoff_s": 0.01,
    "max_platform_failures": 4,
    "max_attempts": 4,
    "speculation": False,
}
TINY = Settings(**OPTIONS)  # type: ignore[arg-type]  # the values are of the right types
MANY = replace(TINY, max_rows_per_split=2)
"""So many tasks that there is a tenth of them."""

RECORD = 3
"""Segment of the journal that is struck: its query has six and more."""


@dataclass
class Outcome:
    """What a query came to."""

    status: QueryStatus
    answer: pl.DataFrame | None


@dataclass(frozen=True)
class Clean:
    """What a query costs without faults."""

    tasks: int
    objects: int


@pytest.fixture
def table(tmp_path: Path) -> pl.LazyFrame:
    pl.DataFrame({"k": [n % 7 for n in range(50)], "x": range(50)}).write_parquet(tmp_path / "t.parquet")
    return pl.scan_parquet(tmp_path / "t.parquet")


@pytest.fixture
def query(table: pl.LazyFrame) -> pl.LazyFrame:
    """Scan, shuffle, aggregate, sort: stages of several tasks."""
    return table.group_by("k").agg(pl.col("x").sum(), pl.col("x").median().alias("m")).sort("k")


def settings_of(row: Row) -> Settings:
    if row.kind == "silence":
        return replace(TINY, heartbeat_s=0.2)
    return MANY if row.victims == "a tenth" else TINY


async def run(
    query: pl.LazyFrame, settings: Settings, platform: Platform, store: Store, *, journal: bool = False
) -> Outcome:
    """Run a query on a coordinator of its own, to its end."""
    log = Journal(store=store, sealer=Sealer.of(KEYS), group_s=0.0) if journal else None
    coordinator = Coordinator(
        settings=settings, platform=platform, store=store, journal=log, sweep_after_s=(0.01, 0.5, 2.0, 8.0)
    )
    try:
        accepted = await coordinator.submit(query.serialize())
        status = await coordinator.wait(accepted.id, timeout_s=60.0)
        done = status.state is QueryState.SUCCEEDED
        answer = pl.concat([block async for block in coordinator.result(status.id)]) if done else None
        if not journal:
            await eventually_async(lambda: not written_by(store, accepted.id), "nothing is left")
    finally:
        await coordinator.aclose()
    return Outcome(status=status, answer=answer)


def written_by(store: Store, query: str) -> list[str]:
    """Return the keys of the exchange objects of a query; an attempt that was given up may write late."""
    return [info.key for info in store.list("exchange") if f"/{query}/" in info.key]


async def clean(query: pl.LazyFrame, settings: Settings, folder: Path) -> Clean:
    """Run a query without faults, in this process."""
    nothing = Strikes(Row(name="nothing", at="coordinator", strikes="record", kind="delay"))
    store = StruckStore(FolderStore(folder), nothing)
    platform = ObservedPlatform(TaskPlatform(store, max_in_flight=2, strikes=nothing))
    await run(query, settings, platform, store)
    return Clean(tasks=len(platform.sent), objects=store.written)


def check(row: Row, outcome: Outcome, expected: pl.DataFrame, platform: ObservedPlatform, strikes: Strikes) -> None:
    """Check what holds of every row: the answer, and what the coordinator learned."""
    assert strikes.struck, "nothing was struck"
    silent = {"function_lost"} if platform.given_up and not row.ends else set()
    assert {error.kind for error in platform.told} | silent == ({row.told} if row.told else set()), platform.told
    if row.ends:
        assert outcome.status.state is QueryState.FAILED
        assert outcome.status.error is not None
        assert outcome.status.error.kind == row.ends
        attempts = Counter((stage, task) for stage, task, _ in platform.sent)
        assert max(attempts.values()) == 1 + row.attempts
        assert row.attempts == 0 or "attempt" in outcome.status.error.message, "its history is told"
        return
    assert outcome.status.state is QueryState.SUCCEEDED, outcome.status.error
    assert outcome.answer is not None
    assert_same(outcome.answer, expected, ordered=True)


def check_costs(row: Row, costs: Clean, platform: ObservedPlatform, strikes: Strikes, written: int) -> None:
    """Check what a row that succeeds has cost."""
    if row.ends:
        return
    failures = len(platform.told) + platform.given_up
    if row.strikes == "GET" and row.times != "once":  # two tasks may read the block at the border of their ranges at once
        assert failures >= len(strikes.struck)
    else:
        assert failures == (len(strikes.struck) if row.told else 0)
    assert len(platform.sent) == costs.tasks + row.attempts * failures
    assert written == costs.objects + row.objects * len(strikes.struck)


# In this process


@pytest.mark.parametrize("row", [row for row in rows("in-process") if row.at != "coordinator"], ids=lambda row: row.name)
async def test_in_one_process(row: Row, tmp_path: Path, query: pl.LazyFrame) -> None:
    costs = await clean(query, settings_of(row), tmp_path / "clean")
    strikes = Strikes(row)
    store = StruckStore(FolderStore(tmp_path / "store"), strikes)
    platform = ObservedPlatform(TaskPlatform(store, max_in_flight=2, strikes=strikes), strikes)
    outcome = await run(query, settings_of(row), platform, store)
    check(row, outcome, query.collect(), platform, strikes)
    check_costs(row, costs, platform, strikes, store.written)


# Function processes over HTTP, SeaweedFS


@dataclass
class Parts:
    """Real servers that all rows share; what they suffer is set for each row."""

    pods: list[Function]
    proxy: RequestLog
    url: str
    options: dict[str, str]
    direct: dict[str, str]
    """Options of the store past the proxy."""

    def written(self) -> int:
        """Objects of tasks that were written, those that were written twice counted twice only if under two keys."""
        return len({path for path in self.proxy.paths("PUT") if "/exchange/" in path})


@pytest.fixture(scope="module")
def parts(seaweed: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(count_requests(seaweed.endpoint))
        options = {**seaweed.storage_options, "aws_endpoint_url": proxy.endpoint}
        url = seaweed.url(f"fault-table/{tmp_path_factory.getbasetemp().name}")
        env = {"FRAZIL_STORE_URL": url, "FRAZIL_STORE_OPTIONS": json.dumps(options)}
        folders = [tmp_path_factory.mktemp("pod") for _ in range(2)]
        pods = [stack.enter_context(function_process(folder, env=env)) for folder in folders]
        yield Parts(pods=pods, proxy=proxy, url=url, options=options, direct=seaweed.storage_options)


@pytest.fixture
async def ingress(parts: Parts) -> AsyncIterator[Ingress]:
    parts.proxy.clear()
    async with faulty_ingress([f"http://127.0.0.1:{pod.port}/" for pod in parts.pods]) as made:
        try:
            yield made
        finally:
            parts.proxy.strike = lambda _: None


def on_the_wire(strikes: Strikes, request: S3Request) -> Kind | None:
    """Return what a request for an object suffers."""
    _, _, key = request.path.removeprefix("/").partition("/")
    hit = (request.method == "PUT" and (strikes.write(key) or strikes.record(key, RECORD))) or (
        request.method == "GET" and bool(request.range) and strikes.read(key, request.range)
    )
    return strikes.row.kind if hit else None


@pytest.mark.parametrize(
    "row", [row for row in rows("processes") if row.at in ("store", "invoke")], ids=lambda row: row.name
)
async def test_in_processes(row: Row, tmp_path: Path, query: pl.LazyFrame, parts: Parts, ingress: Ingress) -> None:
    costs = await clean(query, settings_of(row), tmp_path / "clean")
    strikes = Strikes(row)
    ingress.strikes = strikes
    parts.proxy.strike = lambda request: on_the_wire(strikes, request)
    platform = ObservedPlatform(KnativePlatform(ingress.url, (KEY,), max_in_flight=2), strikes)
    store = open_store(parts.url, parts.options)
    try:
        outcome = await run(query, settings_of(row), platform, store)
    finally:
        await platform.aclose()
    check(row, outcome, query.collect(), platform, strikes)
    check_costs(row, costs, platform, strikes, parts.written())


@dataclass
class _Striking:
    """A local platform that stops the function of a struck attempt, for good or for a while, when it has started."""

    inner: LocalPlatform
    strikes: Strikes

    @property
    def shares_files(self) -> bool:
        return True

    @property
    def max_in_flight(self) -> int:
        return self.inner.max_in_flight

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        hit = self.strikes.attempt(attempt_of(request))
        async with contextlib.aclosing(self.inner.invoke(never_done(request) if hit else request)) as events:
            async for event in events:
                if hit and isinstance(event, Started):
                    (pid,) = self.inner.pids()
                    os.kill(pid, signal.SIGKILL if self.strikes.row.kind == "crash" else signal.SIGSTOP)
                yield event

    def status(self) -> PlatformStatus:
        return self.inner.status()

    async def aclose(self) -> None:
        await self.inner.aclose()


@dataclass
class _Refused:
    """A platform that signs struck attempts with a key that no function has."""

    url: str
    strikes: Strikes
    max_in_flight: int = 2
    shares_files: bool = False

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        key = "nobody's key" if self.strikes.attempt(attempt_of(request)) else KEY
        platform = KnativePlatform(self.url, (key,), max_in_flight=2)
        try:
            async with contextlib.aclosing(platform.invoke(request)) as events:
                async for event in events:
                    yield event
        finally:
            await platform.aclose()

    def status(self) -> PlatformStatus:
        return PlatformStatus(functions=0, busy=0, started_total=0, died_total=0)

    async def aclose(self) -> None:
        return None


@pytest.mark.parametrize("row", [row for row in rows("processes") if row.at == "function"], ids=lambda row: row.name)
async def test_in_function_processes(row: Row, tmp_path: Path, query: pl.LazyFrame, parts: Parts, ingress: Ingress) -> None:
    costs = await clean(query, TINY, tmp_path / "clean")
    strikes, store = Strikes(row), open_store(parts.url, parts.options)
    platform = ObservedPlatform(
        _Refused(ingress.url, strikes)
        if row.strikes == "event"
        else _Striking(LocalPlatform(max_functions=1, store_url=parts.url, store_options=parts.options), strikes)
    )
    try:
        outcome = await run(query, settings_of(row), platform, store)
    finally:
        await platform.aclose()
    check(row, outcome, query.collect(), platform, strikes)
    check_costs(row, costs, platform, strikes, parts.written())


# The coordinator


class _Dead(Exception):
    """What a store says to a coordinator that must not do anything any more."""


def _die() -> None:
    raise _Dead


def committed(store: Store) -> Counter[tuple[int, int]]:
    """How often an answer of each task stands in the journals of a store."""
    segments = [info.key for info in store.list("journal") if info.key.rpartition("/")[2].isdigit()]
    records = [record for key in segments for record in decode_segment(store.get(key), key)]
    return Counter((record.stage, record.task) for record in records if isinstance(record, TaskCommitted))


@pytest.mark.parametrize("row", [row for row in rows("in-process") if row.at == "coordinator"], ids=lambda row: row.name)
async def test_of_the_coordinator_in_one_process(row: Row, tmp_path: Path, query: pl.LazyFrame) -> None:
    costs = await clean(query, TINY, tmp_path / "clean")
    strikes, inner = Strikes(row), FolderStore(tmp_path / "store")
    store = StruckStore(inner, strikes, record=RECORD)
    platform = ObservedPlatform(TaskPlatform(store, max_in_flight=2, strikes=strikes))
    if row.kind != "crash":
        outcome = await run(query, TINY, platform, store, journal=True)
        check(row, outcome, query.collect(), platform, strikes)
        check_costs(row, costs, platform, strikes, store.written)
        return
    when: When = "before" if row.strikes == "before record" else "after"
    log = Journal(store=DyingStore(store, RECORD, when, _die), sealer=Sealer.of(KEYS), group_s=0.0)
    first = Coordinator(settings=TINY, platform=platform, store=store, journal=log)
    accepted = await first.submit(query.serialize())
    await first.wait(accepted.id, timeout_s=60.0)
    await first.aclose()
    done, sent = committed(inner), len(platform.sent)
    assert done
    log = Journal(store=store, sealer=Sealer.of(KEYS), group_s=0.0)
    second = Coordinator(settings=TINY, platform=platform, store=store, journal=log)
    try:
        assert await second.recover() == (accepted.id,)
        status = await second.wait(accepted.id, timeout_s=60.0)
        assert status.state is QueryState.SUCCEEDED, status.error
        answer = pl.concat([block async for block in second.result(accepted.id)])
        assert_same(answer, query.collect(), ordered=True)
    finally:
        await second.aclose()
    again = {(stage, task) for stage, task, _ in platform.sent[sent:]}
    assert again.isdisjoint(done), "what was durable ran again"
    assert len(again) + len(done) == costs.tasks
    assert set(committed(inner).values()) == {1}


@pytest.mark.parametrize(
    "row", [row for row in rows("processes") if row.at == "coordinator" and row.kind != "crash"], ids=lambda row: row.name
)
async def test_of_the_coordinator_on_seaweedfs(
    row: Row, tmp_path: Path, query: pl.LazyFrame, parts: Parts, ingress: Ingress
) -> None:
    costs = await clean(query, TINY, tmp_path / "clean")
    strikes = Strikes(row)
    parts.proxy.strike = lambda request: on_the_wire(strikes, request)
    platform = ObservedPlatform(KnativePlatform(ingress.url, (KEY,), max_in_flight=2))
    try:
        outcome = await run(query, TINY, platform, open_store(parts.url, parts.options), journal=True)
    finally:
        await platform.aclose()
    check(row, outcome, query.collect(), platform, strikes)
    check_costs(row, costs, platform, strikes, parts.written())


@pytest.mark.parametrize(
    "row", [row for row in rows("processes") if row.at == "coordinator" and row.kind == "crash"], ids=lambda row: row.name
)
def test_of_a_coordinator_process(row: Row, tmp_path: Path, query: pl.LazyFrame, seaweed: SeaweedFS) -> None:
    url, options, (port,) = seaweed.url(f"fault-table/{tmp_path.name}"), seaweed.storage_options, free_ports(1)
    when: When = "before" if row.strikes == "before record" else "after"
    with frazil.connect(f"http://127.0.0.1:{port}", token=TOKEN, timeout_s=60.0) as engine:
        with mortal_coordinator(url, port, OPTIONS, tmp_path / "log", options=options, number=RECORD, when=when) as first:
            submitted = engine.submit(query)
            first.wait(30.0)
        assert first.returncode == -signal.SIGKILL
        with mortal_coordinator(url, port, OPTIONS, tmp_path / "log", options=options):
            assert_same(submitted.result(), query.collect(), ordered=True)
            assert set(committed(open_store(url, options)).values()) == {1}


# Functions that do what a script says, in virtual time


def script_of(row: Row, strikes: Strikes) -> Script:
    """Return what functions do: those of struck attempts, what the coordinator learns of the row's fault."""

    def steps(request: TaskRequest) -> Sequence[Step]:
        usual: list[Step] = [started, 1.0, succeed(request)]
        attempt = attempt_of(request)
        if row.at == "coordinator" or not victim(row, attempt):
            return usual
        strikes.struck.add(attempt)
        if row.kind == "silence":
            return [started, forever]
        if row.told:
            error = error_of(row)
            return [started, 0.5, error if isinstance(error, PlatformError) else fail(error)]
        return [*usual, succeed(request)] if row.kind == "duplicate" else [started, 15.0, succeed(request)]

    return steps


def driver_of(platform: ScriptedPlatform, log: KeptLog, history: Sequence[Commit] = ()) -> QueryDriver:
    return QueryDriver(
        query=QueryId("q"),
        graph=chain_graph(20, 4, 2),
        platform=platform,
        exchange_prefix="x",
        settings=replace(TINY, heartbeat_s=5.0),
        slots=Slots(8),
        log=log,
        history=history,
        clock=asyncio.get_running_loop().time,
    )


@pytest.mark.parametrize("row", rows("scripted"), ids=lambda row: row.name)
def test_scripted(row: Row) -> None:
    strikes, log = Strikes(row), KeptLog(delay_s=30.0 if row.is_a("record", "delay") else 0.0)
    platform = ScriptedPlatform(script_of(row, strikes))

    async def drive(history: Sequence[Commit] = ()) -> tuple[BlockRef, ...]:
        return await driver_of(platform, log, history).run()

    if row.ends:
        with pytest.raises(FrazilError) as caught:
            run_virtually(drive())
        assert caught.value.kind == row.ends
        attempts = Counter(attempt_of(request)[:2] for request in platform.requests)
        assert max(attempts.values()) == 1 + row.attempts
        return
    blocks = run_virtually(drive())
    assert [block.map_index for block in blocks] == [0, 1]
    tasks = 20 + 4 + 2
    assert bool(strikes.struck) == (row.at != "coordinator")
    assert len(platform.requests) == tasks + row.attempts * len(strikes.struck)
    if row.at == "coordinator" and row.kind == "crash":
        durable = list(log.commits)
        for end in range(0, len(durable), 3):
            platform.requests.clear()
            history = durable[: end + (row.strikes == "after record")]
            log.commits = list(history)
            assert [block.map_index for block in run_virtually(drive(history))] == [0, 1]
            done = sum(isinstance(commit, TaskCommitted) for commit in history)
            assert len(platform.requests) == tasks - done


# The table itself


def test_every_row_has_words_that_are_known_and_a_name_of_its_own() -> None:
    hints = get_type_hints(Row)
    for row in rows():
        for word, name in ((row.at, "at"), (row.strikes, "strikes"), (row.kind, "kind"), (row.times, "times")):
            assert word in get_args(hints[name]), f"{row.name}: {name}"
        assert row.victims in get_args(hints["victims"])
        assert set(row.levels) <= {"scripted", "in-process", "processes"}
        assert bool(row.only) == (len(row.levels) < 3), f"{row.name}: say why it is not run everywhere"
    assert len({row.name for row in rows()}) == len(rows())


def test_the_page_tells_how_many_rows_there_are_at_each_level() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    for level in get_args(Level):
        assert re.search(rf"^\| {level} \|.*\| {len(rows(level))} \|$", page, re.MULTILINE), f"{level}: {len(rows(level))}"
