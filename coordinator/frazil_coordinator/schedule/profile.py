"""The profile of a query: what each stage and each task did, in plain JSON values.

The documented form of ``query.profile()``; fields are only ever added. :class:`Recorder` collects it while
:mod:`frazil_coordinator.schedule.driver` runs the query.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, TypedDict

from frazil_coordinator.metrics import Metrics
from frazil_coordinator.plan.model import Stage, StageGraph
from frazil_coordinator.schedule.messages import AttemptRef
from frazil_functions.ids import QueryId, StageId
from frazil_functions.task import Descriptor, TaskStats

__all__ = ["AttemptProfile", "Profile", "Recorder", "RunState", "RunningAttempt", "StageProfile", "TaskProfile"]

RunState: TypeAlias = Literal["running", "succeeded", "failed", "cancelled"]

_NOT_NEEDED: Final = "not_needed"


class AttemptProfile(TypedDict):
    """An attempt that did not give its task's answer."""

    task: int
    attempt: int
    kind: str
    """Kind of the error (`frazil_functions.errors`), or ``not_needed`` when another attempt had answered, or the query
    had ended."""

    message: str
    seconds: float
    """From launch to end, as the coordinator saw it."""

    requests: dict[str, int]
    """Exchange-store requests, as far as the attempt told."""

    began_s: float
    """When it was sent, in seconds since the first stage could start."""

    cold_start: bool


class RunningAttempt(TypedDict):
    """An attempt that was sent and has not ended."""

    task: int
    attempt: int
    began_s: float
    """When it was sent, in seconds since the first stage could start."""

    cold_start: bool


class TaskProfile(TypedDict):
    """A task that is done: the figures of the attempt that gave its answer."""

    task: int
    attempt: int
    """Number of the attempt that gave it."""

    began_s: float
    """When that attempt was sent, in seconds since the first stage could start. Of an answer that another coordinator had
    taken up, this and the next are when it was found in the journal."""

    ended_s: float
    attempts: int
    """Attempts launched so far."""

    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    blocks: int
    requests: dict[str, int]
    """Exchange-store requests by operation."""

    seconds: float
    """Wall seconds in the function."""

    peak_memory_bytes: int
    cold_start: bool
    reused: bool
    """Whether the answer was there, or came from another query: then the figures are those of the task that gave it."""


class StageProfile(TypedDict):
    """A stage. Rows, bytes, blocks and requests are sums over the attempts that gave the tasks' answers.

    Of answers that were reused, only what they hold counts (`rows_out`, `bytes_out`, `blocks`): nothing was read for them.
    """

    stage: int
    kind: str
    """See `frazil_coordinator.plan.model.StageKind`."""

    tasks: int
    """Tasks whose answers make the stage's; at first as planned."""

    attempts: int
    """Attempts launched; more than `tasks` when some were retried or divided, fewer when not all were needed."""

    rows_in: int
    rows_out: int
    bytes_in: int
    """Bytes of exchange blocks read."""

    bytes_out: int
    """Encoded bytes written, or sent inline."""

    blocks: int
    """Blocks written, or sent inline."""

    requests: dict[str, int]
    """Exchange-store requests by operation: ``get``, ``put``, ``head``, ``list``, ``delete``."""

    seconds: float
    """Wall seconds from the first launch to the last answer."""

    function_seconds: float
    """Sum of the seconds in functions, failed attempts included."""

    peak_memory_bytes: int
    """Of the attempt that needed most."""

    memory_factor: float
    """How many times its input a task was expected to hold when the stage was laid out; 0 before."""

    measured_memory_factor: float | None
    """The same as measured, the largest of all attempts; None when none of them read enough to tell."""

    cold_starts: int
    """Attempts that were the first of their process."""

    fallbacks: list[str]
    """Reasons why the stage, or a part of it, runs in one task."""

    adaptations: list[str]
    """What was changed while the query ran, and why: partitions joined or cut, tasks divided."""

    operators: list[str]
    failed_attempts: list[AttemptProfile]
    """In the order in which they ended."""

    discarded: int
    """Outputs that came after the task had its answer."""

    speculated: int
    """Attempts launched beside a slow one of the same task."""

    lost: int
    """Outputs that could not be read any more, so that their tasks ran again."""

    reused: int
    """Tasks that were not run, because their answers were there or came from another query (docs/reuse.md)."""

    bytes_not_scanned: int
    """Compressed bytes of files that these tasks would have read, by the files' footers."""

    not_reused: str
    """Why answers of the stage are never used again; empty when they may be, or nobody wanted to."""

    task_list: list[TaskProfile]
    """By task, those that are done."""

    running: list[RunningAttempt]
    """Attempts in flight, in the order in which they were sent."""


