"""What the state machine of a query is told beforehand, and what it tells of a stage: values only.

The machine is :mod:`frazil_coordinator.schedule.state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.settings import Settings
from frazil_functions.ids import StageId

__all__ = ["SILENT_HEARTBEATS", "RetryLimits", "StageCounts", "StageShape"]

SILENT_HEARTBEATS: Final = 4
"""Heartbeats that an attempt may miss before it is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageShape:
    """What the machine needs to know of a stage."""

    id: StageId
    producers: tuple[StageId, ...]
    tasks: int
    """Number of tasks as planned; `StageBound` may change it."""

    first_rows: int | None = None
    """Rows of output, from the first task on, that suffice; None is all."""

    @classmethod
    def of(cls, graph: StageGraph) -> tuple[StageShape, ...]:
        """Return the shapes of the stages of `graph`."""
        return tuple(
            cls(id=stage.id, producers=stage.producers, tasks=stage.tasks, first_rows=stage.first_rows)
            for stage in graph.stages
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryLimits:
    """When an attempt is given up, when a task is tried again, and when the query is at its end."""

    max_attempts: int = 4
    """Failures of a task that count, at which the query fails."""

    max_platform_failures: int = 20
    """Failures of a task that don't count (the platform's), at which the query fails."""

    backoff_s: float = 0.1
    """Delay before the first retry, doubled for each further one."""

    backoff_max_s: float = 5.0
    silence_s: float = 20.0
    """Silence after which a started attempt is given up."""

    start_silence_s: float = 60.0
    """Time from launch to `AttemptStarted` after which an attempt is given up; a cold start lies within it."""

    timeout_s: float | None = None
    """Time from `Submitted` after which the query fails."""

    @classmethod
    def of(cls, settings: Settings) -> RetryLimits:
        """Return the limits that `settings` ask for."""
        return cls(
            max_attempts=settings.max_attempts,
            max_platform_failures=settings.max_platform_failures,
            backoff_s=settings.retry_backoff_s,
            backoff_max_s=settings.retry_backoff_max_s,
            silence_s=SILENT_HEARTBEATS * settings.heartbeat_s,
            start_silence_s=max(settings.start_timeout_s, SILENT_HEARTBEATS * settings.heartbeat_s),
            timeout_s=settings.timeout_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCounts:
    """A stage now."""

    tasks: int
    running: int
    """Tasks with an attempt in flight."""

    done: int
    """Tasks with a committed descriptor."""

    attempts: int
    """Attempts launched."""

    retries: int
    """Attempts beyond each task's first."""
