"""One coordinator leads at a time, whatever happens to the others: cases by table, in virtual time."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from frazil_coordinator.leadership import Leadership, ProbeResult
from frazil_functions.errors import StorageError
from frazil_functions.storage import CountingStore, Store
from support.lease_wire import LEASE_S, Wire, coordinator
from support.memory_store import MemoryStore
from support.virtual_time import run_virtually


class _Watched:
    """Coordinators that are looked at all the time: never do two lead."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.all: list[Leadership] = []
        self.terms: list[int] = []

    def add(self, wire: Wire | None = None, **options: Any) -> Leadership:
        made = coordinator(self.store, wire or Wire(), **options)
        self.all.append(made)
        return made

    def check(self) -> None:
        leading = [one.term for one in self.all if one.leads]
        assert len(leading) <= 1, f"two lead, at {asyncio.get_running_loop().time()} s: terms {leading}"
        if leading and leading != self.terms[-1:]:
            assert leading[0] > max(self.terms, default=0)
            self.terms += leading

    async def look(self) -> None:
        while True:
            self.check()
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _watched(store: Store | None = None) -> AsyncGenerator[_Watched]:
    watched = _Watched(store or MemoryStore())
    looking = asyncio.create_task(watched.look())
    yield watched
    watched.check()
    for one in watched.all:
        await one.release()
    looking.cancel()
    await asyncio.wait({looking})
    assert looking.cancelled()  # else what it saw is raised below
    assert watched.terms == sorted(set(watched.terms))


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _follows(leader: Leadership, standby: Leadership) -> tuple[asyncio.Task[int], float]:
    """Let `leader` lead and `standby` wait for it; return the waiting, and when the leader began."""
    assert await leader.acquire() == 1
    began = _now()
    waiting = asyncio.create_task(standby.acquire())
    await asyncio.sleep(2 * LEASE_S)
    assert not waiting.done()
    return waiting, began


async def _a_leader_that_is_cut_off_steps_down_before_another_takes_over() -> None:
    async with _watched() as watched:
        wire = Wire()
        leader, standby = watched.add(wire), watched.add()
        waiting, _ = await _follows(leader, standby)
        wire.cut, cut = True, _now()
        await leader.lost.wait()
        lost = _now()
        assert lost - cut <= LEASE_S
        assert not leader.leads
        assert await waiting == 2
        assert lost <= _now() <= cut + LEASE_S + LEASE_S / 3
        assert "could not renew its lease for 15 s" in leader.standing.detail


async def _a_leader_that_wakes_after_another_took_over_knows_it_at_once() -> None:
    async with _watched() as watched:
        slept = [0.0]
        wire = Wire()
        leader = watched.add(wire, monotonic=lambda: _now() + slept[0])
        waiting, _ = await _follows(leader, watched.add())
        slept[0] = LEASE_S  # its process slept; none of its code has run since
        assert not leader.leads
        assert leader.term == 1
        await leader.lost.wait()
        assert await waiting == 2


async def _a_deposed_leader_says_who_leads_since_when() -> None:
    async with _watched() as watched:
        leader = watched.add(lease_s=1_000.0)
        await leader.acquire()
        # Another one that, by a broken clock, took over too early: the listing after the next beat tells.
        watched.store.create(f"leader/{2:012d}", b'{"nonce":"x","owner":"b","lease_s":1.0,"since_unix_s":1767323045.0}')
        await leader.lost.wait()
        assert _now() < 1_000.0
        await asyncio.sleep(1)
        standing = leader.standing
        assert (standing.leader, standing.term, standing.journal) == (False, 2, "fenced")
        assert "another one leads since 2026-01-02T03:04:05+00:00 (term 2)" in standing.detail
        assert await leader.acquire() == 3


class _LosesAnswers(MemoryStore):
    """Does what it is asked, and says once that it failed."""

    def __init__(self, operation: str, *, lie: bool | None = None) -> None:
        super().__init__()
        self.operation, self.lie, self.lost = operation, lie, 0

    def put(self, key: str, parts: Any) -> None:
        super().put(key, parts)
        if self.operation == "put" and key.endswith(".heartbeat") and not self.lost:
            self.lost += 1
            raise StorageError("no answer")

    def create(self, key: str, data: bytes) -> bool:
        created = super().create(key, data)
        if self.operation == "create" and not self.lost:
            self.lost += 1
            if self.lie is not None:
                return self.lie
            raise StorageError("no answer")
        return created


async def _a_beat_whose_answer_is_lost_is_sent_again() -> None:
    store = _LosesAnswers("put")
    async with _watched(store) as watched:
        leader, standby = watched.add(), watched.add()
        waiting, _ = await _follows(leader, standby)
        assert store.lost == 1
        assert leader.leads
        waiting.cancel()