class Profile(TypedDict):
    """A query."""

    query: str
    state: RunState
    seconds: float
    """Wall seconds from the start of the first stage, to now or to the end."""

    function_seconds: float
    """Sum over the stages."""

    stages: list[StageProfile]


@dataclass(slots=True)
class _Attempt:
    launched_at: float
    here: bool = True
    """Whether this coordinator sent it."""

    cold_start: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    descriptor: Descriptor
    attempt: int
    launched_at: float
    answered_at: float
    reused: bool = False


@dataclass(slots=True)
class StageRecord:
    """What is known of a stage so far; owned by :class:`Recorder`."""

    stage: Stage
    tasks: int
    """Tasks that count, as far as known."""

    notes: tuple[str, ...] = ()
    memory_factor: float = 0.0
    measured_factor: float | None = None
    attempts: Counter[int] = field(default_factory=Counter)
    """Attempts launched, by task."""

    cold_starts: int = 0
    first_launch: float | None = None
    last_answer: float | None = None
    function_seconds: float = 0.0
    failed: list[AttemptProfile] = field(default_factory=list)
    discarded: int = 0
    speculated: int = 0
    lost: int = 0
    scan_bytes: tuple[int, ...] = ()
    """Bytes of files that each task reads; empty when nobody asked."""

    not_reused: str = ""
    done: dict[int, _Answer] = field(default_factory=dict)
    rows: int = 0
    """Rows of output of the tasks that are done."""

    bytes: int = 0
    """Encoded bytes of output of the tasks that are done."""


