"""Waiting for what no event tells of: look again until it is so, or until a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["eventually", "eventually_async"]

_EVERY_S = 0.01


def eventually(check: Callable[[], bool], what: str, *, within_s: float = 20.0) -> None:
    """Look at `check` until it is true.

    Raises
    ------
    AssertionError
        When it is still false after `within_s` seconds; `what` says what did not happen.
    """
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(_EVERY_S)


async def eventually_async(check: Callable[[], bool], what: str, *, within_s: float = 20.0) -> None:
    """Do as :func:`eventually`, letting the event loop run in between."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(_EVERY_S)