async def _a_claim_whose_answer_is_lost_is_known_again() -> None:
    for lie in (None, False):  # no answer at all, and that to the client's own second try
        store = _LosesAnswers("create", lie=lie)
        async with _watched(store) as watched:
            assert await watched.add().acquire() == 1
            assert store.lost == 1


async def _of_many_that_wait_one_takes_over() -> None:
    async with _watched() as watched:
        wire = Wire()
        leader = watched.add(wire)
        await leader.acquire()
        waiting = [asyncio.create_task(watched.add().acquire()) for _ in range(5)]
        await asyncio.sleep(1)
        wire.cut = True
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(3 * LEASE_S)
        assert [one.result() for one in done] == [2]
        assert not [one for one in left if one.done()]
        for one in left:
            one.cancel()


async def _after_a_clean_end_the_next_one_does_not_wait_for_the_lease() -> None:
    async with _watched() as watched:
        leader, standby = watched.add(), watched.add()
        waiting, _ = await _follows(leader, standby)
        ended = _now()
        await leader.release()
        assert not leader.leads
        assert leader.lost.is_set()
        assert await waiting == 2
        assert _now() - ended <= LEASE_S / 3
        with pytest.raises(RuntimeError, match="never after its release"):
            await leader.acquire()


async def _a_wall_clock_that_jumps_changes_nothing() -> None:
    async with _watched() as watched:
        ahead = [0.0]
        leader, standby = watched.add(unix=lambda: ahead[0]), watched.add(unix=lambda: -1e9)
        waiting, _ = await _follows(leader, standby)
        ahead[0] = 1e9
        await asyncio.sleep(5 * LEASE_S)
        assert leader.leads
        waiting.cancel()


async def _a_store_that_hangs_longer_than_the_lease_ends_the_term() -> None:
    async with _watched() as watched:
        wire = Wire()
        leader, standby = watched.add(wire), watched.add()
        waiting, _ = await _follows(leader, standby)
        hung = _now()
        wire.delays = lambda: (2 * LEASE_S, 0.0)  # the beat lands when another one leads
        await leader.lost.wait()
        assert _now() - hung <= LEASE_S
        assert await waiting == 2
        await asyncio.sleep(3 * LEASE_S)
        assert standby.leads


async def _a_holder_with_a_longer_lease_gets_it() -> None:
    async with _watched() as watched:
        leader, standby = watched.add(lease_s=10 * LEASE_S), watched.add()
        waiting, _ = await _follows(leader, standby)
        await asyncio.sleep(20 * LEASE_S)
        assert leader.leads
        waiting.cancel()


async def _one_that_lost_may_lead_again_with_a_greater_term() -> None:
    async with _watched() as watched:
        wire = Wire()
        leader = watched.add(wire)
        await leader.acquire()
        lost = leader.lost
        wire.cut = True
        await lost.wait()
        wire.cut = False
        assert await leader.acquire() == 2
        assert leader.leads
        assert lost.is_set()
        assert not leader.lost.is_set()


async def _a_store_that_fails_is_asked_again_by_one_that_waits() -> None:
    async with _watched() as watched:
        wire = Wire()
        wire.cut = True
        waiting = asyncio.create_task(watched.add(wire).acquire())
        await asyncio.sleep(10 * LEASE_S)
        assert not waiting.done()
        wire.cut = False
        assert await waiting == 1


async def _two_leases_of_a_store_know_nothing_of_each_other() -> None:
    async with _watched() as watched:
        assert await watched.add().acquire() == 1
        other = coordinator(watched.store, Wire(), prefix="other")
        assert await other.acquire() == 1
        await other.release()


async def _a_look_counts_from_when_it_was_sent() -> None:
    async with _watched() as watched:
        wire, slow = Wire(), Wire()
        leader = watched.add(wire)
        await leader.acquire()
        await asyncio.sleep(1)
        waiting = asyncio.create_task(watched.add(slow).acquire())
        await asyncio.sleep(6)
        wire.cut = True
        await asyncio.sleep(8)
        slow.delays = lambda: (0.0, 6.0)  # looks at 16 s; its answer comes when the lease that it saw is over, at 21 s
        await asyncio.sleep(3.9)
        wire.cut = False  # the leader's next beat, at 19 s, is in time
        await asyncio.sleep(3.3)
        slow.delays = lambda: (0.0, 0.0)
        await asyncio.sleep(3 * LEASE_S)
        assert leader.leads
        waiting.cancel()


