"""A store that passes everything on: what stores of tests begin from that do something else now and then."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence

from frazil_functions.storage import ObjectInfo, Store

__all__ = ["PassingStore"]


class PassingStore:
    """Has another store do everything; see `frazil_functions.storage_model.Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def remote(self) -> bool:
        return self._store.remote

    def put(self, key: str, parts: Sequence[bytes]) -> None:
        self._store.put(key, parts)

    def create(self, key: str, data: bytes) -> bool:
        return self._store.create(key, data)

    def install(self, source: str, target: str, size: int) -> None:
        self._store.install(source, target, size)

    def get(self, key: str) -> bytes:
        return self._store.get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._store.get_range(key, start, length)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        return self._store.get_ranges(key, ranges)

    def head(self, key: str) -> ObjectInfo:
        return self._store.head(key)

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        return self._store.list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self._store.delete(keys)

    def delete_prefix(self, prefix: str) -> int:
        return self._store.delete_prefix(prefix)
