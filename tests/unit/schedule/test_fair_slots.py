"""How slots are shared between tenants, and among the queries of one: in virtual time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from frazil_coordinator.schedule.slots import Claim, Slots, SlotShare


@dataclass
class World:
    """Queries that want `demand` slots all the time, whose tasks end after a while; time passes by `run`."""

    limit: int
    ageing_s: float = 60.0
    seed: int = 0
    now: float = 0.0
    order: list[str] = field(default_factory=list)
    """Names of the queries in the order in which they got slots."""

    def __post_init__(self) -> None:
        self.slots = Slots(self.limit, ageing_s=self.ageing_s, clock=lambda: self.now)
        self.shares: dict[str, SlotShare] = {}
        self.most = Counter[str]()
        self._random = random.Random(self.seed)
        self._ends: list[tuple[float, int, str]] = []
        self._started = 0

    def query(self, name: str, claim: Claim, demand: int) -> None:
        self.shares[name] = self.slots.share(lambda: self._start(name), claim)
        self.shares[name].want(demand)

    def _start(self, name: str) -> None:
        share = self.shares[name]
        share.use()
        self.order.append(name)
        self._started += 1
        heapq.heappush(self._ends, (self.now + self._random.uniform(0.5, 1.5), self._started, name))
        share.want(share.wanted + 1)  # there is always another task
        self.most[share.claim.tenant] = max(self.most[share.claim.tenant], self.held(share.claim.tenant))

    def held(self, tenant: str) -> int:
        return sum(share.held for share in self.shares.values() if share.claim.tenant == tenant)

    def run(self, until: float) -> None:
        while self._ends and self._ends[0][0] <= until:
            self.now, _, name = heapq.heappop(self._ends)
            self.shares[name].release()
        self.now = until


tenants_strategy = st.lists(
    st.tuples(
        st.sampled_from([0.5, 1.0, 2.0, 3.0, 7.0]),  # weight
        st.one_of(st.none(), st.integers(1, 6)),  # max_running_tasks
        st.integers(1, 3),  # queries
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(tenants=tenants_strategy, limit=st.integers(1, 24), seed=st.integers(0, 9))
def test_shares_are_those_of_the_weights_within_one_task_and_no_quota_is_exceeded(
    tenants: list[tuple[float, int | None, int]], limit: int, seed: int
) -> None:
    world = World(limit, seed=seed)
    claims = {f"t{n}": Claim(tenant=f"t{n}", weight=w, max_tasks=most) for n, (w, most, _) in enumerate(tenants)}
    for n, (_, _, queries) in enumerate(tenants):
        for query in range(queries):
            world.query(f"t{n}/{query}", claims[f"t{n}"], limit)
    for until in range(5, 20):  # after the tasks that started before all tenants were there
        world.run(until)
        held = {name: world.held(name) for name in claims}
        assert sum(held.values()) == min(limit, sum(c.max_tasks or limit for c in claims.values()))
        for name, claim in claims.items():
            assert claim.max_tasks is None or world.most[name] <= claim.max_tasks
            for other, theirs in claims.items():
                if theirs.max_tasks is None or held[other] < theirs.max_tasks:  # it wants more
                    assert (held[name] - 1) / claim.weight <= held[other] / theirs.weight


@settings(max_examples=40, deadline=None)
@given(priorities=st.lists(st.integers(-10, 10), min_size=2, max_size=6), limit=st.integers(1, 3), seed=st.integers(0, 9))
def test_no_query_starves_whatever_its_priority(priorities: list[int], limit: int, seed: int) -> None:
    world = World(limit, ageing_s=10.0, seed=seed)
    for number, priority in enumerate(priorities):
        world.query(str(number), Claim(tenant="a", priority=priority), 5)
    world.run(10.0 * (max(priorities) - min(priorities) + 1) + 10.0 * len(priorities))
    assert set(world.order) == {str(number) for number in range(len(priorities))}


def test_one_slot_is_shared_over_time_by_weight() -> None:
    world = World(1)
    world.query("a", Claim(tenant="a", weight=3.0), 5)
    world.query("b", Claim(tenant="b", weight=1.0), 5)
    world.run(400.0)
    assert abs(world.order.count("a") - 3 * world.order.count("b")) <= 3


def test_a_tenant_that_wanted_nothing_until_now_has_saved_up_no_turns() -> None:
    world = World(1)
    world.query("a", Claim(tenant="a"), 5)
    world.run(100.0)
    before = len(world.order)
    world.query("b", Claim(tenant="b"), 5)
    world.run(110.0)
    later = Counter(world.order[before:])
    assert abs(later["a"] - later["b"]) <= 1


def test_priorities_hold_inside_a_tenant_and_not_between_tenants() -> None:
    world = World(2)
    world.query("low", Claim(tenant="a", priority=0), 5)
    world.query("high", Claim(tenant="a", priority=5), 5)
    world.query("other", Claim(tenant="b", priority=-10), 5)
    world.run(20.0)
    got = Counter(world.order[2:])  # the first query was alone, and got both
    assert got["low"] == 0
    assert abs(got["high"] - got["other"]) <= got["other"] // 4


def test_a_query_that_waits_gains_one_step_of_priority_each_ageing_s() -> None:
    order: list[str] = []
    now = [0.0]
    slots = Slots(1, ageing_s=10.0, clock=lambda: now[0])
    high = slots.share(lambda: order.append("high"), Claim(tenant="a", priority=2))
    low = slots.share(lambda: order.append("low"), Claim(tenant="a", priority=0))
    high.want(9)
    low.want(9)

    def task_of_high() -> None:
        high.use()
        high.release()

    now[0] = 19.9
    task_of_high()
    assert order == ["high", "high"]
    now[0] = 30.0
    task_of_high()
    assert order == ["high", "high", "low"]  # 0 + 3 against 2 + 1


def test_a_query_may_have_no_more_slots_than_its_tenant() -> None:
    slots = Slots(8)
    assert slots.limit_of(Claim(tenant="a", max_tasks=3)) == 3
    assert slots.limit_of(Claim(tenant="a", max_tasks=30)) == slots.limit_of(Claim()) == 8


def test_a_spare_slot_comes_after_what_every_tenant_needs_whatever_the_shares_are() -> None:
    slots, order = Slots(4), list[str]()
    many = slots.share(lambda: order.append("a"), Claim(tenant="a", weight=1.0))
    other = slots.share(lambda: order.append("b, spare"), Claim(tenant="b", weight=100.0, priority=10))
    many.want(9)
    other.want(0, spare=2)
    for _ in range(9):
        many.use()
        many.release()
    assert order == ["a"] * 9 + ["b, spare"] * 2


def test_a_spare_slot_is_shared_by_weight_and_counts_against_the_quota() -> None:
    slots, order = Slots(9), list[str]()
    full = slots.share(lambda: order.append("a"), Claim(tenant="a", max_tasks=2))
    other = slots.share(lambda: order.append("b"), Claim(tenant="b", weight=2.0))
    full.want(1, spare=5)
    assert order == ["a"] * 2  # 1 that it needs and 1 to spare
    other.want(0, spare=5)
    assert order == ["a"] * 2 + ["b"] * 5


def test_who_needs_a_slot_that_its_quota_denies_keeps_nobody_from_a_spare_one() -> None:
    slots, order = Slots(3), list[str]()
    full = slots.share(lambda: order.append("a"), Claim(tenant="a", max_tasks=1))
    other = slots.share(lambda: order.append("b"), Claim(tenant="b"))
    full.want(5)
    other.want(0, spare=3)
    assert (order, full.held, full.wanted) == (["a", "b", "b"], 1, 4)
