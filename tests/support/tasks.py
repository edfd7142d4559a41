"""Task requests for tests that care about the platform and not about the plan."""

from __future__ import annotations

from contextlib import aclosing

import polars as pl

from frazil_coordinator.platform.base import Platform
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.task import Descriptor, Output, Succeeded, TaskEvent, TaskLimits, TaskRequest

__all__ = ["descriptor_of", "endless_plan", "events_of", "task_request"]


def task_request(
    plan: pl.LazyFrame | None = None,
    *,
    task: int = 0,
    attempt: int = 0,
    output: Output | None = None,
    heartbeat_s: float = 5.0,
    query: str = "q",
) -> TaskRequest:
    """Return the request to run `plan` (by default a three-row frame) as a task without inputs."""
    plan = pl.LazyFrame({"x": [1, 2, 3]}) if plan is None else plan
    return TaskRequest(
        query=QueryId(query),
        stage=StageId(0),
        task=TaskIndex(task),
        attempt=attempt,
        fragment=plan.serialize(),
        inputs=(),
        output=output or Output(kind="single"),
        limits=TaskLimits(heartbeat_s=heartbeat_s),
        polars_version=pl.__version__,
        protocol_version=PROTOCOL_VERSION,
    )


async def events_of(platform: Platform, request: TaskRequest) -> list[TaskEvent]:
    """Run one attempt and return all its events."""
    async with aclosing(platform.invoke(request)) as events:
        return [event async for event in events]


async def descriptor_of(platform: Platform, request: TaskRequest) -> Descriptor:
    """Run one attempt that must succeed, and return its descriptor."""
    last = (await events_of(platform, request))[-1]
    assert isinstance(last, Succeeded), last
    return last.descriptor


def endless_plan() -> pl.LazyFrame:
    """Return a plan that keeps one thread busy for hours, in constant memory."""
    rows = pl.LazyFrame({"x": range(20_000)})
    pairs = rows.join(rows, how="cross", suffix="_a").join(rows, how="cross", suffix="_b")
    return pairs.select((pl.col("x") * pl.col("x_a") + pl.col("x_b")).sum())
