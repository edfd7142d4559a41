"""Waiting for the queries of a coordinator that is about to end, and for those who fetch their results.

Used by :mod:`frazil_coordinator.coordinator`, which accepts no more queries meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from frazil_coordinator.registry import QueryRecord

__all__ = ["until_idle"]

_FETCH_GRACE_S: Final = 5.0
"""Seconds that clients get to begin to fetch a result that became ready meanwhile."""

_LOGGER = logging.getLogger(__name__)


async def until_idle(records: Iterable[QueryRecord], grace_s: float) -> None:
    """Return when the queries that run have ended and were read, at the latest after `grace_s` seconds."""
    known = tuple(records)
    running = [record for record in known if not record.ended.is_set() or record.readers]
    try:
        async with asyncio.timeout(grace_s):
            for record in running:
                await record.ended.wait()
            with suppress(TimeoutError):  # results that nobody fetches
                async with asyncio.timeout(_FETCH_GRACE_S):
                    for record in running:
                        await record.settled.wait()
            for record in known:  # results that somebody is fetching
                await record.unread.wait()
    except TimeoutError:
        _LOGGER.info("drained as far as time allowed", extra={"grace_s": grace_s})
