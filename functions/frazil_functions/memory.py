"""Resident memory of the process: what a task uses at its peak, and what happens when it uses too much.

It measures and tells; that an attempt ends is up to :mod:`frazil_functions.run`, which looks at its `CancelToken` between
batches. Polars can't be interrupted inside a batch, so that a process which keeps growing ends itself before the kernel
or the pod's limit does it to whatever else shares the node.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from frazil_functions.errors import OutOfMemoryError

__all__ = ["EXIT_OUT_OF_MEMORY", "MemoryWatch", "map_large_blocks", "resident_bytes", "return_freed_memory"]

EXIT_OUT_OF_MEMORY: Final = 137
"""Exit code of a process that went far over its limit: the one that the kernel's killer leaves behind."""

FATAL_FACTOR: Final = 1.15
"""Share of the limit above which the process ends itself."""

_WARNING_S: Final = 0.15
"""Seconds between telling and ending, so that the attempt's last event can say why: a killed function is only lost."""

_INTERVAL_S: Final = 0.03
_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_KIB: Final = 1024
_MIB: Final = 1024 * 1024

logger = logging.getLogger(__name__)


def return_freed_memory() -> None:
    """Give the memory that the C library holds free back to the system; no effect where it is not glibc.

    Notes
    -----
    Polars' own allocator does so by itself (``frazil_functions.__main__``). Encoded blocks and what the store reads are
    allocated by the C library, which keeps what lies below anything still in use (mallopt(3), malloc_trim(3)).
    """
    if _GLIBC is not None:
        _GLIBC.malloc_trim(0)


def map_large_blocks() -> None:
    """Let large blocks of the C library be mappings of their own from now on: they are given back when they are freed.

    By default glibc raises the size from which it does so to that of the largest block freed so far, up to 32 MiB.
    """
    if _GLIBC is not None:
        _GLIBC.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


def _glibc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


_GLIBC: Final = _glibc()
_M_MMAP_THRESHOLD: Final = -3
"""Of ``malloc.h``."""

_MAPPED_BYTES: Final = 256 * 1024


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes.

    Notes
    -----
    Linux: the second field of ``/proc/self/statm`` (proc(5)). Elsewhere the peak so far, which is all that
    ``getrusage`` knows; in KiB, on macOS in bytes.
    """
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * _KIB


class MemoryWatch:
    """Watches the process's memory from a thread while a task runs; a context manager.

    Parameters
    ----------
    limit_bytes
        Resident memory above which `on_exceeded` is called, once. None: only the peak is kept.
    on_exceeded
        Receives the error that the attempt should fail with. Called in the watching thread.
    end_process
        Ends the process when its memory exceeds 1.15 times the limit.
    measure
        Returns the memory in use, in bytes.
    interval_s
        Seconds between two looks.
    warning_s
        Seconds between calling `on_exceeded` and ending the process.
    """

    def __init__(
        self,
        limit_bytes: int | None,
        on_exceeded: Callable[[OutOfMemoryError], None],
        *,
        end_process: Callable[[int], object] = os._exit,
        measure: Callable[[], int] = resident_bytes,
        interval_s: float = _INTERVAL_S,
        warning_s: float = _WARNING_S,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._on_exceeded = on_exceeded
        self._end_process = end_process
        self._measure = measure
        self._interval_s = interval_s
        self._warning_s = warning_s
        self._stop = threading.Event()
        self._told_s: float | None = None
        self._thread = threading.Thread(target=self._watch, name="frazil-memory", daemon=True)
        self.peak_bytes = 0
        """Highest resident memory seen."""

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, self._measure())

    def look(self) -> None:
        """Measure once, and act on what is found."""
        used = self._measure()
        self.peak_bytes = max(self.peak_bytes, used)
        if self._limit_bytes is None or used <= self._limit_bytes:
            return
        if self._told_s is None:
            self._told_s = time.monotonic()
            logger.warning("memory limit exceeded used_bytes=%d limit_bytes=%d", used, self._limit_bytes)
            self._on_exceeded(
                OutOfMemoryError(
                    f"the task used {used / _MIB:,.0f} MiB of memory, and {self._limit_bytes / _MIB:,.3g} MiB are allowed: "
                    "use more partitions (smaller split_target_bytes or shuffle_target_bytes), or functions with more memory"
                )
            )
        if used > self._limit_bytes * FATAL_FACTOR and time.monotonic() - self._told_s >= self._warning_s:
            logger.critical("memory far above the limit, ending the process used_bytes=%d", used)
            self._end_process(EXIT_OUT_OF_MEMORY)

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.look()
