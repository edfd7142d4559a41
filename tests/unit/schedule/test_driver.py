"""The driver against a scripted platform, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from frazil_coordinator.plan.model import INLINE_FRAGMENT_BYTES, ExchangeSource, StageGraph
from frazil_coordinator.schedule.arms import StoredFragment
from frazil_coordinator.schedule.driver import QueryDriver
from frazil_coordinator.schedule.laid_out import PutFragment
from frazil_coordinator.schedule.progress import Progress
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.settings import Settings
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.errors import (
    BlockError,
    CancelledQueryError,
    DeadlineError,
    FrazilError,
    FunctionBusyError,
    FunctionLostError,
    InternalError,
    ProtocolError,
    QueryError,
    StorageError,
)
from frazil_functions.ids import QueryId, StageId
from frazil_functions.task import BlockRef, ExchangeInput, Started, TaskEvent, TaskRequest
from support.scripted import (
    Script,
    ScriptedPlatform,
    chain_graph,
    fail,
    forever,
    graph_of,
    heartbeat,
    stage_of,
    started,
    succeed,
)
from support.virtual_time import run_virtually


class Run:
    """One query: what it was given and what came of it."""

    def __init__(
        self,
        graph: StageGraph,
        script: Script | None = None,
        *,
        settings: Settings | None = None,
        slots: Slots | None = None,
        platform: ScriptedPlatform | None = None,
        put_fragment: PutFragment | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        name: str = "q",
    ) -> None:
        self.platform = platform or ScriptedPlatform()
        if script is not None:
            self.platform.script = script
        self.slots = slots or Slots(100)
        self.progress: list[Progress] = []
        self.seconds = 0.0

        def make(clock: Callable[[], float]) -> QueryDriver:
            return QueryDriver(
                query=QueryId(name),
                graph=graph,
                platform=self.platform,
                exchange_prefix="x",
                settings=settings or Settings(),
                slots=self.slots,
                on_progress=on_progress or self.progress.append,
                clock=clock,
                put_fragment=put_fragment,
            )

        self._make = make
        self.driver: QueryDriver

    async def go(self, beside: Callable[[Run], Awaitable[None]] | None = None) -> tuple[BlockRef, ...]:
        loop = asyncio.get_running_loop()
        self.driver = self._make(loop.time)
        began = loop.time()
        try:
            if beside is None:
                return await self.driver.run()
            async with asyncio.TaskGroup() as group:
                running = group.create_task(self.driver.run())
                await beside(self)
                return await running
        finally:
            self.seconds = loop.time() - began

    def ok(self) -> tuple[BlockRef, ...]:
        blocks = run_virtually(self.go())
        assert self.slots.taken == 0
        return blocks

    def error(self) -> FrazilError:
        with pytest.raises(FrazilError) as caught:
            run_virtually(self.go())
        assert self.slots.taken == 0
        assert self.platform.in_flight == 0
        return caught.value


def on_attempt(steps: dict[str, list[object]]) -> Script:
    """Return a script that does `steps` for the ``stage/task/attempt`` named, and succeeds otherwise."""

    def script(request: TaskRequest) -> list[object]:
        return steps.get(request.id.partition("/")[2], [started, 1.0, succeed(request)])

    return script  # type: ignore[return-value]  # the steps are written out in each test


def test_a_query_runs_its_stages_one_after_the_other_and_returns_the_roots_blocks_by_task() -> None:
    run = Run(chain_graph(2, 3), lambda request: [started, float(3 - request.task), succeed(request, blocks=2)])
    blocks = run.ok()
    assert run.platform.ids == ["0/0/0", "0/1/0", "1/0/0", "1/1/0", "1/2/0"]
    assert [(block.map_index, block.offset) for block in blocks] == [(0, 0), (0, 100), (1, 0), (1, 100), (2, 0), (2, 100)]
    assert run.seconds == 6.0


def test_a_consumer_reads_what_its_producers_committed() -> None:
    run = Run(chain_graph(2, 1), on_attempt({"0/1/0": [StorageError("no")]}))
    run.ok()
    (read,) = run.platform.requests[-1].inputs
    assert isinstance(read, ExchangeInput)
    assert [block.key.rpartition("/")[2] for block in read.blocks] == ["0-x", "1-x"]


def test_independent_stages_run_in_parallel() -> None:
    graph = graph_of(
        stage_of(0, 1),
        stage_of(1, 1),
        stage_of(2, 1, *(ExchangeSource(stage=StageId(number), read="all") for number in (0, 1))),
    )
    run = Run(graph)
    run.ok()
    assert run.platform.times == [0.0, 0.0, 1.0]


def test_a_failed_attempt_is_tried_again_after_a_delay_that_doubles() -> None:
    error = StorageError("slow down")
    run = Run(chain_graph(1), on_attempt({f"0/0/{number}": [started, fail(error)] for number in range(3)}))
    run.ok()
    assert run.platform.times == pytest.approx([0.0, 0.1, 0.3, 0.7])


def test_the_delay_has_an_upper_bound() -> None:
    settings = Settings(max_attempts=20, retry_backoff_s=1.0, retry_backoff_max_s=3.0)
    run = Run(chain_graph(1), on_attempt({f"0/0/{number}": [StorageError("no")] for number in range(5)}), settings=settings)
    run.ok()
    assert run.platform.times == [0.0, 1.0, 3.0, 6.0, 9.0, 12.0]


def test_a_task_that_used_up_its_attempts_fails_the_query_with_its_history() -> None:
    def script(request: TaskRequest) -> list[float | TaskEvent]:
        if request.task == 1:
            return [started, 0.5, fail(BlockError(f"block {request.attempt} is gone"))]
        return [started, forever]

    run = Run(chain_graph(3), lambda request: script(request), settings=Settings(max_attempts=3))
    error = run.error()
    assert type(error) is BlockError
    assert error.where == {"stage": "0", "task": "1"}
    assert "the task was tried 3 times" in error.message
    assert [f"attempt {n}: block after 0.50 s: block {n} is gone" in error.message for n in range(3)] == [True] * 3
    assert run.platform.ids == ["0/0/0", "0/1/0", "0/2/0", "0/1/1", "0/1/2"]


def test_failures_of_the_platform_do_not_count_against_the_task() -> None:
    lost: dict[str, list[object]] = {f"0/0/{number}": [FunctionBusyError("503")] for number in range(6)}
    run = Run(chain_graph(1), on_attempt(lost), settings=Settings(max_attempts=1, max_platform_failures=7))
    run.ok()
    assert len(run.platform.ids) == 7


def test_too_many_failures_of_the_platform_fail_the_query() -> None:
    run = Run(chain_graph(1), lambda request: [FunctionLostError("killed")], settings=Settings(max_platform_failures=5))
    assert type(run.error()) is FunctionLostError
    assert len(run.platform.ids) == 5


def test_a_stream_without_a_last_event_is_a_lost_function_and_is_tried_again() -> None:
    run = Run(chain_graph(1), on_attempt({"0/0/0": [started, heartbeat]}))
    run.ok()
    assert run.platform.ids == ["0/0/0", "0/0/1"]
    (failed,) = run.driver.profile()["stages"][0]["failed_attempts"]
    assert (failed["kind"], failed["attempt"]) == ("function_lost", 0)


@pytest.mark.parametrize("error", [QueryError("no column", exception="ColumnNotFoundError"), ProtocolError("not signed")])
def test_an_error_that_is_not_retryable_fails_the_query_at_once_and_stops_what_runs(error: FrazilError) -> None:
    run = Run(chain_graph(3), lambda request: [started, fail(error)] if request.task == 1 else [started, forever])
    raised = run.error()
    assert type(raised) is type(error)
    assert raised.message == error.message
    assert raised.where["task"] == "1"
    assert run.platform.cancelled == ["q/0/0/0", "q/0/2/0"]
    assert run.seconds == 0.0


def test_a_polars_error_keeps_the_name_of_its_class() -> None:
    run = Run(chain_graph(1), lambda request: [fail(QueryError("no column", exception="ColumnNotFoundError"))])
    error = run.error()
    assert isinstance(error, QueryError)
    assert error.exception == "ColumnNotFoundError"


def test_an_answer_that_comes_twice_is_committed_once() -> None:
    run = Run(chain_graph(2, 1), lambda request: [started, 1.0, succeed(request), succeed(request)])
    run.ok()
    assert run.platform.ids == ["0/0/0", "0/1/0", "1/0/0"]
    assert [stage["attempts"] for stage in run.driver.profile()["stages"]] == [2, 1]


def test_a_silent_attempt_is_given_up_and_tried_again() -> None:
    run = Run(chain_graph(1), on_attempt({"0/0/0": [started, 3.0, heartbeat, forever]}), settings=Settings(heartbeat_s=1.0))
    run.ok()
    assert run.platform.cancelled == ["q/0/0/0"]
    assert run.platform.times == pytest.approx([0.0, 7.1])
    (failed,) = run.driver.profile()["stages"][0]["failed_attempts"]
    assert failed["kind"] == "function_lost"
    assert "was silent for 4 s" in failed["message"]


def test_an_attempt_that_beats_is_never_given_up() -> None:
    beats: list[object] = [step for _ in range(500) for step in (3.5, heartbeat)]
    run = Run(chain_graph(1), lambda request: [started, *beats, succeed(request)], settings=Settings(heartbeat_s=1.0))  # type: ignore[list-item]  # steps
    run.ok()
    assert run.platform.ids == ["0/0/0"]


def test_a_cold_start_may_take_longer_than_a_silence() -> None:
    settings = Settings(heartbeat_s=1.0, start_timeout_s=60.0)
    run = Run(chain_graph(1), lambda request: [50.0, started, succeed(request)], settings=settings)
    run.ok()
    assert run.platform.ids == ["0/0/0"]
    run = Run(chain_graph(1), on_attempt({"0/0/0": [forever]}), settings=settings)
    run.ok()
    assert run.platform.times == pytest.approx([0.0, 60.1])


def test_cancel_stops_every_attempt_and_starts_no_other() -> None:
    async def cancel(run: Run) -> None:
        await asyncio.sleep(1.5)
        run.driver.cancel()

    run = Run(chain_graph(2, 2, 1), lambda request: [started, 1.0 if request.stage == 0 else forever, succeed(request)])
    with pytest.raises(ExceptionGroup) as caught:
        run_virtually(run.go(cancel))
    assert type(caught.value.exceptions[0]) is CancelledQueryError
    assert run.platform.cancelled == ["q/1/0/0", "q/1/1/0"]
    assert (run.slots.taken, run.platform.in_flight, run.seconds) == (0, 0, 1.5)
    assert run.driver.profile()["state"] == "cancelled"


def test_cancel_before_the_start_runs_nothing() -> None:
    async def main() -> None:
        run = Run(chain_graph(1))
        driver = QueryDriver(
            query=QueryId("q"), graph=chain_graph(1), platform=run.platform, exchange_prefix="x",
            settings=Settings(), slots=run.slots, clock=asyncio.get_running_loop().time,
        )  # fmt: skip
        driver.cancel()
        with pytest.raises(CancelledQueryError):
            await driver.run()
        assert run.platform.ids == []

    run_virtually(main())


def test_cancelling_the_coroutine_itself_stops_every_attempt_and_gives_back_its_slots() -> None:
    async def main() -> None:
        run = Run(chain_graph(3), lambda request: [started, forever])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await run.go()
        assert len(run.platform.cancelled) == 3
        assert run.slots.taken == 0

    run_virtually(main())


def test_a_query_that_is_not_done_at_its_deadline_fails() -> None:
    run = Run(chain_graph(2), lambda request: [started, 1.0, heartbeat, forever], settings=Settings(timeout_s=10.0))
    error = run.error()
    assert type(error) is DeadlineError
    assert run.seconds == 10.0
    assert all(request.deadline_unix_s is not None for request in run.platform.requests)
    assert len(run.platform.cancelled) == 2


def test_queries_share_the_slots_and_none_is_left_behind() -> None:
    async def main() -> None:
        slots = Slots(4)
        platform = ScriptedPlatform()
        runs = [Run(chain_graph(20, 1), slots=slots, platform=platform, name=name) for name in "abc"]
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(run.go())
        assert platform.most_in_flight == 4
        assert slots.taken == 0
        first = [request.query for request in platform.requests[:16]]
        assert min(first.count(QueryId(name)) for name in "abc") >= 4

    run_virtually(main())


def test_progress_tells_each_change_and_ends_with_all_done() -> None:
    run = Run(chain_graph(2, 1), on_attempt({"0/1/0": [StorageError("no")]}))
    run.ok()
    first, last = run.progress[0], run.progress[-1]
    assert (first.query, first.stages[0].running) == ("q", 1)
    assert [(s.id, s.kind, s.tasks, s.running, s.done, s.attempts, s.retries, s.rows, s.bytes) for s in last.stages] == [
        (0, "map", 2, 0, 2, 3, 1, 20, 200),
        (1, "map", 1, 0, 1, 1, 0, 10, 100),
    ]
    done = [sum(stage.done for stage in one.stages) for one in run.progress]
    assert done == sorted(done)


def test_the_profile_is_json_and_has_the_documented_figures() -> None:
    def script(request: TaskRequest) -> list[float | TaskEvent]:
        if request.id == "q/0/1/0":
            return [started, 0.25, fail(StorageError("no"))]
        return [Started(cold_start=request.task == 0), 1.0, succeed(request, blocks=3)]

    run = Run(chain_graph(2, 1), lambda request: script(request))
    run.ok()
    profile = run.driver.profile()
    assert json.loads(json.dumps(profile)) == profile
    assert (profile["query"], profile["state"]) == ("q", "succeeded")
    stage = profile["stages"][0]
    expected = {
        "stage": 0,
        "kind": "map",
        "tasks": 2,
        "attempts": 3,
        "rows_in": 40,
        "rows_out": 60,
        "bytes_in": 100,
        "bytes_out": 600,
        "blocks": 6,
        "requests": {"get": 4, "put": 2},
        "seconds": pytest.approx(1.35),
        "function_seconds": 1.25,
        "peak_memory_bytes": 1001,
        "cold_starts": 1,
        "fallbacks": [],
    }
    assert {name: dict(stage)[name] for name in expected} == expected
    (failed,) = stage["failed_attempts"]
    assert (failed["task"], failed["attempt"], failed["kind"], failed["requests"]) == (1, 0, "storage", {"get": 1})
    assert [(task["task"], task["attempts"]) for task in stage["task_list"]] == [(0, 1), (1, 2)]
    assert [task["attempt"] for task in stage["task_list"]] == [0, 1]
    assert [task["began_s"] for task in stage["task_list"]] == pytest.approx([0.0, 0.35])
    assert [task["ended_s"] for task in stage["task_list"]] == pytest.approx([1.0, 1.35])
    assert (failed["began_s"], failed["cold_start"], stage["running"]) == (0.0, False, [])


def test_a_request_carries_versions_limits_and_where_to_write() -> None:
    import polars as pl

    run = Run(chain_graph(1), settings=Settings(function_memory_bytes=5, heartbeat_s=2.0))
    run.ok()
    (request,) = run.platform.requests
    assert (request.polars_version, request.protocol_version) == (pl.__version__, PROTOCOL_VERSION)
    assert (request.limits.memory_bytes, request.limits.heartbeat_s) == (5, 2.0)
    assert request.output.prefix.startswith("x/")
    assert request.output.prefix.endswith("/q/0/0")
    assert request.deadline_unix_s is None


def test_a_large_fragment_travels_as_an_object_once() -> None:
    put: list[int] = []

    async def put_fragment(stage: StageId, fragment: bytes) -> StoredFragment:
        put.append(len(fragment))
        await asyncio.sleep(1.0)
        return StoredFragment(key=f"fragments/{stage}", secret=b"secret")

    size = INLINE_FRAGMENT_BYTES + 1
    run = Run(graph_of(stage_of(0, 2, fragment=b"x" * size)), put_fragment=put_fragment)
    run.ok()
    assert put == [size]
    sent = [(request.fragment, request.fragment_key, request.fragment_secret) for request in run.platform.requests]
    assert sent == [(b"", "fragments/0", b"secret")] * 2


def test_a_fragment_that_can_not_be_stored_fails_the_query() -> None:
    async def put_fragment(stage: StageId, fragment: bytes) -> StoredFragment:
        raise StorageError("the store is full")

    run = Run(graph_of(stage_of(0, 1, fragment=b"x" * (INLINE_FRAGMENT_BYTES + 1))), put_fragment=put_fragment)
    assert run.error().message == "the store is full"
    assert run.platform.ids == []


def test_a_fault_of_the_platforms_code_is_an_internal_error_that_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def script(request: TaskRequest) -> list[TaskEvent]:
        if request.attempt == 0:
            raise ZeroDivisionError("oops")
        return [succeed(request)]

    run = Run(chain_graph(1), lambda request: script(request))
    run.ok()
    assert run.driver.profile()["stages"][0]["failed_attempts"][0]["kind"] == "internal"
    assert "attempt failed in the platform" in caplog.text


def test_a_fault_of_the_coordinators_code_ends_the_query_as_an_internal_error() -> None:
    def broken(progress: Progress) -> None:
        raise ZeroDivisionError("oops")

    run = Run(chain_graph(2), lambda request: [started, forever], on_progress=broken)
    error = run.error()
    assert type(error) is InternalError
    assert "oops" in error.message
    assert run.driver.profile()["state"] == "failed"


def test_a_graph_that_can_not_be_bound_fails_the_query() -> None:
    stage = stage_of(0, 2)
    wrong = graph_of(stage_of(0, 3, *stage.sources))
    assert "3 tasks" in Run(wrong).error().message
