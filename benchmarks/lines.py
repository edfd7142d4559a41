"""How many lines of Python something runs: a measure of work that no other load on the machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["lines_run"]


def lines_run(act: Callable[[], object]) -> int:
    """Return how many lines of Python are run in this thread, each turn of a loop counted."""
    lines = 0

    def within(_: FrameType, event: str, __: object) -> Any:  # noqa: ANN401  # what sys.settrace takes
        nonlocal lines
        lines += event == "line"
        return within

    before = sys.gettrace()
    sys.settrace(within)
    try:
        act()
    finally:
        sys.settrace(before)
    return lines
