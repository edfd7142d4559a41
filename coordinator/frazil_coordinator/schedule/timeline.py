"""The attempts of a query in the order in which they were sent, and how evenly each stage's tasks were cut.

Both are made of the JSON profile (:mod:`frazil_coordinator.schedule.profile`), so they are there of a query that runs, of
one that has ended, and of one that another coordinator ran. Bounded in size: a page of attempts, and of each stage a few
numbers and a histogram. Shown by the web page and by ``GET /v1/queries/{id}/tasks``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final, Literal

import msgspec

__all__ = ["BINS", "AttemptLine", "Spread", "TaskPage", "task_page"]

BINS: Final = 20
"""Bars of a histogram."""

_MESSAGE_CHARACTERS: Final = 500
_MEASURES: Final = ("seconds", "rows_in", "rows_out", "bytes_in", "bytes_out", "peak_memory_bytes")
_NOT_NEEDED: Final = "not_needed"


class AttemptLine(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, or a task for which none was sent."""

    stage: int
    task: int
    attempt: int
    state: Literal["running", "succeeded", "failed", "not_needed", "reused"]
    """``reused``: nothing ran, because the answer was there, or came from another query."""

    began_s: float
    """When it was sent, in seconds since the first stage could start; of a reused answer, when it was taken up."""

    ended_s: float | None = None
    """None while it runs."""

    cold_start: bool = False
    """Whether it was the first of its process."""

    kind: str = ""
    """Kind of its error."""

    message: str = ""
    """Of its error, the beginning."""

    rows_in: int | None = None
    """This and the following: None of an attempt that did not give its task's answer."""

    rows_out: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    peak_memory_bytes: int | None = None
    seconds: float | None = None
    """Wall seconds in the function; from `began_s` to `ended_s` it also waited for one."""

    requests: dict[str, int] = {}
    """Requests to the exchange store as far as it told: ``get``, ``put``, …; ``hedge``: those made once more,
    because the first was slow. Empty while it runs."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How one measure differs between the finished tasks of a stage."""

    least: float
    median: float
    largest: float
    total: float
    counts: tuple[int, ...]
    """Tasks by value, in `BINS` bins of equal width from `least` to `largest`; one bin when they are all the same."""


class StageSpread(msgspec.Struct, frozen=True, kw_only=True):
    """How even a stage's finished tasks are."""

    stage: int
    tasks: int
    """Finished ones."""

    measures: dict[str, Spread]


class StageReuse(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks of a stage were not run, because their answers were there or came from another query."""

    stage: int
    tasks: int


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts of a query, and how even its stages are."""

    query: str
    seconds: float
    """Until now, or of the whole query: the right end of the timeline."""

    total: int
    """Attempts that there are, of the stage that was asked for, and tasks that were reused."""

    attempts: tuple[AttemptLine, ...]
    """At most as many as were asked for, in the order in which they were sent."""

    spreads: tuple[StageSpread, ...]
    """Of all finished tasks of each stage, whatever page is asked for."""

    reused: tuple[StageReuse, ...]
    """Of each stage that reused some, whatever page is asked for."""


class _Failed(msgspec.Struct, frozen=True):
    """What is read of an attempt in the profile; members that older profiles lack have defaults."""

    task: int
    attempt: int
    kind: str
    message: str
    seconds: float
    began_s: float = 0.0
    cold_start: bool = False
    requests: dict[str, int] = {}


class _Done(msgspec.Struct, frozen=True):
    task: int
    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    seconds: float
    peak_memory_bytes: int
    cold_start: bool
    attempt: int = 0
    began_s: float = 0.0
    ended_s: float = 0.0
    reused: bool = False
    requests: dict[str, int] = {}


class _Running(msgspec.Struct, frozen=True):
    task: int
    attempt: int
    began_s: float
    cold_start: bool


class _Stage(msgspec.Struct, frozen=True):
    stage: int
    failed_attempts: list[_Failed] = []
    task_list: list[_Done] = []
    running: list[_Running] = []


class _Profile(msgspec.Struct, frozen=True):
    query: str
    seconds: float = 0.0
    stages: list[_Stage] = []


def task_page(profile: Mapping[str, object], *, stage: int | None, offset: int, limit: int) -> TaskPage:
    """Return a page of the attempts of a query.

    Parameters
    ----------
    profile
        Of the query, as JSON values.
    stage
        Only the attempts of this stage; None: of all.
    offset, limit
        Which of them: from number `offset` on, at most `limit`.
    """
    known = msgspec.convert(profile, _Profile)
    ran = [(one.stage, [task for task in one.task_list if not task.reused]) for one in known.stages]
    reused = [(one.stage, sum(task.reused for task in one.task_list)) for one in known.stages]
    lines = [line for one in known.stages if stage in (None, one.stage) for line in _lines(one)]
    lines.sort(key=lambda line: (line.began_s, line.stage, line.task, line.attempt))
    return TaskPage(
        query=known.query,
        seconds=known.seconds,
        total=len(lines),
        attempts=tuple(lines[offset : offset + limit]),
        spreads=tuple(
            StageSpread(stage=stage, tasks=len(tasks), measures=_measures(tasks)) for stage, tasks in ran if tasks
        ),
        reused=tuple(StageReuse(stage=stage, tasks=tasks) for stage, tasks in reused if tasks),
    )


def _done(stage: int, one: _Done) -> AttemptLine:
    if one.reused:
        # The other figures are those of the attempt that gave the answer, in this query or another.
        return AttemptLine(
            stage=stage,
            task=one.task,
            attempt=one.attempt,
            state="reused",
            began_s=one.began_s,
            ended_s=one.ended_s,
            rows_out=one.rows_out,
            bytes_out=one.bytes_out,
        )
    return AttemptLine(
        stage=stage,
        task=one.task,
        attempt=one.attempt,
        state="succeeded",
        began_s=one.began_s,
        ended_s=one.ended_s,
        cold_start=one.cold_start,
        rows_in=one.rows_in,
        rows_out=one.rows_out,
        bytes_in=one.bytes_in,
        bytes_out=one.bytes_out,
        peak_memory_bytes=one.peak_memory_bytes,
        seconds=one.seconds,
        requests=one.requests,
    )


def _lines(stage: _Stage) -> list[AttemptLine]:
    found = [_done(stage.stage, one) for one in stage.task_list]
    found += [
        AttemptLine(
            stage=stage.stage,
            task=one.task,
            attempt=one.attempt,
            state="not_needed" if one.kind == _NOT_NEEDED else "failed",
            began_s=one.began_s,
            ended_s=one.began_s + one.seconds,
            cold_start=one.cold_start,
            kind=one.kind,
            message=one.message[:_MESSAGE_CHARACTERS],
            requests=one.requests,
        )
        for one in stage.failed_attempts
    ]
    found += [
        AttemptLine(
            stage=stage.stage,
            task=one.task,
            attempt=one.attempt,
            state="running",
            began_s=one.began_s,
            cold_start=one.cold_start,
        )
        for one in stage.running
    ]
    return found


def _measures(tasks: Sequence[_Done]) -> dict[str, Spread]:
    found = {name: [float(getattr(task, name)) for task in tasks] for name in _MEASURES}
    return {name: _spread(values) for name, values in found.items() if any(values)}


def _spread(values: Sequence[float]) -> Spread:
    least, largest = min(values), max(values)
    bins = BINS if largest > least else 1
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - least) / (largest - least) * bins)) if bins > 1 else 0] += 1
    return Spread(least=least, median=median(values), largest=largest, total=sum(values), counts=tuple(counts))
