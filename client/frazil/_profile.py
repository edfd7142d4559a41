"""What a query used: a mapping of JSON values, as the coordinator tells it, and the same as DataFrames.

:meth:`frazil.Query.profile` makes a :class:`QueryProfile`. Its frames come from that one document, which holds every
attempt: they show one moment, and cost no further request. What a coordinator of another version does not tell is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import msgspec
import polars as pl

from frazil_functions.errors import RequestError

__all__ = ["ProfileFrames", "QueryProfile"]

_Dtype: TypeAlias = "pl.DataType | type[pl.DataType]"

_TIME: Final = pl.Datetime("us", "UTC")
_NOT_NEEDED: Final = "not_needed"

_STAGES: Final[Mapping[str, _Dtype]] = {
    "stage": pl.Int64,
    "kind": pl.String,
    "tasks": pl.Int64,
    "attempts": pl.Int64,
    "failed": pl.Int64,
    "speculated": pl.Int64,
    "reused": pl.Int64,
    "rows_in": pl.Int64,
    "rows_out": pl.Int64,
    "bytes_scanned": pl.Int64,
    "bytes_in": pl.Int64,
    "bytes_out": pl.Int64,
    "blocks": pl.Int64,
    "requests": pl.Int64,
    "seconds": pl.Float64,
    "function_seconds": pl.Float64,
    "cold_starts": pl.Int64,
    "peak_memory_bytes": pl.Int64,
    "dollars": pl.Float64,
    "fallbacks": pl.List(pl.String),
    "operators": pl.List(pl.String),
}
_ATTEMPTS: Final[Mapping[str, _Dtype]] = {
    "stage": pl.Int64,
    "task": pl.Int64,
    "attempt": pl.Int64,
    "state": pl.String,
    "started": _TIME,
    "ended": _TIME,
    "seconds": pl.Float64,
    "function_seconds": pl.Float64,
    "rows_in": pl.Int64,
    "rows_out": pl.Int64,
    "bytes_in": pl.Int64,
    "bytes_out": pl.Int64,
    "requests": pl.Int64,
    "cold_start": pl.Boolean,
    "peak_memory_bytes": pl.Int64,
    "error_kind": pl.String,
    "error": pl.String,
}
_ADAPTATIONS: Final[Mapping[str, _Dtype]] = {"stage": pl.Int64, "number": pl.Int64, "adaptation": pl.String}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFrames:
    """A profile as DataFrames; all have their columns also before anything ran."""

    stages: pl.DataFrame
    """A row a stage, producers before consumers.

    ============================== ============== ==========================================================================
    column                         dtype
    ============================== ============== ==========================================================================
    stage, kind                    Int64, String  number; what it mainly does (``scan``, ``join``, …)
    tasks, attempts                Int64          tasks; attempts sent
    failed                         Int64          attempts that failed, those that nobody needed any more left out
    speculated                     Int64          attempts sent beside a slow one of the same task
    reused                         Int64          tasks that were not run, because their answers were there
    rows_in, rows_out              Int64
    bytes_scanned                  Int64          compressed bytes read of files
    bytes_in, bytes_out, blocks    Int64          encoded bytes of exchange blocks read and written; blocks written
    requests                       Int64          to the exchange store
    seconds, function_seconds      Float64        wall time; the sum over the attempts
    cold_starts                    Int64          attempts that were the first of their process
    peak_memory_bytes              Int64          of the attempt that needed most
    dollars                        Float64
    fallbacks, operators           List(String)   why it, or a part of it, runs in one task; what it does
    ============================== ============== ==========================================================================
    """

    attempts: pl.DataFrame
    """A row an attempt, in the order in which they were sent; a task whose answer was reused is one too.

    ============================== ============== ==========================================================================
    column                         dtype
    ============================== ============== ==========================================================================
    stage, task, attempt           Int64
    state                          String         ``running``, ``succeeded``, ``failed``, ``not_needed`` (another attempt had
                                                  answered, or the query had ended) or ``reused``
    started, ended                 Datetime(UTC)  when it was sent and when it ended; null while it runs
    seconds                        Float64        between the two
    function_seconds               Float64        wall seconds in the function: the rest of `seconds` it waited for one
    rows_in, rows_out              Int64          this and the following: null of an attempt that gave no answer
    bytes_in, bytes_out            Int64          encoded bytes of exchange blocks read and written
    requests                       Int64          to the exchange store; of failed attempts as far as they told
    cold_start                     Boolean        whether it was the first of its process
    peak_memory_bytes              Int64
    error_kind, error              String         of a failed attempt; else null
    ============================== ============== ==========================================================================
    """

    adaptations: pl.DataFrame
    """A row a change that was made while the query ran: ``stage`` (Int64), ``number`` in its stage (Int64), ``adaptation``
    (String: what, and why)."""


class QueryProfile(dict[str, object]):
    """What a query used: a mapping of JSON values (docs/client.md lists the members), which :meth:`frames` gives as frames.

    Parameters
    ----------
    document
        As the coordinator tells it.
    started_unix_s
        When the query's first stage could start, in seconds since 1970; None: unknown, so that its attempts have no times.
    """

    def __init__(self, document: Mapping[str, object], *, started_unix_s: float | None = None) -> None:
        super().__init__(document)
        self._started_unix_s = started_unix_s

    def frames(self) -> ProfileFrames:
        """Return stages, attempts and adaptations as DataFrames.

        Raises
        ------
        RequestError
            When the document is not a profile.
        """
        try:
            stages = msgspec.convert(dict(self), _Profile).stages
        except msgspec.ValidationError as error:
            raise RequestError(f"not a profile of a Frazil coordinator: {error}") from error
        attempts = [line for stage in stages for line in _attempts(stage)]
        attempts.sort(key=lambda line: (line.began_s, line.stage, line.task, line.attempt))
        adapted = [(stage.stage, number, text) for stage in stages for number, text in enumerate(stage.adaptations)]
        return ProfileFrames(
            stages=pl.DataFrame([_stage_row(stage) for stage in stages], schema=_STAGES, orient="row"),
            attempts=pl.DataFrame([self._row(line) for line in attempts], schema=_ATTEMPTS, orient="row"),
            adaptations=pl.DataFrame(adapted, schema=_ADAPTATIONS, orient="row"),
        )

    def _row(self, line: _Line) -> tuple[object, ...]:
        seconds = None if line.ended_s is None else line.ended_s - line.began_s
        shown = {**msgspec.structs.asdict(line), "seconds": seconds}
        shown |= {"started": self._moment(line.began_s), "ended": self._moment(line.ended_s)}
        return tuple(shown[name] for name in _ATTEMPTS)

    def _moment(self, since_s: float | None) -> datetime | None:
        if since_s is None or self._started_unix_s is None:
            return None
        return datetime.fromtimestamp(self._started_unix_s + since_s, UTC)


class _Failed(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of an attempt in a profile; the members that a coordinator of another version lacks have defaults."""

    task: int
    attempt: int
    kind: str = ""
    message: str = ""
    seconds: float = 0.0
    requests: dict[str, int] = {}
    began_s: float = 0.0
    cold_start: bool | None = None