async def _a_beat_counts_from_when_it_was_sent() -> None:
    async with _watched() as watched:
        wire = Wire()
        leader = watched.add(wire)
        await leader.acquire()
        waiting = asyncio.create_task(watched.add().acquire())
        await asyncio.sleep(4)
        wire.delays = lambda: (0.0, 6.0)  # the answer to the beat of 5 s comes at 11 s
        await asyncio.sleep(2)
        wire.cut = True
        await leader.lost.wait()
        assert _now() == pytest.approx(5 + LEASE_S, abs=0.1)
        assert await waiting == 2


CASES = [
    _a_look_counts_from_when_it_was_sent,
    _a_beat_counts_from_when_it_was_sent,
    _a_leader_that_is_cut_off_steps_down_before_another_takes_over,
    _a_leader_that_wakes_after_another_took_over_knows_it_at_once,
    _a_deposed_leader_says_who_leads_since_when,
    _a_beat_whose_answer_is_lost_is_sent_again,
    _a_claim_whose_answer_is_lost_is_known_again,
    _of_many_that_wait_one_takes_over,
    _after_a_clean_end_the_next_one_does_not_wait_for_the_lease,
    _a_wall_clock_that_jumps_changes_nothing,
    _a_store_that_hangs_longer_than_the_lease_ends_the_term,
    _a_holder_with_a_longer_lease_gets_it,
    _one_that_lost_may_lead_again_with_a_greater_term,
    _a_store_that_fails_is_asked_again_by_one_that_waits,
    _two_leases_of_a_store_know_nothing_of_each_other,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__.strip("_"))
def test_one_leads(case: Any) -> None:
    made: Coroutine[Any, Any, None] = case()
    run_virtually(made)


@pytest.mark.parametrize("seed", range(20))
def test_never_do_two_lead_on_wires_that_delay_and_break(seed: int) -> None:
    draw = random.Random(seed)

    async def live(one: Leadership, wire: Wire) -> None:
        while True:
            await one.acquire()
            await one.lost.wait()

    async def run() -> list[int]:
        async with _watched() as watched:
            wires = [Wire() for _ in range(3)]
            for wire in wires:
                wire.delays = lambda: (draw.choice((0.01, 1.0, 8.0)) * draw.random(), 4 * draw.random() ** 4)
            living = [asyncio.create_task(live(watched.add(wire), wire)) for wire in wires]
            for _ in range(60):
                await asyncio.sleep(draw.uniform(0, LEASE_S))
                draw.choice(wires).cut ^= True
            for task in living:
                task.cancel()
            await asyncio.wait(living)
            assert all(task.cancelled() for task in living)
            return watched.terms

    assert len(run_virtually(run())) >= 3


def test_without_conditional_puts_there_is_no_lease_and_it_is_said_loudly(caplog: pytest.LogCaptureFixture) -> None:
    store = CountingStore(MemoryStore())

    async def run() -> None:
        found = ProbeResult(conditional=False, winners=2, detail="2 of 32 racing writers were told that they won")
        alone = coordinator(store, Wire(), probe=found)
        assert not alone.leads
        assert await alone.acquire() == 0
        standing = alone.standing
        assert (standing.leader, standing.term, standing.journal) == (True, 0, "single-writer")
        assert "2 of 32" in standing.detail
        assert "run only one coordinator" in standing.detail
        assert not alone.conditional
        await alone.release()
        assert not alone.leads

    with caplog.at_level(logging.WARNING):
        run_virtually(run())
    assert "SINGLE-WRITER MODE" in caplog.text
    assert store.requests == {}


def test_requests_are_those_that_the_page_names() -> None:
    store = CountingStore(MemoryStore())

    async def run() -> list[dict[str, int]]:
        seen = []
        leader, standby = coordinator(store, Wire()), coordinator(store, Wire())

        def since(before: dict[str, int]) -> None:
            seen.append({name: count - before.get(name, 0) for name, count in store.requests.items()})

        await leader.acquire()
        since({})
        before = store.requests
        await asyncio.sleep(61)
        since(before)
        waiting = asyncio.create_task(standby.acquire())
        await asyncio.sleep(0.5)
        before = store.requests
        await asyncio.sleep(60)
        since(before)
        before = store.requests
        await leader.release()
        since(before)
        await waiting
        await standby.release()
        return seen

    take, minute, both, release = run_virtually(run())
    assert take == {"list": 3, "put": 1}
    assert minute == {"list": 12, "put": 12}
    assert both == {"list": 12, "put": 12, "get": 12}
    assert {name: count for name, count in release.items() if count} == {"put": 1}
