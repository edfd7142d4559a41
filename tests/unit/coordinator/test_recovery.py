"""What a coordinator finds in the journal of others: what it can't read, what it has already, what it may no longer do."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import polars as pl
import pytest

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.records import Planned, decode_segment
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.recovery import recovered
from frazil_coordinator.schedule.bind import query_prefixes
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState
from frazil_functions.errors import RequestError
from frazil_functions.ids import QueryId
from frazil_functions.storage import FolderStore, Store
from frazil_functions.task import TaskEvent, TaskRequest
from support.fragments import FragmentPlatform, plan_in_stages
from support.polling import eventually_async

PLAN = pl.LazyFrame({"a": [1, 2, 3]}).serialize()
SECRET = "a secret of thirty-two characters"


@asynccontextmanager
async def coordinator(store: Store, settings: Settings | None = None, secret: str = SECRET) -> AsyncIterator[Coordinator]:
    made = Coordinator(
        settings=settings or Settings(),
        platform=FragmentPlatform(store),
        store=store,
        planner=plan_in_stages(2),
        journal=Journal(store=store, sealer=Sealer.of([secret])),
        sweep_after_s=(0.01,),
    )
    try:
        yield made
    finally:
        await made.aclose()


async def rows(made: Coordinator, query: str) -> int:
    frames = [frame async for frame in made.result(made.status(query).id)]  # type: ignore[arg-type]  # ids are texts
    return sum(frame.height for frame in frames)


async def test_an_ended_query_is_shown_and_read_again_by_the_next_coordinator(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    async with coordinator(store) as first:
        accepted = await first.submit(PLAN, labels=["l"])
        ended = await first.wait(accepted.id, 30)
        assert ended.state is QueryState.SUCCEEDED
        expected, profile = await rows(first, accepted.id), first.profile(accepted.id)
        assert await rows(first, accepted.id) == expected, "a result in the journal can be read again"
    async with coordinator(store) as second:
        assert await second.recover() == ()
        assert second.status(accepted.id) == msgspec.structs.replace(ended, progress=())
        assert second.profile(accepted.id) == profile
        assert await rows(second, accepted.id) == expected
        assert "STAGE" in second.explanation(accepted.id).text


async def test_what_ended_long_ago_is_forgotten_with_its_result(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    async with coordinator(store) as first:
        await first.wait((await first.submit(PLAN)).id, 30)
    assert store.list("journal")
    async with coordinator(store, Settings(result_ttl_s=0.0)) as second:
        await second.recover()
        await eventually_async(lambda: not store.list("journal"), "the journal is deleted")
    assert store.list("exchange") == []


async def test_a_journal_that_was_sealed_with_another_key_is_left_alone_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FolderStore(tmp_path)
    async with coordinator(store) as first:
        ended = await first.wait((await first.submit(PLAN)).id, 30)
    before = [info.key for info in store.list("journal")]
    async with coordinator(store, secret="another secret of many characters") as second:
        with caplog.at_level(logging.ERROR):
            assert await second.recover() == ()
            assert await second.recover() == ()
        assert second.list() == ()
        (prefix,) = query_prefixes("exchange", ended.id)
        store.put(f"{prefix}0/0/0-a", [b"a result"])
        os.utime(tmp_path / f"{prefix}0/0/0-a", (0.0, 0.0))
        await second.collect_orphans()
        assert len(store.list("exchange")) == 1, "whoever has the key may still read its result"
    assert caplog.messages == ["query not recovered"]
    assert [info.key for info in store.list("journal")] == before


async def test_a_submission_is_one_query_also_after_a_restart(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    async with coordinator(store) as first:
        accepted = await first.submit(PLAN, idempotency_key="k")
        assert (await first.submit(PLAN, idempotency_key="k")).id == accepted.id
        assert (await first.submit(PLAN)).id != accepted.id
    async with coordinator(store) as second:
        await second.recover()
        assert (await second.submit(PLAN, idempotency_key="k")).id == accepted.id
        with pytest.raises(RequestError, match="another plan"):
            await second.submit(pl.LazyFrame({"b": [1]}).serialize(), idempotency_key="k")


async def test_a_query_has_no_more_rights_than_the_coordinator_that_goes_on_with_it(tmp_path: Path) -> None:
    store, generous = FolderStore(tmp_path), replace(Settings(), allow_udfs=True)
    async with coordinator(store, generous) as first:
        accepted = await first.submit(PLAN)
    async with coordinator(store) as second:
        await second.recover()
        (record,) = [one for one in second._registry if one.id == accepted.id]
        assert not record.settings.allow_udfs


async def test_a_journal_that_is_deleted_after_it_was_listed_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = FolderStore(tmp_path)
    async with coordinator(store) as first:
        await first.wait((await first.submit(PLAN)).id, 30)
    journal = Journal(store=store, sealer=Sealer.of([SECRET]))

    def forgotten_now(query: QueryId) -> bool:
        journal.forget(query)
        return False

    assert await recovered(journal, forgotten_now) == ([], frozenset())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_query_that_is_being_forgotten_is_not_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deleting, go_on = threading.Event(), threading.Event()
    forget = Journal.forget

    def slowly(journal: Journal, query: QueryId) -> None:
        deleting.set()
        assert go_on.wait(30)
        forget(journal, query)

    monkeypatch.setattr(Journal, "forget", slowly)
    async with coordinator(FolderStore(tmp_path), Settings(max_queries=1)) as made:
        await made.wait((await made.submit(PLAN)).id, 30)
        second = await made.submit(PLAN)
        await made.recover()
        assert await asyncio.to_thread(deleting.wait, 30)
        await made.recover()
        assert [status.id for status in made.list()] == [second.id]
        go_on.set()


@dataclass
class Releases:
    """A platform with functions of releases: says which ones a query was pinned to."""

    inner: FragmentPlatform
    release: str
    longest_task_s: float | None = None
    pins: dict[str, str] = field(default_factory=dict)
    unpinned: list[str] = field(default_factory=list)
    shares_files: bool = True
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def max_in_flight(self) -> int:
        return self.inner.max_in_flight

    def pin(self, query: QueryId, release: str | None = None) -> str:
        return self.pins.setdefault(query, release or self.release)

    def unpin(self, query: QueryId) -> None:
        self.unpinned.append(query)

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        await self.gate.wait()
        async for event in self.inner.invoke(request):
            yield event

    def status(self) -> PlatformStatus:
        return self.inner.status()

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_a_query_goes_on_with_the_release_that_it_began_with_under_another_coordinator(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    def made(platform: Releases) -> Coordinator:
        return Coordinator(
            settings=Settings(),
            platform=platform,
            store=store,
            planner=plan_in_stages(2),
            journal=Journal(store=store, sealer=Sealer.of([SECRET])),
            sweep_after_s=(0.01,),
        )

    old, new = Releases(FragmentPlatform(store), "old"), Releases(FragmentPlatform(store), "new")
    new.gate.set()
    first, second = made(old), made(new)
    accepted = await first.submit(PLAN)
    await eventually_async(lambda: accepted.id in old.pins, "it is pinned")

    def planned() -> list[str]:
        segments = [info.key for info in store.list("journal") if info.key.rpartition("/")[2].isdecimal()]
        records = [record for key in segments for record in decode_segment(store.get(key), key)]
        return [record.release for record in records if isinstance(record, Planned)]

    await eventually_async(lambda: planned() == ["old"], "it is written down")
    await first.stand_down()
    assert await second.recover() == (accepted.id,)
    assert (await second.wait(accepted.id, 30)).state is QueryState.SUCCEEDED
    assert new.pins == {accepted.id: "old"}
    assert new.unpinned == [accepted.id]
    later = await second.submit(PLAN)
    await second.wait(later.id, 30)
    assert new.pins[later.id] == "new"
    await second.aclose()
    await first.aclose()


async def test_a_query_with_a_task_that_the_platform_would_end_is_refused_before_it_runs(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    platform = Releases(FragmentPlatform(store), "r", longest_task_s=1e-12)
    made = Coordinator(settings=Settings(), platform=platform, store=store, sweep_after_s=(0.01,))
    pl.DataFrame({"a": range(1000)}).write_parquet(tmp_path / "t.parquet")
    plan = pl.scan_parquet(tmp_path / "t.parquet").select(pl.col("a").sum()).serialize()
    ended = await made.wait((await made.submit(plan)).id, 30)
    assert ended.state is QueryState.FAILED
    assert ended.error is not None
    assert ended.error.kind == "cap"
    assert "timeoutSeconds" in ended.error.message
    await made.aclose()
