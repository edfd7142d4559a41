"""What an object store is to Frazil, and a store that counts.

This module does no I/O; :mod:`frazil_functions.storage_folder` and :mod:`frazil_functions.storage_object` do, and
:func:`frazil_functions.storage.open_store` chooses between them.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from frazil_functions.errors import StorageError

__all__ = ["CountingStore", "ObjectInfo", "PassingStore", "Store", "check_key"]

_LIST_PAGE: Final = 1000
"""Objects that one LIST answers, or that one bulk DELETE removes, on S3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """One object of a store."""

    key: str
    """Key relative to the store's root."""

    size: int
    """Bytes."""

    modified_unix_s: float = 0.0
    """When it was written, in seconds since 1970, where a listing tells it."""


class Store(Protocol):
    """Immutable objects under keys; every method is synchronous and may be called from several threads.

    Keys are relative to the store's root: segments parted by ``/``, none empty, ``.`` or ``..``.

    Raises
    ------
    BlockError
        From a read: the object is missing, or shorter than the range.
    StorageFullError
        From `put`: no space left.
    StorageError
        From any method: wrong credentials, missing bucket, unreachable, or another failure of the store.
    """

    @property
    def url(self) -> str:
        """URL of the root; it holds no secret."""
        ...

    @property
    def remote(self) -> bool:
        """Whether requests cross a network, so that fewer bytes are worth more than fewer CPU seconds."""
        ...

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        """Write one object, `parts` back to back: 1 PUT. A reader sees all of it or nothing; a failure leaves nothing.

        `parts` are asked for once, one after the other, and may be made only then; what they raise is raised.
        """
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write one object unless there is one under `key`: 1 conditional PUT. Return whether it was written."""
        ...

    def install(self, source: str, target: str, size: int) -> None:
        """Make the object `source`, of `size` bytes, be under `target`, in the place of what is there; all of it or nothing.

        A folder renames it; an object store copies it (1 PUT; in parts above 5 GB) and leaves `source` where it is.
        """
        ...

    def get(self, key: str) -> bytes:
        """Return a whole object: 1 GET."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`: 1 GET."""
        ...

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        """Return several ``(start, length)`` of one object: at most 1 GET a range."""
        ...

    def head(self, key: str) -> ObjectInfo:
        """Return the size of an object: 1 HEAD."""
        ...

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        """Return the objects below the folder `prefix` (``""``: all), sorted by key: 1 LIST per 1,000 objects."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is missing is no error: 1 DELETE per 1,000 objects."""
        ...

    def delete_prefix(self, prefix: str) -> int:
        """Delete the objects below the folder `prefix`, and return how many there were: LIST, then DELETE."""
        ...


def check_key(key: str) -> str:
    """Return `key`.

    Raises
    ------
    StorageError
        When `key` is no key, e.g. because it would leave the store's root.
    """
    if not key or "\0" in key or "\\" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise StorageError(f"{key!r} is not an object key")
    return key


class PassingStore:
    """A store that has another one do everything; what does one thing otherwise begins from here.

    Parameters
    ----------
    store
        The store that does the work.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def url(self) -> str:
        """URL of the root."""
        return self._store.url

    @property
    def remote(self) -> bool:
        """Whether requests cross a network."""
        return self._store.remote

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        """See :meth:`Store.put`."""
        self._store.put(key, parts)

    def create(self, key: str, data: bytes) -> bool:
        """See :meth:`Store.create`."""
        return self._store.create(key, data)

    def install(self, source: str, target: str, size: int) -> None:
        """See :meth:`Store.install`."""
        self._store.install(source, target, size)

    def get(self, key: str) -> bytes:
        """See :meth:`Store.get`."""
        return self._store.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`Store.get_range`."""
        return self._store.get_range(key, start, length)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        """See :meth:`Store.get_ranges`."""
        return self._store.get_ranges(key, ranges)

    def head(self, key: str) -> ObjectInfo:
        """See :meth:`Store.head`."""
        return self._store.head(key)

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        """See :meth:`Store.list`."""
        return self._store.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """See :meth:`Store.delete`."""
        self._store.delete(keys)

    def delete_prefix(self, prefix: str) -> int:
        """See :meth:`Store.delete_prefix`."""
        return self._store.delete_prefix(prefix)


