"""What the driver needs of a platform: send one attempt to a function and stream back what it says.

A platform knows nothing of queries and never retries; that is the driver's (:mod:`frazil_coordinator.schedule.driver`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from frazil_functions.task import TaskEvent, TaskRequest

__all__ = ["Platform", "PlatformStatus"]


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
