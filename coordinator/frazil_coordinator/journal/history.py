"""What the journal says of a query: its records, folded into what another coordinator needs to go on.

Pure functions over values. :mod:`frazil_coordinator.journal.journal` reads the records.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

from frazil_coordinator.journal.records import (
    Accepted,
    Ended,
    Planned,
    Publishing,
    Record,
    TakenOver,
)
from frazil_coordinator.schedule.commits import Commit, StageLaidOut, TaskCommitted, TaskDivided, TaskLost
from frazil_functions.errors import JournalError

__all__ = ["Remembered", "fold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A query as its journal tells of it."""

    accepted: Accepted
    planned: tuple[Planned, ...] = ()
    """How it was planned; only the last one holds."""

    commits: tuple[Commit, ...] = ()
    """Of the last plan, in the order in which they were written."""

    publishing: bool = False
    """Whether its files may be visible already, in part or all of them."""

    ended: Ended | None = None
    takeovers: int = 0
    """How often another coordinator went on with it."""

    segments: int = 0
    """Segments that were read."""


@dataclass(slots=True)
class _Folding:
    planned: list[Planned] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    publishing: bool = False
    ended: Ended | None = None
    takeovers: int = 0

    def take(self, record: Record) -> None:
        match record:
            case Accepted():
                raise JournalError(f"query {record.query} was accepted twice: its journal is damaged")
            case Planned():
                self.planned.append(record)
                self.commits.clear()
            case StageLaidOut() | TaskDivided() | TaskLost() | TaskCommitted():
                self.commits.append(record)
            case Publishing():
                self.publishing = True
            case Ended():
                self.ended = record
            case TakenOver():
                self.takeovers += 1
            case _:
                assert_never(record)


def fold(records: Iterable[Record], *, segments: int = 0) -> Remembered:
    """Return what the records of a query say, oldest first.

    Parameters
    ----------
    records
        All of them.
    segments
        See :attr:`Remembered.segments`.

    Raises
    ------
    JournalError
        When they don't begin with `Accepted`, or hold a second one.
    """
    rest = iter(records)
    first = next(rest, None)
    if not isinstance(first, Accepted):
        raise JournalError("a journal begins with the acceptance of its query, and this one does not: it is damaged")
    folding = _Folding()
    for record in rest:
        folding.take(record)
    return Remembered(
        accepted=first,
        planned=tuple(folding.planned),
        commits=tuple(folding.commits),
        publishing=folding.publishing,
        ended=folding.ended,
        takeovers=folding.takeovers,
        segments=segments,
    )
