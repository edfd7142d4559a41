"""Drive one query: make events of what happens, and obey the instructions of the state machine.

All waiting of a query is here; all deciding is in :mod:`frazil_coordinator.schedule.state`. The driver plans nothing,
reads and deletes no objects, and knows nothing of how a platform reaches its functions: next on the main path are
:mod:`frazil_coordinator.schedule.bind` and :mod:`frazil_coordinator.platform`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeAlias, assert_never

import polars as pl

from frazil_coordinator.plan.model import INLINE_FRAGMENT_BYTES, Stage, StageGraph
from frazil_coordinator.platform.base import Platform
from frazil_coordinator.schedule.arms import Fragments, takes_time
from frazil_coordinator.schedule.barrier import Barrier
from frazil_coordinator.schedule.bind import output_for, result_blocks
from frazil_coordinator.schedule.history import with_history
from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.schedule.messages import (
    AttemptDivided,
    AttemptFailed,
    AttemptHeartbeat,
    AttemptRef,
    AttemptStarted,
    AttemptSucceeded,
    BindFailed,
    BindStage,
    CancelAttempt,
    CancelRequested,
    Discard,
    Event,
    Finish,
    Instruction,
    Launch,
    ReturnSlot,
    SetTimer,
    SlotGranted,
    StageBound,
    Submitted,
    TimerFired,
    WantSlots,
)
from frazil_coordinator.schedule.peaks import Peaks
from frazil_coordinator.schedule.preaggregation import WATCHED_TASKS, shrinks_too_little
from frazil_coordinator.schedule.profile import Profile, Recorder, RunState
from frazil_coordinator.schedule.progress import Progress, StageProgress
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.schedule.state import QueryState
from frazil_coordinator.schedule.terms import RetryLimits, StageShape
from frazil_coordinator.settings import Settings
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.errors import (
    CancelledQueryError,
    FrazilError,
    FunctionLostError,
    InternalError,
    OutOfMemoryError,
    from_wire,
)
from frazil_functions.ids import QueryId, StageId
from frazil_functions.task import (
    BlockRef,
    Descriptor,
    Failed,
    Heartbeat,
    SinkFile,
    SinkOutput,
    Started,
    Succeeded,
    TaskEvent,
    TaskLimits,
    TaskRequest,
    TaskStats,
)

__all__ = ["PutFragment", "QueryDriver"]

_LOG = logging.getLogger(__name__)

PutFragment: TypeAlias = Callable[[StageId, bytes], Awaitable[str]]
"""Store a stage's fragment, and return its object key."""

