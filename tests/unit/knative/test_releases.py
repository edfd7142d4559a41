"""Releases side by side: which one a query runs on, what small and large functions get, and when a release goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from frazil_coordinator.platform.knative.api import SERVICES, KubeApi
from frazil_coordinator.platform.knative.fleet import Fleet
from frazil_coordinator.platform.knative.keeper import Keeper
from frazil_coordinator.platform.knative.models import Object, in_flight_bound
from frazil_coordinator.platform.knative.releases import USE_ANNOTATION, release_id, service_name, uses
from frazil_functions.errors import FunctionBusyError
from frazil_functions.ids import QueryId
from frazil_functions.task import TaskLimits, TaskRequest
from support.kube_api import KubeApi as Double
from support.kube_api import kube_api
from support.kube_world import client_of, function_service_object
from support.polling import eventually_async
from support.tasks import task_request

NOW = 1_790_000_000.0
Q, R = QueryId("q"), QueryId("r")
SMALL_BYTES, LARGE_BYTES = 4 * 2**30, 16 * 2**30


def shown(double: Double) -> dict[str, Object]:
    found = double.objects.find(double.kind("services", SERVICES.group), "frazil")
    return {each["metadata"]["name"]: each for each in found}


def request_of(query: QueryId = Q, *, expected: int | None = None, allowed: int | None = SMALL_BYTES) -> TaskRequest:
    limits = TaskLimits(memory_bytes=allowed, expected_bytes=expected)
    return msgspec.structs.replace(task_request(), query=query, limits=limits)


@dataclass
class World:
    double: Double
    api: KubeApi
    now: float = NOW
    wishes: dict[str, int] = field(default_factory=dict)

    def fleet(self, release: str = "", polars: str = "2.1.0") -> Fleet:
        def want(revision: str, width: int, most: int | None) -> None:
            self.wishes[revision] = width

        fleet = Fleet(release=release, polars=polars, want=want)
        fleet.update(shown(self.double))
        return fleet

    def keeper(self, holder: str, used: Callable[[], frozenset[str]]) -> Keeper:
        return Keeper(self.api, holder, used, lease_s=300.0, unix=lambda: self.now)

    def release(self, name: str, polars: str = "2.1.0", *sizes: str) -> None:
        for size in sizes or ("small",):
            memory = SMALL_BYTES if size == "small" else LARGE_BYTES
            scale = 50 if size == "small" else 10
            service = function_service_object(size, name, polars=polars, max_scale=scale, memory_bytes=memory)
            self.double.put(service)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with kube_api(Double(now=lambda: NOW - 1000)) as double, client_of(double, tmp_path) as api:
        yield World(double, api)


# Names and bounds


def test_a_release_is_named_by_polars_and_image_in_what_kubernetes_takes_for_a_name() -> None:
    one, two = release_id("2.1.0", "r/f@sha256:aa"), release_id("2.1.0", "r/f@sha256:bb")
    assert one.startswith("2-1-0-")
    assert one != two
    assert release_id("2.1.0rc1", "x").startswith("2-1-0rc1-")
    assert len(service_name("frazil-function-small", release_id("2.10.10", "x"))) <= 63


@pytest.mark.parametrize(("scale", "bound"), [(50, 45), (1, 1), (0, 800), (None, 800), (889, 800), (2000, 800), (10, 9)])
def test_what_is_in_flight_stays_below_the_pods_and_below_what_an_ingress_takes(scale: int | None, bound: int) -> None:
    assert in_flight_bound(scale) == bound


# Which service


async def test_a_query_stays_on_the_release_that_it_began_with_while_new_ones_begin_on_the_new_one(world: World) -> None:
    world.release("old")
    fleet = world.fleet("old")
    assert fleet.route(request_of())[0].release == "old"
    world.release("new")
    after = Fleet(release="new", polars="2.1.0")  # the coordinator of the new release takes over
    after.update(shown(world.double))
    assert after.pin(Q, "old") == "old"
    assert after.route(request_of())[0].release == "old"
    assert after.route(request_of(R))[0].release == "new"
    assert after.used() == {"old", "new"}
    after.unpin(Q)
    assert after.used() == {"new"}


async def test_a_query_whose_release_is_gone_or_of_another_polars_goes_on_with_the_present_one(world: World) -> None:
    world.release("new")
    world.release("other", "2.0.0")
    fleet = world.fleet("new")
    assert fleet.pin(Q, "gone") == "new"
    assert fleet.pin(R, "other") == "new"


async def test_without_a_release_of_its_own_a_coordinator_takes_services_without_one_or_the_latest(world: World) -> None:
    world.release("a")
    assert world.fleet().release == "a"
    world.double.put(function_service_object())
    assert world.fleet().release == ""
    assert world.fleet().route(request_of())[0].name == "frazil-function-small"


async def test_tasks_that_need_more_than_the_small_service_has_go_to_the_large_one_with_its_memory(world: World) -> None:
    world.release("a", "2.1.0", "small", "large")
    fleet = world.fleet("a")
    assert fleet.route(request_of(expected=SMALL_BYTES))[0].size == "small"
    service, sent = fleet.route(request_of(expected=SMALL_BYTES + 1))
    assert (service.size, sent.limits.memory_bytes) == ("large", LARGE_BYTES)


async def test_a_task_that_ran_out_of_memory_goes_to_the_large_service_and_its_neighbours_do_not(world: World) -> None:
    world.release("a", "2.1.0", "small", "large")
    fleet = world.fleet("a")
    fleet.ran_out_of_memory(request_of())
    assert fleet.route(msgspec.structs.replace(request_of(), attempt=1))[0].size == "large"
    assert fleet.route(msgspec.structs.replace(request_of(), task=1))[0].size == "small"
    fleet.unpin(Q)
    assert fleet.route(request_of())[0].size == "small"


async def test_a_query_that_may_use_less_memory_than_the_small_service_has_gets_no_large_one(world: World) -> None:
    world.release("a", "2.1.0", "small", "large")
    assert world.fleet("a").route(request_of(expected=SMALL_BYTES * 2, allowed=2**30))[0].size == "small"


async def test_without_a_large_service_all_go_to_the_small_one(world: World) -> None:
    world.release("a")
    assert world.fleet("a").route(request_of(expected=10 * LARGE_BYTES))[0].size == "small"


async def test_a_service_that_is_not_ready_is_busy_and_says_why(world: World) -> None:
    image = "registry/frazil-function@sha256:aa"
    world.double.knative.not_ready[image] = ("ContainerMissing", "Unable to fetch image")
    world.release("a")
    with pytest.raises(FunctionBusyError, match="frazil-function-small-a is not ready: ContainerMissing Unable to fetch"):
        world.fleet("a").route(request_of())
    with pytest.raises(FunctionBusyError, match=r"no function service of release 'b' with polars 2\.1\.0; there are: fraz"):
        world.fleet("b").route(request_of())


async def test_no_more_attempts_enter_a_service_than_its_bound_which_follows_max_scale(world: World) -> None:
    world.release("a", "2.1.0", "small", "large")
    fleet = world.fleet("a")
    bounds: list[int] = []
    fleet.on_bound = bounds.append
    large = fleet.services("a")["large"]
    for _ in range(9):
        await fleet.enter(large)
    waiting = asyncio.ensure_future(fleet.enter(large))
    await asyncio.sleep(0)
    assert not waiting.done()
    fleet.leave(large)
    await asyncio.wait_for(waiting, 5)
    assert world.wishes["frazil-function-large-a-00001"] == 9
    assert fleet.bound == 45
    world.double.put(function_service_object(release="a", polars="2.1.0", max_scale=100))
    fleet.update(shown(world.double))
    assert bounds == [90]


async def test_pods_are_wished_for_as_many_attempts_as_there_are_within_the_bound(world: World) -> None:
    world.release("a")
    fleet = world.fleet("a")
    fleet.demand(7)
    assert world.wishes == {"frazil-function-small-a-00001": 7}
    fleet.demand(2000)
    assert world.wishes == {"frazil-function-small-a-00001": 45}
    fleet.demand(0)
    assert world.wishes == {"frazil-function-small-a-00001": 0}


async def test_a_revision_that_lost_its_traffic_is_no_longer_wished_for(world: World) -> None:
    world.double.put(function_service_object())
    fleet = world.fleet()
    fleet.demand(7)
    assert world.wishes == {"frazil-function-small-00001": 7}
    world.double.put(function_service_object(image="registry/frazil-function@sha256:bb"))
    fleet.update(shown(world.double))
    assert world.wishes == {"frazil-function-small-00001": 0, "frazil-function-small-00002": 7}


# When a release goes


async def test_a_release_that_nobody_uses_goes_and_one_that_is_used_stays(world: World) -> None:
    world.release("old", "2.1.0", "small", "large")
    world.release("new")
    used = {"old", "new"}
    keeper = world.keeper("a", lambda: frozenset(used))
    assert await keeper.round(frozenset(used)) == ()
    used.discard("old")
    assert await keeper.round(frozenset(used)) == (), "first it is said that nobody uses it"
    assert await keeper.round(frozenset(used)) == ("frazil-function-large-old", "frazil-function-small-old")
    assert world.double.names("services") == ["frazil-function-small-new"]
    assert world.double.names("revisions") == ["frazil-function-small-new-00001"]


async def test_a_release_that_is_new_stays_until_its_coordinator_has_had_time_to_start(world: World) -> None:
    world.release("new")
    world.now -= 150  # 850 s after it was made
    running = world.keeper("old", frozenset)
    assert await running.round(frozenset({"old"})) == ()
    world.now += 100
    assert await running.round(frozenset({"old"})) == ("frazil-function-small-new",)


async def test_a_release_that_another_coordinator_uses_stays_until_that_one_has_not_been_heard_of(world: World) -> None:
    world.release("old")
    world.release("new")
    old, new = world.keeper("old", frozenset), world.keeper("new", frozenset)
    await old.round(frozenset({"old"}))
    for _ in range(3):
        assert await new.round(frozenset({"new"})) == ()
    world.now += 310
    assert await new.round(frozenset({"new"})) == (), "its clock may be behind"
    world.now += 10
    assert await new.round(frozenset({"new"})) == ("frazil-function-small-old",)


async def test_who_begins_to_use_a_release_just_before_it_is_deleted_wins(world: World) -> None:
    world.release("old")
    first, second = world.keeper("first", frozenset), world.keeper("second", frozenset)
    listed = world.api.list

    def list_then_somebody_uses(*args: object, **kwargs: object) -> object:
        found = listed(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came
        world.double.objects.patch(
            world.double.kind("services", SERVICES.group),
            (SERVICES.group, "services", "frazil", "frazil-function-small-old"),
            {"metadata": {"annotations": {USE_ANNOTATION: f'{{"second": {NOW + 300}}}'}}},
            "frazil",
        )
        return found

    world.api.list = list_then_somebody_uses  # type: ignore[method-assign,assignment]  # what happens in between
    assert await first.round(frozenset()) == ()
    world.api.list = listed  # type: ignore[method-assign]
    assert uses(world.double.named("services", "frazil-function-small-old")["metadata"]["annotations"]) == {
        "second": NOW + 300
    }
    assert await second.round(frozenset({"old"})) == ()


async def test_a_standby_deletes_nothing_and_services_without_a_release_are_nobodys_to_delete(world: World) -> None:
    world.release("old")
    world.double.put(function_service_object())
    standby = world.keeper("standby", frozenset)
    standby.may_delete = lambda: False
    assert await standby.round(frozenset({"new"})) == ()
    leader = world.keeper("leader", frozenset)
    assert await leader.round(frozenset({"new"})) == ("frazil-function-small-old",)
    assert world.double.names("services") == ["frazil-function-small"]


async def test_a_coordinator_that_ends_uses_nothing_any_more(world: World) -> None:
    world.release("a")
    keeper = world.keeper("a", lambda: frozenset({"a"}))
    running = asyncio.ensure_future(keeper.run())

    def users() -> set[str]:
        return set(uses(world.double.named("services", "frazil-function-small-a")["metadata"].get("annotations", {})))

    await eventually_async(lambda: users() == {"a"}, "it says so")
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running})
    assert users() == set()
