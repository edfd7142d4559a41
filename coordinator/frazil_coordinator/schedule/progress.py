"""How far a query is: values that the driver emits on each change, for people."""

from __future__ import annotations

from dataclasses import dataclass

from frazil_coordinator.plan.model import StageKind
from frazil_functions.ids import QueryId, StageId

__all__ = ["Progress", "StageProgress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """How far one stage is."""

    id: StageId
    kind: StageKind
    tasks: int
    """Tasks of the stage."""

    running: int = 0
    """Tasks with an attempt in flight."""

    done: int = 0
    """Tasks whose output is committed."""

    attempts: int = 0
    """Attempts sent."""

    retries: int = 0
    """Attempts beyond each task's first."""

    rows: int = 0
    """Rows of output of the tasks that are done."""

    bytes: int = 0
    """Encoded bytes of output of the tasks that are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a query is."""

    query: QueryId
    stages: tuple[StageProgress, ...]
    """By stage id."""
