"""Tasks through Knative's data path: buffered from zero, in bursts, in time, through drains and rolls.

The path is a double of ingress, activator, autoscaler and queue-proxy over real HTTP; behind it are functions' apps, real
processes, or pods that only answer. The Kubernetes API beside it is a double too: pre-scaling goes all the way through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.platform.knative import KnativePlatform
from frazil_coordinator.platform.knative.cluster import LiveFleet, live_fleet
from frazil_coordinator.platform.knative.keeper import Keeper
from frazil_coordinator.platform.knative.prescale import LEASE_ANNOTATION
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_functions.app import FunctionApp
from frazil_functions.errors import FunctionBusyError, FunctionLostError, OutOfMemoryError, to_wire
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.ids import QueryId
from frazil_functions.settings import FunctionSettings
from frazil_functions.storage import FolderStore, Store
from frazil_functions.task import Descriptor, ExchangeInput, Failed, Output, Started, Succeeded
from support.data_path import AppPod, DataPath, Downstream, LostPodError, Pod, ProcessPod, data_path
from support.fake_function import MARKER, line
from support.functions import KEY, function_process
from support.kube_api import KubeApi, kube_api
from support.kube_world import client_of, function_service_object, min_scale
from support.parity import assert_same
from support.polling import eventually_async
from support.scripted import chain_graph
from support.tasks import descriptor_of, events_of, task_request

SMALL = "frazil-function-small"
TINY = Settings(
    start_small=False, max_rows_per_split=4, shuffle_partitions=3, retry_backoff_s=0.01, retry_backoff_max_s=0.05
)


@dataclass
class AnsweringPod:
    """Succeeds, after a while."""

    seconds: float = 0.0
    served: list[str] = field(default_factory=list)
    cancelled: int = 0
    stopped: bool = False

    async def serve(self, headers: dict[str, str], body: bytes, answer: Downstream) -> None:
        self.served.append(headers["ce-id"])
        await answer.head(200, MARKER)
        await answer.write(line(Started(cold_start=len(self.served) == 1), headers["ce-id"]))
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        await answer.write(line(Succeeded(descriptor=Descriptor(key=None, blocks=())), headers["ce-id"]))

    async def stop(self) -> None:
        self.stopped = True


def answering(seconds: float = 0.0, pods: list[AnsweringPod] | None = None) -> Callable[[], Awaitable[Pod]]:
    async def make() -> Pod:
        pod = AnsweringPod(seconds)
        if pods is not None:
            pods.append(pod)
        return pod

    return make


def apps(store: Store, pods: list[AppPod]) -> Callable[[], Awaitable[Pod]]:
    async def make() -> Pod:
        settings = FunctionSettings(task_keys=(KEY,), store_url="unused", cancel_grace_s=60.0)
        pods.append(AppPod(FunctionApp(settings, store, end_process=lambda _: None)))
        return pods[-1]

    return make


@contextlib.asynccontextmanager
async def sending_to(path: DataPath, max_in_flight: int = 100) -> AsyncIterator[KnativePlatform]:
    async with data_path(path):
        platform = KnativePlatform(path.url, (KEY,), max_in_flight)
        try:
            yield platform
        finally:
            await platform.aclose()


def driver_of(graph: StageGraph, platform: KnativePlatform, slots: Slots, settings: Settings = TINY) -> QueryDriver:
    return QueryDriver(
        query=QueryId("q"), graph=graph, platform=platform, exchange_prefix="x", settings=settings, slots=slots
    )


# From zero


async def test_a_request_waits_for_the_pod_that_it_starts_and_the_first_task_is_a_cold_one() -> None:
    path = DataPath(answering())
    async with sending_to(path) as platform:
        assert path.pods == []
        assert await events_of(platform, task_request()) == [
            Started(cold_start=True),
            Succeeded(descriptor=Descriptor(key=None, blocks=())),
        ]
        assert platform.status().started_total == len(path.pods) == 1


async def test_a_wait_for_a_pod_that_never_comes_ends_as_a_lost_function() -> None:
    path = DataPath(answering(), cold_start_s=60.0, start_timeout_s=0.05)
    async with sending_to(path) as platform:
        with pytest.raises(FunctionLostError, match="platform answered 504: activator request timeout"):
            await events_of(platform, task_request())
        for task in tuple(path._tasks):
            task.cancel()


# Bursts, pre-scaling, large functions


def address_of(double: KubeApi, service: str, url: str) -> None:
    """Let a Service be reached at a URL of this machine."""
    key = ("serving.knative.dev", "services", "frazil", service)
    status = {**double.named("services", service)["status"], "address": {"url": url}}
    double.objects.patch(double.kind("services", key[0]), key, {"status": status}, "controller", status=True)


@contextlib.asynccontextmanager
async def scaled_by_a_cluster(
    folder: Path, path: DataPath, max_scale: int
) -> AsyncIterator[tuple[KnativePlatform, LiveFleet]]:
    """Run a path whose min-scale is what the Revision's PodAutoscaler says, and a platform that finds it by a watch."""
    with kube_api() as double, client_of(double, folder) as api:
        path.min_scale = lambda: int(min_scale(double, f"{SMALL}-00001") or 0)
        async with data_path(path):
            double.put(function_service_object(max_scale=max_scale))
            address_of(double, SMALL, path.url)
            async with live_fleet(api, holder="me", release="", polars=pl.__version__, lease_s=60.0) as live:
                platform = KnativePlatform(live.fleet, (KEY,))
                try:
                    yield platform, live
                finally:
                    await platform.aclose()
        annotations = double.named("revisions", f"{SMALL}-00001")["metadata"]["annotations"]
        assert LEASE_ANNOTATION not in annotations, "nothing is left pre-scaled"
        assert min_scale(double, f"{SMALL}-00001") == "0"