class Recorder:
    """Collects the profile of one query.

    Parameters
    ----------
    query, graph
        The query and its plan.
    metrics
        What is told of each attempt; None: nothing.
    """

    def __init__(self, query: QueryId, graph: StageGraph, metrics: Metrics | None = None) -> None:
        self._query = query
        self._metrics = metrics
        self._stages = [StageRecord(stage, stage.tasks) for stage in graph.stages]
        self._told = [None if metrics is None else metrics.stage(stage.kind) for stage in graph.stages]
        self._live: dict[AttemptRef, _Attempt] = {}
        self._began: float | None = None
        self._ended: float | None = None
        self._state: RunState = "running"

    def stage(self, stage: StageId) -> StageRecord:
        """Return what is known of `stage`."""
        return self._stages[stage]

    def attempts_of(self, stage: StageId, task: int) -> list[int]:
        """Return the numbers of the attempts of a task that are known, ascending."""
        record = self._stages[stage]
        known = {ref.attempt for ref in self._live if (ref.stage, ref.task) == (stage, task)}
        known |= {one["attempt"] for one in record.failed if one["task"] == task}
        return sorted(known | ({record.done[task].attempt} if task in record.done else set()))

    def began(self, now: float) -> None:
        """Note that the query begins."""
        self._began = now

    def ended(self, state: RunState, now: float) -> None:
        """Note that the query has ended."""
        for ref in sorted(self._live):
            self.failed(ref, _NOT_NEEDED, "the query had ended", TaskStats(), now)
        self._state = state
        self._ended = now

    def laid_out(self, stage: StageId, tasks: int, notes: tuple[str, ...], memory_factor: float) -> None:
        """Note how many tasks a stage really has, and why, and how many times its input one of them should hold."""
        record = self._stages[stage]
        record.tasks, record.notes, record.memory_factor = tasks, notes, memory_factor

    def needed(self, stage: StageId, factor: float | None) -> None:
        """Note how many times its input a task held, if that is known."""
        record = self._stages[stage]
        if factor is not None:
            record.measured_factor = max(factor, record.measured_factor or 0.0)

    def launched(self, ref: AttemptRef, now: float, *, here: bool = True, speculative: bool = False) -> None:
        """Note that an attempt is sent, or another one beside it.

        Not `here`: that another coordinator had sent it, whose metrics were told.
        """
        record = self._stages[ref.stage]
        record.attempts[ref.task] += 1
        record.speculated += speculative
        record.first_launch = now if record.first_launch is None else record.first_launch
        self._live[ref] = _Attempt(now, here)
        if here and (told := self._told[ref.stage]) is not None:
            told.launched(ref.attempt)

    def started(self, ref: AttemptRef, *, cold_start: bool) -> None:
        """Note that a function has accepted an attempt."""
        live = self._live.get(ref)
        if live is not None and cold_start and not live.cold_start:
            live.cold_start = True
            self._stages[ref.stage].cold_starts += 1
            if (told := self._told[ref.stage]) is not None:
                told.cold_starts.inc()

    def scans(self, stage: StageId, scan_bytes: tuple[int, ...], not_reused: str) -> None:
        """Note what each task of a stage reads of files, and why their answers are never used again."""
        record = self._stages[stage]
        record.scan_bytes, record.not_reused = scan_bytes, not_reused

    def succeeded(
        self, ref: AttemptRef, descriptor: Descriptor, now: float, *, void: bool = False, reused: bool = False
    ) -> None:
        """Note that an attempt succeeded; it is counted unless its task has an answer already, or is `void`.

        A `reused` answer came from elsewhere: nothing ran for it.
        """
        record = self._stages[ref.stage]
        live = self._live.pop(ref, None)
        if live is not None and live.here and (told := self._told[ref.stage]) is not None:
            told.succeeded(descriptor.stats, now - live.launched_at)
        record.function_seconds += 0.0 if reused else descriptor.stats.seconds
        if void or ref.task in record.done:
            return
        launched_at = now if live is None else live.launched_at
        record.done[ref.task] = _Answer(
            descriptor=descriptor, attempt=ref.attempt, launched_at=launched_at, answered_at=now, reused=reused
        )
        record.first_launch = now if record.first_launch is None else record.first_launch
        if reused and self._metrics is not None:
            self._metrics.reuse.tasks.labels(record.stage.kind).inc()
            self._metrics.reuse.bytes.inc(record.scan_bytes[ref.task] if ref.task < len(record.scan_bytes) else 0)
        record.last_answer = now
        record.rows += descriptor.stats.rows_out
        record.bytes += descriptor.stats.bytes_out

    def failed(self, ref: AttemptRef, kind: str, message: str, stats: TaskStats, now: float) -> None:
        """Note that an attempt ended without an answer. Only the first report of an attempt counts."""
        live = self._live.pop(ref, None)
        if live is None:
            return
        record = self._stages[ref.stage]
        seconds = now - live.launched_at
        record.function_seconds += stats.seconds or seconds
        if live.here and (told := self._told[ref.stage]) is not None:
            if kind == _NOT_NEEDED:
                told.cancelled(seconds)
            else:
                told.failed(kind, stats, seconds)
        record.failed.append(
            AttemptProfile(
                task=ref.task,
                attempt=ref.attempt,
                kind=kind,
                message=message,
                seconds=seconds,
                requests=dict(stats.requests),
                began_s=self._since(live.launched_at),
                cold_start=live.cold_start,
            )
        )

    def lost(self, stage: StageId, task: int) -> None:
        """Note that the output of a task can't be read any more: the task is not done."""
        record = self._stages[stage]
        record.lost += 1
        stats = record.done.pop(task).descriptor.stats
        record.rows -= stats.rows_out
        record.bytes -= stats.bytes_out

    def restarted(self, stage: StageId) -> None:
        """Note that no task of a stage is done any more, although some were."""
        record = self._stages[stage]
        record.done.clear()
        record.rows = record.bytes = 0

    def discarded(self, ref: AttemptRef) -> None:
        """Note that an attempt's output is not used."""
        self._stages[ref.stage].discarded += 1

    def profile(self, now: float) -> Profile:
        """Return the profile so far."""
        end = now if self._ended is None else self._ended
        running = self._running()
        began = self._began or 0.0
        stages = [_stage_profile(record, end, running.get(record.stage.id, []), began) for record in self._stages]
        return Profile(
            query=self._query,
            state=self._state,
            seconds=0.0 if self._began is None else end - self._began,
            function_seconds=sum(stage["function_seconds"] for stage in stages),
            stages=stages,
        )

    def _since(self, moment: float) -> float:
        return moment - (moment if self._began is None else self._began)

    def _running(self) -> dict[StageId, list[RunningAttempt]]:
        found: dict[StageId, list[RunningAttempt]] = {}
        for ref, live in self._live.items():
            found.setdefault(ref.stage, []).append(
                RunningAttempt(
                    task=ref.task, attempt=ref.attempt, began_s=self._since(live.launched_at), cold_start=live.cold_start
                )
            )
        return found


