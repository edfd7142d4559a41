"""Results of ended queries: read block by block, and dropped when they were read, when their time is up, or at the end.

A result in memory (small outputs travel inline) can be read again until it is evicted; one in the exchange store is deleted
once it was read to its end. Next on the main path: :mod:`frazil_functions.exchange.reader`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from threading import Event
from typing import Final

import msgspec
import polars as pl

from frazil_coordinator.hygiene import Cleaner
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.replays import kept_of
from frazil_functions.errors import FrazilError, QueryError, RequestError, from_wire
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.storage import Store
from frazil_functions.task import BlockRef, ExchangeInput

__all__ = ["SMALL_RESULT_BYTES", "Page", "ResultGoneError", "Results", "small_result_in_memory"]

SMALL_RESULT_BYTES: Final = 8 * 1024 * 1024
"""Results of at most so many encoded bytes are fetched from the exchange store when the query ends."""

_LOGGER = logging.getLogger(__name__)


class ResultGoneError(RequestError):
    """The result was deleted: it was read once, or its time was up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which rows of a result are read."""

    offset: int = 0
    """Rows that are left out."""

    limit: int | None = None
    """Rows that are read at most; None: all that follow."""

    keep: bool = False
    """Whether the result stays when all of it was read."""

    @property
    def whole(self) -> bool:
        """Whether it is all of the result."""
        return self.offset == 0 and self.limit is None


_ALL: Final = Page()


class Results:
    """Reads and drops results.

    Parameters
    ----------
    store
        The exchange store.
    cleaner
        Deletes objects.
    keep_read
        Whether a large result can be read again: a client that lost its connection to a coordinator asks the next one.
    """

    def __init__(self, store: Store, cleaner: Cleaner, *, keep_read: bool = False) -> None:
        self._store = store
        self._cleaner = cleaner
        self._keep_read = keep_read
        self._closing = False

    async def read(self, record: QueryRecord, page: Page | None = None) -> AsyncGenerator[pl.DataFrame, None]:
        """Yield the result of an ended query, block by block in order; at least one frame, which may be empty.

        Blocks before and behind the page are not fetched. A page does not count as reading the result.

        Raises
        ------
        FrazilError
            Why the query failed; `ResultGoneError` when the result is no longer there, or :meth:`close` is called.
        """
        if record.status.error is not None:
            raise from_wire(record.status.error)
        if record.blocks is None or record.schema is None:
            raise ResultGoneError(f"the result of query {record.id} is deleted: it was read once, or its time was up")
        page = page or _ALL
        try:
            with record.reading():
                schema: pl.Schema | None = None
                async with aclosing(self._frames(record.blocks, page)) as frames:
                    async for frame in frames:
                        if frame.height:
                            schema = _agreed(schema, frame.schema)
                            yield frame
                if schema is None:
                    yield await self._no_rows(record.blocks, record.schema)
                record.was_read |= page.whole and not page.keep
        except FrazilError:
            if self._closing:  # whatever it met: its blocks are being deleted
                message = f"the coordinator ended while the result of query {record.id} was read"
                raise ResultGoneError(message) from None
            raise
        finally:
            record.settled.set()
            if record.was_read and record.has_objects and not self._keep_read:
                await self.drop(record)

    def close(self) -> None:
        """Stop those who read at their next block: results are about to be deleted under them."""
        self._closing = True

    async def drop(self, record: QueryRecord, *, at_once: bool = False) -> bool:
        """Delete a result, unless it is being read and not `at_once`; return whether it is gone."""
        if record.readers and not at_once:
            return False
        had_objects, record.blocks = record.has_objects, None
        if had_objects and not kept_of(record).all_tasks:  # else all of it goes at once (Replays.forget)
            await self._cleaner.clear(record.id)
        return True

    async def _no_rows(self, blocks: tuple[BlockRef, ...], planned: pl.Schema) -> pl.DataFrame:
        """Return an empty frame of the types that the result has; where it has rows, they may be others than planned."""
        async with aclosing(self._frames(blocks, Page(limit=1))) as frames:
            async for frame in frames:
                return frame.clear()
        return pl.DataFrame(schema=planned)

    async def _frames(self, blocks: tuple[BlockRef, ...], page: Page) -> AsyncGenerator[pl.DataFrame, None]:
        stopped = Event()
        blocks, skip = _from(blocks, page.offset)
        iterator = read_exchange(
            self._store,
            ExchangeInput(blocks=blocks),
            n_rows=None if page.limit is None else skip + page.limit,
            cancelled=lambda: stopped.is_set() or self._closing,
        )
        try:
            while (frame := await asyncio.to_thread(next, iterator, None)) is not None:
                yield frame.slice(skip)
                skip = max(0, skip - frame.height)
        finally:
            # A thread may still be inside the iterator when this task is cancelled; it sees the flag and ends by itself.
            stopped.set()


def _from(blocks: tuple[BlockRef, ...], offset: int) -> tuple[tuple[BlockRef, ...], int]:
    """Return the blocks that have rows from row `offset` on, and how many rows of the first one are before it."""
    first = 0
    while first < len(blocks) and blocks[first].rows <= offset:
        offset -= blocks[first].rows
        first += 1
    return blocks[first:], offset if first < len(blocks) else 0


def _agreed(known: pl.Schema | None, found: pl.Schema) -> pl.Schema:
    """Return the schema of a result, of which each task may have yielded other types than were planned."""
    if known is not None and known != found:
        raise QueryError(f"parts of the result have different types: {known} and {found}", exception="SchemaError")
    return found


def small_result_in_memory(store: Store, blocks: tuple[BlockRef, ...]) -> tuple[BlockRef, ...]:
    """Return `blocks` with their bytes when they are few, else as they are; blocking.

    One GET a block at most, which reading the result would cost anyway. When the store fails, reading the result will say
    so.
    """
    if sum(block.length for block in blocks) > SMALL_RESULT_BYTES:
        return blocks
    try:
        return tuple(
            block
            if block.data is not None
            else msgspec.structs.replace(block, data=store.get_range(block.key, block.offset, block.length))
            for block in blocks
        )
    except FrazilError as error:
        _LOGGER.warning("small result not fetched", extra={"error": error.kind})
        return blocks