async def test_a_burst_of_2000_tasks_stays_within_the_bound_and_has_its_pods_asked_for_at_once(tmp_path: Path) -> None:
    pods: list[AnsweringPod] = []
    path = DataPath(answering(pods=pods), max_scale=50, tick_s=60.0)
    async with scaled_by_a_cluster(tmp_path, path, max_scale=50) as (platform, live):
        slots = Slots(platform.max_in_flight)
        slots.on_demand = live.fleet.demand
        assert slots.limit == 45
        driver = driver_of(chain_graph(2000), platform, slots)
        running = asyncio.ensure_future(driver.run())
        await eventually_async(lambda: path.min_scale() == 45, "min-scale is set at dispatch")
        path.look()  # as the autoscaler does when a PodAutoscaler has changed
        assert path.most_pods >= 45
        await running
    assert path.requests == 2000
    assert path.most_in_flight <= 45
    assert path.answers == {}
    assert sum(len(pod.served) for pod in pods) == 2000


async def test_no_more_requests_are_on_their_way_than_the_bound_whoever_sends_them(tmp_path: Path) -> None:
    path = DataPath(answering(0.01), max_scale=2)
    async with scaled_by_a_cluster(tmp_path, path, max_scale=2) as (platform, _):
        async with asyncio.TaskGroup() as group:
            for task in range(5):
                group.create_task(events_of(platform, task_request(task=task)))
        assert path.requests == 5
        assert path.most_in_flight == 1


async def test_more_than_the_ingress_takes_overflows_and_is_sent_again_until_all_is_done() -> None:
    path = DataPath(answering(), overflow=4, max_scale=4)
    async with sending_to(path, 16) as platform:
        settings = Settings(retry_backoff_s=0.01, retry_backoff_max_s=0.05, max_platform_failures=1000)
        await driver_of(chain_graph(40), platform, Slots(16), settings).run()
        assert path.answers[503] > 0
        assert path.requests == 40 + path.answers[503]
        path.overflow = 0
        with pytest.raises(FunctionBusyError, match=r"platform answered 503: upstream connect error.*overflow"):
            await events_of(platform, task_request())


