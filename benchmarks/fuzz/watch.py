"""See whether anybody opens a file of a folder: inotify of Linux, by ctypes."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import Final

__all__ = ["OpenWatch"]

_IN_NONBLOCK: Final = 0o4000
_IN_OPEN: Final = 0x20
_EVENT: Final = struct.Struct("iIII")


class OpenWatch:
    """Tells what was opened of a folder, by whichever process and language.

    Raises
    ------
    OSError
        When the system has no inotify, or no more watches.
    """

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(_IN_NONBLOCK)
        if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(folder), _IN_OPEN) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def opened(self) -> list[str]:
        """Return the names of the files that were opened since it was asked last; ``""`` is the folder itself."""
        try:
            data = os.read(self._fd, 65_536)
        except BlockingIOError:
            return []
        found = []
        at = 0
        while at < len(data):
            _, _, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            found.append(data[at : at + length].rstrip(b"\0").decode(errors="replace"))
            at += length
        return found

    def close(self) -> None:
        """Watch no more."""
        os.close(self._fd)
