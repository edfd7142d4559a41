"""Ids of the things that a query is made of.

Ids that must agree across processes are derived, never random: a task id is the path of the task in its query.
"""

from __future__ import annotations

from typing import NewType

__all__ = ["QueryId", "StageId", "TaskIndex", "attempt_id"]

QueryId = NewType("QueryId", str)
"""Opaque, URL-safe, unique per submitted query."""

StageId = NewType("StageId", int)
"""Number of a stage in its query, from 0, producers before consumers."""

TaskIndex = NewType("TaskIndex", int)
"""Number of a task in its stage, from 0; it is the partition that the task produces or consumes."""


def attempt_id(query: QueryId, stage: StageId, task: TaskIndex, attempt: int) -> str:
    """Return the CloudEvents id of an attempt.

    Parameters
    ----------
    query, stage, task
        The task.
    attempt
        Number of the try, from 0.

    Returns
    -------
    str
        ``<query>/<stage>/<task>/<attempt>``.
    """
    return f"{query}/{stage}/{task}/{attempt}"