class _Done(msgspec.Struct, frozen=True, kw_only=True):
    task: int
    attempt: int = 0
    began_s: float = 0.0
    ended_s: float | None = None
    rows_in: int | None = None
    rows_out: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    requests: dict[str, int] | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    cold_start: bool | None = None
    reused: bool = False


class _Running(msgspec.Struct, frozen=True, kw_only=True):
    task: int
    attempt: int
    began_s: float = 0.0
    cold_start: bool | None = None


class _Stage(msgspec.Struct, frozen=True, kw_only=True):
    stage: int
    kind: str | None = None
    tasks: int | None = None
    attempts: int | None = None
    speculated: int | None = None
    reused: int | None = None
    rows_in: int | None = None
    rows_out: int | None = None
    bytes_scanned: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    blocks: int | None = None
    requests: dict[str, int] | None = None
    seconds: float | None = None
    function_seconds: float | None = None
    cold_starts: int | None = None
    peak_memory_bytes: int | None = None
    dollars: float | None = None
    fallbacks: list[str] = []
    operators: list[str] = []
    adaptations: list[str] = []
    task_list: list[_Done] = []
    failed_attempts: list[_Failed] = []
    running: list[_Running] = []


class _Profile(msgspec.Struct, frozen=True):
    stages: list[_Stage] = []


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt, whatever became of it."""

    stage: int
    task: int
    attempt: int
    state: str
    began_s: float
    ended_s: float | None = None
    function_seconds: float | None = None
    rows_in: int | None = None
    rows_out: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    requests: int | None = None
    cold_start: bool | None = None
    peak_memory_bytes: int | None = None
    error_kind: str | None = None
    error: str | None = None


def _stage_row(stage: _Stage) -> tuple[object, ...]:
    failed = sum(one.kind != _NOT_NEEDED for one in stage.failed_attempts)
    shown = {**msgspec.structs.asdict(stage), "failed": failed, "requests": _total(stage.requests)}
    return tuple(shown[name] for name in _STAGES)


def _attempts(stage: _Stage) -> Iterator[_Line]:
    for done in stage.task_list:
        yield _Line(
            stage=stage.stage,
            task=done.task,
            attempt=done.attempt,
            state="reused" if done.reused else "succeeded",
            began_s=done.began_s,
            ended_s=done.ended_s,
            function_seconds=done.seconds,
            rows_in=done.rows_in,
            rows_out=done.rows_out,
            bytes_in=done.bytes_in,
            bytes_out=done.bytes_out,
            requests=_total(done.requests),
            cold_start=done.cold_start,
            peak_memory_bytes=done.peak_memory_bytes,
        )
    for failed in stage.failed_attempts:
        needed = failed.kind != _NOT_NEEDED
        yield _Line(
            stage=stage.stage,
            task=failed.task,
            attempt=failed.attempt,
            state="failed" if needed else _NOT_NEEDED,
            began_s=failed.began_s,
            ended_s=failed.began_s + failed.seconds,
            requests=_total(failed.requests),
            cold_start=failed.cold_start,
            error_kind=failed.kind if needed else None,
            error=failed.message if needed else None,
        )
    for running in stage.running:
        yield _Line(
            stage=stage.stage,
            task=running.task,
            attempt=running.attempt,
            state="running",
            began_s=running.began_s,
            cold_start=running.cold_start,
        )


def _total(requests: Mapping[str, int] | None) -> int | None:
    return None if requests is None else sum(requests.values())
