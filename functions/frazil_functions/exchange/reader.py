"""Reading blocks: a task's exchange input as a stream of DataFrames.

Requests: blocks of one object that follow one another in the list, in whatever order they lie in the object, and are within
1 MiB of each other there are one GET, so that a stage of R tasks that each read one partition of P objects costs P·R GET,
less what is empty or inline. A range over 16 MiB goes in several GETs.
There is no LIST, no HEAD and no read of an object's index. :mod:`frazil_functions.run` puts the stream in the place of a
placeholder scan.
"""

from __future__ import annotations

import concurrent.futures
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Final, Self, TypeAlias

import polars as pl

from frazil_functions.errors import BlockError, CancelledQueryError
from frazil_functions.exchange.codec import check_block, decode_block
from frazil_functions.exchange.partition import in_share, row_encode
from frazil_functions.storage_model import Store
from frazil_functions.task import BlockRef, ExchangeInput, KeyRange, SortKey

__all__ = ["MAX_REQUEST_BYTES", "fetch_blocks", "read_exchange", "requests_for"]

_MAX_GAP_BYTES: Final = 1024 * 1024
"""Bytes between two blocks that are cheaper to read than to skip."""

MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
"""Bytes that one GET asks for at most."""

_PREFETCH_REQUESTS: Final = 8
"""GETs in flight at most."""

_PREFETCH_BYTES: Final = 64 * 1024 * 1024
"""Bytes fetched or being fetched ahead of the block that is being decoded."""

_NOT_AHEAD_BYTES: Final = 4 * 1024 * 1024
"""Bytes of a folder's files that are read one after the other: less work than starting threads to read them ahead."""

_CANCEL_POLL_S: Final = 0.2

_Future: TypeAlias = "concurrent.futures.Future[bytes]"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetch:
    """Consecutive blocks that are fetched together."""

    ranges: tuple[tuple[str, int, int], ...]
    """Key, start and end, ascending; those of an object are apart."""

    blocks: tuple[BlockRef, ...]

    @property
    def size(self) -> int:
        return sum(end - start for _, start, end in self.ranges)

    def requests(self) -> list[tuple[str, int, int]]:
        """Key, start and length of what to get: one a range, unless it would be too large."""
        return [
            (key, at, min(MAX_REQUEST_BYTES, end - at))
            for key, start, end in self.ranges
            for at in range(start, end, MAX_REQUEST_BYTES)
        ]


