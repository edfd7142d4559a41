"""Objects as files of a local folder.

It uses the standard library and not obstore's local store, so that errors keep their errno and a write copies nothing.
Nothing is synced to disk: an exchange need not survive a power cut.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import os
import random
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

from frazil_functions.errors import BlockError, StorageError, StorageFullError
from frazil_functions.storage_model import ObjectInfo, check_key

__all__ = ["FolderStore"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TEMPORARY: Final = ".frazil-tmp-"
"""Start of the name of a file that is being written; such a file is no object."""

_OPEN_TRIES: Final = 50
_OPEN_PAUSE_S: Final = 0.002
_FOLDERS: Final = threading.Lock()
"""Held while a folder is made and gets its first file, and while an empty one is removed: threads of one process would
disturb each other again and again. What other processes remove in between is made again."""


class FolderStore:
    """A :class:`~frazil_functions.storage_model.Store` in a folder.

    Parameters
    ----------
    folder
        The root; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder.absolute()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._fail("make", "", error)

    @property
    def url(self) -> str:
        """``file://`` URL of the folder."""
        return self._root.as_uri()

    @property
    def remote(self) -> bool:
        """False."""
        return False

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        """Write a temporary file beside the object, then rename it: readers see nothing until all is written."""
        target = self._path(key)
        temporary = target.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
        try:
            with _create(temporary) as descriptor:
                for part in parts:
                    _write_all(descriptor, part)
            temporary.replace(target)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                self._fail("write", key, error)
            raise

    def create(self, key: str, data: bytes) -> bool:
        """Write a temporary file beside the object, then link it to its name, which fails when there is one."""
        target = self._path(key)
        temporary = target.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
        try:
            with _create(temporary) as descriptor:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            self._fail("write", key, error)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def install(self, source: str, target: str, size: int) -> None:
        """Rename a file, making the folder of `target`."""
        del size  # a rename moves no bytes
        before, after = self._path(source), self._path(target)
        try:
            if not before.exists():  # said of the source, and not of a folder on the way to the target
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
            after.parent.mkdir(parents=True, exist_ok=True)
            before.replace(after)
        except FileNotFoundError as error:
            self._fail("read", source, error)
        except OSError as error:
            self._fail("write", target, error)

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        path = self._path(key)
        try:
            return path.read_bytes()
        except OSError as error:
            self._fail("read", key, error)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`."""
        return self.get_ranges(key, [(start, length)])[0]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        """Return several ``(start, length)`` of one object."""
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return [_read_exactly(descriptor, key, start, length) for start, length in ranges]
            finally:
                os.close(descriptor)
        except OSError as error:
            self._fail("read", key, error)

    def head(self, key: str) -> ObjectInfo:
        """Return the size of an object."""
        path = self._path(key)
        try:
            return ObjectInfo(key=key, size=path.stat().st_size)
        except OSError as error:
            self._fail("read", key, error)

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        """Return the objects below the folder `prefix`, sorted by key."""
        found = []
        for path in self._files(prefix):
            if path.name.startswith(_TEMPORARY):
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                stat = path.stat()
                key = path.relative_to(self._root).as_posix()
                found.append(ObjectInfo(key=key, size=stat.st_size, modified_unix_s=stat.st_mtime))
        return sorted(found, key=lambda info: info.key)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is missing is no error."""
        for key in keys:
            try:
                self._path(key).unlink(missing_ok=True)
            except OSError as error:
                self._fail("delete", key, error)

    def delete_prefix(self, prefix: str) -> int:
        """Delete what is below the folder `prefix`, unfinished writes too, and the folders that this leaves empty."""
        count = 0
        for path in self._files(prefix):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._fail("delete", path.relative_to(self._root).as_posix(), error)
            count += not path.name.startswith(_TEMPORARY)
        self._prune(self._folder(prefix))
        return count

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _folder(self, prefix: str) -> Path:
        prefix = prefix.strip("/")
        return self._path(prefix) if prefix else self._root

    def _files(self, prefix: str) -> builtins.list[Path]:
        return [Path(folder) / name for folder, _, names in os.walk(self._folder(prefix)) for name in names]

    def _prune(self, folder: Path) -> None:
        """Remove empty folders below and including `folder`, then above it up to the root, which stays."""
        below = [Path(found) for found, _, _ in os.walk(folder, topdown=False)]
        above = [parent for parent in folder.parents if parent.is_relative_to(self._root)]
        for path in [*below, *above]:
            if path != self._root:
                with _FOLDERS, contextlib.suppress(OSError):  # not empty: another query lives there
                    path.rmdir()

    def _fail(self, action: str, key: str, error: OSError) -> NoReturn:
        place = f"{self.url}/{key}" if key else self.url
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and action == "read":
            raise BlockError(f"object {key} is missing in {self.url}") from error
        if error.errno in _FULL:
            raise StorageFullError(f"no space to write {place} ({reason}): free space, or choose another store") from error
        if isinstance(error, PermissionError):
            raise StorageError(f"not allowed to {action} {place}: check the folder's owner and mode") from error
        raise StorageError(f"can't {action} {place}: {reason}") from error


@contextlib.contextmanager
def _create(path: Path) -> Iterator[int]:
    descriptor = _open_new(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_new(path: Path) -> int:
    """Open a new file, making its folder, which :meth:`FolderStore.delete_prefix` of another process may remove."""
    for left in reversed(range(_OPEN_TRIES)):
        try:
            with _FOLDERS:
                path.parent.mkdir(parents=True, exist_ok=True)
                return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except (FileNotFoundError, FileExistsError):
            if not left:
                raise
            time.sleep(random.uniform(0.0, _OPEN_PAUSE_S))  # noqa: S311  # nothing secret
    raise AssertionError  # the last try raises


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_exactly(descriptor: int, key: str, start: int, length: int) -> bytes:
    data = os.pread(descriptor, length, start)
    while len(data) < length:
        more = os.pread(descriptor, length - len(data), start + len(data))
        if not more:
            raise BlockError(f"object {key} ends before byte {start + length}")
        data += more
    return data
