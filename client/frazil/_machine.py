"""What this machine, or the container that this process is in, has for functions that are its processes.

:mod:`frazil._parts` and :mod:`frazil._local` ask.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from frazil_coordinator.settings import MIB, Settings

__all__ = ["memory_bytes", "of_this_machine", "safe_limit_bytes"]

_LEAST_SMALL_BYTES: Final = 1024 * MIB
_SMALL_SHARE: Final = 12
"""What is read is 3 times as large in memory, and the heaviest operators hold it 3.5 times (docs/adaptive.md)."""

_LIMIT_SHARE: Final = 0.8
"""Share of the memory at which the task of a function without a limit is stopped: else the system would end whole
processes, this one perhaps."""

_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),  # version 2
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # version 1
)


def memory_bytes(cgroup_limits: tuple[Path, ...] = _CGROUP_LIMITS) -> int | None:
    """Return the bytes of memory that the processes of this machine, or of this container, may have together.

    Parameters
    ----------
    cgroup_limits
        Files of the kernel that hold the limit of a container, if there is one.

    Returns
    -------
    int or None
        None where the system does not tell.
    """
    found: list[int] = []
    with suppress(AttributeError, ValueError, OSError):  # not a system that knows these names
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in cgroup_limits:
        try:
            found.append(int(path.read_text()))
        except (OSError, ValueError):
            continue  # there is no such limit: no file, or "max"
    return min((size for size in found if size > 0), default=None)


def of_this_machine(settings: Settings) -> Settings:
    """Return the settings for functions that are processes of this machine.

    They share its cores, so there is nothing to be won by cutting a query for which one of them has memory enough.
    """
    memory = memory_bytes()
    if settings.start_small_bytes is not None or memory is None:
        return settings
    return replace(settings, start_small_bytes=max(_LEAST_SMALL_BYTES, memory // _SMALL_SHARE))


def safe_limit_bytes() -> int | None:
    """Return the resident memory above which a task of one function had better fail; None where nobody knows."""
    memory = memory_bytes()
    return None if memory is None else int(_LIMIT_SHARE * memory)
