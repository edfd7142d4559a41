"""The answers of one query on their way: given to its log, counted, and taken up when they are durable.

Next: :mod:`frazil_coordinator.schedule.driver` makes events of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.schedule.commits import CommitLog, Decision, TaskCommitted
from frazil_coordinator.schedule.messages import (
    AnswerReused,
    AttemptAnswered,
    AttemptRecovered,
    AttemptRef,
    AttemptSucceeded,
    Event,
)
from frazil_coordinator.schedule.state import QueryState
from frazil_functions.ids import StageId
from frazil_functions.task import Descriptor

__all__ = ["Answers"]


class Answers:
    """What was answered.

    Parameters
    ----------
    graph
        The query's plan.
    state
        What is done; it is only looked at.
    log
        Keeps what must not be forgotten; None when the query may be.
    tell
        Takes the events that follow.
    """

    def __init__(self, graph: StageGraph, state: QueryState, log: CommitLog | None, tell: Callable[[Event], None]) -> None:
        self._graph = graph
        self._state = state
        self._log = log
        self._tell = tell
        self.taken_up = 0
        """Answers that were taken up, also of tasks that had one."""

        self._unsure = Counter[StageId]()
        """Answers that are given to the log and not taken up, by stage."""

    def give(self, ref: AttemptRef, descriptor: Descriptor, *, reused: bool = False, hurry: bool = False) -> None:
        """Take up an answer, when it is durable; a `reused` one came from elsewhere.

        With `hurry` it does not wait for company, as that does not which a stage waits for.
        """
        event: Event = AttemptSucceeded(ref=ref, descriptor=descriptor)
        if reused:
            event = AnswerReused(ref=ref, descriptor=descriptor)
        if self._log is None:
            self._tell(event)
            return
        if not reused:
            self._tell(AttemptAnswered(ref=ref))
        counts = self._state.counts(ref.stage)
        self._unsure[ref.stage] += 1
        # Others wait for the last answer of a stage, and for that of a wave of one that stops when it has rows enough.
        last = counts.done + self._unsure[ref.stage] >= counts.tasks
        in_waves = self._graph.stages[ref.stage].first_rows is not None
        last_of_wave = in_waves and self._unsure[ref.stage] >= counts.running
        self._log.commit(
            TaskCommitted.of(ref, descriptor, reused=reused),
            partial(self._tell, event),
            urgent=last or last_of_wave or hurry,
        )

    def taken(self, event: AttemptSucceeded | AttemptRecovered | AnswerReused) -> None:
        """Count an answer that is taken up now."""
        self.taken_up += 1
        self._unsure[event.ref.stage] -= not isinstance(event, AttemptRecovered) and self._log is not None

    def note(self, decision: Decision) -> None:
        """Keep a decision that was made now."""
        if self._log is not None:
            self._log.note(decision)
