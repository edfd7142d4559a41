"""Whether the first step of a group_by makes rows fewer, told by the tasks that have done it.

Pure; :mod:`frazil_coordinator.schedule.driver` asks after each answer of a stage that has another fragment to fall back on
(:mod:`frazil_coordinator.plan.row_states`), and gives the tasks that are sent later that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from frazil_functions.task import TaskStats

__all__ = ["WATCHED_TASKS", "shrinks_too_little"]

WATCHED_TASKS: Final = 32
"""Tasks of a stage from which it is told."""

_LEAST_ROWS: Final = 50_000
"""Rows that tasks must have read before they are believed: below, nothing is lost either way."""


def shrinks_too_little(done: Sequence[TaskStats], share: float) -> bool:
    """Return whether the tasks that are done sent on nearly as many rows as they read.

    Parameters
    ----------
    done
        What the tasks of a stage used. Rows that a scan drops count as read, so a filter before the group_by makes the
        step look better than it is, and it is kept.
    share
        Rows left by rows read, from which on the step is not worth its hash table (`Settings.preaggregate_share`).
    """
    read = sum(one.rows_in for one in done)
    return read >= _LEAST_ROWS and sum(one.rows_out for one in done) >= share * read
