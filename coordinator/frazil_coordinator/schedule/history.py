"""What is told of how a query ended: of a task that failed for good its last error, with all of its attempts.

Used by :mod:`frazil_coordinator.schedule.driver` when a query ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from frazil_coordinator.schedule.messages import AttemptRecord
from frazil_coordinator.schedule.profile import RunState
from frazil_functions.errors import CancelledQueryError, FrazilError, from_wire, to_wire

__all__ = ["run_state", "with_history"]


def with_history(error: FrazilError, history: Sequence[AttemptRecord]) -> FrazilError:
    """Return `error` with the attempts of its task in the message, when there was more than one."""
    if len(history) <= 1:
        return error
    lines = [f"attempt {one.ref.attempt}: {one.kind} after {one.seconds:.2f} s: {one.message}" for one in history]
    message = "\n  ".join([f"{error.message}; the task was tried {len(history)} times:", *lines])
    told = from_wire(msgspec.structs.replace(to_wire(error), message=message))
    told.__cause__ = error
    return told


def run_state(error: FrazilError | None) -> RunState:
    """Return how a query ended, by what ended it."""
    if error is None:
        return "succeeded"
    return "cancelled" if isinstance(error, CancelledQueryError) else "failed"
