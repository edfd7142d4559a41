"""Answers from elsewhere: what a query does not run, because an equal task was answered, or runs, in another one.

Between :mod:`frazil_coordinator.schedule.driver`, which knows tasks and attempts, and
:mod:`frazil_coordinator.reuse.sharing`, which knows digests.
"""

from __future__ import annotations

from collections.abc import Callable

from frazil_coordinator.plan.model import Stage, StageGraph
from frazil_coordinator.plan.purity import why_never
from frazil_coordinator.plan.scanned import scanned_bytes
from frazil_coordinator.reuse.forms import Kept
from frazil_coordinator.reuse.sharing import Candidate, Sharing
from frazil_coordinator.schedule.answers import Answers
from frazil_coordinator.schedule.attempts import Requests
from frazil_coordinator.schedule.laid_out import Stages
from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.schedule.messages import (
    AnswerReused,
    AttemptRecovered,
    AttemptRef,
    AttemptSucceeded,
    Event,
    NotElsewhere,
    RunsElsewhere,
)
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import Descriptor, TaskRequest

__all__ = ["Elsewhere"]


class Elsewhere:
    """What one query has in common with others.

    Parameters
    ----------
    sharing
        What knows of the others.
    graph, stages, requests, answers
        Those of the query.
    tell
        Takes the events that follow.
    """

    def __init__(
        self,
        sharing: Sharing,
        graph: StageGraph,
        stages: Stages,
        requests: Requests,
        answers: Answers,
        tell: Callable[[Event], None],
    ) -> None:
        self.sharing = sharing
        self._graph = graph
        self._stages = stages
        self._requests = requests
        self._answers = answers
        self._tell = tell
        self._never: dict[StageId, str] = {}
        """Why no task of a stage is ever reused; empty text when there is no reason."""

    async def look_up(self, layout: Layout) -> dict[TaskIndex, Descriptor]:
        """Return the answers that are kept of tasks of a stage that was laid out."""
        stage = layout.stage
        reason = self._never[stage.id] = self._why_never(stage)
        self._stages.scans(stage.id, scanned_bytes(stage, [share.inputs for share in layout.shares]), reason)
        if reason:
            return {}
        first = [TaskIndex(task) for task in layout.order]
        candidates = {task: self._candidate(stage, AttemptRef(stage.id, task, 0)) for task in first}
        kept = await self.sharing.look_up(candidates, to_the_end=self._is_last(stage.id))
        for task, one in kept.items():
            self.sharing.take(AttemptRef(stage.id, task, 0), one)
        return {task: one.descriptor for task, one in kept.items()}

    def _why_never(self, stage: Stage) -> str:
        """Return why no task of a stage is ever reused; empty when there is no reason."""
        return why_never(stage, writes_files=self._is_last(stage.id) and self._graph.sink is not None) or ""

    def _candidate(self, stage: Stage, ref: AttemptRef) -> Candidate:
        request = self._requests.of(ref)
        own = self._fragment(request)
        also = () if stage.unaggregated in (b"", own) else (stage.unaggregated,)
        return Candidate(request, (own, *also))

    def _fragment(self, request: TaskRequest) -> bytes:
        return request.fragment if request.fragment_key is None else self._stages.stage(request.stage).fragment

    def request(self, ref: AttemptRef) -> TaskRequest | None:
        """Return what is to be sent for an attempt that is launched; None when its answer comes from elsewhere."""
        request = self._requests.of(ref)
        if ref.stage not in self._never:  # another coordinator had laid it out
            self._never[ref.stage] = self._why_never(self._stages.stage(ref.stage))
        if self._never[ref.stage]:
            return self._kept(request)
        claim = self.sharing.claim(ref, request, self._fragment(request), to_the_end=self._is_last(ref.stage))
        if claim.request is not None:
            return self._kept(claim.request)
        self._tell(RunsElsewhere(ref=ref))
        if claim.kept is not None:
            self._landed(ref, claim.kept)
        elif claim.flight is not None:
            self.sharing.follow(ref, claim.flight, lambda kept: self._landed(ref, kept))
        return None

    def _kept(self, request: TaskRequest) -> TaskRequest:
        return self.sharing.of_result(request) if self._is_last(request.stage) else request

    def _is_last(self, stage: StageId) -> bool:
        return stage == self._graph.root.id

    def _landed(self, ref: AttemptRef, kept: Kept | None) -> None:
        if kept is None:
            self._tell(NotElsewhere(ref=ref))
            return
        self.sharing.take(ref, kept)
        self._answers.give(ref, kept.descriptor, reused=True)

    def lost(self, ref: AttemptRef) -> None:
        """Let nobody use the answer of a task any more, whose object can't be read."""
        self.sharing.lost(ref.stage, ref.task, self._candidate(self._stages.stage(ref.stage), ref))

    def taken_up(self, event: AttemptSucceeded | AttemptRecovered | AnswerReused, *, used: bool, complete: bool) -> None:
        """Give an answer of this query to others, once it is durable.

        Parameters
        ----------
        event
            The answer.
        used
            Whether it is the task's: who needs the same shall go on with the same.
        complete
            Whether all tasks of its stage have one.
        """
        if not used:
            self.sharing.failed(event.ref)
            return
        self.sharing.refer(event.descriptor)
        self.sharing.answered(event.ref, event.descriptor)
        if complete:
            self.sharing.completed(event.ref.stage)
