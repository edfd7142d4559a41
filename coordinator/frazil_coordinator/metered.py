"""A store that tells the metrics what is asked of it: requests, bytes, seconds and errors.

Requests and bytes are counted as :class:`frazil_functions.storage.CountingStore` counts them.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from frazil_coordinator.metrics import Metrics
from frazil_functions.errors import FrazilError
from frazil_functions.storage import CountingStore, ObjectInfo, Store

__all__ = ["MeteredStore"]


class MeteredStore(CountingStore):
    """Passes everything on.

    Parameters
    ----------
    store
        The store that does the work.
    metrics
        What is told.
    by
        In whose name it is asked: a label.
    """

    def __init__(self, store: Store, metrics: Metrics, by: Literal["coordinator", "journal"]) -> None:
        super().__init__(store)
        self._metrics = metrics
        self._by = by

    def _count(self, operation: str, requests: int, size: int = 0) -> None:
        super()._count(operation, requests, size)
        self._metrics.store.requests.labels(self._by, operation).inc(requests)
        if size:
            self._metrics.store.bytes.labels(self._by, operation).inc(size)

    @contextmanager
    def _timed(self, operation: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except FrazilError as error:
            self._metrics.store.errors.labels(self._by, operation, error.kind).inc()
            raise
        finally:
            self._metrics.store.seconds.labels(self._by, operation).observe(time.perf_counter() - began)

    def put(self, key: str, parts: Iterable[builtins.bytes]) -> None:
        """See :meth:`Store.put`."""
        with self._timed("put"):
            super().put(key, parts)

    def create(self, key: str, data: builtins.bytes) -> bool:
        """See :meth:`Store.create`."""
        with self._timed("put"):
            return super().create(key, data)

    def install(self, source: str, target: str, size: int) -> None:
        """See :meth:`Store.install`."""
        with self._timed("copy"):
            super().install(source, target, size)

    def get(self, key: str) -> builtins.bytes:
        """See :meth:`Store.get`."""
        with self._timed("get"):
            return super().get(key)

    def get_range(self, key: str, start: int, length: int) -> builtins.bytes:
        """See :meth:`Store.get_range`."""
        with self._timed("get"):
            return super().get_range(key, start, length)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[builtins.bytes]:
        """See :meth:`Store.get_ranges`; all of them are one operation."""
        with self._timed("get"):
            return super().get_ranges(key, ranges)

    def head(self, key: str) -> ObjectInfo:
        """See :meth:`Store.head`."""
        with self._timed("head"):
            return super().head(key)

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        """See :meth:`Store.list`."""
        with self._timed("list"):
            return super().list(prefix)

    def delete(self, keys: Iterable[str]) -> None:
        """See :meth:`Store.delete`."""
        with self._timed("delete"):
            super().delete(keys)

    def delete_prefix(self, prefix: str) -> int:
        """See :meth:`Store.delete_prefix`; its LIST is part of the operation."""
        with self._timed("delete"):
            return super().delete_prefix(prefix)
