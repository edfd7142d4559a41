"""The coordinator object: queries from submission to their end, and what is left of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.refusals import NotPlannedError, PlanTooLargeError, ShuttingDownError
from frazil_coordinator.registry import TooManyQueriesError, UnknownQueryError
from frazil_coordinator.retention import SMALL_RESULT_BYTES, ResultGoneError
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, QueryStatus, Wanted
from frazil_functions.errors import (
    CancelledQueryError,
    DeadlineError,
    FunctionLostError,
    InternalError,
    PlanError,
    QueryError,
    StorageError,
)
from frazil_functions.ids import QueryId
from frazil_functions.storage import CountingStore, FolderStore, Store
from frazil_functions.task import TaskRequest
from support.fragments import FragmentPlatform, Gate, plan_in_stages
from support.polling import eventually_async

OBJECTS = Settings(inline_limit_bytes=0, retry_backoff_s=0.0)
"""All output goes through the store."""

SMALL = pl.LazyFrame({"a": [1, 2, 3]})
LARGE = pl.LazyFrame({"a": range(3 * SMALL_RESULT_BYTES // 8)})


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(FolderStore(tmp_path))


@asynccontextmanager
async def opened(
    store: Store,
    *,
    settings: Settings = OBJECTS,
    planner: Callable[[bytes, Settings], StageGraph] | None = None,
    sweep_after_s: tuple[float, ...] = (),
) -> AsyncIterator[tuple[Coordinator, FragmentPlatform]]:
    platform = FragmentPlatform(store)
    coordinator = Coordinator(
        settings=settings,
        platform=platform,
        store=store,
        planner=planner or plan_in_stages(2),
        sweep_after_s=sweep_after_s,
    )
    try:
        yield coordinator, platform
    finally:
        await coordinator.aclose()
        assert left(store) == []


def left(store: Store) -> list[str]:
    return [found.key for found in store.list("exchange")]


async def collect(coordinator: Coordinator, query: QueryId) -> pl.DataFrame:
    return pl.concat([frame async for frame in coordinator.result(query)])


async def test_a_query_is_planned_run_and_read_and_leaves_nothing(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        accepted = await coordinator.submit(SMALL.serialize(), labels=["mine"])
        assert accepted.state is QueryState.PLANNING
        status = await coordinator.wait(accepted.id)
        assert (status.state, status.rows, status.labels) == (QueryState.SUCCEEDED, 3, ("mine",))
        assert status.started_unix_s is not None
        assert status.ended_unix_s is not None
        assert status.submitted_unix_s <= status.started_unix_s <= status.ended_unix_s
        assert [stage.done for stage in status.progress] == [1, 1]
        assert left(store) == []
        assert_frame_equal(await collect(coordinator, accepted.id), SMALL.collect())


async def test_a_small_result_can_be_read_again(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        query = (await coordinator.submit(SMALL.serialize())).id
        for _ in range(2):
            assert_frame_equal(await collect(coordinator, query), SMALL.collect())


async def test_a_large_result_lies_in_the_store_until_it_was_read_once(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        query = (await coordinator.submit(LARGE.serialize())).id
        await coordinator.wait(query)
        assert [key.split("/")[3] for key in left(store)] == ["1"], "only the root stage's"
        assert_frame_equal(await collect(coordinator, query), LARGE.collect())
        assert left(store) == []
        with pytest.raises(ResultGoneError, match="read once"):
            await collect(coordinator, query)


async def test_a_large_result_that_was_read_in_part_can_be_read_again(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        query = (await coordinator.submit(LARGE.serialize())).id
        frames = coordinator.result(query)
        await anext(frames)
        await frames.aclose()
        assert (await collect(coordinator, query)).height == LARGE.collect().height


async def test_two_readers_of_a_large_result_both_get_all_of_it(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        query = (await coordinator.submit(LARGE.serialize())).id
        slow = coordinator.result(query)
        first = await anext(slow)
        await collect(coordinator, query)
        rest = [frame async for frame in slow]
        assert_frame_equal(pl.concat([first, *rest]), LARGE.collect())
        assert left(store) == []


async def test_a_result_that_nobody_read_is_deleted_when_its_time_is_up(store: CountingStore) -> None:
    async with opened(store, settings=Settings(inline_limit_bytes=0, result_ttl_s=0.01)) as (coordinator, _):
        query = (await coordinator.submit(LARGE.serialize())).id
        await coordinator.wait(query)
        await eventually_async(lambda: not left(store), "the result is deleted")
        with pytest.raises(ResultGoneError):
            await collect(coordinator, query)


async def test_an_inline_query_sends_no_request_to_the_store(store: CountingStore) -> None:
    async with opened(store, settings=Settings()) as (coordinator, _):
        await collect(coordinator, (await coordinator.submit(SMALL.serialize())).id)
        assert not any(store.requests.values())


async def test_a_result_without_rows_has_its_schema(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        query = (await coordinator.submit(SMALL.filter(pl.col("a") > 9).serialize())).id
        assert_frame_equal(await collect(coordinator, query), SMALL.collect().clear())


async def test_blocks_of_several_tasks_come_in_order(store: CountingStore) -> None:
    async with opened(store, planner=plan_in_stages(1, tasks=3)) as (coordinator, _):
        query = (await coordinator.submit(SMALL.serialize())).id
        assert (await collect(coordinator, query))["a"].to_list() == [1, 2, 3] * 3


async def test_events_begin_with_the_present_state_and_end_with_the_query(store: CountingStore) -> None:
    async with opened(store) as (coordinator, platform):
        platform.before = gate = Gate()
        query = (await coordinator.submit(SMALL.serialize())).id
        events = coordinator.events(query)
        seen = [await anext(events)]
        await gate.reached.wait()
        gate.open.set()
        seen += [event async for event in events]
        states = [event.status.state for event in seen if event.kind == "state"]
        assert states[0] is QueryState.PLANNING
        assert states[-1] is QueryState.SUCCEEDED
        assert states == sorted(set(states), key=list(QueryState).index)
        assert [event.number for event in seen] == sorted({event.number for event in seen})
        assert [event.status.state async for event in coordinator.events(query)] == [QueryState.SUCCEEDED]


async def test_a_slow_reader_of_events_gets_the_latest_only(store: CountingStore) -> None:
    async with opened(store, planner=plan_in_stages(1, tasks=20)) as (coordinator, _):
        query = (await coordinator.submit(SMALL.serialize())).id
        events = coordinator.events(query)
        await anext(events)
        await coordinator.wait(query)
        assert [event.status.state async for event in events] == [QueryState.SUCCEEDED]


async def test_a_wait_ends_when_its_time_is_up(store: CountingStore) -> None:
    async with opened(store) as (coordinator, platform):
        platform.before = gate = Gate()
        query = (await coordinator.submit(SMALL.serialize())).id
        await gate.reached.wait()
        assert (await coordinator.wait(query, 0.01)).state is QueryState.RUNNING


async def test_cancel_returns_when_the_query_has_stopped_and_left_nothing(store: CountingStore) -> None:
    async with opened(store) as (coordinator, platform):
        reached = asyncio.Event()

        async def hold_the_second_stage(request: TaskRequest) -> None:
            if request.stage == 1:
                reached.set()
                await asyncio.Event().wait()

        platform.before = hold_the_second_stage
        query = (await coordinator.submit(SMALL.serialize())).id
        await reached.wait()
        assert left(store)
        status = await coordinator.cancel(query)
        assert status.state is QueryState.CANCELLED
        assert left(store) == []
        assert len(platform.late) == 1, "the attempt was stopped"
        assert await coordinator.cancel(query) == status
        with pytest.raises(CancelledQueryError):
            await collect(coordinator, query)


async def test_objects_of_attempts_that_finish_late_are_swept(store: CountingStore) -> None:
    async with opened(store, sweep_after_s=(0.01, 0.02, 0.03, 0.5)) as (coordinator, platform):
        platform.before = gate = Gate()
        query = (await coordinator.submit(SMALL.serialize())).id
        await gate.reached.wait()
        await coordinator.cancel(query)
        store.put(platform.late[0], [b"late"])
        await eventually_async(lambda: not left(store), "the late object is deleted")


async def test_a_late_object_is_deleted_at_the_latest_when_the_coordinator_closes(store: CountingStore) -> None:
    async with opened(store, sweep_after_s=(3600.0,)) as (coordinator, platform):
        platform.before = gate = Gate()
        query = (await coordinator.submit(SMALL.serialize())).id
        await gate.reached.wait()
        await coordinator.cancel(query)
        store.put(platform.late[0], [b"late"])


async def test_a_query_can_be_cancelled_while_it_is_planned(store: CountingStore) -> None:
    planning, go_on = threading.Event(), threading.Event()

    def slow(plan: bytes, settings: Settings) -> StageGraph:
        planning.set()
        go_on.wait(20)
        return plan_in_stages(1)(plan, settings)

    async with opened(store, planner=slow) as (coordinator, platform):
        query = (await coordinator.submit(SMALL.serialize())).id
        await asyncio.to_thread(planning.wait, 20)
        with pytest.raises(NotPlannedError):
            coordinator.explanation(query)
        assert (await coordinator.cancel(query)).state is QueryState.CANCELLED
        go_on.set()
        assert platform.requests == []


async def test_time_spent_planning_counts(store: CountingStore) -> None:
    go_on = threading.Event()

    def slow(plan: bytes, settings: Settings) -> StageGraph:
        go_on.wait(20)
        return plan_in_stages(1)(plan, settings)

    async with opened(store, planner=slow) as (coordinator, _):
        query = (await coordinator.submit(SMALL.serialize(), settings=Settings(timeout_s=0.01))).id
        status = await coordinator.wait(query)
        go_on.set()
        assert status.error is not None
        assert status.error.kind == DeadlineError.kind


async def test_the_error_of_a_deadline_names_the_time_that_was_asked_for(store: CountingStore) -> None:
    def slow(plan: bytes, settings: Settings) -> StageGraph:
        threading.Event().wait(0.02)  # planning takes its part of the time
        return plan_in_stages(1)(plan, settings)

    async with opened(store, planner=slow) as (coordinator, platform):

        async def hold(request: TaskRequest) -> None:
            await asyncio.Event().wait()

        platform.before = hold
        status = await coordinator.wait((await coordinator.submit(SMALL.serialize(), settings=Settings(timeout_s=0.2))).id)
        assert status.error is not None
        assert status.error.message == "the query did not end within 0.2 s"


async def failed(coordinator: Coordinator, plan: bytes) -> QueryStatus:
    status = await coordinator.wait((await coordinator.submit(plan)).id)
    assert status.state is QueryState.FAILED
    return status


async def test_an_error_of_polars_in_a_function_is_the_error_of_the_query(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        status = await failed(coordinator, pl.LazyFrame({"a": ["x"]}).select(pl.col("a").cast(pl.Int64)).serialize())
        assert status.error is not None
        assert (status.error.kind, status.error.exception) == ("query", "InvalidOperationError")
        assert status.error.where["stage"] == "0"
        with pytest.raises(QueryError):
            await collect(coordinator, status.id)
        assert left(store) == []


@pytest.mark.parametrize(
    ("raised", "kind", "exception"),
    [
        (PlanError("not a plan"), "plan", ""),
        (pl.exceptions.ColumnNotFoundError("nope"), "query", "ColumnNotFoundError"),
        (pl.exceptions.PanicException("boom"), "query", "PanicException"),
        (RuntimeError("secret"), "internal", ""),
    ],
)
async def test_whatever_planning_raises_ends_the_query(
    store: CountingStore, raised: BaseException, kind: str, exception: str
) -> None:
    def planner(plan: bytes, settings: Settings) -> StageGraph:
        raise raised

    async with opened(store, planner=planner) as (coordinator, _):
        status = await failed(coordinator, b"anything")
        assert status.error is not None
        assert (status.error.kind, status.error.exception) == (kind, exception)
        assert "secret" not in status.error.message
        with pytest.raises((PlanError, QueryError, InternalError)):
            coordinator.explanation(status.id)
        assert coordinator.profile(status.id) == {"query": status.id, "stages": []}


async def test_a_lost_attempt_is_tried_again_and_leaves_nothing(store: CountingStore) -> None:
    async with opened(store) as (coordinator, platform):

        async def lose_the_first(request: TaskRequest) -> None:
            if request.attempt == 0:
                store.put(f"{request.output.prefix}/0-lost", [b"half"])
                raise FunctionLostError("gone")

        platform.before = lose_the_first
        query = (await coordinator.submit(SMALL.serialize())).id
        assert_frame_equal(await collect(coordinator, query), SMALL.collect())
        assert [stage.attempts for stage in coordinator.status(query).progress] == [2, 2]
        assert left(store) == []


async def test_fallbacks_are_told_to_those_who_want_a_warning_only(store: CountingStore) -> None:
    async with opened(store, planner=plan_in_stages(1)) as (coordinator, _):
        plan = SMALL.serialize()
        silent = await coordinator.submit(plan)
        warned = await coordinator.submit(plan, settings=Settings(fallback="warn"))
        assert (await coordinator.wait(silent.id)).fallbacks == ()
        assert (await coordinator.wait(warned.id)).fallbacks == ("a reason",)


async def test_a_query_gets_no_right_that_its_coordinator_does_not_give(store: CountingStore) -> None:
    seen: list[bool] = []

    def planner(plan: bytes, settings: Settings) -> StageGraph:
        seen.append(settings.allow_udfs)
        return plan_in_stages(1)(plan, settings)

    for given in (False, True):
        async with opened(store, settings=replace(OBJECTS, allow_udfs=given), planner=planner) as (coordinator, _):
            for asked in (None, Settings(allow_udfs=True), Settings(allow_udfs=False)):
                await coordinator.explain(SMALL.serialize(), asked)
                await coordinator.wait((await coordinator.submit(SMALL.serialize(), settings=asked)).id)
    assert seen == [False] * 6 + [True, True, True, True, False, False]


async def test_plan_and_profile_can_be_asked_for_after_the_end(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        query = (await coordinator.submit(SMALL.serialize())).id
        await coordinator.wait(query)
        assert len(coordinator.explanation(query).stages) == 2
        stages = coordinator.profile(query)["stages"]
        assert isinstance(stages, list)
        assert [stage["rows_out"] for stage in stages] == [3, 3]


async def test_explain_runs_nothing(store: CountingStore) -> None:
    async with opened(store) as (coordinator, platform):
        explanation = await coordinator.explain(SMALL.serialize())
        assert len(explanation.stages) == 2
        assert explanation.text
        assert platform.requests == []
        assert coordinator.list() == ()


async def test_a_plan_over_the_limit_is_refused(store: CountingStore) -> None:
    async with opened(store, settings=Settings(max_plan_bytes=10)) as (coordinator, _):
        with pytest.raises(PlanTooLargeError, match="10 allowed"):
            await coordinator.submit(b"x" * 11, settings=Settings())
        with pytest.raises(PlanTooLargeError):
            await coordinator.explain(b"x" * 11)


async def test_the_oldest_ended_query_is_forgotten_first(store: CountingStore) -> None:
    async with opened(store, settings=Settings(inline_limit_bytes=0, max_queries=2)) as (coordinator, platform):
        first = (await coordinator.submit(LARGE.serialize())).id
        await coordinator.wait(first)
        platform.before = gate = Gate()
        second = (await coordinator.submit(SMALL.serialize())).id
        third = (await coordinator.submit(SMALL.serialize())).id
        with pytest.raises(UnknownQueryError):
            coordinator.status(first)
        with pytest.raises(TooManyQueriesError):
            await coordinator.submit(SMALL.serialize())
        assert [status.id for status in coordinator.list()] == [third, second]
        gate.open.set()
        await coordinator.wait(second)
        await coordinator.wait(third)
        assert left(store) == [], "the large result went with its query"


async def test_the_list_can_be_narrowed(store: CountingStore) -> None:
    async with opened(store) as (coordinator, _):
        good = (await coordinator.submit(SMALL.serialize(), labels=["x", "y"])).id
        bad = (await coordinator.submit(b"no plan", labels=["x"])).id
        for query in (good, bad):
            await coordinator.wait(query)
        assert [status.id for status in coordinator.list(Wanted(label="x"))] == [bad, good]
        assert [status.id for status in coordinator.list(Wanted(label="y"))] == [good]
        assert [status.id for status in coordinator.list(Wanted(state=QueryState.FAILED))] == [bad]
        assert [status.id for status in coordinator.list(Wanted(limit=1))] == [bad]


async def test_closing_cancels_what_runs_and_accepts_nothing_more(store: CountingStore) -> None:
    async with opened(store) as (coordinator, platform):
        platform.before = gate = Gate()
        query = (await coordinator.submit(SMALL.serialize())).id
        await gate.reached.wait()
        await coordinator.aclose()
        assert coordinator.status(query).state is QueryState.CANCELLED
        with pytest.raises(ShuttingDownError):
            await coordinator.submit(SMALL.serialize())
        with pytest.raises(ShuttingDownError):
            await coordinator.probe()


async def test_draining_lets_queries_end_and_their_results_be_read(store: CountingStore) -> None:
    async with opened(store) as (coordinator, platform):
        platform.before = gate = Gate()
        query = (await coordinator.submit(SMALL.serialize())).id
        await gate.reached.wait()
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(coordinator.drain(60))
            reading = group.create_task(collect(coordinator, query))
            gate.open.set()
        assert drained.done()
        assert_frame_equal(reading.result(), SMALL.collect())


async def test_draining_ends_when_the_grace_is_over(store: CountingStore) -> None:
    async with opened(store) as (coordinator, platform):
        platform.before = gate = Gate()
        query = (await coordinator.submit(SMALL.serialize())).id
        await gate.reached.wait()
        await coordinator.drain(0.01)
        assert coordinator.status(query).state is QueryState.RUNNING


class BrokenStore(FolderStore):
    """Lists and deletes nothing while it is broken."""

    broken = False

    def delete_prefix(self, prefix: str) -> int:
        if self.broken:
            raise StorageError("no")
        return super().delete_prefix(prefix)


async def test_a_store_that_fails_to_delete_does_not_fail_the_query_and_is_tried_again(tmp_path: Path) -> None:
    broken = BrokenStore(tmp_path)
    broken.broken = True
    async with opened(broken, sweep_after_s=(0.01, 0.02, 0.03, 0.5)) as (coordinator, _):
        query = (await coordinator.submit(SMALL.serialize())).id
        assert (await collect(coordinator, query)).height == 3
        assert left(broken)
        broken.broken = False
        await eventually_async(lambda: not left(broken), "the objects are deleted at last")
