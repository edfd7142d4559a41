"""An event loop whose clock jumps: what would take hours takes no time, and always goes the same way.

Only for code that waits for timers and for itself. When nothing is ready and no timer is set, nothing can ever happen
again, and the loop says so instead of hanging. :class:`BlockingTakesTime` is for code that also gives work to threads.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

__all__ = ["BlockingTakesTime", "Deadlock", "VirtualTimeLoop", "run_virtually"]

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Deadlock(AssertionError):  # noqa: N818  # it is what it says
    """Everything waits, and nothing will come."""


class _JumpingSelector(selectors.BaseSelector):
    """Never waits: it moves the clock on instead."""

    def __init__(self, passed: Callable[[], float] | None = None) -> None:
        self._real = selectors.DefaultSelector()
        self._passed = passed
        """Seconds that have passed otherwise since it was asked last."""

        self.now = 0.0

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready and timeout is None:
            raise Deadlock("everything waits, and no timer is set")
        passed = 0.0 if self._passed is None else self._passed()
        self.now += passed if ready or timeout is None else max(timeout, passed)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, from 0."""

    def __init__(self, passed: Callable[[], float] | None = None) -> None:
        self._jumping = _JumpingSelector(passed)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping.now


class BlockingTakesTime(VirtualTimeLoop):
    """A loop where what is given to a thread is done at once, and is known to be done after `blocking_s`.

    Parameters
    ----------
    blocking_s
        Virtual seconds of each piece of work for a thread.
    with_cpu
        Whether the CPU time of the code that runs in the loop passes in virtual time too, so that it delays what it would
        really delay. Then no two runs are the same.
    """

    def __init__(self, blocking_s: float, *, with_cpu: bool = False) -> None:
        self._blocking_s = blocking_s
        self._cpu_s = time.thread_time()
        super().__init__(self._cpu if with_cpu else None)

    def _cpu(self) -> float:
        before, self._cpu_s = self._cpu_s, time.thread_time()
        return self._cpu_s - before

    def run_in_executor(
        self,
        executor: object,  # noqa: ARG002  # there is none
        func: Callable[[*_Ts], _T],
        *args: *_Ts,
    ) -> asyncio.Future[_T]:
        """Do something that blocks, at once."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:
            self.call_later(self._blocking_s, _settle, future, None, error)
        else:
            self.call_later(self._blocking_s, _settle, future, result, None)
        return future


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return  # nobody waits any more
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def run_virtually(main: Coroutine[Any, Any, _T], loop: Callable[[], VirtualTimeLoop] = VirtualTimeLoop) -> _T:
    """Run `main` in virtual time."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)
