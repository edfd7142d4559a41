"""Queries that start small: their one task is all of the plan, and may turn out too large for the memory of a function.

Then the query is planned again, in many tasks. :mod:`frazil_coordinator.schedule.driver` raises, and
:mod:`frazil_coordinator.execution` plans again.
"""

from __future__ import annotations

from frazil_coordinator.plan.model import ScanSource, StageGraph
from frazil_functions.errors import OutOfMemoryError

__all__ = ["TooLargeForOneTaskError", "is_one_task"]


class TooLargeForOneTaskError(OutOfMemoryError):
    """The one task of a query ran out of memory, and there is a plan of many. Never crosses the wire."""

    retryable = False


def is_one_task(graph: StageGraph) -> bool:
    """Return whether a plan is one task that reads files which many could share."""
    if len(graph.stages) != 1:
        return False
    scans = [source for source in graph.root.sources if isinstance(source, ScanSource)]
    return all(len(scan.splits) == 1 for scan in scans) and any(scan.files > 1 or scan.row_groups > 1 for scan in scans)
