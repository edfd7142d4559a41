"""``python -m frazil_functions``: a function process.

This module only loads :mod:`frazil_functions.server`, which is next on the main path, and does so fast: a function starts
from zero while a query waits (benchmarks/import_time.py).
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Final, NoReturn

__all__ = ["load", "main"]

_ALLOCATOR: Final = "background_thread:true,dirty_decay_ms:50,muzzy_decay_ms:0"
"""Polars' allocator (jemalloc) gives memory back after 50 ms instead of half a second or never: what a task has freed shall
not count against the next one's limit. Measured at no cost in CPU; giving back at once costs a third more."""


def load() -> Callable[[], int]:
    """Import all that a function process needs, and return what runs it."""
    os.environ.setdefault("_RJEM_MALLOC_CONF", _ALLOCATOR)  # read when polars is loaded
    # What is imported stays: collecting in between finds nothing, and costs a tenth of the CPU that starting takes.
    gc.disable()
    if "uvicorn" not in sys.modules:
        # uvicorn's package imports its command line, whose click and reloaders take a quarter of the CPU that starting
        # takes beyond polars. Nothing here needs them.
        command_line = ModuleType("uvicorn.main")
        command_line.__dict__.update(Server=None, main=None, run=None)
        sys.modules["uvicorn.main"] = command_line
    from frazil_functions.server import serve  # not before the above

    gc.freeze()
    gc.enable()
    return serve


def main() -> NoReturn:
    """Run a function process until it is told to end."""
    code = load()()
    logging.shutdown()
    # Not sys.exit: a cancelled task that is stuck in polars would keep the interpreter from ending.
    os._exit(code)


if __name__ == "__main__":
    main()
