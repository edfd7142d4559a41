"""Work that outlives the call that starts it, as a query does its submission: held here, and waited for at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

__all__ = ["Background"]


class Background:
    """Coroutines that run on their own.

    Not a task group: that would end when one of them fails, and with the call that opened it.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        """Start `work`; `name` is for logs of asyncio."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def join(self) -> None:
        """Return when all has ended, also what was started meanwhile."""
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))
