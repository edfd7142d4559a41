"""Keep Ctrl-C from being lost while polars writes a plan.

Polars pickles the Python objects of a plan while it serialises it, and takes any error of that, a `KeyboardInterrupt` too,
for a reason to try another pickler. Used by :mod:`frazil._serialize`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupts_held"]


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Put off SIGINT until the block is done, and then hand it to its handler; in the main thread, where it comes."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(*came[-1])
