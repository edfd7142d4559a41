"""The sans-IO state machine of one query: events in, instructions out.

No clock, no randomness, no await and no logging: time comes in as a value, and the same events give the same
instructions. It decides what runs, what is tried again and when the query ends; it doesn't know how a stage's inputs are
found (:mod:`frazil_coordinator.schedule.bind`) nor how an attempt is sent (:mod:`frazil_coordinator.schedule.driver`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

from frazil_coordinator.schedule.books import LiveAttempt, Phase, StageState, TaskState
from frazil_coordinator.schedule.losses import Losses
from frazil_coordinator.schedule.messages import (
    AnswerReused,
    AttemptAnswered,
    AttemptDivided,
    AttemptFailed,
    AttemptHeartbeat,
    AttemptRecord,
    AttemptRecovered,
    AttemptRef,
    AttemptStarted,
    AttemptSucceeded,
    BindFailed,
    BindStage,
    CancelAttempt,
    CancelRequested,
    Discard,
    DivisionRecovered,
    Event,
    Finish,
    Instruction,
    Launch,
    LossRecovered,
    NotElsewhere,
    ReturnSlot,
    RunsElsewhere,
    SetTimer,
    SlotGranted,
    StageBound,
    StageRecovered,
    Submitted,
    TimerFired,
    WantSlots,
)
from frazil_coordinator.schedule.ready import ReadyTasks, awaited
from frazil_coordinator.schedule.reminders import Reminders
from frazil_coordinator.schedule.speculation import Speculation
from frazil_coordinator.schedule.terms import RetryLimits, StageCounts, StageShape
from frazil_functions.errors import CancelledQueryError, DeadlineError, FrazilError, FunctionLostError
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import Descriptor

__all__ = ["QueryState"]

_MAX_DOUBLINGS: Final = 30


class QueryState:
    """The state of one query.

    Parameters
    ----------
    stages
        The shapes of the stages, producers before consumers, ``stages[i].id == i``; the last is the root.
    limits
        See :class:`RetryLimits`.

    Notes
    -----
    * A stage starts when all its producers are complete; stages that are ready run at once, tasks in the order of stage
      and index. Each granted slot launches one attempt.
    * A stage that awaits others holds back until they are complete too, at most for its patience. Tasks of stages that
      are awaited get slots before all others.
    * A task has at most one committed descriptor: the first that comes, even from an attempt that had been given up. A
      later one from another execution is answered with `Discard`.
    * An error that is not retryable fails the query at once. An error that counts as a failure is retried until the task
      has `RetryLimits.max_attempts` of them, any other until `RetryLimits.max_platform_failures`; retry `n` is launched
      ``backoff_s * 2**n`` after the failure.
    * A task whose attempt is slow (:mod:`frazil_coordinator.schedule.speculation`) gets a second one beside it, once, in a
      slot that no ready task wants. The first answer counts and the other attempt is cancelled. While one of the two runs,
      the failure of the other neither delays the task nor ends the query, unless it is not retryable.
    * A task that is divided (`AttemptDivided`) gives way to new ones in its place; a late answer of it is discarded.
    * Of a stage with `StageShape.first_rows`, 1, 2, 4 … tasks run at a time, in order, until they have that many rows; the
      tasks that are left then count as done without rows.
    * A task of which another query has the answer, or runs it, is not launched (`StageBound.elsewhere`, `RunsElsewhere`): it
      waits for `AnswerReused`, or for `NotElsewhere`, and then is launched after all.
    * What a coordinator before this one had taken up is told again right after `Submitted`, in the same order, by
      `StageRecovered` and its like. Who tells it obeys `BindStage` later.
    * An attempt that can't read an object that a task wrote (`BlockError`) is tried again, once, which does not count: the
      read may be at fault. When the object can't be read again, it is lost (`Lost`): its task runs again, at most
      `RetryLimits.max_attempts` times, and the stages that read it launch nothing before it is there. If it is the same
      (:func:`~frazil_coordinator.schedule.losses.same_output`), they go on with it (`Moved`), else all stages behind it
      begin anew (`Restart`).
    * `Finish` is the last instruction ever; before it, each attempt in flight is cancelled.
    """

    def __init__(self, stages: Sequence[StageShape], limits: RetryLimits) -> None:
        self._limits = limits
        self._stages = [StageState(shape=shape, missing=len(shape.producers)) for shape in stages]
        self._consumers: dict[StageId, list[StageId]] = {shape.id: [] for shape in stages}
        for shape in stages:
            for producer in dict.fromkeys((*shape.producers, *shape.awaits)):
                self._consumers[producer].append(shape.id)
        self._live: dict[AttemptRef, LiveAttempt] = {}
        self._ready = ReadyTasks(awaited(stages))  # stages that others await come first
        self._wanted = 0
        self._spare = 0
        self._speculation = Speculation(self._stages, limits.speculation)
        self._reminders = Reminders()
        self._losses = Losses(self._stages, self._consumers, self)
        self._finished = False
        self._out: list[Instruction] = []

    @property
    def finished(self) -> bool:
        """Whether `Finish` has been given."""
        return self._finished

    def is_live(self, ref: AttemptRef) -> bool:
        """Return whether the attempt is in flight, and was not given up."""
        return ref in self._live

    def first_attempt(self, stage: StageId) -> int:
        """Return the number of the first attempts of a stage's tasks; more than 0 when it began anew."""
        return self._stages[stage].first_attempt

    def is_void(self, ref: AttemptRef) -> bool:
        """Return whether the attempt is one of a task before its stage began anew: its answer is not needed."""
        return ref.attempt < self._stages[ref.stage].first_attempt

    def counts(self, stage: StageId) -> StageCounts:
        """Return how far `stage` is."""
        found = self._stages[stage]
        tasks = len(found.order) if found.bound else found.shape.tasks
        return StageCounts(
            tasks=tasks, running=found.running, done=found.done, attempts=found.attempts, retries=found.retries
        )

    def is_complete(self, stage: StageId) -> bool:
        """Return whether all tasks of `stage` have their answers."""
        return self._stages[stage].complete

    def descriptors(self, stage: StageId) -> tuple[Descriptor, ...]:
        """Return the committed descriptors of `stage`, in the order of their rows. All of them, once it is complete."""
        return tuple(task.committed for task in self._stages[stage].in_order() if task.committed is not None)

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take one event, and return what is to be done, in this order.

        Parameters
        ----------
        event
            What happened. After `Finish`, nothing that happens matters.
        now
            The time, never less than before, on the clock of `SetTimer`.
        """
        if self._finished:
            return []
        self._out = []
        self._dispatch(event, now)
        if not self._finished:
            self._tell_wants()
        return self._out

    def _dispatch(self, event: Event, now: float) -> None:
        match event:
            case Submitted():
                self._submit(now)
            case StageBound():
                self._bound(event, now)
            case BindFailed():
                self._finish(event.error)
            case AttemptStarted() | AttemptHeartbeat():
                self._alive(event.ref, now)
            case AttemptAnswered():
                self._speculation.answered(event.ref, self._live.get(event.ref))
            case AttemptSucceeded():
                self._succeeded(event, now)
            case AttemptFailed():
                self._failed(event.ref, event.error, now)
            case AttemptDivided():
                self._divided(event, now)
            case StageRecovered():
                self._stages[event.stage].asked = True
            case RunsElsewhere():
                self._runs_elsewhere(event.ref)
            case AnswerReused():
                self._reused(event, now)
            case NotElsewhere():
                if (task := self._stages[event.ref.stage].elsewhere(event.ref)) is not None:
                    self.make_ready(task)
            case AttemptRecovered():
                self._launched_before(event.ref, sent=not event.reused)
                self._succeeded(AttemptSucceeded(ref=event.ref, descriptor=event.descriptor), now)
            case DivisionRecovered():
                self._launched_before(event.ref)
                task = self._stages[event.ref.stage].tasks[event.ref.task]
                self._divide(task, event.parts, list(task.history))
            case LossRecovered():
                self._losses.lost(self._stages[event.stage].tasks[event.task])
            case SlotGranted():
                self._granted(now)
            case TimerFired():
                self._fired(now)
            case CancelRequested():
                self._finish(CancelledQueryError("the query was cancelled"))
            case _:
                assert_never(event)

    # Stages

    def _submit(self, now: float) -> None:
        if self._limits.timeout_s is not None:
            self._reminders.add(now + self._limits.timeout_s, "deadline")
        for stage in self._stages:
            self._may_start(stage, now)

    def _may_start(self, stage: StageState, now: float) -> None:
        """Ask for a stage's inputs when its producers are complete, and those that it awaits are or take too long."""
        if stage.missing or stage.asked:
            return
        if any(not self._stages[other].complete for other in stage.shape.awaits):
            if stage.waiting_until is None and stage.shape.patience_s > 0:
                stage.waiting_until = now + stage.shape.patience_s
                self._reminders.add(stage.waiting_until, "patience", stage=stage.shape.id)
            if stage.waiting_until is not None and now < stage.waiting_until:
                return
        stage.asked = True
        self._out.append(BindStage(stage=stage.shape.id, first_attempt=stage.first_attempt))

    def _bound(self, event: StageBound, now: float) -> None:
        stage = self._stages[event.stage]
        if stage.bound or not stage.asked or event.first_attempt != stage.first_attempt:
            return
        stage.bound = True
        first = stage.first_attempt
        stage.tasks = [
            TaskState(event.stage, TaskIndex(index), first_attempt=first, next_attempt=first) for index in range(event.tasks)
        ]
        stage.order = [task.index for task in stage.tasks]
        self._speculation.bound(event.stage, event.weights)
        if stage.shape.first_rows is None:
            for task in stage.tasks:
                if task.index in event.elsewhere:
                    task.phase = "elsewhere"
                else:
                    self.make_ready(task)
        else:
            for task in stage.next_wave():
                self.make_ready(task)
        if stage.complete:
            self._completed(stage, now)

    def _completed(self, stage: StageState, now: float) -> None:
        if stage is self._stages[-1]:
            self._finish(None)
            return
        for consumer in self._consumers[stage.shape.id]:
            waiting = self._stages[consumer]
            waiting.missing -= stage.shape.id in waiting.shape.producers
            if waiting.blocked and not waiting.missing:
                self._losses.unblock(waiting)
            self._may_start(waiting, now)

    # Attempts

    def make_ready(self, task: TaskState) -> None:
        """Let a task have the next slot that it can get; for :class:`~frazil_coordinator.schedule.losses.Losses` too."""
        if self._stages[task.stage].blocked:
            task.phase = "blocked"
        else:
            self._ready.push(task)

    def _granted(self, now: float) -> None:
        task = self._ready.pop()
        if task is not None:
            self._stages[task.stage].running += 1
            task.phase = "running"
            self._wanted -= 1
            self._launch(task, now)
            return
        slow = self._speculation.take()
        if slow is None:
            self._out.append(ReturnSlot())
            return
        slow.speculated = True
        self._spare -= 1
        self._launch(slow, now, speculative=True)

    def _launch(self, task: TaskState, now: float, *, speculative: bool = False) -> None:
        ref = AttemptRef(task.stage, task.index, task.next_attempt)
        stage = self._stages[task.stage]
        stage.attempts += 1
        stage.retries += task.next_attempt > task.first_attempt
        task.next_attempt += 1
        silent_at = now + self._limits.start_silence_s
        live = LiveAttempt(task, launched_at=now, silent_at=silent_at, speculative=speculative)
        self._live[ref] = live
        self._out.append(Launch(ref=ref, speculative=speculative))
        live.reminder = self._reminders.add(live.silent_at, "silence", ref)

    def _alive(self, ref: AttemptRef, now: float) -> None:
        if (live := self._live.get(ref)) is None:
            return
        live.silent_at = now + self._limits.silence_s
        if live.started_at is None:
            # The reminder of the launch may come later than this silence ends, so it is replaced.
            live.started_at = now
            live.reminder = self._reminders.add(live.silent_at, "silence", ref)
            self._look_again(ref.stage, self._speculation.look_at_one(ref, live, now))

    def _look_again(self, stage: StageId, at: float | None) -> None:
        if at is not None:
            self._reminders.add(at, "slow", stage=stage)

    def _launched_before(self, ref: AttemptRef, *, sent: bool = True) -> None:
        """Note an attempt that was launched by a coordinator before this one."""
        stage = self._stages[ref.stage]
        stage.attempts += sent
        if self.is_void(ref):
            return
        task = stage.tasks[ref.task]
        stage.retries += sent and ref.attempt > task.first_attempt
        task.next_attempt = max(task.next_attempt, ref.attempt + 1)

    def _runs_elsewhere(self, ref: AttemptRef) -> None:
        """Take back a launch, and let the task wait for its answer; it can be stopped meanwhile as any other."""
        live = self._drop(ref)
        if live is not None:
            stage = self._stages[ref.stage]
            stage.attempts -= 1
            stage.retries -= ref.attempt > live.task.first_attempt
            live.task.phase = "elsewhere"

    def _reused(self, event: AnswerReused, now: float) -> None:
        task = self._stages[event.ref.stage].elsewhere(event.ref)
        if task is not None:
            task.next_attempt = max(task.next_attempt, event.ref.attempt + 1)
            self._succeeded(AttemptSucceeded(ref=event.ref, descriptor=event.descriptor), now)

    def _succeeded(self, event: AttemptSucceeded, now: float) -> None:
        task = self._task(event.ref)
        if task is None or task.committed is not None or task.phase == "divided":
            committed = task.committed.key if task is not None and task.committed is not None else None
            # The same answer may come twice: its object is the committed one.
            if event.descriptor.key not in (None, committed):
                self._out.append(Discard(ref=event.ref, descriptor=event.descriptor))
            return
        live = self._drop(event.ref)
        began = None if live is None else live.started_at
        self._speculation.done(task, event.descriptor.stats.seconds if began is None else now - began)
        # A second attempt beside it; or a retry that runs or waits while an attempt that was given up answers after all.
        self.stop(task, "done")
        task.committed = event.descriptor
        stage = self._stages[task.stage]
        stage.done += 1
        if task.lost is not None:
            self._losses.found_again(task, event.descriptor)
        if stage.shape.first_rows is not None and all(one.phase in ("held", "done") for one in stage.in_order()):
            for held in stage.next_wave():
                self.make_ready(held)
        if stage.complete:
            self._completed(stage, now)
        else:
            self._look_again(task.stage, self._speculation.look(task.stage, self._live, now))

    def _divided(self, event: AttemptDivided, now: float) -> None:
        live = self._drop(event.ref)
        if live is None:
            return
        self._divide(live.task, event.parts, [*live.task.history, live.record(event.ref, event.error, now)])

    def _divide(self, task: TaskState, count: int, history: list[AttemptRecord]) -> None:
        stage = self._stages[task.stage]
        self.stop(task, "divided")
        attempt = task.first_attempt
        new = (TaskIndex(len(stage.tasks) + part) for part in range(count))
        parts = [
            TaskState(task.stage, index, first_attempt=attempt, next_attempt=attempt, history=list(history)) for index in new
        ]
        stage.tasks += parts
        self._speculation.divided(task, parts)
        place = stage.order.index(task.index)
        stage.order[place : place + 1] = [part.index for part in parts]
        for part in parts:
            self.make_ready(part)

    def _failed(self, ref: AttemptRef, error: FrazilError, now: float) -> None:
        live = self._drop(ref)
        if live is None:
            return
        task = live.task
        task.history.append(live.record(ref, error, now))
        writer = self._losses.writer_of(error)
        if writer is not None and not self._losses.reads_again(task, error):
            self._lost(writer, task, error)
            return
        if writer is None and error.counts_as_failure:
            task.failures += 1
        elif writer is None:
            task.platform_failures += 1
        if error.retryable and self._live_of(task):
            return  # the other attempt may still answer; when it fails too, all failures count
        if not error.retryable or task.used_up(self._limits):
            self._finish(error, tuple(task.history))
            return
        doublings = min(len(task.history) - 1, _MAX_DOUBLINGS)
        task.phase = "waiting"
        task.retry_at = now + min(self._limits.backoff_s * 2**doublings, self._limits.backoff_max_s)
        self._reminders.add(task.retry_at, "retry", ref)

    def _lost(self, writer: TaskState, reader: TaskState, error: FrazilError) -> None:
        if writer.losses >= self._limits.max_attempts:
            self._finish(error, tuple(reader.history))
        else:
            self._losses.lost(writer)

    def tell(self, instruction: Instruction) -> None:
        """Give an instruction."""
        self._out.append(instruction)

    def stop(self, task: TaskState, phase: Phase) -> None:
        """Let nothing of a task run or wait: it has another phase from now on."""
        for ref in self._live_of(task):
            self._drop(ref)
            self._out.append(CancelAttempt(ref=ref))
        self._ready.withdraw(task)
        task.phase = phase

    def _drop(self, ref: AttemptRef) -> LiveAttempt | None:
        live = self._live.pop(ref, None)
        if live is not None:
            self._stages[ref.stage].running -= not self._live_of(live.task)
            self._speculation.ended(ref, live)
        return live

    def _live_of(self, task: TaskState) -> list[AttemptRef]:
        attempts = range(task.first_attempt, task.next_attempt)
        refs = (AttemptRef(task.stage, task.index, attempt) for attempt in attempts)
        return [ref for ref in refs if ref in self._live]

    def _task(self, ref: AttemptRef) -> TaskState | None:
        """Return the task of an attempt that was launched."""
        tasks = self._stages[ref.stage].tasks if ref.stage < len(self._stages) else []
        task = tasks[ref.task] if ref.task < len(tasks) else None
        return task if task is not None and task.first_attempt <= ref.attempt < task.next_attempt else None

    # Time

    def _fired(self, now: float) -> None:
        self._reminders.fired()
        while not self._finished and (due := self._reminders.take(now)) is not None:
            if due.what == "deadline":
                self._finish(DeadlineError(f"the query did not end within {self._limits.timeout_s} s"))
            elif due.what == "slow" and due.stage is not None:
                self._look_again(due.stage, self._speculation.look(due.stage, self._live, now))
            elif due.stage is not None:
                self._may_start(self._stages[due.stage], now)
            elif due.what == "retry" and due.ref is not None:
                self._retry(due.ref)
            elif due.ref is not None:
                self._silent(due.ref, due.number, now)

    def _retry(self, ref: AttemptRef) -> None:
        if (task := self._task(ref)) is not None and task.phase == "waiting":
            self.make_ready(task)

    def _silent(self, ref: AttemptRef, reminder: int, now: float) -> None:
        if (live := self._live.get(ref)) is None or live.answered or live.reminder != reminder:
            return
        if live.silent_at > now:
            live.reminder = self._reminders.add(live.silent_at, "silence", ref)
            return
        waited = self._limits.start_silence_s if live.started_at is None else self._limits.silence_s
        what = "was not started" if live.started_at is None else "was silent"
        error = FunctionLostError(f"the attempt {what} for {waited:g} s and was given up")
        self._out.append(CancelAttempt(ref=ref, error=error))
        self._failed(ref, error, now)

    # Ends

    def _finish(self, error: FrazilError | None, history: tuple[AttemptRecord, ...] = ()) -> None:
        self._out.extend(CancelAttempt(ref=ref) for ref in sorted(self._live))
        for ref in list(self._live):
            self._drop(ref)
        self._out.append(Finish(error=error, history=history))
        self._finished = True

    def _tell_wants(self) -> None:
        spare = self._speculation.wanted
        if (len(self._ready), spare) != (self._wanted, self._spare):
            self._wanted, self._spare = len(self._ready), spare
            self._out.append(WantSlots(count=self._wanted, spare=self._spare))
        if (timer := self._reminders.timer()) is not None:
            self._out.append(SetTimer(at=timer))