def read_exchange(
    store: Store,
    source: ExchangeInput,
    *,
    with_columns: list[str] | None = None,
    predicate: pl.Expr | None = None,
    n_rows: int | None = None,
    on_read: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[pl.DataFrame]:
    """Yield the rows of `source`, block after block in the given order.

    Parameters
    ----------
    store
        Where the objects are.
    source
        Blocks, and the range of keys to keep of them.
    with_columns
        Columns to yield, in this order; None yields all.
    predicate
        Keeps the rows for which it is true; it may use columns that are not in `with_columns`.
    n_rows
        Rows to read at most, counted before `predicate` and after what `source` leaves out.
    on_read
        Called with rows and encoded bytes of each block that was read.
    cancelled
        Asked before each block and while waiting for one.

    Yields
    ------
    pl.DataFrame
        The rows of one block that are left; a block without any is skipped.

    Raises
    ------
    BlockError
        When a block is missing, torn or corrupt; it names key and offset, and in ``where["object"]`` the key alone.
    StorageError
        When the store fails.
    CancelledQueryError
        When `cancelled` says so.
    """
    columns = _columns_to_decode(source, with_columns, predicate)
    left = n_rows
    whole = source.key_range is None and source.hash_share is None
    blocks = _first_blocks(source.blocks, n_rows) if whole else source.blocks
    for block, data in _blocks_with_data(store, blocks, fetch=columns != [], cancelled=cancelled):
        if left is not None and left <= 0:
            return
        frame = _decode(block, data, columns)
        if on_read is not None:
            on_read(block.rows, len(data) if data is not None else 0)
        if source.key_range is not None:
            frame = _in_range(frame, source.key_range, source.sort_keys)
        if source.hash_share is not None:
            frame = in_share(frame, source.hash_share)
        if left is not None:
            frame = frame.head(min(left, frame.height))  # polars takes no number above 64 bits
            left -= frame.height
        if predicate is not None:
            frame = frame.filter(predicate)
        if frame.height:
            yield frame if with_columns is None or frame.columns == with_columns else frame.select(with_columns)


def _columns_to_decode(source: ExchangeInput, with_columns: list[str] | None, predicate: pl.Expr | None) -> list[str] | None:
    if with_columns is None:
        return None
    wanted = list(with_columns)
    if predicate is not None:
        if predicate.meta.has_multiple_outputs():  # a selector: which columns it takes is not known without the schema
            return None
        wanted += predicate.meta.root_names()
    if source.key_range is not None:
        wanted += [key.column for key in source.sort_keys]
    for key in source.hash_share.hash_keys if source.hash_share is not None else ():
        expr = pl.Expr.deserialize(key)
        if expr.meta.has_multiple_outputs():
            return None
        wanted += expr.meta.root_names()
    return list(dict.fromkeys(wanted))


def _first_blocks(blocks: Sequence[BlockRef], n_rows: int | None) -> Sequence[BlockRef]:
    """Return the blocks that hold the first `n_rows` rows."""
    if n_rows is None:
        return blocks
    taken, rows = 0, 0
    while taken < len(blocks) and rows < n_rows:
        rows += blocks[taken].rows
        taken += 1
    return blocks[:taken]


def _decode(block: BlockRef, data: bytes | None, columns: list[str] | None) -> pl.DataFrame:
    if data is None:  # no column is wanted: the number of rows is known without reading
        return pl.DataFrame(height=block.rows)
    place = f"{block.key or 'inline'} at {block.offset}"
    try:
        check_block(data, block.crc32c, place=place)
        return decode_block(data, block.codec, rows=block.rows, columns=columns, place=place)
    except BlockError as error:
        if block.data is None:
            error.where["object"] = block.key
        raise


def _in_range(frame: pl.DataFrame, wanted: KeyRange, sort_keys: Sequence[SortKey]) -> pl.DataFrame:
    keys = row_encode(frame, sort_keys)
    inside = pl.lit(value=True)
    if wanted.low is not None:
        inside &= pl.lit(keys) >= pl.lit(wanted.low)
    if wanted.high is not None:
        inside &= pl.lit(keys) < pl.lit(wanted.high)
    return frame.filter(inside)


def requests_for(blocks: Sequence[BlockRef]) -> int:
    """Return how many GETs it takes to read `blocks` in this order."""
    lengths = {block.key: block.length for block in blocks if block.data is None}
    if len(lengths) == len(blocks):  # each in an object of its own: none is fetched together with another
        return sum(-(-length // MAX_REQUEST_BYTES) for length in lengths.values())
    return sum(len(fetch.requests()) for fetch in _plan(blocks))


def fetch_blocks(
    store: Store, blocks: Sequence[BlockRef], *, cancelled: Callable[[], bool] | None = None
) -> Iterator[tuple[BlockRef, bytes]]:
    """Yield each block with its encoded bytes, whose checksums nobody has looked at, in the given order.

    Raises
    ------
    BlockError, StorageError, CancelledQueryError
        As :func:`read_exchange` does.
    """
    fetches = _plan(blocks)
    requests = sum(len(planned.requests()) for planned in fetches)
    if requests <= 1 or (not store.remote and sum(planned.size for planned in fetches) <= _NOT_AHEAD_BYTES):
        for planned in fetches:
            _check(cancelled)
            yield from _cut(planned, _get_now(store, planned))
        return
    with _Prefetch(store, fetches) as prefetch:
        for planned in fetches:
            _check(cancelled)
            yield from _cut(planned, prefetch.take(cancelled))


def _blocks_with_data(
    store: Store, blocks: Sequence[BlockRef], *, fetch: bool, cancelled: Callable[[], bool] | None
) -> Iterator[tuple[BlockRef, bytes | None]]:
    """Yield each block with its bytes; with None for all if not `fetch`."""
    if fetch:
        yield from fetch_blocks(store, blocks, cancelled=cancelled)
        return
    for block in blocks:
        _check(cancelled)
        yield block, None


def _plan(blocks: Sequence[BlockRef]) -> list[_Fetch]:
    """Group consecutive blocks into fetches; an inline block is a fetch without a range."""
    fetches: list[_Fetch] = []
    for together in _runs(blocks):
        waiting: list[BlockRef] = []
        size = 0
        for block in together:
            if waiting and size + block.length > MAX_REQUEST_BYTES:
                fetches.append(_fetch(waiting))
                waiting, size = [], 0
            waiting.append(block)
            size += block.length
        fetches.append(_fetch(waiting))
    return fetches


def _runs(blocks: Sequence[BlockRef]) -> Iterator[list[BlockRef]]:
    """Yield runs of blocks that lie in one object, or in two in turn (the border of two ranges), and inline ones alone."""
    runs = [(key, list(run)) for key, run in groupby(blocks, key=lambda block: block.key if block.data is None else None)]
    place = 0
    while place < len(runs):
        key, together = runs[place]
        place += 1
        if key is None:
            yield from ([block] for block in together)
            continue
        if place + 1 < len(runs) and runs[place + 1][0] == key:
            both = (key, runs[place][0])
            while place < len(runs) and runs[place][0] in both and runs[place][0] is not None:
                together += runs[place][1]
                place += 1
        yield together


def _fetch(blocks: Sequence[BlockRef]) -> _Fetch:
    """Return the fetch of some blocks: neighbours in an object are one range, whatever their order."""
    ranges: list[tuple[str, int, int]] = []
    for key, start, end in sorted((one.key, one.offset, one.offset + one.length) for one in blocks if one.data is None):
        last = ranges[-1] if ranges else ("", 0, 0)
        if last[0] == key and start - last[2] <= _MAX_GAP_BYTES and end - last[1] <= MAX_REQUEST_BYTES:
            ranges[-1] = (key, last[1], max(end, last[2]))
        else:
            ranges.append((key, start, end))
    return _Fetch(ranges=tuple(ranges), blocks=tuple(blocks))


def _cut(fetch: _Fetch, data: bytes) -> Iterator[tuple[BlockRef, bytes]]:
    """Yield the blocks of a fetch, whose ranges lie in `data` back to back."""
    starts = [(key, start) for key, start, _ in fetch.ranges]
    before = [0, *accumulate(end - start for _, start, end in fetch.ranges)]
    for block in fetch.blocks:
        if block.data is not None:
            yield block, block.data
        elif len(fetch.blocks) == 1:
            yield block, data
        else:
            place = bisect_right(starts, (block.key, block.offset)) - 1
            start = before[place] + block.offset - starts[place][1]
            yield block, data[start : start + block.length]


def _get_now(store: Store, fetch: _Fetch) -> bytes:
    return b"".join(_get(store, key, start, length) for key, start, length in fetch.requests())


def _get(store: Store, key: str, start: int, length: int) -> bytes:
    try:
        return store.get_range(key, start, length)
    except BlockError as error:
        error.where["object"] = key
        raise


class _Prefetch:
    """Fetches ahead in threads, within bounds, and gives the fetches back in order."""

    def __init__(self, store: Store, fetches: Sequence[_Fetch]) -> None:
        self._store = store
        self._ahead = deque(fetches)
        self._running: deque[tuple[_Fetch, list[_Future]]] = deque()
        self._pool = concurrent.futures.ThreadPoolExecutor(_PREFETCH_REQUESTS, thread_name_prefix="frazil-fetch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A request that hangs must not hold up whoever stopped reading; it ends by its own timeout.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def take(self, cancelled: Callable[[], bool] | None) -> bytes:
        """Return the bytes of the next fetch."""
        self._start_more()
        _, futures = self._running.popleft()
        return b"".join(_result(future, cancelled) for future in futures)

    def _start_more(self) -> None:
        size = sum(fetch.size for fetch, _ in self._running)
        requests = sum(len(futures) for _, futures in self._running)
        while self._ahead and (
            not self._running or (size + self._ahead[0].size <= _PREFETCH_BYTES and requests < _PREFETCH_REQUESTS)
        ):
            fetch = self._ahead.popleft()
            futures = [self._pool.submit(_get, self._store, *wanted) for wanted in fetch.requests()]
            self._running.append((fetch, futures))
            size += fetch.size
            requests += len(futures)


def _result(future: _Future, cancelled: Callable[[], bool] | None) -> bytes:
    while cancelled is not None and not concurrent.futures.wait([future], timeout=_CANCEL_POLL_S).done:
        _check(cancelled)
    return future.result()


def _check(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise CancelledQueryError("the task was cancelled while it read its input")
