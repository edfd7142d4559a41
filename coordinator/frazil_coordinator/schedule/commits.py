"""What a query must not forget: the decisions and answers from which another coordinator goes on where this one ended.

Values, and the order in which they were taken up. :mod:`frazil_coordinator.schedule.driver` makes them and takes them up
again; :mod:`frazil_coordinator.journal` keeps them. What can be computed again from them is not written down: which tasks a
stage has follows from the plan, from what its producers wrote, and from a :class:`StageLaidOut`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

import msgspec

from frazil_coordinator.schedule.messages import AttemptRef
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import Descriptor

__all__ = ["Commit", "CommitLog", "Decision", "StageLaidOut", "TaskCommitted", "TaskDivided", "TaskLost", "as_taken_up"]


class StageLaidOut(msgspec.Struct, frozen=True, kw_only=True, tag="laid_out"):
    """The tasks of a stage were decided."""

    stage: StageId
    finished: tuple[StageId, ...]
    """The stages whose output was known and looked at."""

    factors: dict[str, float]
    """How many times their input tasks were taken to hold (`frazil_coordinator.plan.memory.Factors`)."""

    after: int
    """Number of answers that had been taken up before."""


class TaskDivided(msgspec.Struct, frozen=True, kw_only=True, tag="divided"):
    """A task that ran out of memory was divided."""

    stage: StageId
    task: TaskIndex
    attempt: int
    """The attempt that ran out of memory."""

    after: int
    """See :attr:`StageLaidOut.after`."""


class TaskLost(msgspec.Struct, frozen=True, kw_only=True, tag="lost"):
    """The output of a task can't be read any more, and the task runs again."""

    stage: StageId
    task: TaskIndex
    after: int
    """See :attr:`StageLaidOut.after`."""


class TaskCommitted(msgspec.Struct, frozen=True, kw_only=True, tag="committed"):
    """An attempt gave an answer. The first one of a task counts, and the first one after each loss."""

    stage: StageId
    task: TaskIndex
    attempt: int
    descriptor: Descriptor
    reused: bool = False
    """Whether the attempt was not sent, because the answer was there or came from another query; a record without it is of
    an attempt that was."""

    @classmethod
    def of(cls, ref: AttemptRef, descriptor: Descriptor, *, reused: bool = False) -> TaskCommitted:
        """Return the answer of an attempt."""
        return cls(stage=ref.stage, task=ref.task, attempt=ref.attempt, descriptor=descriptor, reused=reused)

    @property
    def ref(self) -> AttemptRef:
        """The attempt."""
        return AttemptRef(self.stage, self.task, self.attempt)


Decision: TypeAlias = StageLaidOut | TaskDivided | TaskLost
Commit: TypeAlias = Decision | TaskCommitted


class CommitLog(Protocol):
    """Keeps commits in the order in which they are given."""

    def note(self, commit: Decision) -> None:
        """Keep a decision. It is durable before any commit that is given after it is."""
        ...

    def commit(self, commit: TaskCommitted, then: Callable[[], None], *, urgent: bool) -> None:
        """Keep an answer, and call `then` when it is durable; never when it can't be kept.

        Parameters
        ----------
        commit
            The answer.
        then
            Called in the event loop; calls come in the order of the commits.
        urgent
            Whether others wait for it, so that it should not wait for company.
        """
        ...


def as_taken_up(commits: Iterable[Commit]) -> tuple[Commit, ...]:
    """Return `commits` in the order in which they were taken up.

    An answer is taken up when it is durable, some time after it was written; a decision at once. So a decision may stand
    behind answers of which it knew nothing: `after` says how many it did know.
    """
    answers: list[Commit] = []
    decisions: dict[int, list[Commit]] = defaultdict(list)
    for commit in commits:
        if isinstance(commit, TaskCommitted):
            answers.append(commit)
        else:
            decisions[commit.after].append(commit)
    ordered = decisions[0]
    for number, answer in enumerate(answers, start=1):
        ordered += [answer, *decisions[number]]
    return tuple(ordered)
