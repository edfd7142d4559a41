"""The stages of one running query: their tasks, and what becomes of them as answers come in.

Between :mod:`frazil_coordinator.schedule.driver`, which says what happens, and the pure decisions of
:mod:`~frazil_coordinator.schedule.barrier` and its neighbours. Given the same answers in the same order, and the same
:class:`~frazil_coordinator.schedule.commits.StageLaidOut`, it comes to the same tasks: that is how another coordinator goes
on with a query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from statistics import median
from typing import TypeAlias

from frazil_coordinator.plan.model import INLINE_FRAGMENT_BYTES, Stage, StageGraph
from frazil_coordinator.schedule.arms import Fragments, StoredFragment, takes_time
from frazil_coordinator.schedule.barrier import Barrier
from frazil_coordinator.schedule.combine import with_places
from frazil_coordinator.schedule.commits import StageLaidOut
from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.schedule.losses import places_between
from frazil_coordinator.schedule.messages import AttemptRef, Moved, StageBound
from frazil_coordinator.schedule.peaks import Peaks, scan_rows, task_bytes
from frazil_coordinator.schedule.preaggregation import WATCHED_TASKS, shrinks_too_little
from frazil_coordinator.schedule.profile import Recorder
from frazil_coordinator.schedule.progress import StageProgress
from frazil_coordinator.schedule.state import QueryState
from frazil_coordinator.settings import Settings
from frazil_functions.ids import StageId
from frazil_functions.task import Descriptor, TaskStats

__all__ = ["PutFragment", "Stages"]

PutFragment: TypeAlias = Callable[[StageId, bytes], Awaitable[StoredFragment]]
"""Store a stage's fragment, sealed, and return where it lies."""


