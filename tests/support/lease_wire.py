"""Coordinators that share one store in virtual time: each has a wire of its own to it, which delays or is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from frazil_coordinator.leadership import Leadership, ProbeResult
from frazil_functions.errors import StorageError
from frazil_functions.storage import Store

__all__ = ["DECIDES", "LEASE_S", "Wire", "coordinator"]

LEASE_S = 15.0
DECIDES = ProbeResult(conditional=True, winners=1, detail="it decides")


class Wire(Executor):
    """Runs what is submitted at once, or later by the clock of the running loop."""

    def __init__(self) -> None:
        self.cut = False
        """Whether every request fails."""

        self.delays: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0)
        """Seconds until the next request reaches the store, and then until its answer comes back."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        there_s, back_s = self.delays()
        loop = asyncio.get_running_loop()

        def land() -> None:
            try:
                if self.cut:
                    raise StorageError("the wire is cut")
                result = fn(*args, **kwargs)
            except Exception as error:
                self._later(loop, back_s, partial(answer.set_exception, error))
            else:
                self._later(loop, back_s, partial(answer.set_result, result))

        self._later(loop, there_s, land)
        return answer

    def _later(self, loop: asyncio.AbstractEventLoop, delay_s: float, work: Callable[[], None]) -> None:
        if delay_s:
            loop.call_later(delay_s, work)
        else:
            work()


def coordinator(store: Store, wire: Wire, *, probe: ProbeResult = DECIDES, **options: Any) -> Leadership:
    """Return a leadership whose clock is the running loop's."""
    options = {"lease_s": LEASE_S, "monotonic": asyncio.get_running_loop().time, **options}
    return Leadership(store, probe, threads=wire, **options)
