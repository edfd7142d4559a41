"""A coordinator that dies at any point of its journal: another one goes on, under the same ids, and repeats nothing."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import polars as pl
import pytest

import frazil
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.records import Ended, TakenOver, decode_segment
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.platform.base import Platform
from frazil_coordinator.platform.local import LocalPlatform
from frazil_coordinator.schedule.commits import TaskCommitted
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.errors import JournalError
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store, open_store
from support.mortal import KEYS, TOKEN, DyingStore, When, mortal_coordinator
from support.parity import assert_same
from support.processes import free_ports

OPTIONS: dict[str, object] = {
    "start_small": False,
    "max_rows_per_split": 10,
    "broadcast_limit_bytes": 0,
    "inline_limit_bytes": 0,
    "retry_backoff_s": 0.01,
}
TINY = Settings(**OPTIONS)  # type: ignore[arg-type]  # the values are of the right types
SOME, ALL = (1, 2, 5, 9), tuple(range(1, 16))
"""Segments at which a coordinator dies. The query below has up to 25 on one function: decisions and answers that come
together share one, and do so the more often the busier the machine is."""

FEWEST = 5
"""Segments that there are in any case: the stages come one after the other."""


class _Dead(Exception):
    """What a store says to a coordinator that must not do anything any more."""


def _die() -> None:
    raise _Dead


@pytest.fixture
def query(tmp_path: Path) -> pl.LazyFrame:
    """Scan, shuffle, join, aggregate whole groups, sort."""
    pl.DataFrame({"k": [n % 7 for n in range(60)], "x": range(60)}).write_parquet(tmp_path / "t.parquet")
    pl.DataFrame({"k": range(7), "name": [f"n{n}" for n in range(7)]}).write_parquet(tmp_path / "names.parquet")
    table = pl.scan_parquet(tmp_path / "t.parquet").join(pl.scan_parquet(tmp_path / "names.parquet"), on="k")
    return table.group_by("name").agg(pl.col("x").sum(), pl.col("x").median().alias("m")).sort("name")


@contextlib.asynccontextmanager
async def _platform(folder: Path, *, functions: int = 2) -> AsyncIterator[Platform]:
    platform = LocalPlatform(max_functions=functions, store_url=str(folder))
    try:
        yield platform
    finally:
        await platform.aclose()


def _journal(store: Store) -> Journal:
    return Journal(store=store, sealer=Sealer.of(KEYS), group_s=0.0)


def _coordinator(platform: Platform, store: Store) -> Coordinator:
    return Coordinator(settings=TINY, platform=platform, store=store, journal=_journal(store), sweep_after_s=(0.01,))


async def _answer(coordinator: Coordinator, status: QueryStatus) -> pl.DataFrame:
    return pl.concat([block async for block in coordinator.result(status.id)])


def committed(folder: Path, query: QueryId) -> Counter[tuple[int, int]]:
    """How often an answer of each task was written into the journal."""
    segments = sorted((folder / "journal" / query).glob("[0-9]*"))
    records = [record for path in segments for record in decode_segment(path.read_bytes(), str(path))]
    assert sum(isinstance(record, Ended) for record in records) == 1
    return Counter((record.stage, record.task) for record in records if isinstance(record, TaskCommitted))


def takeovers(folder: Path) -> int:
    """How often a query was taken over, of all in the journal."""
    paths = (folder / "journal").glob("*/[0-9]*")
    records = [record for path in paths for record in decode_segment(path.read_bytes(), str(path))]
    return sum(isinstance(record, TakenOver) for record in records)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("numbers", [SOME, pytest.param(ALL, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_a_query_survives_its_coordinator_at_any_position_of_the_journal(
    tmp_path: Path, query: pl.LazyFrame, when: When, numbers: tuple[int, ...]
) -> None:
    expected = query.collect()
    async with _platform(tmp_path / "store", functions=1) as platform:
        for number in numbers:
            folder = tmp_path / "store"
            store = open_store(str(folder))
            first = _coordinator(platform, DyingStore(store, number, when, _die))
            accepted = await first.submit(query.serialize())
            ended = (await first.wait(accepted.id, 30.0)).state.ended
            await first.aclose()
            second = _coordinator(platform, store)
            assert await second.recover() == (() if ended else (accepted.id,))
            assert not ended or number > FEWEST, f"segment {number} was never written"
            status = await second.wait(accepted.id, 30.0)
            assert status.state is QueryState.SUCCEEDED, status.error
            assert_same(await _answer(second, status), expected, ordered=True)
            assert set(committed(folder, accepted.id).values()) == {1}
            await second.aclose()


async def test_a_query_that_was_not_made_durable_is_not_accepted(tmp_path: Path, query: pl.LazyFrame) -> None:
    async with _platform(tmp_path / "store") as platform:
        store = open_store(str(tmp_path / "store"))
        coordinator = _coordinator(platform, DyingStore(store, 0, "before", _die))
        with pytest.raises(JournalError):
            await coordinator.submit(query.serialize())
        assert coordinator.list() == ()
        await coordinator.aclose()
        second = _coordinator(platform, store)
        assert await second.recover() == ()
        await second.aclose()


async def test_a_coordinator_that_was_replaced_while_it_slept_does_nothing_more(tmp_path: Path, query: pl.LazyFrame) -> None:
    """Two coordinators run the same query: the first one learns from the journal that it is not its own any more."""
    async with _platform(tmp_path / "store") as platform:
        store = open_store(str(tmp_path / "store"))
        first, second = _coordinator(platform, store), _coordinator(platform, store)
        accepted = await first.submit(query.serialize())
        assert await second.recover() == (accepted.id,)
        status = await second.wait(accepted.id, 30.0)
        seen = await first.wait(accepted.id, 30.0)
        assert status.state is QueryState.SUCCEEDED
        assert not seen.state.ended
        await first.aclose()
        assert_same(await _answer(second, status), query.collect(), ordered=True)
        await second.aclose()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("numbers", [(6, 8), pytest.param((1, 2, 3, 4, 5, 7), marks=pytest.mark.slow)])
async def test_a_sink_that_was_interrupted_writes_each_row_once(
    tmp_path: Path, when: When, numbers: tuple[int, ...]
) -> None:
    pl.DataFrame({"x": range(60)}).write_parquet(tmp_path / "t.parquet")
    async with _platform(tmp_path / "store") as platform:
        for number in numbers:
            target = tmp_path / f"out-{number}"
            sink = pl.scan_parquet(tmp_path / "t.parquet").sink_parquet(f"{target}/", lazy=True, mkdir=True)
            store = open_store(str(tmp_path / "store"))
            first = _coordinator(platform, DyingStore(store, number, when, _die))
            accepted = await first.submit(sink.serialize())
            await first.wait(accepted.id, 30.0)
            await first.aclose()
            second = _coordinator(platform, store)
            await second.recover()
            status = await second.wait(accepted.id, 30.0)
            assert status.state is QueryState.SUCCEEDED, status.error
            assert sorted(pl.read_parquet(f"{target}/*.parquet")["x"]) == list(range(60))
            assert [path for path in target.rglob("*") if path.is_file() and path.suffix != ".parquet"] == []
            await second.aclose()


@pytest.mark.parametrize(("number", "when"), [(1, "after"), (3, "before"), (4, "after")])
def test_a_client_waits_on_while_the_coordinator_is_killed_and_another_one_starts(
    tmp_path: Path, query: pl.LazyFrame, number: int, when: When
) -> None:
    store, (port,) = tmp_path / "store", free_ports(1)
    with frazil.connect(f"http://127.0.0.1:{port}", token=TOKEN, timeout_s=60.0) as engine:
        with mortal_coordinator(store, port, OPTIONS, tmp_path / "log", number=number, when=when) as first:
            submitted = engine.submit(query)
            first.wait(30.0)
        assert first.returncode == -9
        with mortal_coordinator(store, port, OPTIONS, tmp_path / "log"):
            assert_same(submitted.result(), query.collect(), ordered=True)
            assert set(committed(store, QueryId(submitted.id)).values()) == {1}


def test_a_coordinator_that_stands_by_goes_on_with_the_queries_of_one_that_falls_asleep(
    tmp_path: Path, query: pl.LazyFrame
) -> None:
    store, ports = tmp_path / "store", free_ports(2)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(mortal_coordinator(store, ports[0], OPTIONS, tmp_path / "first"))
        with frazil.connect(f"http://127.0.0.1:{ports[0]}", token=TOKEN, timeout_s=60.0) as engine:
            submitted = engine.submit(query)
        first.send_signal(signal.SIGSTOP)
        stack.callback(first.send_signal, signal.SIGCONT)
        stack.enter_context(mortal_coordinator(store, ports[1], OPTIONS, tmp_path / "second"))
        with frazil.connect(f"http://127.0.0.1:{ports[1]}", token=TOKEN, timeout_s=60.0) as engine:
            assert_same(engine.query(submitted.id).result(), query.collect(), ordered=True)
        first.send_signal(signal.SIGCONT)
        engine = stack.enter_context(frazil.connect(f"http://127.0.0.1:{ports[0]}", token=TOKEN, timeout_s=0.1))
        with pytest.raises(frazil.UnreachableError, match="another one leads"):
            engine.submit(query)
    assert set(committed(store, QueryId(submitted.id)).values()) == {1}
