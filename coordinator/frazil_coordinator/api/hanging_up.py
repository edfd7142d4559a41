"""Work that stops when the client who waits for it hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from fastapi import Request

from frazil_coordinator.status import Explanation
from frazil_functions.errors import CancelledQueryError

__all__ = ["while_connected"]


async def while_connected(request: Request, work: Coroutine[None, None, Explanation]) -> Explanation:
    """Wait for `work`; when the client hangs up, stop it."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CancelledQueryError("the client hung up, and the query was cancelled")
        return working.result()
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.wait({working, gone})


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
