"""Leading, for as long as a process serves: taking over the queries, and leaving them when another coordinator leads.

Between :mod:`frazil_coordinator.leadership`, which says who leads, and :mod:`frazil_coordinator.coordinator`, which runs the
queries of the one that does.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.leadership import Leadership
from frazil_functions.errors import FrazilError

__all__ = ["lead"]

_PAUSE_S: Final = 1.0
"""Seconds after which a journal that can't be read is read again."""

_COLLECT_EVERY_S: Final = 3600.0
"""Seconds between looks for exchange objects that nobody will ask for: 1 LIST per 1,000 objects."""

_LOGGER = logging.getLogger(__name__)


async def lead(coordinator: Coordinator, leadership: Leadership, look_every_s: float) -> None:
    """Lead whenever that is possible; returns only when it is cancelled.

    Parameters
    ----------
    coordinator
        Runs the queries.
    leadership
        Its leadership, not acquired.
    look_every_s
        Seconds between looks for queries that a coordinator before this one accepted in the very moment in which it was
        replaced: 1 LIST each.
    """
    while True:
        await leadership.acquire()
        collected_at = float("-inf")
        while not leadership.lost.is_set():
            pause_s = look_every_s if await _recovered(coordinator) else min(_PAUSE_S, look_every_s)
            if coordinator.leads and time.monotonic() - collected_at > _COLLECT_EVERY_S:
                collected_at = time.monotonic()
                await _collected(coordinator)
            try:
                async with asyncio.timeout(pause_s):
                    await leadership.lost.wait()
            except TimeoutError:
                pass  # it still leads
        await coordinator.stand_down()


async def _collected(coordinator: Coordinator) -> None:
    try:
        await coordinator.collect_orphans()
    except FrazilError as error:
        _LOGGER.warning("orphans not collected", extra={"error": error.message})


async def _recovered(coordinator: Coordinator) -> bool:
    try:
        going_on = await coordinator.recover()
    except FrazilError as error:
        _LOGGER.error("the journal can't be read, and queries are not taken over", extra={"error": error.message})
        return False
    if going_on:
        _LOGGER.warning("going on with queries of a coordinator that ended", extra={"queries": list(going_on)})
    return True
