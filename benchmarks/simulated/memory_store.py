"""A store in memory that counts what it is asked, for runs of thousands of tasks that are not about stores."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Iterable, Sequence

from frazil_functions.errors import BlockError
from frazil_functions.storage_model import ObjectInfo, check_key

__all__ = ["MemoryStore"]


class MemoryStore:
    """Objects in a dictionary; see :class:`frazil_functions.storage_model.Store` for what each method does."""

    url = "memory:///"
    remote = False

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self.requests = Counter[str]()
        """Calls so far, by method."""

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(map(len, self._objects.values()))

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        """Create or replace an object."""
        self.requests["put"] += 1
        self._objects[check_key(key)] = b"".join(parts)

    def create(self, key: str, data: bytes) -> bool:
        """Create an object, unless there is one."""
        self.requests["create"] += 1
        if key in self._objects:
            return False
        self._objects[check_key(key)] = data
        return True

    def install(self, source: str, target: str, size: int) -> None:  # noqa: ARG002  # real stores need it
        """Copy an object."""
        self.put(target, [self._object(source)])

    def get(self, key: str) -> bytes:
        """Return an object."""
        self.requests["get"] += 1
        return self._object(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object."""
        self.requests["get_range"] += 1
        data = self._object(key)
        if start + length > len(data):
            raise BlockError(f"{key} is shorter than {start + length} bytes")
        return data[start : start + length]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        """Return parts of an object."""
        return [self.get_range(key, start, length) for start, length in ranges]

    def head(self, key: str) -> ObjectInfo:
        """Return what is known of an object."""
        self.requests["head"] += 1
        return self._info(key)

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        """Return the objects below a prefix."""
        self.requests["list"] += 1
        return [self._info(key) for key in sorted(self._objects) if not prefix or key.startswith(f"{prefix}/")]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects."""
        self.requests["delete"] += 1
        for key in keys:
            self._objects.pop(key, None)

    def delete_prefix(self, prefix: str) -> int:
        """Delete the objects below a prefix."""
        gone = [info.key for info in self.list(prefix)]
        self.delete(gone)
        return len(gone)

    def _info(self, key: str) -> ObjectInfo:
        return ObjectInfo(key=key, size=len(self._object(key)))

    def _object(self, key: str) -> bytes:
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise BlockError(f"there is no {key}") from None
