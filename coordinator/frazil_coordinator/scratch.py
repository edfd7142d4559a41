"""A temporary folder that goes with its process, even when the process is killed: the next one sweeps it away."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["scratch_folder"]

_PREFIX: Final = "frazil-scratch-"
_LOCK: Final = "in-use"
_YOUNG_S: Final = 60.0
"""Age below which a folder without a held lock may still be in the making."""

_LOGGER = logging.getLogger(__name__)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a folder under the system's folder for temporary files, and delete it at the end.

    A lock on a file inside says that its process lives; the kernel drops it with the process. Folders of processes that were
    killed are deleted first.
    """
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid == os.getuid() and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                _LOGGER.info("deleted the folder of a process that was killed", extra={"folder": str(folder)})
        except FileNotFoundError:
            continue  # its process, or another sweep, was quicker


def _is_abandoned(folder: Path) -> bool:
    if time.time() - folder.stat().st_mtime < _YOUNG_S:
        return False
    lock_path = folder / _LOCK
    if not lock_path.exists():
        return True
    with lock_path.open("r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