def _stage_profile(record: StageRecord, now: float, running: list[RunningAttempt], began: float) -> StageProfile:
    stage = record.stage
    answers = sorted(record.done.items())
    every = [answer.descriptor.stats for _, answer in answers]
    stats = [answer.descriptor.stats for _, answer in answers if not answer.reused]
    reused = [task for task, answer in answers if answer.reused]
    not_scanned = sum(record.scan_bytes[task] for task in reused if task < len(record.scan_bytes))
    requests: Counter[str] = Counter()
    for one in stats:
        requests.update(one.requests)
    end = now if running or record.last_answer is None else record.last_answer
    return StageProfile(
        stage=stage.id,
        kind=stage.kind,
        tasks=record.tasks,
        attempts=record.attempts.total(),
        rows_in=sum(one.rows_in for one in stats),
        rows_out=sum(one.rows_out for one in every),
        bytes_in=sum(one.bytes_in for one in stats),
        bytes_out=sum(one.bytes_out for one in every),
        blocks=sum(len(answer.descriptor.blocks) for _, answer in answers),
        requests=dict(requests),
        seconds=0.0 if record.first_launch is None else end - record.first_launch,
        function_seconds=record.function_seconds,
        peak_memory_bytes=max((one.peak_memory_bytes for one in stats), default=0),
        memory_factor=record.memory_factor,
        measured_memory_factor=record.measured_factor,
        cold_starts=record.cold_starts,
        fallbacks=list(stage.fallbacks),
        adaptations=[*record.notes, *_told_reuse(len(reused), record.tasks, not_scanned)],
        operators=list(stage.operators),
        failed_attempts=list(record.failed),
        discarded=record.discarded,
        speculated=record.speculated,
        lost=record.lost,
        reused=len(reused),
        bytes_not_scanned=not_scanned,
        not_reused=record.not_reused,
        task_list=[_task_profile(task, record.attempts[task], answer, began) for task, answer in answers],
        running=running,
    )


def _told_reuse(reused: int, tasks: int, not_scanned: int) -> list[str]:
    if not reused:
        return []
    return [f"answers of {reused} of {tasks} tasks reused" + (f": {not_scanned:,} bytes not scanned" if not_scanned else "")]


def _task_profile(task: int, attempts: int, answer: _Answer, began: float) -> TaskProfile:
    stats = answer.descriptor.stats
    return TaskProfile(
        task=task,
        attempt=answer.attempt,
        began_s=answer.launched_at - began,
        ended_s=answer.answered_at - began,
        attempts=attempts,
        rows_in=stats.rows_in,
        rows_out=stats.rows_out,
        bytes_in=stats.bytes_in,
        bytes_out=stats.bytes_out,
        blocks=len(answer.descriptor.blocks),
        requests=dict(stats.requests),
        seconds=stats.seconds,
        peak_memory_bytes=stats.peak_memory_bytes,
        cold_start=stats.cold_start,
        reused=answer.reused,
    )