@dataclass
class ShortOfMemory(AnsweringPod):
    """Runs out of memory with each task that is not the first of its stage."""

    async def serve(self, headers: dict[str, str], body: bytes, answer: Downstream) -> None:
        if headers["ce-id"].split("/")[2] == "0":
            await super().serve(headers, body, answer)
            return
        self.served.append(headers["ce-id"])
        await answer.head(200, MARKER)
        await answer.write(line(Failed(error=to_wire(OutOfMemoryError("no memory"))), headers["ce-id"]))

    async def stop(self) -> None:
        self.stopped = True


async def test_tasks_that_ran_out_of_memory_are_done_by_the_large_service_and_no_others(tmp_path: Path) -> None:
    large: list[AnsweringPod] = []

    async def short() -> Pod:
        return ShortOfMemory()

    small_path, large_path = DataPath(short), DataPath(answering(pods=large))
    with kube_api() as double, client_of(double, tmp_path) as api:
        async with data_path(small_path), data_path(large_path):
            for size, path in (("small", small_path), ("large", large_path)):
                double.put(function_service_object(size, memory_bytes=2**30 if size == "small" else 2**33))
                address_of(double, f"frazil-function-{size}", path.url)
            async with live_fleet(api, holder="me", release="", polars=pl.__version__) as live:
                platform = KnativePlatform(live.fleet, (KEY,))
                await driver_of(chain_graph(3), platform, Slots(3)).run()
                await platform.aclose()
    assert small_path.requests == 3
    assert sorted(one for pod in large for one in pod.served) == ["q/0/1/1", "q/0/2/1"]


# Time


async def test_a_task_longer_than_the_request_may_take_is_cancelled_in_its_pod_and_counts_against_the_platform() -> None:
    pods: list[AnsweringPod] = []
    path = DataPath(answering(60.0, pods), timeout_s=0.05)
    async with sending_to(path) as platform:
        with pytest.raises(FunctionLostError, match="stream broke"):
            await events_of(platform, task_request())
        assert sum(pod.cancelled for pod in pods) == 1
        settings = Settings(max_platform_failures=2, retry_backoff_s=0.001)
        with pytest.raises(FunctionLostError, match="stream broke"):
            await driver_of(chain_graph(1), platform, Slots(1), settings).run()
        assert sum(pod.cancelled for pod in pods) == 1 + 2


# Pods that end


async def test_a_pod_that_is_told_to_end_finishes_its_task_and_gets_no_other(tmp_path: Path) -> None:
    with contextlib.ExitStack() as processes:
        started: list[tuple[ProcessPod, int]] = []

        async def make() -> Pod:
            folder = tmp_path / str(len(started))
            folder.mkdir()
            run = function_process(folder, env={"POLARS_MAX_THREADS": "1", "FRAZIL_STORE_URL": str(tmp_path / "store")})
            function = await asyncio.to_thread(processes.enter_context, run)
            pod = ProcessPod(f"http://127.0.0.1:{function.port}/", lambda: os.kill(function.pid, signal.SIGTERM))
            started.append((pod, function.pid))
            return pod

        path = DataPath(make, max_scale=2)
        async with sending_to(path) as platform:
            running = platform.invoke(task_request(output=Output(kind="single", prefix="x", inline_limit_bytes=0)))
            assert await anext(running) == Started(cold_start=True)
            path.kill(started[0][0])
            assert (await descriptor_of(platform, task_request(task=1))).key is None, "by another pod"
            last = [event async for event in running][-1]
            assert isinstance(last, Succeeded)
            assert last.descriptor.key is not None
            await eventually_async(lambda: len(started) == 2 and path.pods == [started[1][0]], "it has ended")


