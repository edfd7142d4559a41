"""What is left to be done of a planned query: all of it, or what another coordinator did not get done.

Values; :mod:`frazil_coordinator.execution` makes and follows them.
"""

from __future__ import annotations

from dataclasses import dataclass

from frazil_coordinator.journal.history import Remembered
from frazil_coordinator.journal.records import Planned
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.publication import Publication, PublicationName
from frazil_coordinator.schedule.commits import Commit
from frazil_functions.ids import QueryId

__all__ = ["Course", "resumed_course"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """A planned query, and how far it is."""

    graph: StageGraph
    sink: Publication | None
    """What publishes its files."""

    history: tuple[Commit, ...] = ()
    """What other coordinators did for it."""

    former: tuple[Publication, ...] = ()
    """Of plans that do not hold any more: what they staged is to be deleted."""

    publishing: bool = False
    """Whether its files may be visible already."""

    is_last: bool = False
    """Whether it was planned again: then it is not planned once more."""


def resumed_course(query: QueryId, graph: StageGraph, before: Remembered) -> Course:
    """Return what is left of a query that was planned before.

    Parameters
    ----------
    query
        The query.
    graph
        What the latest plan says.
    before
        What its journal says.
    """

    def publication(planned: Planned) -> Publication | None:
        if graph.sink is None:
            return None
        name = PublicationName(folder=planned.sink_folder, stamp=planned.sink_stamp)
        return Publication(graph.sink, query, name=name)

    *former, sink = [publication(planned) for planned in before.planned]
    return Course(
        graph=graph,
        sink=sink,
        history=before.commits,
        former=tuple(one for one in former if one is not None),
        publishing=before.publishing,
        is_last=len(before.planned) > 1,
    )
