"""Tenants under load, through the real admission, slots, driver and journal, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest

from benchmarks.simulated.virtual_time import BlockingTakesTime
from benchmarks.simulated.world import STORE_S, SimulatedPlatform, World
from frazil_coordinator.status import QueryState
from frazil_coordinator.tenancy import Tenant, Tenants
from frazil_functions.task import TaskRequest
from support.scripted import chain_graph
from support.virtual_time import run_virtually

TASK_S = 1.0


def uneven(seed: int = 0) -> Callable[[TaskRequest], float]:
    """Return tasks of half a second to one."""
    source = random.Random(seed)
    return lambda _: source.uniform(0.5 * TASK_S, TASK_S)


def tenants(*them: Tenant) -> Tenants:
    return Tenants(by_name=MappingProxyType({one.name: one for one in them}))


def virtually(main: Coroutine[Any, Any, None]) -> None:
    run_virtually(main, partial(BlockingTakesTime, STORE_S))


def world(functions: int, *them: Tenant, seed: int = 0) -> World:
    """Return a world whose queries have as many tasks in their two stages as their "plan" says."""
    platform = SimulatedPlatform(functions, uneven(seed))
    return World(platform, lambda plan: chain_graph(*map(int, plan.decode().split())), tenants=tenants(*them))


async def arrivals(world: World, tenant: str, plan: bytes, every_s: float, count: int) -> list[float]:
    """Submit a query every so often, whatever became of those before; return how long each took."""
    loop, seconds = asyncio.get_running_loop(), list[float]()

    async def one() -> None:
        began = loop.time()
        await world.query(plan, tenant=tenant)
        seconds.append(loop.time() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
            await asyncio.sleep(every_s)
    return seconds


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.95 * len(seconds))]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_tenant_is_at_most_twice_as_slow_beside_one_that_asks_for_ten_times_as_much(seed: int) -> None:
    """20 functions: the light one asks for 2 of them on average, the heavy one for 20."""
    found: dict[str, float] = {}

    async def run(name: str, *, heavy: bool) -> None:
        shared = world(20, Tenant(name="light"), Tenant(name="heavy"), seed=seed)
        async with asyncio.TaskGroup() as group:
            load = group.create_task(arrivals(shared, "heavy", b"104 1", 4.0, 40)) if heavy else None
            light = group.create_task(arrivals(shared, "light", b"10 1", 4.0, 40))
        found[name] = p95(light.result())
        if load is not None:
            assert p95(load.result()) > 10 * TASK_S, "the heavy one had to wait: there was more to do than could be done"

    virtually(run("alone", heavy=False))
    virtually(run("shared", heavy=True))
    assert found["shared"] <= 2 * found["alone"], found


@dataclass
class Watch:
    """What holds whenever time passes: looked at after all that happens at a moment."""

    world: World
    quota: dict[str, int | None]
    owner: dict[str, str] = field(default_factory=dict)
    at: float = 0.0
    full: dict[str, float] = field(default_factory=dict)
    """Seconds for which each tenant had exactly its quota."""

    state: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Slots that each has, and wants besides."""

    in_flight: Counter[str] = field(default_factory=Counter)
    """Tasks of each that run."""

    def note(self) -> None:
        now = asyncio.get_running_loop().time()
        if now > self.at:
            self._check(now - self.at)
        self.at = now
        running = self.world.platform.running
        groups = self.world.slots._groups
        self.state = {name: (one.held, sum(share.wanted for share in one.needing)) for name, one in groups.items()}
        self.in_flight = Counter[str]()
        for query, count in running.items():
            self.in_flight[self.owner[query]] += count

    def _check(self, seconds: float) -> None:
        taken = sum(held for held, _ in self.state.values())
        for name, (held, wanted) in self.state.items():
            quota = self.quota[name]
            assert quota is None or held <= quota, f"{name} has {held} tasks, {quota} are allowed"
            assert self.in_flight[name] == held, f"{name} has {held} slots, and {self.in_flight[name]} tasks run"
            if wanted:
                assert held == quota or taken == self.world.slots.limit, f"{name} wants {wanted} more and has {held}"
            if held == quota:
                self.full[name] = self.full.get(name, 0.0) + seconds


def test_quotas_of_tasks_are_exact_to_the_task_at_every_moment() -> None:
    async def run() -> None:
        shared = world(16, Tenant(name="a", max_running_tasks=5), Tenant(name="b", max_running_tasks=7), Tenant(name="c"))
        watch = Watch(shared, {"a": 5, "b": 7, "c": None})
        shared.platform.on_change = watch.note
        shared.on_query = lambda record: watch.owner.update({record.id: record.status.tenant})
        source = random.Random(7)
        async with asyncio.TaskGroup() as group:
            for _ in range(30):
                plan = f"{source.randint(1, 30)} {source.randint(1, 9)}".encode()
                group.create_task(shared.query(plan, tenant=source.choice("abc"), priority=source.randint(-2, 2)))
                await asyncio.sleep(source.uniform(0.0, 1.0))
        assert watch.full["a"] > 5.0
        assert watch.full["b"] > 5.0

    virtually(run())


def test_quotas_of_queries_are_exact_to_the_query_at_every_moment() -> None:
    async def run() -> None:
        shared = world(16, Tenant(name="a", max_running_queries=3))
        records: list[Any] = []
        shared.on_query = records.append
        busy: list[int] = []

        def look() -> None:
            waiting = [one for one in records if one.status.waits_for]
            open_ones = [one for one in records if not one.ended.is_set()]
            running = len(open_ones) - len(waiting)
            assert running <= 3
            busy.append(running)
            assert all(one.status.state is QueryState.QUEUED for one in waiting)
            assert running == 3 or not waiting

        shared.platform.on_begin = lambda _: look()
        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(shared.query(b"6 2", tenant="a"))
                await asyncio.sleep(0.1)
        assert busy.count(3) > len(busy) // 2

    virtually(run())


@pytest.mark.parametrize("whose", ["own", "another tenant's"])
def test_a_query_of_high_priority_starts_its_first_task_within_one_task_length_under_saturation(whose: str) -> None:
    async def run() -> None:
        shared = world(8, Tenant(name="a"), Tenant(name="b"))
        loop = asyncio.get_running_loop()
        begun: dict[str, float] = {}
        shared.platform.on_begin = lambda request: begun.setdefault(request.query, loop.time()) and None
        ids: list[str] = []
        shared.on_query = lambda record: ids.append(record.id)
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(shared.query(b"120 1", tenant="a" if whose == "own" else "b"))
            for number in range(10):
                await asyncio.sleep(2.3 + 0.37 * number)
                assert shared.slots.taken == 8
                submitted = loop.time()
                await shared.query(b"1 1", tenant="a", priority=10)
                assert begun[ids[-1]] - submitted <= TASK_S

    virtually(run())


def test_without_its_priority_the_same_query_may_wait_for_longer() -> None:
    """The test above would fail if slots looked at no priority."""
    waited: list[float] = []

    async def run() -> None:
        shared = world(2, Tenant(name="a"))
        loop = asyncio.get_running_loop()
        begun: dict[str, float] = {}
        shared.platform.on_begin = lambda request: begun.setdefault(request.query, loop.time()) and None
        ids: list[str] = []
        shared.on_query = lambda record: ids.append(record.id)
        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(shared.query(b"9 1", tenant="a"))
            await asyncio.sleep(0.7)
            submitted = loop.time()
            await shared.query(b"1 1", tenant="a", priority=-5)
            waited.append(begun[ids[-1]] - submitted)

    virtually(run())
    assert waited[0] > TASK_S
