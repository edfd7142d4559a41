"""Where a sink's files go, and where they wait until they are published.

Polars' readers skip nothing: a folder's reader takes every file below it, hidden or not, and refuses a folder with files of
several endings. So staged files lie beside the folder that a reader of the target would read, not below it: beside the
target folder itself, or beside the folder that holds a target file, with trailing hive folders (``year=2024``) left out. On
a disk they must be on the file system of the target, so that a rename publishes them; where the folder beside is on another
one, or may not be written, they lie in the folder. Targets on this machine's disks are checked before anything runs, and
refused with the exceptions that Polars raises. :mod:`~frazil_coordinator.plan.sinks` builds on this.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from frazil_functions.errors import PlanError, QueryError
from frazil_functions.scan_files import is_remote

__all__ = ["Place", "place_of"]

_FILE: Final = "file://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a target lies; the members are those of `frazil_coordinator.plan.model.Sink`."""

    store: str
    base: str
    folder: str
    name: str
    """Name of the file; empty when the target is a folder."""

    local: bool


def place_of(target: str, *, many: bool, mkdir: bool) -> Place:
    """Return where `target` lies, and where its files are staged; a target on this machine is checked.

    Parameters
    ----------
    target
        Absolute path, or URL.
    many
        Whether it is a folder of files rather than one file.
    mkdir
        Whether the folder of one file may be made. That of many always may, as Polars makes it.

    Raises
    ------
    QueryError
        With the exception that Polars raises: `FileExistsError`, `FileNotFoundError`, `NotADirectoryError`,
        `IsADirectoryError`, `PermissionError`.
    PlanError
        When the target is no place for files.
    """
    if is_remote(target):
        return _remote(target, many=many)
    path = Path(target.removeprefix(_FILE)).resolve()
    folder = path if many else path.parent
    if mkdir and not many and folder.exists() and not folder.is_dir():
        _refuse("FileExistsError", f"File exists (os error 17): {folder}")  # what the call that makes folders says
    _check_folder(folder, target, mkdir=mkdir or many)
    if not many:
        _check_file(path, target)
    base = _local_base(folder)
    root = _existing(base)
    return Place(
        store=str(root),
        base=_key(base.relative_to(root)),
        folder=_key(folder.relative_to(base)),
        name="" if many else path.name,
        local=True,
    )


def _remote(target: str, *, many: bool) -> Place:
    scheme, _, rest = target.partition("://")
    bucket, _, key = rest.partition("/")
    segments = key.rstrip("/").split("/") if key.rstrip("/") else []
    if not many and not segments:
        raise PlanError(f"{target} names no file: end it with a file's name, or with / for a folder of files")
    folder = segments if many else segments[:-1]
    depth = len(folder)
    while depth and "=" in folder[depth - 1]:
        depth -= 1
    base = folder[: max(0, depth - 1)]
    return Place(
        store=f"{scheme}://{bucket}",
        base="/".join(base),
        folder="/".join(folder[len(base) :]),
        name="" if many else segments[-1],
        local=False,
    )


def _local_base(folder: Path) -> Path:
    root = folder
    while "=" in root.name:
        root = root.parent
    beside, at = _existing(root.parent), _existing(folder)
    same_disk = beside.stat().st_dev == at.stat().st_dev
    return root.parent if same_disk and os.access(beside, os.W_OK | os.X_OK) else folder


def _existing(path: Path) -> Path:
    """Return the deepest folder on the way to `path` that exists."""
    while not path.exists():
        path = path.parent
    return path


def _key(path: Path) -> str:
    return "" if path == Path() else path.as_posix()


def _check_folder(folder: Path, target: str, *, mkdir: bool) -> None:
    existing = _existing(folder)
    if not existing.is_dir():
        _refuse("NotADirectoryError", f"Not a directory (os error 20): {target}")
    if existing != folder and not mkdir:
        _refuse("FileNotFoundError", f"No such file or directory (os error 2): {target}")
    if not os.access(existing, os.W_OK | os.X_OK):
        _refuse("PermissionError", f"Permission denied (os error 13): {target}")


def _check_file(path: Path, target: str) -> None:
    if not path.exists():
        return
    if path.is_dir():
        _refuse("IsADirectoryError", f"expected a file path; {target!r} is a directory: end it with / for a folder of files")
    if not stat.S_ISREG(path.stat().st_mode):
        raise PlanError(f"{target} is not a regular file: it can't be replaced by the file that is written")
    if not os.access(path, os.W_OK):
        _refuse("PermissionError", f"Permission denied (os error 13): {target}")


def _refuse(exception: str, message: str) -> NoReturn:
    raise QueryError(message, exception=exception)
