"""When a query has its turn."""

from __future__ import annotations

import asyncio
from types import MappingProxyType

import pytest

from frazil_coordinator.admission import Admission
from frazil_coordinator.refusals import QueueFullError
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState
from frazil_coordinator.tenancy import Tenant, Tenants
from frazil_functions.errors import CancelledQueryError, DeadlineError
from frazil_functions.ids import QueryId


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def admission(clock: Clock | None = None, **quotas: int) -> Admission:
    tenants = {name: Tenant(name=name, **quotas) for name in "ab"}  # type: ignore[arg-type]  # whole numbers only
    return Admission(Tenants(by_name=MappingProxyType(tenants)), ageing_s=60.0, clock=clock or Clock())


def record(name: str, tenant: str = "a", priority: int = 0) -> QueryRecord:
    return QueryRecord(QueryId(name), Settings(), (), tenant=tenant, priority=priority)


async def test_a_query_over_the_quota_waits_and_says_what_is_before_it() -> None:
    line = admission(max_running_queries=1)
    first, second, third = record("1"), record("2"), record("3")
    for one in (first, second, third):
        line.enter(one)
    await line.turn(first, None)
    assert (first.status.state, first.status.waits_for) == (QueryState.PLANNING, "")
    assert second.status.state is QueryState.QUEUED
    assert second.status.waits_for == "a turn: tenant 'a' may run 1 queries at once, and 0 wait before this one"
    assert "and 1 wait before" in third.status.waits_for
    line.leave(first)
    await line.turn(second, None)
    assert (second.status.state, second.status.waits_for) == (QueryState.PLANNING, "")
    assert "and 0 wait before" in third.status.waits_for


async def test_the_queries_of_another_tenant_don_t_wait_for_it() -> None:
    line = admission(max_running_queries=1)
    line.enter(record("1"))
    line.enter(record("2"))
    other = record("3", "b")
    line.enter(other)
    await line.turn(other, None)


async def test_a_full_queue_refuses_what_was_not_accepted_before() -> None:
    line = admission(max_running_queries=1, max_queued_queries=1)
    first, second = record("1"), record("2")
    line.enter(first)
    line.enter(second)
    with pytest.raises(QueueFullError, match="1 queries of tenant 'a' run and 1 wait"):
        line.enter(record("3"))
    recovered = record("4")
    line.enter(recovered, always=True)
    assert "and 1 wait before" in recovered.status.waits_for
    line.leave(second)
    line.leave(recovered)
    line.enter(record("5"))


async def test_a_higher_priority_goes_first_but_not_before_one_that_has_waited_long() -> None:
    clock = Clock()
    line = admission(clock, max_running_queries=1)
    line.enter(record("running"))
    old, young, urgent = record("old"), record("young"), record("urgent", priority=2)
    line.enter(old)
    clock.now = 121.0
    line.enter(young)
    line.enter(urgent)
    assert "and 0 wait" in old.status.waits_for  # two steps of priority are 120 s
    assert "and 1 wait" in urgent.status.waits_for
    assert "and 2 wait" in young.status.waits_for


async def test_one_that_is_cancelled_or_has_no_time_left_waits_no_longer() -> None:
    line = admission(max_running_queries=1)
    line.enter(record("1"))
    late, stopped, last = record("2"), record("3"), record("4")
    for one in (late, stopped, last):
        line.enter(one)
    with pytest.raises(DeadlineError, match="no turn within its time: it waited for a turn"):
        await line.turn(late, 0.0)
    waiting = asyncio.ensure_future(line.turn(stopped, None))
    stopped.cancel()
    with pytest.raises(CancelledQueryError):
        await waiting
    line.leave(late)
    line.leave(stopped)
    assert "and 0 wait" in last.status.waits_for


async def test_a_claim_holds_the_tenant_s_weight_and_quota_and_the_query_s_priority() -> None:
    tenants = Tenants(by_name=MappingProxyType({"a": Tenant(name="a", weight=2.5, max_running_tasks=3)}))
    claim = Admission(tenants, 60.0).claim(record("1", priority=-4))
    assert (claim.tenant, claim.weight, claim.max_tasks, claim.priority) == ("a", 2.5, 3, -4)
