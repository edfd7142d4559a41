"""Ids of the things that a query is made of.

Ids that must agree across processes are derived, never random: a task id is the path of the task in its query.
"""

from __future__ import annotations

import hashlib
from typing import NewType

__all__ = ["QueryId", "StageId", "TaskIndex", "attempt_id", "span_id", "trace_id", "traceparent"]

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


def trace_id(query: QueryId) -> int:
    """Return the id of the trace of a query (128 bits, not 0): whoever knows the query finds its trace."""
    return int.from_bytes(hashlib.sha256(query.encode()).digest()[:16], "big") or 1


def span_id(path: str) -> int:
    """Return the id of a span (64 bits, not 0): ``<query>``, ``<query>/<stage>``, or an attempt's id."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "big") or 1


def traceparent(attempt: str) -> str:
    """Return the W3C trace context of an attempt (https://www.w3.org/TR/trace-context), sampled.

    Parameters
    ----------
    attempt
        See :func:`attempt_id`.
    """
    query = QueryId(attempt.partition("/")[0])
    return f"00-{trace_id(query):032x}-{span_id(attempt):016x}-01"
