"""What a coordinator that does not lead answers: 503, and who leads.

It knows no query of the one that leads, so it must not say that there is none: every route about queries is refused, but not
one that only plans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.leadership import Standing
from frazil_functions.errors import StandbyError

__all__ = ["leader_only", "standing_of"]

_ALWAYS: Final = Standing(leader=True, term=0, journal="off", detail="there is no journal")


def standing_of(coordinator: Coordinator) -> Standing:
    """Return whether `coordinator` leads; without a leadership it does."""
    if coordinator.leadership is None:
        return _ALWAYS
    standing = coordinator.leadership.standing
    if standing.leader and not coordinator.leads:
        return replace(standing, leader=False, detail="this coordinator leads, and is taking over the queries")
    return standing


def leader_only(coordinator: Coordinator) -> Callable[[], None]:
    """Return what a route that needs the journal depends on.

    Raises
    ------
    StandbyError
        From each call, when the coordinator does not lead then.
    """

    def check() -> None:
        standing = standing_of(coordinator)
        if not standing.leader:
            raise StandbyError(f"{standing.detail}: try again, or ask that one")

    return check
