"""What a coordinator keeps to run tasks again: of running queries, of failed ones, of all when that is wanted; how long."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.query_settings import for_query
from frazil_coordinator.refusals import NotPlannedError, TaskGoneError, TaskNotReadyError, UnknownTaskError
from frazil_coordinator.replays import replays
from frazil_coordinator.schedule.bind import query_prefixes
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.bundle import Bundle, decode_bundle
from frazil_functions.errors import OutOfMemoryError, QueryError, RequestError, StorageError
from frazil_functions.ids import QueryId
from frazil_functions.storage import FolderStore, PassingStore, Store
from frazil_functions.task import BlockRef, ExchangeInput, TaskRequest
from support.fragments import FragmentPlatform, Gate, plan_in_stages
from support.polling import eventually_async

SETTINGS = Settings(inline_limit_bytes=0, retry_backoff_s=0.0, max_attempts=1)
"""All output goes through the store."""

ALL = replace(SETTINGS, keep_inputs="all")
SECRET = "hunter2-is-a-credential"
PLAN = pl.LazyFrame({"a": [1, 2, 3], SECRET: ["x", "y", "z"]}).serialize()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


async def fails(request: TaskRequest) -> None:
    """Fail the second task of the second stage, which reads what both tasks of the first one wrote; the first never ends."""
    if request.stage == 1:
        if request.task == 0:
            await asyncio.Event().wait()
        raise QueryError("no such column", exception="ColumnNotFoundError", where={"stage": "1", "task": "1"})


@asynccontextmanager
async def opened(
    store: Store, settings: Settings = SETTINGS, *, journal: bool = False, before: object = None
) -> AsyncIterator[Coordinator]:
    coordinator = Coordinator(
        settings=settings,
        platform=FragmentPlatform(store, before=before),  # type: ignore[arg-type]  # what tests give is one
        store=store,
        planner=plan_in_stages(2, tasks=2),
        journal=Journal(store=store, sealer=Sealer.of(["a secret of thirty-two characters"])) if journal else None,
        sweep_after_s=(),
    )
    try:
        yield coordinator
    finally:
        await coordinator.aclose()


async def run(coordinator: Coordinator, settings: Settings | None = None, plan: bytes = PLAN) -> QueryStatus:
    accepted = await coordinator.submit(plan, settings=settings)
    return await coordinator.wait(accepted.id, 30.0)


async def bundle(coordinator: Coordinator, query: QueryId, stage: int, task: int, attempt: int | None = None) -> Bundle:
    return decode_bundle(await coordinator.replay(query, stage, task, attempt))


def blocks(found: Bundle) -> Sequence[BlockRef]:
    return [block for given in found.request.inputs if isinstance(given, ExchangeInput) for block in given.blocks]


def kept(store: Store) -> list[str]:
    return [found.key.partition("/")[2].partition("/")[2] for found in store.list("replay")]


async def test_a_task_of_a_running_query_is_given_with_what_it_reads(store: FolderStore) -> None:
    gate = Gate()

    async def second_stage_waits(request: TaskRequest) -> None:
        if request.stage == 1:
            await gate(request)

    async with opened(store, before=second_stage_waits) as coordinator:
        query = (await coordinator.submit(PLAN)).id
        await gate.reached.wait()
        found = await bundle(coordinator, query, 1, 1)
        assert (found.request.stage, found.request.task, found.request.attempt) == (1, 1, 0)
        assert found.error is None
        assert [len(block.data or b"") for block in blocks(found)] == [block.length for block in blocks(found)]
        assert len(blocks(found)) == 2, "what both tasks of the first stage wrote"
        with pytest.raises(UnknownTaskError, match="stages 0 to 1"):
            await coordinator.replay(query, 2, 0)
        with pytest.raises(UnknownTaskError, match="tasks 0 to 1"):
            await coordinator.replay(query, 1, 2)
        with pytest.raises(UnknownTaskError, match="attempts: 0"):
            await coordinator.replay(query, 0, 0, 5)
        gate.open.set()
        await coordinator.wait(query, 30.0)
        with pytest.raises(TaskGoneError, match="keep_inputs='all'"):
            await coordinator.replay(query, 1, 1)
    assert kept(store) == [], "a query that succeeded writes nothing"


async def test_a_task_whose_inputs_are_not_there_yet_is_to_be_asked_for_again(store: FolderStore) -> None:
    gate = Gate()
    async with opened(store, before=gate) as coordinator:
        query = (await coordinator.submit(PLAN)).id
        with pytest.raises(NotPlannedError, match="ask again"):
            await coordinator.replay(query, 0, 0)
        await gate.reached.wait()
        with pytest.raises(TaskNotReadyError, match="ask again"):
            await coordinator.replay(query, 1, 0)
        assert blocks(await bundle(coordinator, query, 0, 1)) == []
        gate.open.set()
        await coordinator.wait(query, 30.0)


async def test_the_task_that_failed_its_query_is_kept_sealed_when_its_exchange_is_emptied(store: FolderStore) -> None:
    async with opened(store, before=fails) as coordinator:
        ended = await run(coordinator)
        assert ended.state is QueryState.FAILED
        assert store.list("exchange") == []
        assert kept(store) == [f"{ended.id}/1-1-0"]
        assert coordinator.profile(ended.id)["replay"] == {"failed_task": "1/1/0", "bytes": store.list("replay")[0].size}
        for found in store.list("replay"):
            assert SECRET.encode() not in store.get(found.key), "a plan may hold credentials"
        found_again = await bundle(coordinator, ended.id, 1, 1)
        assert found_again.error is not None
        assert (found_again.error.exception, found_again.error.message) == ("ColumnNotFoundError", "no such column")
        assert [len(block.data or b"") for block in blocks(found_again)] == [block.length for block in blocks(found_again)]
        assert SECRET.encode() in found_again.request.fragment
        assert await bundle(coordinator, ended.id, 1, 1, 0) == found_again
        with pytest.raises(TaskGoneError, match="only the task that failed is kept: 1/1/0"):
            await coordinator.replay(ended.id, 0, 0)
        with pytest.raises(UnknownTaskError):
            await coordinator.replay(ended.id, 7, 0)
        with pytest.raises(UnknownTaskError):
            await coordinator.replay(ended.id, 0, 2)
    assert kept(store) == [], "without a journal it ends with its coordinator"


async def test_a_task_that_used_up_its_attempts_is_kept_by_its_last_one(store: FolderStore) -> None:
    async def runs_out_of_memory(request: TaskRequest) -> None:
        if request.stage == 1:
            raise OutOfMemoryError("too much")

    async with opened(store, replace(SETTINGS, max_attempts=3), before=runs_out_of_memory) as coordinator:
        ended = await run(coordinator)
        failed = coordinator.profile(ended.id)["replay"]
        assert isinstance(failed, dict)
        task = int(failed["failed_task"].split("/")[1])
        assert failed["failed_task"] == f"1/{task}/2"
        found = await bundle(coordinator, ended.id, 1, task)
        assert found.error is not None
        assert "tried 3 times" in found.error.message


@pytest.mark.parametrize("keep_inputs", ["failed", "all"])
async def test_another_coordinator_has_what_was_kept(store: FolderStore, keep_inputs: str) -> None:
    settings = replace(SETTINGS, keep_inputs=keep_inputs)  # type: ignore[arg-type]  # one of its values
    async with opened(store, settings, journal=True, before=fails) as first:
        ended = await run(first)
        expected = await bundle(first, ended.id, 1, 1)
    async with opened(store, settings, journal=True) as second:
        await second.recover()
        assert await bundle(second, ended.id, 1, 1) == expected
        if keep_inputs == "all":
            assert len(blocks(await bundle(second, ended.id, 1, 0))) == 2


async def test_what_is_kept_goes_with_the_time_of_the_result(store: FolderStore) -> None:
    async with opened(store, ALL, journal=True, before=fails) as first:
        ended = await run(first)
        await run(first)
    assert len(kept(store)) == 4
    assert store.list("exchange")
    async with opened(store, replace(ALL, result_ttl_s=0.0), journal=True) as second:
        await second.recover()
        await eventually_async(lambda: not [*store.list("replay"), *store.list("exchange")], "all of it is deleted")
        with pytest.raises(TaskGoneError, match="result_ttl_s"):
            await second.replay(ended.id, 1, 1)


async def test_without_a_journal_it_goes_with_that_time_too(store: FolderStore) -> None:
    async with opened(store, replace(SETTINGS, result_ttl_s=0.0), before=fails) as coordinator:
        ended = await run(coordinator)
        await eventually_async(lambda: not store.list("replay"), "it is deleted")
        with pytest.raises(TaskGoneError, match="result_ttl_s"):
            await coordinator.replay(ended.id, 1, 1)


async def test_a_task_of_which_nothing_was_heard_any_more_is_kept_too(store: FolderStore) -> None:
    silent = replace(SETTINGS, heartbeat_s=0.01, max_platform_failures=1)
    async with opened(store, silent, before=Gate()) as coordinator:
        ended = await run(coordinator)
        assert ended.error is not None
        assert ended.error.kind == "function_lost"
        task = ended.error.where["task"]
        assert coordinator.profile(ended.id)["replay"]["failed_task"] == f"0/{task}/0"  # type: ignore[index]  # a dict
        assert (await bundle(coordinator, ended.id, 0, int(task))).error is not None


async def test_a_forgotten_query_takes_along_what_was_kept(store: FolderStore) -> None:
    async with opened(store, replace(ALL, max_queries=1), before=fails) as coordinator:
        first = await run(coordinator)
        second = await run(coordinator)
        await eventually_async(lambda: all(key.startswith(second.id) for key in kept(store)), "the first one's is deleted")
        (prefix,) = query_prefixes("exchange", first.id)
        await eventually_async(lambda: store.list(prefix) == [], "with its exchange")


async def test_all_inputs_are_kept_when_a_query_wants_it_also_after_its_result_was_read(store: FolderStore) -> None:
    large = pl.LazyFrame({"a": range(600_000)}).serialize()
    async with opened(store) as coordinator:
        ended = await run(coordinator, ALL, large)
        assert ended.state is QueryState.SUCCEEDED
        rows = sum([frame.height async for frame in coordinator.result(ended.id)])
        assert rows == 1_200_000
        for task in range(2):
            found = await bundle(coordinator, ended.id, 1, task)
            assert sum(block.rows for block in blocks(found)) == 1_200_000
            assert all(len(block.data or b"") == block.length for block in blocks(found))
        with pytest.raises(UnknownTaskError, match="only attempt 0"):
            await coordinator.replay(ended.id, 0, 0, 3)
    assert [*store.list("replay"), *store.list("exchange")] == []


async def test_of_a_task_that_reads_too_much_only_what_it_was_sent_is_kept(store: FolderStore) -> None:
    async with opened(store, replace(SETTINGS, replay_bytes=100), before=fails) as coordinator:
        ended = await run(coordinator)
        found = await bundle(coordinator, ended.id, 1, 1)
        assert [block.data for block in blocks(found)] == [None, None]
        assert found.left_out_bytes == sum(block.length for block in blocks(found))
        assert "FRAZIL_REPLAY_BYTES" in found.left_out
        assert coordinator.profile(ended.id)["replay"]["note"] == found.left_out  # type: ignore[index]  # a dict


async def test_an_exchange_that_is_too_large_is_not_kept_and_the_profile_says_why(store: FolderStore) -> None:
    async with opened(store, replace(ALL, keep_inputs_bytes=10)) as coordinator:
        ended = await run(coordinator)
        profile = coordinator.profile(ended.id)["replay"]
        assert isinstance(profile, dict)
        assert "FRAZIL_KEEP_INPUTS_BYTES" in profile["note"]
        with pytest.raises(TaskGoneError, match="FRAZIL_KEEP_INPUTS_BYTES"):
            await coordinator.replay(ended.id, 0, 0)
        assert kept(store) == []


class Refusing(PassingStore):
    """A store that keeps nothing: it refuses, breaks, or hangs until it may go on."""

    def __init__(self, store: Store, error: Exception | None = None) -> None:
        super().__init__(store)
        self._error = error
        self.may_go_on = threading.Event()

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        if key.startswith("replay/"):
            if self._error is not None:
                raise self._error
            self.may_go_on.wait(60.0)
        self._store.put(key, parts)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageError("the disk is on strike"), "the disk is on strike"),
        (ValueError("?"), "ValueError"),
        (None, "more than 0"),
    ],
    ids=["refuses", "breaks", "hangs"],
)
async def test_a_query_ends_as_it_does_when_nothing_can_be_kept(
    store: FolderStore, error: Exception | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "_KEEP_S", 0.05 if error is None else 30.0)
    refusing = Refusing(store, error)
    async with opened(refusing, before=fails) as coordinator:
        ended = await run(coordinator)
        assert ended.error is not None
        assert ended.error.message == "no such column"
        profile = coordinator.profile(ended.id)["replay"]
        assert isinstance(profile, dict)
        assert reason in profile["note"]
        assert store.list("exchange") == []
        with pytest.raises(TaskGoneError, match=reason):
            await coordinator.replay(ended.id, 1, 1)
        refusing.may_go_on.set()


async def test_nothing_is_kept_where_the_operator_wants_nothing_kept(store: FolderStore) -> None:
    off = replace(SETTINGS, keep_inputs="off")
    async with opened(store, off, before=fails) as coordinator:
        ended = await run(coordinator)
        assert "replay" not in coordinator.profile(ended.id)
        with pytest.raises(TaskGoneError):
            await coordinator.replay(ended.id, 1, 1)
    with pytest.raises(RequestError, match="keep_inputs is off at this coordinator"):
        for_query(off, {"keep_inputs": "failed"})
    assert for_query(SETTINGS, {"keep_inputs": "all"}).keep_inputs == "all"


async def test_a_cancelled_query_leaves_nothing(store: FolderStore) -> None:
    gate = Gate()
    async with opened(store, before=gate) as coordinator:
        query = (await coordinator.submit(PLAN)).id
        await gate.reached.wait()
        await coordinator.cancel(query)
        with pytest.raises(TaskGoneError):
            await coordinator.replay(query, 0, 0)
        assert kept(store) == []


async def test_what_nobody_knows_any_more_is_collected(store: FolderStore, tmp_path: Path) -> None:
    async with opened(store, before=fails) as coordinator:
        ended = await run(coordinator)
        (prefix,) = query_prefixes("replay", QueryId("0123456789abcdef"))
        store.put(f"{prefix}1-1-0", [b"of a coordinator that was killed"])
        os.utime(tmp_path / f"{prefix}1-1-0", (0.0, 0.0))
        await coordinator.collect_orphans()
        assert kept(store) == [f"{ended.id}/1-1-0"]