class Stages:
    """The stages of one query as they are laid out.

    Parameters
    ----------
    graph, settings, peaks, put_fragment
        See :class:`~frazil_coordinator.schedule.driver.QueryDriver`.
    state
        What is done; it is only looked at.
    recorder
        Is told of each layout.
    """

    def __init__(
        self,
        graph: StageGraph,
        settings: Settings,
        *,
        peaks: Peaks | None,
        put_fragment: PutFragment | None,
        state: QueryState,
        recorder: Recorder,
    ) -> None:
        self.barrier = Barrier(graph, settings, peaks)
        self.fragments = Fragments()
        self._settings = settings
        self._put_fragment = put_fragment
        self._state = state
        self._recorder = recorder

    def stage(self, number: StageId) -> Stage:
        """Return a stage, as changed so far."""
        return self.barrier.graph.stages[number]

    def lay_out(self, number: StageId, after: int) -> tuple[Layout, StageLaidOut]:
        """Decide the tasks of a stage whose producers are finished; return them, and what they follow from.

        Parameters
        ----------
        number
            The stage.
        after
            Number of answers that were taken up before.

        Raises
        ------
        InternalError
            When the plan does not fit together.
        """
        known: set[StageId] = set()
        factors = self.barrier.factors

        def finished(stage: StageId) -> tuple[Descriptor, ...] | None:
            written = self._finished(stage)
            if written is not None:
                known.add(stage)
            return written

        layout = self.barrier.lay_out(number, finished, factors)
        self._keep(layout)
        decision = StageLaidOut(stage=number, finished=tuple(sorted(known)), factors=dict(factors), after=after)
        return layout, decision

    def lay_out_again(self, decision: StageLaidOut) -> Layout:
        """Return the tasks that another coordinator had decided, from what they follow from. Raises as :meth:`lay_out`."""
        known = frozenset(decision.finished)
        layout = self.barrier.lay_out(
            decision.stage, lambda stage: self._finished(stage) if stage in known else None, decision.factors
        )
        self._keep(layout)
        return layout

    def bound(self, layout: Layout, first_attempt: int) -> StageBound:
        """Return what the state machine is told of the tasks of a stage that was laid out, as it asked for them."""
        return StageBound(
            stage=layout.stage.id, tasks=len(layout.order), weights=_weights(layout), first_attempt=first_attempt
        )

    def scans(self, number: StageId, scan_bytes: tuple[int, ...], not_reused: str) -> None:
        """Note what each task of a stage reads of files, and why its answers are never used again."""
        self._recorder.scans(number, scan_bytes, not_reused)

    def progress(self, number: StageId) -> StageProgress:
        """Return how far a stage is."""
        counts, record = self._state.counts(number), self._recorder.stage(number)
        return StageProgress(
            id=number,
            kind=self.stage(number).kind,
            tasks=counts.tasks,
            running=counts.running,
            done=counts.done,
            attempts=counts.attempts,
            retries=counts.retries,
            rows=record.rows,
            bytes=record.bytes,
        )

    def divide(self, ref: AttemptRef) -> int | None:
        """Divide the task of an attempt; return into how many parts, None when it can't be divided."""
        layout = self.barrier.layouts[ref.stage]
        divided = layout.divided(ref.task)
        if divided is None:
            return None
        self._keep(divided)
        return len(divided.shares) - len(layout.shares)

    def moved(self, moved: Moved) -> None:
        """Read what a task wrote a second time from where it is now."""
        places = places_between(moved.before, moved.after)
        note = f"reads what task {moved.task} of stage {moved.stage} wrote again"
        for layout in list(self.barrier.layouts.values()):
            changed = with_places(layout, places, note)
            if changed is not layout:
                self._keep(changed)

    def forget(self, number: StageId) -> None:
        """Forget the tasks of a stage that begins anew."""
        self.barrier.layouts.pop(number, None)
        self._recorder.restarted(number)

    def answered(self, number: StageId) -> None:
        """Look what an answer of a stage means for tasks that are not sent yet."""
        if self._state.is_complete(number):
            self._filter_late(number)
        else:
            self._watch_aggregation(number)

    def needed(self, ref: AttemptRef, stats: TaskStats) -> None:
        """Note the memory that an attempt needed."""
        self._recorder.needed(ref.stage, self.barrier.needed(ref, stats.peak_memory_bytes))

    def takes_time(self, stage: Stage) -> bool:
        """Return whether :meth:`prepare` has something to do."""
        return self._is_sent_apart(stage) or takes_time(stage)

    async def prepare(self, stage: Stage) -> None:
        """Do what takes time before the tasks of a stage can be sent; doing it again does no harm.

        Raises
        ------
        StorageError
            When the fragment can't be stored.
        """
        if takes_time(stage):
            await asyncio.to_thread(self.fragments.look_through, stage)
        if self._put_fragment is not None and self._is_sent_apart(stage):
            self.fragments.stored[stage.id] = await self._put_fragment(stage.id, stage.fragment)

    def _is_sent_apart(self, stage: Stage) -> bool:
        return self._put_fragment is not None and len(stage.fragment) > INLINE_FRAGMENT_BYTES

    def _finished(self, stage: StageId) -> tuple[Descriptor, ...] | None:
        return self._state.descriptors(stage) if self._state.is_complete(stage) else None

    def _keep(self, layout: Layout) -> None:
        self.barrier.layouts[layout.stage.id] = layout
        self._recorder.laid_out(layout.stage.id, len(layout.order), layout.notes, layout.memory_factor)

    def _filter_late(self, build: StageId) -> None:
        """Filter the tasks that are not sent yet of stages that did not wait for the keys of `build`."""
        for number, layout in list(self.barrier.layouts.items()):
            if any(one.build == build for one in layout.stage.filters) and not self._state.is_complete(number):
                self._keep(layout.filtered(build, {build: self._state.descriptors(build)}, self._settings))

    def _watch_aggregation(self, number: StageId) -> None:
        """Stop aggregating rows before the shuffle when the tasks that did it have nearly as many left."""
        stage, layout = self.stage(number), self.barrier.layouts[number]
        if not stage.unaggregated or number in self.fragments.unaggregated or number in self.fragments.stored:
            return
        if self._state.counts(number).done > WATCHED_TASKS:
            return
        done = self._state.descriptors(number)
        if shrinks_too_little([one.stats for one in done], self._settings.preaggregate_share):
            self.fragments.unaggregated.add(number)
            note = f"rows no longer aggregated before the shuffle: nearly as many were left (tasks: {len(done)})"
            self._keep(replace(layout, notes=(*layout.notes, note)))


def _weights(layout: Layout) -> tuple[float, ...]:
    """Return how many times the bytes of a common task each reads; empty when that is not known of all."""
    rows = scan_rows(layout.stage)
    sizes = [task_bytes(layout.stage, share.inputs, rows) for share in layout.shares]
    known = [size for size in sizes if size is not None]
    middle = median(known) if known else 0
    if middle <= 0 or len(known) < len(sizes):
        return ()
    return tuple(size / middle for size in known)