_END_S: Final = 1.0
"""Time that a stream gets to end by itself after its last event, so that its connection can be used again."""


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
    peaks
        What tasks of other queries needed; what those of this one need is added.

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
        peaks: Peaks | None = None,
    ) -> None:
        self._query = query
        self._graph = graph
        self._platform = platform
        self._exchange_prefix = exchange_prefix
        self._settings = settings
        self._on_progress = on_progress
        self._clock = clock
        self._put_fragment = put_fragment
        self._sink = sink
        self._state = QueryState(StageShape.of(graph, settings, slots.limit), RetryLimits.of(settings))
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._share = slots.share(lambda: self._events.put_nowait(SlotGranted()))
        self._recorder = Recorder(query, graph)
        self._progress = Progress(query=query, stages=tuple(self._stage_progress(stage) for stage in graph.stages))
        self._barrier = Barrier(graph, settings, peaks)
        self._fragments = Fragments()
        self._attempts: dict[AttemptRef, asyncio.Task[None]] = {}
        self._uploads: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_unix_s: float | None = None
        self._limits = TaskLimits(memory_bytes=settings.function_memory_bytes, heartbeat_s=settings.heartbeat_s)

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
        FrazilError
            The last error of a task that used up its attempts, with all of them in its message.
        """
        self._recorder.began(self._clock())
        if self._settings.timeout_s is not None:
            self._deadline_unix_s = time.time() + self._settings.timeout_s
        state: RunState = "cancelled"
        try:
            finish = await self._until_finish()
            state = _run_state(finish)
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
                event: Event = Submitted()
                while True:
                    finish = self._step(event, group)
                    if finish is not None:
                        for upload in self._uploads:
                            upload.cancel()
                        return finish
                    event = await self._events.get()
        except ExceptionGroup as errors:
            # Attempts report their errors as events: what comes here is a fault of the coordinator itself.
            raise InternalError(f"the coordinator failed: {errors.exceptions[0]!r}") from errors

    def _step(self, event: Event, group: asyncio.TaskGroup) -> Finish | None:
        now = self._clock()
        self._record(event, now)
        if isinstance(event, AttemptFailed) and isinstance(event.error, OutOfMemoryError):
            event = self._divide(event)
        touched: set[StageId] = set()
        finish: Finish | None = None
        instructions = self._state.handle(event, now)
        if isinstance(event, AttemptSucceeded) and self._state.is_complete(event.ref.stage):
            self._filter_late(event.ref.stage)
        elif isinstance(event, AttemptSucceeded):
            self._watch_aggregation(event.ref.stage)
        for instruction in instructions:
            if isinstance(instruction, Finish):
                finish = instruction
            else:
                self._obey(instruction, group, now)
            if isinstance(instruction, Launch | CancelAttempt):
                touched.add(instruction.ref.stage)
        if isinstance(event, AttemptSucceeded | AttemptFailed | AttemptDivided):
            touched.add(event.ref.stage)
        if touched:
            self._tell_progress(touched)
        return finish

    def _divide(self, event: AttemptFailed) -> Event:
        """Divide a task that ran out of memory, when that can be done: trying it again unchanged would not help."""
        layout = self._barrier.layouts[event.ref.stage]
        divided = layout.divided(event.ref.task) if self._state.is_live(event.ref) else None
        if divided is None:
            return event
        self._lay_out(divided)
        parts = len(divided.shares) - len(layout.shares)
        return AttemptDivided(ref=event.ref, error=event.error, parts=parts)

    def _record(self, event: Event, now: float) -> None:
        if isinstance(event, AttemptSucceeded):
            self._recorder.succeeded(event.ref, event.descriptor, now)
            self._note_peak(event.ref, event.descriptor.stats)

    def _note_peak(self, ref: AttemptRef, stats: TaskStats) -> None:
        self._recorder.needed(ref.stage, self._barrier.needed(ref, stats.peak_memory_bytes))

    def _obey(self, instruction: Instruction, group: asyncio.TaskGroup, now: float) -> None:
        match instruction:
            case BindStage():
                self._bind(self._barrier.graph.stages[instruction.stage], group)
            case WantSlots():
                self._share.want(instruction.count)
            case Launch():
                self._share.use()
                self._launch(instruction.ref, group, now)
            case ReturnSlot():
                self._share.refuse()
            case CancelAttempt():
                self._cancel_attempt(instruction, now)
            case SetTimer():
                self._set_timer(instruction.at, now)
            case Discard():
                # Its object lies under the query's prefix, and goes with it.
                self._recorder.discarded(instruction.ref)
            case Finish():
                return
            case _:
                assert_never(instruction)

    def _set_timer(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._events.put_nowait, TimerFired())

    # Stages

    def _bind(self, stage: Stage, group: asyncio.TaskGroup) -> None:
        try:
            layout = self._barrier.lay_out(stage.id, self._finished)
        except FrazilError as error:
            self._events.put_nowait(BindFailed(stage=stage.id, error=error))
            return
        self._lay_out(layout)
        stage = layout.stage
        large = self._put_fragment is not None and len(stage.fragment) > INLINE_FRAGMENT_BYTES
        if large or takes_time(stage):
            self._uploads.append(group.create_task(self._prepare(stage, self._put_fragment if large else None)))
        else:
            self._events.put_nowait(StageBound(stage=stage.id, tasks=len(layout.order)))

    def _finished(self, stage: StageId) -> tuple[Descriptor, ...] | None:
        return self._state.descriptors(stage) if self._state.is_complete(stage) else None

    def _filter_late(self, build: StageId) -> None:
        """Filter the tasks that are not sent yet of stages that did not wait for the keys of `build`."""
        for number, layout in list(self._barrier.layouts.items()):
            if any(one.build == build for one in layout.stage.filters) and not self._state.is_complete(number):
                self._lay_out(layout.filtered(build, {build: self._state.descriptors(build)}, self._settings))

    def _watch_aggregation(self, number: StageId) -> None:
        """Stop aggregating rows before the shuffle when the tasks that did it have nearly as many left."""
        stage, layout = self._barrier.graph.stages[number], self._barrier.layouts[number]
        if not stage.unaggregated or number in self._fragments.unaggregated or number in self._fragments.keys:
            return
        if self._state.counts(number).done > WATCHED_TASKS:
            return
        done = self._state.descriptors(number)
        if shrinks_too_little([one.stats for one in done], self._settings.preaggregate_share):
            self._fragments.unaggregated.add(number)
            note = f"rows no longer aggregated before the shuffle: nearly as many were left (tasks: {len(done)})"
            self._lay_out(replace(layout, notes=(*layout.notes, note)))

    def _lay_out(self, layout: Layout) -> None:
        self._barrier.layouts[layout.stage.id] = layout
        self._recorder.laid_out(layout.stage.id, len(layout.order), layout.notes, layout.memory_factor)

    async def _prepare(self, stage: Stage, put: PutFragment | None) -> None:
        try:
            if takes_time(stage):
                await asyncio.to_thread(self._fragments.look_through, stage)
            if put is not None:
                self._fragments.keys[stage.id] = await put(stage.id, stage.fragment)
        except FrazilError as error:
            self._events.put_nowait(BindFailed(stage=stage.id, error=error))
        else:
            self._events.put_nowait(StageBound(stage=stage.id, tasks=len(self._barrier.layouts[stage.id].order)))

    # Attempts

    def _launch(self, ref: AttemptRef, group: asyncio.TaskGroup, now: float) -> None:
        self._recorder.launched(ref, now)
        task = group.create_task(self._attempt(ref), name=f"{self._query}/{ref.stage}/{ref.task}/{ref.attempt}")
        self._attempts[ref] = task
        # Not in the coroutine's own finally: a task that is cancelled before it runs never enters it.
        task.add_done_callback(lambda _: self._ended(ref))

    def _ended(self, ref: AttemptRef) -> None:
        del self._attempts[ref]
        self._share.release()

    def _cancel_attempt(self, cancel: CancelAttempt, now: float) -> None:
        kind, message = ("not_needed", "cancelled") if cancel.error is None else (cancel.error.kind, cancel.error.message)
        self._recorder.failed(cancel.ref, kind, message, TaskStats(), now)
        task = self._attempts.get(cancel.ref)
        if task is not None:
            task.cancel()

    async def _attempt(self, ref: AttemptRef) -> None:
        """Send an attempt, and turn what comes back into events: exactly one of success or failure, unless cancelled."""
        ended = False
        try:
            async with contextlib.aclosing(self._platform.invoke(self._request(ref))) as stream:
                async for event in stream:
                    ended = self._receive(ref, event)
                    if ended:
                        await _let_end(stream)
                        return
                error: FrazilError = FunctionLostError("the stream ended without a last event")
        except FrazilError as raised:
            error = raised
        except Exception as raised:
            _LOG.exception("attempt failed in the platform", extra=self._fields(ref))
            error = InternalError(f"the platform failed: {raised!r}")
        if not ended:
            self._fail(ref, error, TaskStats())

    def _receive(self, ref: AttemptRef, event: TaskEvent) -> bool:
        """Pass `event` on; return whether it is the attempt's last."""
        match event:
            case Started():
                self._recorder.started(ref, cold_start=event.cold_start)
                self._events.put_nowait(AttemptStarted(ref=ref))
                return False
            case Heartbeat():
                self._events.put_nowait(AttemptHeartbeat(ref=ref))
                return False
            case Succeeded():
                self._events.put_nowait(AttemptSucceeded(ref=ref, descriptor=event.descriptor))
                return True
            case Failed():
                self._fail(ref, from_wire(event.error), event.stats)
                return True
            case _:
                assert_never(event)

    def _fail(self, ref: AttemptRef, error: FrazilError, stats: TaskStats) -> None:
        error.where = {"stage": str(ref.stage), "task": str(ref.task), **error.where}
        self._recorder.failed(ref, error.kind, error.message, stats, self._clock())
        if isinstance(error, OutOfMemoryError):
            self._note_peak(ref, stats)
        _LOG.info("attempt failed", extra={**self._fields(ref), "kind": error.kind, "error": error.message})
        self._events.put_nowait(AttemptFailed(ref=ref, error=error))

    def _request(self, ref: AttemptRef) -> TaskRequest:
        stage = self._barrier.graph.stages[ref.stage]
        inputs = self._barrier.layouts[ref.stage].shares[ref.task].inputs
        fragment, fragment_key = self._fragments.of_task(stage, inputs)
        return TaskRequest(
            query=self._query,
            stage=ref.stage,
            task=ref.task,
            attempt=ref.attempt,
            fragment=fragment,
            fragment_key=fragment_key,
            inputs=inputs,
            output=output_for(
                stage, ref.task, query=self._query, settings=self._settings, exchange_prefix=self._exchange_prefix
            ),
            sink=self._sink if ref.stage == self._graph.root.id else None,
            limits=self._limits,
            deadline_unix_s=self._deadline_unix_s,
            polars_version=pl.__version__,
            protocol_version=PROTOCOL_VERSION,
        )

    def _fields(self, ref: AttemptRef) -> dict[str, object]:
        return {"query": self._query, "stage": ref.stage, "task": ref.task, "attempt": ref.attempt}

    # Progress

    def _tell_progress(self, touched: set[StageId]) -> None:
        stages = tuple(
            self._stage_progress(self._barrier.graph.stages[known.id]) if known.id in touched else known
            for known in self._progress.stages
        )
        self._progress = Progress(query=self._query, stages=stages)
        if self._on_progress is not None:
            self._on_progress(self._progress)

    def _stage_progress(self, stage: Stage) -> StageProgress:
        counts = self._state.counts(stage.id)
        record = self._recorder.stage(stage.id)
        return StageProgress(
            id=stage.id,
            kind=stage.kind,
            tasks=counts.tasks,
            running=counts.running,
            done=counts.done,
            attempts=counts.attempts,
            retries=counts.retries,
            rows=record.rows,
            bytes=record.bytes,
        )


async def _let_end(stream: AsyncGenerator[TaskEvent, None]) -> None:
    """Read `stream` to its end; what still comes, errors too, doesn't matter after the last event."""
    with contextlib.suppress(FrazilError, TimeoutError):
        async with asyncio.timeout(_END_S):
            async for _ in stream:
                pass


def _run_state(finish: Finish) -> RunState:
    if finish.error is None:
        return "succeeded"
    return "cancelled" if isinstance(finish.error, CancelledQueryError) else "failed"
