"""What the state machine of a query is told beforehand, and what it tells of a stage: values only.

The machine is :mod:`frazil_coordinator.schedule.state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from frazil_coordinator.plan.model import Stage, StageGraph
from frazil_coordinator.settings import Settings
from frazil_functions.ids import StageId

__all__ = ["SILENT_HEARTBEATS", "RetryLimits", "SpeculationLimits", "StageCounts", "StageShape"]

SILENT_HEARTBEATS: Final = 4
"""Heartbeats that an attempt may miss before it is given up."""


_WAITING_SHARE: Final = 0.5
"""Share of the time that a stage would take for which it waits at most: what it can lose when waiting was for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageShape:
    """What the machine needs to know of a stage."""

    id: StageId
    producers: tuple[StageId, ...]
    tasks: int
    """Number of tasks as planned; `StageBound` may change it."""

    first_rows: int | None = None
    """Rows of output, from the first task on, that suffice; None is all."""

    awaits: tuple[StageId, ...] = ()
    """Stages that it does better to let finish first."""

    patience_s: float = 0.0
    """Time for which it waits for them at most, when nothing else keeps it from starting."""

    @classmethod
    def of(cls, graph: StageGraph, settings: Settings, slots: int) -> tuple[StageShape, ...]:
        """Return the shapes of the stages of `graph`, whose tasks may have up to so many slots at a time."""
        return tuple(
            cls(
                id=stage.id,
                producers=stage.producers,
                tasks=stage.tasks,
                first_rows=stage.first_rows,
                awaits=stage.awaits,
                patience_s=_patience_s(graph, stage, settings, slots) if stage.awaits else 0.0,
            )
            for stage in graph.stages
        )


def _patience_s(graph: StageGraph, stage: Stage, settings: Settings, slots: int) -> float:
    """Return how long a stage may wait for what others will tell it: a part of the time that it would take itself."""
    if not graph.estimates:
        return 0.0
    alone_s = graph.estimates[stage.id].function_seconds / max(1, min(stage.tasks, slots))
    return min(settings.runtime_wait_s, _WAITING_SHARE * alone_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeculationLimits:
    """When an attempt is so slow that another one runs beside it."""

    factor: float = 2.0
    """Times that it takes the median of its stage's tasks that are done."""

    least_s: float = 1.5
    """Time from `AttemptStarted` below which none is slow."""


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

    speculation: SpeculationLimits | None = None
    """When a task gets a second attempt beside a slow one; None: never."""

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
            speculation=SpeculationLimits(factor=settings.speculation_factor, least_s=settings.speculation_least_s)
            if settings.speculation
            else None,
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
    """Attempts beyond each task's first, those beside a slow one included."""
