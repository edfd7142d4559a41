"""Drive one query: make events of what happens, and obey the instructions of the state machine.

All waiting of a query is here; all deciding is in :mod:`frazil_coordinator.schedule.state`. The driver plans nothing,
reads and deletes no objects, and knows nothing of how a platform reaches its functions: next on the main path are
:mod:`frazil_coordinator.schedule.bind` and :mod:`frazil_coordinator.platform`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_never

from frazil_coordinator.metrics import Metrics
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.platform.base import Platform
from frazil_coordinator.reuse.sharing import Sharing
from frazil_coordinator.schedule.answers import Answers
from frazil_coordinator.schedule.attempts import Attempts, Requests
from frazil_coordinator.schedule.bind import result_blocks
from frazil_coordinator.schedule.commits import (
    Commit,
    CommitLog,
    StageLaidOut,
    TaskCommitted,
    TaskDivided,
    TaskLost,
    as_taken_up,
)
from frazil_coordinator.schedule.elsewhere import Elsewhere
from frazil_coordinator.schedule.history import run_state, with_history
from frazil_coordinator.schedule.laid_out import PutFragment, Stages
from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.schedule.messages import (
    AnswerReused,
    AttemptDivided,
    AttemptFailed,
    AttemptHeartbeat,
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
    Lost,
    Moved,
    Restart,
    ReturnSlot,
    SetTimer,
    SlotGranted,
    StageRecovered,
    Submitted,
    TimerFired,
    WantSlots,
)
from frazil_coordinator.schedule.peaks import Peaks
from frazil_coordinator.schedule.profile import Profile, Recorder, RunState
from frazil_coordinator.schedule.progress import Progress
from frazil_coordinator.schedule.slots import Claim, Slots
from frazil_coordinator.schedule.small import TooLargeForOneTaskError, is_one_task
from frazil_coordinator.schedule.state import QueryState
from frazil_coordinator.schedule.terms import RetryLimits, StageShape
from frazil_coordinator.schedule.told import Told
from frazil_coordinator.settings import Settings
from frazil_functions.errors import (
    FrazilError,
    InternalError,
    OutOfMemoryError,
    from_wire,
)
from frazil_functions.ids import QueryId, StageId
from frazil_functions.task import (
    BlockRef,
    Failed,
    Heartbeat,
    SinkFile,
    SinkOutput,
    Started,
    Succeeded,
    TaskEvent,
    TaskStats,
)

__all__ = ["QueryDriver"]

_LOG = logging.getLogger(__name__)


class QueryDriver:
    """Runs one query on a platform.

    Parameters
    ----------
    query, graph
        The query and its plan.
    platform
        Where attempts are sent.
    exchange_prefix
        Key prefix of all exchange objects; this query's lie under
        :func:`~frazil_coordinator.schedule.bind.query_prefixes`. Whoever owns the driver deletes them.
    settings
        Retries, timeouts, limits.
    slots
        The cap on attempts in flight that queries share.
    on_progress
        Called with the progress on each change.
    clock
        Monotonic seconds, those of the running loop's timers.
    put_fragment
        How to store a fragment that is too large to travel in each request; None sends all inline.
    sink
        Where the tasks of the root stage write files of the user's.
    metrics
        What is told of its attempts.
    peaks
        What tasks of other queries needed; what those of this one need is added.
    log
        Keeps what must not be forgotten; None when the query may be.
    claim
        For whom it takes slots. None: for nobody in particular.
    sharing
        What it shares with other queries; None: nothing. Whoever owns the driver closes it.
    large_is_error
        Whether a task of :func:`~frazil_coordinator.schedule.small.is_one_task` that runs out of memory ends the query.
    history
        What another coordinator that ran this query had given to its log: no task of which there is an answer runs again.

    Notes
    -----
    All methods are for the thread of the event loop.
    """

    def __init__(
        self,
        *,
        query: QueryId,
        graph: StageGraph,
        platform: Platform,
        exchange_prefix: str,
        settings: Settings,
        slots: Slots,
        on_progress: Callable[[Progress], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        put_fragment: PutFragment | None = None,
        sink: SinkOutput | None = None,
        metrics: Metrics | None = None,
        peaks: Peaks | None = None,
        log: CommitLog | None = None,
        claim: Claim | None = None,
        sharing: Sharing | None = None,
        large_is_error: bool = False,
        history: Sequence[Commit] = (),
    ) -> None:
        self._query = query
        self._graph = graph
        self._settings = settings
        self._on_progress = on_progress
        self._clock = clock
        self._history = history
        self._large_is_error = large_is_error and is_one_task(graph)
        claim = claim or Claim()
        self._state = QueryState(StageShape.of(graph, settings, slots.limit_of(claim)), RetryLimits.of(settings))
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._share = slots.share(lambda: self._events.put_nowait(SlotGranted()), claim)
        self._recorder = Recorder(query, graph, metrics)
        self._stages = Stages(
            graph, settings, peaks=peaks, put_fragment=put_fragment, state=self._state, recorder=self._recorder
        )
        self._progress = Progress(query=query, stages=tuple(self._stages.progress(stage.id) for stage in graph.stages))
        self._requests = Requests(
            query=query,
            settings=settings,
            exchange_prefix=exchange_prefix,
            sink=sink,
            barrier=self._stages.barrier,
            fragments=self._stages.fragments,
        )
        self._attempts = Attempts(platform, self._requests, self)
        self.told = Told(self._requests, self._stages.barrier, self._recorder)
        self._answers = Answers(graph, self._state, log, self._events.put_nowait)
        self._elsewhere: Elsewhere | None = None
        if sharing is not None:
            self._elsewhere = Elsewhere(sharing, graph, self._stages, self._requests, self._answers, self._events.put_nowait)
        self._held: dict[StageId, BindStage] | None = None
        """Stages to be bound when all is recovered; None when nothing is being recovered."""

        self._uploads: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> tuple[BlockRef, ...]:
        """Run the query to its end; once a driver.

        Returns
        -------
        tuple[BlockRef, ...]
            The blocks of the root stage, by task, in block order.

        Raises
        ------
        UserError
            When the query is at fault: :class:`~frazil_functions.errors.QueryError` when Polars raised,
            :class:`~frazil_functions.errors.CancelledQueryError` after :meth:`cancel`,
            :class:`~frazil_functions.errors.DeadlineError` when ``settings.timeout_s`` is over.
        TooLargeForOneTaskError
            See `large_is_error`.
        FrazilError
            The last error of a task that used up its attempts, with all of them in its message.
        """
        self._recorder.began(self._clock())
        self._requests.begin()
        state: RunState = "cancelled"
        try:
            finish = await self._until_finish()
            state = run_state(finish.error)
        except Exception:
            state = "failed"
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._share.close()
            self._recorder.ended(state, self._clock())
        if finish.error is not None:
            raise with_history(finish.error, finish.history)
        return result_blocks(self._state.descriptors(self._graph.root.id))

    def files(self) -> tuple[tuple[SinkFile, ...], ...]:
        """Return the files that the tasks of the root stage wrote, by task, after :meth:`run`."""
        return tuple(descriptor.files for descriptor in self._state.descriptors(self._graph.root.id))

    def cancel(self) -> None:
        """Stop the query: :meth:`run` raises `CancelledQueryError` when all its attempts are stopped."""
        self._events.put_nowait(CancelRequested())

    def profile(self) -> Profile:
        """Return what the query did so far; JSON values only."""
        return self._recorder.profile(self._clock())

    def progress(self) -> Progress:
        """Return how far the query is."""
        return self._progress

    # Events

    async def _until_finish(self) -> Finish:
        try:
            async with asyncio.TaskGroup() as group:
                finish = await self._begin(group)
                while finish is None:
                    finish = self._step(await self._events.get(), group)
                for upload in self._uploads:
                    upload.cancel()
                return finish
        except ExceptionGroup as errors:
            # Attempts report their errors as events: what comes here is a fault of the coordinator itself.
            raise InternalError(f"the coordinator failed: {errors.exceptions[0]!r}") from errors

    async def _begin(self, group: asyncio.TaskGroup) -> Finish | None:
        """Start the query, from where another coordinator left it."""
        if not self._history:
            return self._step(Submitted(), group)
        self._held = {}
        finish = self._step(Submitted(), group)
        for commit in as_taken_up(self._history):
            finish = finish or await self._recover(commit, group)
        held, self._held = self._held, None
        for bind in held.values() if finish is None else ():
            if bind.stage not in self._stages.barrier.layouts:
                self._bind(bind, group)
        return finish

    async def _recover(self, commit: Commit, group: asyncio.TaskGroup) -> Finish | None:
        """Take up again what a coordinator before this one had taken up."""
        match commit:
            case StageLaidOut():
                self._step(StageRecovered(stage=commit.stage), group)
                layout = self._stages.lay_out_again(commit)
                await self._stages.prepare(layout.stage)
                return self._step(self._stages.bound(layout, self._state.first_attempt(commit.stage)), group)
            case TaskCommitted():
                if not commit.reused:
                    self._recorder.launched(commit.ref, self._clock(), here=False)
                event = AttemptRecovered(ref=commit.ref, descriptor=commit.descriptor, reused=commit.reused)
                return self._step(event, group)
            case TaskDivided():
                ref = AttemptRef(commit.stage, commit.task, commit.attempt)
                return self._step(DivisionRecovered(ref=ref, parts=self._stages.divide(ref) or 0), group)
            case TaskLost():
                return self._step(LossRecovered(stage=commit.stage, task=commit.task), group)
            case _:
                assert_never(commit)

    def _step(self, event: Event, group: asyncio.TaskGroup) -> Finish | None:
        now = self._clock()
        self._record(event, now)
        if isinstance(event, AttemptFailed) and isinstance(event.error, OutOfMemoryError):
            event = self._divide(event)
        touched: set[StageId] = set()
        finish: Finish | None = None
        instructions = self._state.handle(event, now)
        if isinstance(event, AttemptSucceeded | AttemptRecovered | AnswerReused):
            if event.ref.stage in self._stages.barrier.layouts:
                self._stages.answered(event.ref.stage)
            if self._elsewhere is not None:
                used = not any(isinstance(one, Discard) for one in instructions)
                self._elsewhere.taken_up(event, used=used, complete=self._state.is_complete(event.ref.stage))
        for instruction in instructions:
            if isinstance(instruction, Finish):
                finish = instruction
            else:
                self._obey(instruction, group, now)
            if isinstance(instruction, Launch | CancelAttempt):
                touched.add(instruction.ref.stage)
            elif isinstance(instruction, Lost | Restart):
                touched.add(instruction.stage)
        if isinstance(event, AttemptSucceeded | AttemptRecovered | AnswerReused | AttemptFailed | AttemptDivided):
            touched.add(event.ref.stage)
        if touched:
            self._tell_progress(touched)
        return finish

    def _divide(self, event: AttemptFailed) -> Event:
        """Divide a task that ran out of memory, when that can be done: trying it again unchanged would not help."""
        ref = event.ref
        parts = self._stages.divide(ref) if self._state.is_live(ref) else None
        if parts is None:
            large = TooLargeForOneTaskError(event.error.message, where=event.error.where)
            return replace(event, error=large) if self._large_is_error else event
        self._answers.note(TaskDivided(stage=ref.stage, task=ref.task, attempt=ref.attempt, after=self._answers.taken_up))
        return AttemptDivided(ref=ref, error=event.error, parts=parts)

    def _record(self, event: Event, now: float) -> None:
        if isinstance(event, AttemptSucceeded | AttemptRecovered | AnswerReused):
            self._answers.taken(event)
            void = self._state.is_void(event.ref)
            reused = isinstance(event, AnswerReused) or (isinstance(event, AttemptRecovered) and event.reused)
            self._recorder.succeeded(event.ref, event.descriptor, now, void=void, reused=reused)
            if not void and not reused:
                self._stages.needed(event.ref, event.descriptor.stats)

    def _obey(self, instruction: Instruction, group: asyncio.TaskGroup, now: float) -> None:
        match instruction:
            case BindStage():
                if self._held is not None:
                    self._held[instruction.stage] = instruction
                else:
                    self._bind(instruction, group)
            case WantSlots():
                self._share.want(instruction.count, instruction.spare)
            case Launch():
                self._launch(instruction, group, now)
            case ReturnSlot():
                self._share.refuse()
            case CancelAttempt():
                self._cancel_attempt(instruction, now)
            case SetTimer():
                self._set_timer(instruction.at, now)
            case Discard():
                # Its object lies under the query's prefix, and goes with it.
                self._recorder.discarded(instruction.ref)
            case Lost():
                self._lost(instruction)
            case Moved():
                self._stages.moved(instruction)
            case Restart():
                self._stages.forget(instruction.stage)
                if self._held is not None:
                    self._held.pop(instruction.stage, None)
            case Finish():
                return
            case _:
                assert_never(instruction)

    def _set_timer(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._events.put_nowait, TimerFired())

    # Stages

    def _bind(self, bind: BindStage, group: asyncio.TaskGroup) -> None:
        try:
            layout, decision = self._stages.lay_out(bind.stage, self._answers.taken_up)
        except FrazilError as error:
            self._events.put_nowait(BindFailed(stage=bind.stage, error=error))
            return
        self._answers.note(decision)
        if self._elsewhere is not None or self._stages.takes_time(layout.stage):
            self._uploads.append(group.create_task(self._prepare(layout, bind)))
        else:
            self._events.put_nowait(self._stages.bound(layout, bind.first_attempt))

    async def _prepare(self, layout: Layout, bind: BindStage) -> None:
        try:
            await self._stages.prepare(layout.stage)
        except FrazilError as error:
            self._events.put_nowait(BindFailed(stage=bind.stage, error=error))
            return
        kept = {} if self._elsewhere is None else await self._elsewhere.look_up(layout)
        bound = self._stages.bound(layout, bind.first_attempt)
        self._events.put_nowait(replace(bound, elsewhere=frozenset(kept)))
        for left, (task, descriptor) in zip(reversed(range(len(kept))), kept.items(), strict=True):
            self._answers.give(AttemptRef(bind.stage, task, bind.first_attempt), descriptor, reused=True, hurry=not left)

    def _lost(self, lost: Lost) -> None:
        """Note that a task runs again, because what it wrote can't be read any more."""
        self._recorder.lost(lost.stage, lost.task)
        if self._elsewhere is not None:
            self._elsewhere.lost(AttemptRef(lost.stage, lost.task, 0))
        if self._held is not None:
            return  # another coordinator noted it
        _LOG.warning("output lost, its task runs again", extra=self._fields(AttemptRef(lost.stage, lost.task, 0)))
        self._answers.note(TaskLost(stage=lost.stage, task=lost.task, after=self._answers.taken_up))

    # Attempts

    def _launch(self, launch: Launch, group: asyncio.TaskGroup, now: float) -> None:
        """Send an attempt, unless the answer comes from elsewhere."""
        request = None if self._elsewhere is None else self._elsewhere.request(launch.ref)
        if self._elsewhere is not None and request is None:
            self._share.refuse()
            return
        self._share.use()
        self._recorder.launched(launch.ref, now, speculative=launch.speculative)
        self._attempts.launch(launch.ref, group, request)

    def released(self) -> None:
        """Take back the slot of an attempt that has ended."""
        self._share.release()

    def _cancel_attempt(self, cancel: CancelAttempt, now: float) -> None:
        kind, message = ("not_needed", "cancelled") if cancel.error is None else (cancel.error.kind, cancel.error.message)
        if cancel.error is not None:
            cancel.error.where |= {"stage": str(cancel.ref.stage), "task": str(cancel.ref.task)}
        self._recorder.failed(cancel.ref, kind, message, TaskStats(), now)
        self._not_shared(cancel.ref)
        self._attempts.cancel(cancel.ref)

    def receive(self, ref: AttemptRef, event: TaskEvent) -> bool:
        """Take an event of an attempt; return whether it is its last."""
        match event:
            case Started():
                self._recorder.started(ref, cold_start=event.cold_start)
                self._events.put_nowait(AttemptStarted(ref=ref))
                return False
            case Heartbeat():
                self._events.put_nowait(AttemptHeartbeat(ref=ref))
                return False
            case Succeeded():
                self._answers.give(ref, event.descriptor)
                return True
            case Failed():
                self._fail(ref, from_wire(event.error), event.stats)
                return True
            case _:
                assert_never(event)

    def lost(self, ref: AttemptRef, error: FrazilError) -> None:
        """Take the end of an attempt that gave no last event."""
        self._fail(ref, error, TaskStats())

    def _not_shared(self, ref: AttemptRef) -> None:
        if self._elsewhere is not None:
            self._elsewhere.sharing.failed(ref)

    def _fail(self, ref: AttemptRef, error: FrazilError, stats: TaskStats) -> None:
        error.where = {"stage": str(ref.stage), "task": str(ref.task), **error.where}
        self._recorder.failed(ref, error.kind, error.message, stats, self._clock())
        self._not_shared(ref)
        if isinstance(error, OutOfMemoryError):
            self._stages.needed(ref, stats)
        _LOG.info("attempt failed", extra={**self._fields(ref), "kind": error.kind, "error": error.message})
        self._events.put_nowait(AttemptFailed(ref=ref, error=error))

    def _fields(self, ref: AttemptRef) -> dict[str, object]:
        return {"query": self._query, "stage": ref.stage, "task": ref.task, "attempt": ref.attempt}

    # Progress

    def _tell_progress(self, touched: set[StageId]) -> None:
        stages = tuple(self._stages.progress(known.id) if known.id in touched else known for known in self._progress.stages)
        self._progress = Progress(query=self._query, stages=stages)
        if self._on_progress is not None:
            self._on_progress(self._progress)