class CountingStore:
    """A store that counts requests and bytes by operation, and passes everything on.

    Parameters
    ----------
    store
        The store that does the work.

    Notes
    -----
    What is counted are requests as :class:`Store` documents them. A PUT so large that it goes in several parts counts as
    one, and a retry inside the client is not seen.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._requests: dict[str, int] = {}
        self._bytes: dict[str, int] = {}

    @property
    def requests(self) -> dict[str, int]:
        """Requests so far by operation: ``get``, ``put``, ``copy``, ``head``, ``list``, ``delete``; a copy."""
        with self._lock:
            return dict(self._requests)

    @property
    def bytes(self) -> dict[str, int]:
        """Bytes moved so far by operation: ``get``, ``put``; a copy."""
        with self._lock:
            return dict(self._bytes)

    @property
    def url(self) -> str:
        """URL of the root."""
        return self._store.url

    @property
    def remote(self) -> bool:
        """Whether requests cross a network."""
        return self._store.remote

    def _count(self, operation: str, requests: int, size: int = 0) -> None:
        with self._lock:
            self._requests[operation] = self._requests.get(operation, 0) + requests
            if size:
                self._bytes[operation] = self._bytes.get(operation, 0) + size

    def put(self, key: str, parts: Iterable[builtins.bytes]) -> None:
        """See :meth:`Store.put`."""
        self._count("put", 1)
        size = 0

        def sized() -> Iterator[builtins.bytes]:
            nonlocal size
            for part in parts:
                size += len(part)
                yield part

        self._store.put(key, sized())
        self._count("put", 0, size)

    def create(self, key: str, data: builtins.bytes) -> bool:
        """See :meth:`Store.create`."""
        self._count("put", 1)
        created = self._store.create(key, data)
        self._count("put", 0, len(data))
        return created

    def install(self, source: str, target: str, size: int) -> None:
        """See :meth:`Store.install`; counted as ``copy``."""
        self._count("copy", 1)
        self._store.install(source, target, size)

    def get(self, key: str) -> builtins.bytes:
        """See :meth:`Store.get`."""
        self._count("get", 1)
        data = self._store.get(key)
        self._count("get", 0, len(data))
        return data

    def get_range(self, key: str, start: int, length: int) -> builtins.bytes:
        """See :meth:`Store.get_range`."""
        self._count("get", 1)
        data = self._store.get_range(key, start, length)
        self._count("get", 0, len(data))
        return data

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[builtins.bytes]:
        """See :meth:`Store.get_ranges`."""
        self._count("get", len(ranges))
        data = self._store.get_ranges(key, ranges)
        self._count("get", 0, sum(len(part) for part in data))
        return data

    def head(self, key: str) -> ObjectInfo:
        """See :meth:`Store.head`."""
        self._count("head", 1)
        return self._store.head(key)

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        """See :meth:`Store.list`."""
        found = self._store.list(prefix)
        self._count("list", _pages(len(found)) or 1)
        return found

    def delete(self, keys: Iterable[str]) -> None:
        """See :meth:`Store.delete`."""
        gone = tuple(keys)
        if gone:
            self._count("delete", _pages(len(gone)))
            self._store.delete(gone)

    def delete_prefix(self, prefix: str) -> int:
        """See :meth:`Store.delete_prefix`."""
        count = self._store.delete_prefix(prefix)
        self._count("list", _pages(count) or 1)
        self._count("delete", _pages(count))
        return count


def _pages(count: int) -> int:
    return -(-count // _LIST_PAGE)
