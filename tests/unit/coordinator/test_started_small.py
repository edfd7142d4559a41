"""A query that starts small and proves too large for one function is planned again, in many tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_functions.errors import OutOfMemoryError
from frazil_functions.storage import FolderStore
from frazil_functions.task import ScanInput, TaskRequest
from support.scanning import ScanPlatform

SETTINGS = Settings(max_rows_per_split=10, retry_backoff_s=0.0)
FRAME = pl.DataFrame({"k": [n % 7 for n in range(100)], "x": range(100)})


def query_of(folder: Path, *, row_group_size: int = 10) -> pl.LazyFrame:
    FRAME.write_parquet(folder / "t.parquet", row_group_size=row_group_size)
    return pl.scan_parquet(folder / "t.parquet").group_by("k").agg(pl.col("x").sum()).sort("k")


def rows_read(request: TaskRequest) -> int:
    return sum(split.rows for one in request.inputs if isinstance(one, ScanInput) for split in one.splits)


async def answer(
    folder: Path, query: pl.LazyFrame, most_rows: int, settings: Settings = SETTINGS
) -> tuple[pl.DataFrame, list[TaskRequest]]:
    """Return the answer of functions whose memory is enough for so many rows, and what they were sent."""

    def weigh(request: TaskRequest) -> asyncio.Event | None:
        if rows_read(request) > most_rows:
            raise OutOfMemoryError(f"{rows_read(request)} rows are too many")
        return None

    store = FolderStore(folder / "store")
    platform = ScanPlatform(store, before=weigh)
    coordinator = Coordinator(settings=settings, platform=platform, store=store)
    try:
        accepted = await coordinator.submit(query.serialize())
        return pl.concat([frame async for frame in coordinator.result(accepted.id)]), platform.sent
    finally:
        await coordinator.aclose()
        assert store.list("exchange") == []


async def test_a_query_whose_one_task_fits_is_one_task(tmp_path: Path) -> None:
    query = query_of(tmp_path)
    found, sent = await answer(tmp_path, query, most_rows=100)
    assert_frame_equal(found, query.collect())
    assert [rows_read(request) for request in sent] == [100]


async def test_a_query_whose_one_task_is_too_large_is_planned_again_after_one_attempt(tmp_path: Path) -> None:
    query = query_of(tmp_path)
    found, sent = await answer(tmp_path, query, most_rows=30)
    assert_frame_equal(found, query.collect())
    assert rows_read(sent[0]) == 100
    assert len(sent) > 10
    assert all(rows_read(request) <= 30 for request in sent[1:])


async def test_where_there_is_nothing_to_share_the_task_is_tried_again_and_then_its_error_told(tmp_path: Path) -> None:
    query = query_of(tmp_path, row_group_size=100)
    whole = Settings(retry_backoff_s=0.0, max_attempts=3)
    with pytest.raises(OutOfMemoryError, match="100 rows are too many"):
        await answer(tmp_path, query, most_rows=30, settings=whole)


async def test_a_plan_of_many_tasks_is_not_planned_again(tmp_path: Path) -> None:
    query = query_of(tmp_path)
    settings = Settings(retry_backoff_s=0.0, max_attempts=2, start_small=False)
    with pytest.raises(OutOfMemoryError, match="rows are too many"):
        await answer(tmp_path, query, most_rows=0, settings=settings)
