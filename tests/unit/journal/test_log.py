"""Appending to a journal: groups, order, and what happens when somebody else has written the next segment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from frazil_coordinator.journal.log import QueryLog, segment_key
from frazil_coordinator.journal.records import Publishing, Record, decode_segment, encode_segment
from frazil_coordinator.schedule.commits import StageLaidOut, TaskCommitted
from frazil_functions.errors import DeposedError, JournalError, StorageError
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.task import Descriptor
from support.memory_store import MemoryStore
from support.virtual_time import run_virtually

T = TypeVar("T")
Q = QueryId("q")


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in the loop what blocks for a moment: virtual time does not wait for threads."""

    async def at_once(work: Callable[..., T], *arguments: object) -> T:
        await asyncio.sleep(0.001)
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


class Store(MemoryStore):
    """A store in memory whose creations fail as told: ``lost`` writes and does not say so, ``down`` writes nothing."""

    def __init__(self, *faults: str) -> None:
        super().__init__()
        self.faults = list(faults)
        self.creations = 0

    def create(self, key: str, data: bytes) -> bool:
        self.creations += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "down":
            raise StorageError("the store is down")
        created = super().create(key, data)
        if fault == "lost":
            raise StorageError("the answer was lost")
        return created

    def segments(self) -> list[tuple[Record, ...]]:
        return [decode_segment(self.get(info.key), info.key) for info in self.list("journal/q")]


def committed(task: int) -> TaskCommitted:
    return TaskCommitted(
        stage=StageId(0),
        task=TaskIndex(task),
        attempt=0,
        descriptor=Descriptor(key=f"x/{task}", blocks=(), inline=b"\0\xff"),
    )


def laid_out(after: int = 0) -> StageLaidOut:
    return StageLaidOut(stage=StageId(0), finished=(), factors={"Sort": 3.5}, after=after)


def log_of(store: Store, *, next_segment: int = 0, writer: str = "me") -> QueryLog:
    return QueryLog(store, "journal/q", Q, writer=writer, next_segment=next_segment, group_s=0.05)


def test_answers_are_told_in_order_and_only_when_they_are_durable() -> None:
    store, told = Store(), list[int]()

    async def run() -> None:
        log = log_of(store)
        for task in range(3):
            log.commit(committed(task), lambda task=task: told.append(task), urgent=True)  # type: ignore[misc]
        assert told == []
        await log.write(Publishing())
        assert told == [0, 1, 2]

    run_virtually(run())
    assert [record for segment in store.segments() for record in segment] == [*map(committed, range(3)), Publishing()]


def test_what_comes_while_a_segment_is_written_shares_the_next_one() -> None:
    store = Store()

    async def run() -> None:
        log = log_of(store)
        first = asyncio.ensure_future(log.write(committed(0)))
        await asyncio.sleep(0)
        for task in range(1, 100):
            log.commit(committed(task), lambda: None, urgent=False)
        await first
        await log.aclose()

    run_virtually(run())
    assert sum(map(len, store.segments())) == 100
    assert len(store.segments()) <= 3


def waited_s(store: Store, *, company: int) -> float:
    """Return how long a record waited that nobody was waiting for, when so many came soon after it."""
    seconds = list[float]()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        log = log_of(store)
        await log.write(committed(0))
        began = loop.time()
        done = asyncio.Event()
        log.commit(committed(1), done.set, urgent=False)
        await asyncio.sleep(0.02)
        for task in range(company):
            log.commit(committed(2 + task), lambda: None, urgent=False)
        await done.wait()
        seconds.append(loop.time() - began)
        await log.aclose()

    run_virtually(run())
    return seconds[0]


def test_who_is_not_in_a_hurry_waits_for_company_but_not_for_long() -> None:
    store = Store()
    assert 0.05 < waited_s(store, company=1) <= 0.251
    assert [len(segment) for segment in store.segments()] == [1, 2]


def test_where_there_is_company_enough_nobody_waits_longer_than_a_group_may() -> None:
    store = Store()
    assert 0.02 <= waited_s(store, company=15) <= 0.051
    assert [len(segment) for segment in store.segments()] == [1, 16]


def test_somebody_in_a_hurry_takes_along_all_that_waited() -> None:
    store, seconds = Store(), list[float]()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        log = log_of(store)
        await log.write(committed(0))
        log.commit(committed(1), lambda: None, urgent=False)
        await asyncio.sleep(0.01)
        began = loop.time()
        await log.write(committed(2))
        seconds.append(loop.time() - began)

    run_virtually(run())
    assert [len(segment) for segment in store.segments()] == [1, 2]
    assert seconds[0] <= 0.002


def test_a_decision_is_durable_before_the_answers_that_follow_from_it() -> None:
    store = Store()

    async def run() -> None:
        log = log_of(store)
        log.note(laid_out())
        await log.write(committed(0))

    run_virtually(run())
    assert [record for segment in store.segments() for record in segment] == [laid_out(), committed(0)]


def test_who_finds_the_next_segment_taken_is_deposed_and_writes_and_tells_no_more() -> None:
    store, told = Store(), list[int]()
    theirs = encode_segment("another", [Publishing()])

    async def run() -> None:
        log = log_of(store)
        await log.write(committed(0))
        store.put(segment_key("journal/q", 1), [theirs])
        log.commit(committed(1), lambda: told.append(1), urgent=True)
        with pytest.raises(DeposedError):
            await log.write(committed(2))
        log.commit(committed(3), lambda: told.append(3), urgent=True)
        await log.aclose()
        assert log.failed.is_set()

    run_virtually(run())
    assert told == []
    assert store.segments() == [(committed(0),), (Publishing(),)]


@pytest.mark.parametrize("faults", [("lost",), ("down",), ("down", "lost"), ("lost", "lost")])
def test_a_lost_answer_or_a_store_that_is_down_for_a_while_costs_time_only(faults: tuple[str, ...]) -> None:
    store = Store(*faults)

    async def run() -> None:
        log = log_of(store)
        await log.write(committed(0))
        await log.write(committed(1))

    run_virtually(run())
    assert store.segments() == [(committed(0),), (committed(1),)]


def test_a_store_that_stays_down_ends_the_query_for_this_coordinator() -> None:
    store = Store(*["down"] * 1000)

    async def run() -> None:
        log = log_of(store)
        with pytest.raises(JournalError, match="the store is down"):
            await log.write(committed(0))

    run_virtually(run())
    assert store.segments() == []


def _swapped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda data: b"", "no segment"),
        (lambda data: b"PAR1" + data[4:], "no segment"),
        (lambda data: data[:4] + b"\x09" + data[5:], "version 9"),
        (_swapped, "damaged"),
        (lambda data: data[:-3], "damaged"),
    ],
)
def test_a_segment_that_is_not_what_was_written_is_refused(broken: Callable[[bytes], bytes], says: str) -> None:
    data = encode_segment("me", [laid_out(), committed(1)])
    assert decode_segment(data, "x") == (laid_out(), committed(1))
    with pytest.raises(JournalError, match=says):
        decode_segment(broken(data), "x")
