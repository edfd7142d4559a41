"""Whose fault it is that a window failed: its objects', the query's, or nobody's. Pure.

:mod:`frazil_coordinator.events.runner` asks, and :mod:`frazil_coordinator.events.backlog` acts on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frazil_coordinator.refusals import PlanTooLargeError, QueueFullError, ShuttingDownError
from frazil_coordinator.registry import TooManyQueriesError
from frazil_functions.errors import (
    CancelledQueryError,
    CapError,
    DeadlineError,
    FrazilError,
    PlanError,
    QuotaError,
    RequestError,
    SourceError,
    StandbyError,
    UserError,
)

__all__ = ["Verdict", "verdict_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows from a failure."""

    outcome: Literal["data", "query", "later"]
    """``data``: isolate the objects that do it. ``query``: no object helps, somebody must change something. ``later``: try
    again."""

    pause_s: float | None = None
    """Until when, if that is known."""


_DATA = Verdict(outcome="data")
_QUERY = Verdict(outcome="query")
_LATER = Verdict(outcome="later")


def verdict_of(error: FrazilError) -> Verdict:
    """Return whose fault an error of a window is."""
    if isinstance(error, QuotaError):
        text = error.where.get("retry_after_s", "")
        return Verdict(outcome="later", pause_s=float(text) if text.replace(".", "", 1).isdigit() else None)
    if isinstance(error, (QueueFullError, TooManyQueriesError, ShuttingDownError, StandbyError, CancelledQueryError)):
        return _LATER
    if isinstance(error, (CapError, DeadlineError, PlanTooLargeError)):
        return _DATA  # fewer objects at once may do
    if isinstance(error, SourceError) and error.message.startswith(("can't list", "can't look", "can't open", "can't read")):
        return _LATER  # the store, not the object
    if isinstance(error, (PlanError, RequestError)):
        return _QUERY
    return _DATA if isinstance(error, UserError) else _LATER
