"""A store in memory, for tests that run thousands of tasks and are not about stores."""

from __future__ import annotations

import builtins
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

    def put(self, key: str, parts: Sequence[bytes]) -> None:
        self._objects[check_key(key)] = b"".join(parts)

    def create(self, key: str, data: bytes) -> bool:
        if key in self._objects:
            return False
        self.put(key, [data])
        return True

    def install(self, source: str, target: str, size: int) -> None:
        self.put(target, [self._object(source)])

    def get(self, key: str) -> bytes:
        return self._object(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        data = self._object(key)
        if start + length > len(data):
            raise BlockError(f"{key} is shorter than {start + length} bytes")
        return data[start : start + length]

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        return [self.get_range(key, start, length) for start, length in ranges]

    def head(self, key: str) -> ObjectInfo:
        return ObjectInfo(key=key, size=len(self._object(key)))

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        return [self.head(key) for key in sorted(self._objects) if not prefix or key.startswith(f"{prefix}/")]

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._objects.pop(key, None)

    def delete_prefix(self, prefix: str) -> int:
        gone = [info.key for info in self.list(prefix)]
        self.delete(gone)
        return len(gone)

    def _object(self, key: str) -> bytes:
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise BlockError(f"there is no {key}") from None
