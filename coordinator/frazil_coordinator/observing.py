"""What the metrics look at when they are scraped, rather than being told: how many there are of something now.

Between :mod:`frazil_coordinator.coordinator`, which has it, and :mod:`frazil_coordinator.metrics`, which shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from frazil_coordinator.metrics import Metrics
from frazil_coordinator.platform.base import Platform
from frazil_coordinator.registry import Registry
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.status import QueryState

__all__ = ["observe"]

_WAITING = (QueryState.PLANNING, QueryState.QUEUED)


def observe(metrics: Metrics, *, registry: Registry, slots: Slots, platform: Platform, leads: Callable[[], bool]) -> None:
    """Let the gauges of `metrics` show these parts of a coordinator."""
    for state in (*_WAITING, QueryState.RUNNING):
        metrics.queries.now.labels(state.value).set_function(partial(_count, registry, state))
    metrics.queries.oldest_waiting.set_function(lambda: _oldest_s(registry))
    metrics.tasks.slots.set_function(lambda: slots.limit)
    metrics.tasks.slots_in_use.set_function(lambda: slots.taken)
    metrics.tasks.slots_wanted.set_function(lambda: slots.wanted)
    metrics.tasks.functions.set_function(lambda: platform.status().functions)
    metrics.tasks.functions_busy.set_function(lambda: platform.status().busy)
    metrics.leader.set_function(leads)


def _count(registry: Registry, state: QueryState) -> int:
    return sum(record.status.state is state and not record.abandoned for record in registry)


def _oldest_s(registry: Registry) -> float:
    waiting = (one.status.submitted_unix_s for one in registry if one.status.state in _WAITING and not one.abandoned)
    return max(0.0, time.time() - min(waiting, default=time.time()))