async def test_a_revision_may_roll_in_the_middle_of_a_query_and_the_answer_is_polars_own(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": [value % 3 for value in range(40)], "v": range(40)})
    frame.write_parquet(tmp_path / "t.parquet")
    lf = pl.scan_parquet(tmp_path / "t.parquet").group_by("k").agg(pl.col("v").sum()).sort("k")
    graph = plan_query(lf.serialize(), TINY)
    store = FolderStore(tmp_path / "store")
    old, new = list[AppPod](), list[AppPod]()
    path = DataPath(apps(store, old), max_scale=2)
    async with sending_to(path) as platform:
        rolled = False

        def roll(done: int) -> None:
            nonlocal rolled
            if done >= 3 and not rolled:
                rolled = True
                path.roll(apps(store, new))

        driver = QueryDriver(
            query=QueryId("q"),
            graph=graph,
            platform=platform,
            exchange_prefix="x",
            settings=TINY,
            slots=Slots(2),
            on_progress=lambda progress: roll(sum(stage.done for stage in progress.stages)),
        )
        blocks = await driver.run()
    answer = pl.concat([each for each in read_exchange(store, ExchangeInput(blocks=blocks)) if each.width])
    assert_same(answer, lf.collect(), ordered=True)
    assert sum(pod.served for pod in old) >= 3
    assert sum(pod.served for pod in new) >= 3
    assert path.answers == {}


async def test_an_update_rolls_while_an_old_query_ends_on_the_old_release_which_then_goes(tmp_path: Path) -> None:
    old_pods, new_pods = list[AnsweringPod](), list[AnsweringPod]()
    old_path, new_path = DataPath(answering(0.02, old_pods), max_scale=1), DataPath(answering(pods=new_pods))
    with kube_api() as double, client_of(double, tmp_path) as api:
        async with contextlib.AsyncExitStack() as stack:
            for release, path in (("old", old_path), ("new", new_path)):
                await stack.enter_async_context(data_path(path))
                double.put(function_service_object(release=release, polars=pl.__version__))
                address_of(double, f"{SMALL}-{release}", path.url)
            old = await stack.enter_async_context(live_fleet(api, holder="old", release="old", polars=pl.__version__))
            new = await stack.enter_async_context(live_fleet(api, holder="new", release="new", polars=pl.__version__))
            before, after = (KnativePlatform(each.fleet, (KEY,)) for each in (old, new))
            began = asyncio.ensure_future(driver_of(chain_graph(5), before, Slots(1)).run())
            await eventually_async(lambda: old_path.requests > 0, "the old query has begun")
            await driver_of(chain_graph(5), after, Slots(1)).run()
            assert await new.keeper.round(new.fleet.used()) == ()
            await began
            assert (old_path.requests, new_path.requests) == (5, 5)
            for each in (before, after):
                await each.aclose()
            old.keeper.may_delete = new.keeper.may_delete = lambda: False
        double.put(function_service_object(release="newer", polars=pl.__version__))
        keeper = Keeper(api, "newer", lambda: frozenset({"newer"}), unix=lambda: time.time() + 1000)
        gone = await keeper.round(frozenset({"newer"}))
        assert set(gone) == {f"{SMALL}-old", f"{SMALL}-new"}, "both coordinators have ended, and used nothing any more"


async def test_a_request_that_the_ingress_sends_twice_leaves_two_objects_of_which_one_counts(tmp_path: Path) -> None:
    pods: list[AppPod] = []
    store = FolderStore(tmp_path / "store")
    path = DataPath(apps(store, pods), max_scale=2)
    async with sending_to(path) as platform:
        path.replays = 1
        frame = pl.LazyFrame({"x": [1, 2, 3]})
        request = task_request(frame, output=Output(kind="single", prefix="x", inline_limit_bytes=0))
        descriptor = await descriptor_of(platform, request)
    written = {info.key for info in store.list("x")}
    assert len(written) == 2
    assert descriptor.key in written
    assert sum(pod.served for pod in pods) == 2


async def test_a_pod_that_dies_before_it_answers_is_a_lost_function_and_the_task_is_sent_again() -> None:
    class Dying(AnsweringPod):
        async def serve(self, headers: dict[str, str], body: bytes, answer: Downstream) -> None:
            raise LostPodError

    made: list[Pod] = []

    async def make() -> Pod:
        made.append(AnsweringPod() if made else Dying())
        return made[-1]

    path = DataPath(make, max_scale=1)
    async with sending_to(path) as platform:
        await driver_of(chain_graph(3), platform, Slots(1)).run()
        assert path.answers == {502: 1}
        assert platform.status().died_total == 1
