"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) of a query's changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from frazil_coordinator.status import QueryEvent, encode

__all__ = ["EVENT_STREAM", "KEEP_ALIVE_S", "event_stream"]

EVENT_STREAM: Final = "text/event-stream"

KEEP_ALIVE_S: Final = 15.0
"""Seconds of silence after which a comment is sent, so that proxies keep the connection and lost clients are noticed."""


async def event_stream(
    events: AsyncGenerator[QueryEvent, None], *, keep_alive_s: float = KEEP_ALIVE_S
) -> AsyncGenerator[bytes, None]:
    """Yield `events` as server-sent events: ``id`` is the number of the change, ``event`` its kind, ``data`` JSON."""
    async with aclosing(events):
        while True:
            # A task, because anext() itself would end the generator when its time is up.
            following = asyncio.ensure_future(anext(events, None))
            try:
                while not (await asyncio.wait({following}, timeout=keep_alive_s))[0]:
                    yield b": keep-alive\n\n"
            finally:
                if not following.done():
                    following.cancel()
                    with suppress(asyncio.CancelledError):
                        await following
            event = following.result()
            if event is None:
                return
            yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), encode(event))
