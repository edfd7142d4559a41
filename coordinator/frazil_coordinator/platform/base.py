"""What the driver needs of a platform: send one attempt to a function and stream back what it says.

A platform knows nothing of queries and never retries; that is the driver's (:mod:`frazil_coordinator.schedule.driver`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from frazil_functions.ids import QueryId
from frazil_functions.task import TaskEvent, TaskRequest

__all__ = ["Pinning", "Platform", "PlatformStatus", "longest_task_s", "pin", "unpin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformStatus:
    """The platform now."""

    functions: int
    """Function processes (pods) that exist."""

    busy: int
    """Functions that run a task."""

    started_total: int
    """Functions started since the platform was made."""

    died_total: int
    """Functions that ended without being told to."""


class Platform(Protocol):
    """Where functions run."""

    @property
    def max_in_flight(self) -> int:
        """Attempts that may be in flight at once."""
        ...

    @property
    def shares_files(self) -> bool:
        """Whether functions see the disks of this process, so that they can write to its paths."""
        ...

    def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        """Send one attempt, and yield its events; the last one is `Succeeded` or `Failed`.

        Closing the generator cancels the attempt.

        Raises
        ------
        FunctionLostError
            When the function ended, or its stream, without a last event.
        FunctionBusyError
            When the function or the platform asked to come back later.
        ProtocolError
            When the function refused the event.
        """
        ...

    def status(self) -> PlatformStatus:
        """Return how many functions there are."""
        ...

    async def aclose(self) -> None:
        """Stop everything that this platform started."""
        ...


@runtime_checkable
class Pinning(Protocol):
    """A platform that has functions of several releases, and knows how long a task may take."""

    @property
    def longest_task_s(self) -> float | None:
        """Seconds after which the platform ends a task; None when that is not known."""
        ...

    def pin(self, query: QueryId, release: str | None = None) -> str:
        """Let a query run on one release to its end, and return which; `release` if that is still there."""
        ...

    def unpin(self, query: QueryId) -> None:
        """Forget a query that has ended."""
        ...


def pin(platform: Platform, query: QueryId, release: str | None = None) -> str:
    """Let a query run on one release to its end, and return which; empty where there are none."""
    return platform.pin(query, release or None) if isinstance(platform, Pinning) else ""


def unpin(platform: Platform, query: QueryId) -> None:
    """Forget a query that has ended."""
    if isinstance(platform, Pinning):
        platform.unpin(query)


def longest_task_s(platform: Platform) -> float | None:
    """Return the seconds after which a platform ends a task; None when it does not, or nobody knows."""
    return platform.longest_task_s if isinstance(platform, Pinning) else None
