"""Writing a task's output: batches in, one object (or inline bytes) out.

Requests: 1 PUT a task, none when the output is empty or travels inline. The other end is
:mod:`frazil_functions.exchange.reader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

import polars as pl

from frazil_functions.errors import InternalError
from frazil_functions.exchange.codec import MIN_PARTS_BYTES, choose_codec, crc32c, encode_block, encode_parts
from frazil_functions.exchange.format import HEADER, encode_footer
from frazil_functions.exchange.keys import KeyCollector
from frazil_functions.exchange.partition import hash_partitions, row_encode, split_by_partition
from frazil_functions.storage_model import Store
from frazil_functions.task import ROW_TAG_COLUMNS, BlockInfo, Codec, Descriptor, KeySummary, Output, TaskStats

__all__ = ["ExchangeWriter", "WrittenOutput"]

_BATCH_ROWS: Final = 512 * 1024
"""Rows gathered before they are parted: small batches would leave thousands of tiny pieces."""

_BATCH_BYTES: Final = 64 * 1024 * 1024
_BLOCK_BYTES: Final = 256 * 1024 * 1024
"""In-memory bytes of the largest block of a hash or range exchange."""

_STREAM_BLOCK_BYTES: Final = 64 * 1024 * 1024
"""In-memory bytes of a block of a broadcast or single exchange: they are read whole, so they may as well stream."""

_STREAM_BLOCK_ROWS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenOutput:
    """Where a task's output is."""

    key: str | None
    """Object key; None when the output travels inline or is empty."""

    blocks: tuple[BlockInfo, ...]
    """Non-empty blocks by partition, in row order inside a partition."""

    inline: bytes | None
    """The blocks back to back when they travel inline."""

    rows: int
    raw_bytes: int
    """In-memory bytes of the rows."""

    bytes: int
    """Bytes put in the store or sent inline."""

    keys: tuple[KeySummary, ...] = ()
    """What values the columns that were asked for have."""

    def descriptor(self, stats: TaskStats) -> Descriptor:
        """Return what the task reports."""
        return Descriptor(key=self.key, blocks=self.blocks, inline=self.inline, keys=self.keys, stats=stats)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoded:
    """A block before its place in the object is known."""

    partition: int
    parts: list[bytes]
    """Its bytes, back to back."""

    length: int
    rows: int
    codec: Codec
    low: bytes | None


class ExchangeWriter:
    """Writes the output of one attempt.

    Parameters
    ----------
    output
        How to part and encode it.
    store
        Where to put the object.
    key
        Key of the object; no other execution uses it.
    map_index
        Task of the stage, for the row tag and the object's index.

    Notes
    -----
    Rows are held in memory until `finish`, except that a full block is encoded at once. What `finish` encodes goes into the
    store block by block, where the store takes it so. Nothing is in the store before
    `finish` returns, and nothing is there if it raises.
    """

    def __init__(self, output: Output, *, store: Store, key: str, map_index: int) -> None:
        self._output = output
        self._store = store
        self._key = key
        self._map_index = map_index
        self._keys = KeyCollector(output.key_columns, output.key_values)
        self._waiting: list[pl.DataFrame] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0
        self._schema = pl.Schema()
        """Of all rows: they are of one frame."""
        self._pieces: dict[int, list[pl.DataFrame]] = {}
        self._piece_bytes: dict[int, int] = {}
        self._encoded: dict[int, list[_Encoded]] = {}
        """Full blocks, by partition."""
        self._rows = 0
        self._raw_bytes = 0
        self._closed = False

    def write(self, frame: pl.DataFrame) -> None:
        """Take the next rows.

        Raises
        ------
        PlanError
            When a hash key is no expression.
        QueryError
            When a column can't be encoded.
        """
        self._check_open()
        if not frame.height:
            return
        self._keys.add(frame)
        frame = self._tagged(frame) if self._output.row_tag else frame
        size = _size(frame)
        self._rows += frame.height
        self._raw_bytes += size
        self._waiting.append(frame)
        self._waiting_rows += frame.height
        self._waiting_bytes += size
        if self._waiting_rows >= _BATCH_ROWS or self._waiting_bytes >= _BATCH_BYTES:
            self._flush()

    def finish(self) -> WrittenOutput:
        """Encode what is left, and put the object: 1 PUT, or none when the output is empty or travels inline.

        Raises
        ------
        StorageFullError, StorageError
            When the store refuses; then nothing is left behind.
        """
        self._check_open()
        self._flush()
        self._closed = True
        blocks = self._in_order()
        first: list[_Encoded] = []
        size = 0
        while size <= self._output.inline_limit_bytes and (block := next(blocks, None)) is not None:
            first.append(block)
            size += block.length
        if size <= self._output.inline_limit_bytes or not first:
            placed, _ = _place(first, 0)
            return self._written(None, placed, b"".join(_parts(first)) if first else None, size)
        layout = _Layout(self._output, self._map_index, self._raw_bytes)
        self._store.put(self._key, layout.parts(chain(first, blocks)))
        return self._written(self._key, tuple(layout.blocks), None, layout.size)

    def abort(self) -> None:
        """Forget all rows; nothing was written."""
        self._closed = True
        self._waiting, self._pieces, self._encoded = [], {}, {}

    def _check_open(self) -> None:
        if self._closed:
            raise InternalError("the exchange writer has ended already")

    def _written(self, key: str | None, blocks: tuple[BlockInfo, ...], inline: bytes | None, size: int) -> WrittenOutput:
        return WrittenOutput(
            key=key,
            blocks=blocks,
            inline=inline,
            rows=self._rows,
            raw_bytes=self._raw_bytes,
            bytes=size,
            keys=self._keys.summaries(),
        )

    def _tagged(self, frame: pl.DataFrame) -> pl.DataFrame:
        map_column, row_column = ROW_TAG_COLUMNS
        numbers = pl.int_range(self._rows, self._rows + frame.height, dtype=pl.UInt64, eager=True)
        return frame.with_columns(pl.lit(self._map_index, dtype=pl.UInt32).alias(map_column), numbers.alias(row_column))

    def _flush(self) -> None:
        """Part the waiting rows, and encode the blocks that are full."""
        if not self._waiting:
            return
        frame = _joined(self._waiting)
        self._schema = frame.schema
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        if self._output.kind == "hash":
            partition = hash_partitions(frame, self._output.hash_keys, self._output.partitions)
            parts = split_by_partition(frame, partition)
            del frame
        else:
            parts = {0: frame}
        full = _BLOCK_BYTES if self._output.kind == "hash" else _STREAM_BLOCK_BYTES
        for number, part in parts.items():
            self._pieces.setdefault(number, []).append(part)
            self._piece_bytes[number] = self._piece_bytes.get(number, 0) + _size(part)
            if self._piece_bytes[number] >= full and self._output.kind != "range":
                self._encoded.setdefault(number, []).extend(self._encode_pieces(number))

    def _in_order(self) -> Iterator[_Encoded]:
        """Yield all blocks by partition, those that are not encoded yet when they are asked for."""
        for partition in sorted({*self._encoded, *self._pieces}):
            yield from self._encoded.pop(partition, ())
            if partition in self._pieces:
                yield from self._encode_pieces(partition)

    def _encode_pieces(self, partition: int) -> Iterator[_Encoded]:
        """Encode what is gathered of a partition, in blocks of at most the size for the kind of exchange."""
        frame, size = _joined(self._pieces.pop(partition)), self._piece_bytes.pop(partition)
        kind = self._output.kind
        if kind == "range":
            count = max(self._output.partitions, -(-size // _BLOCK_BYTES))
        elif kind == "hash":
            count = -(-size // _BLOCK_BYTES)
        else:
            count = max(-(-size // _STREAM_BLOCK_BYTES), -(-frame.height // _STREAM_BLOCK_ROWS))
        for number, block in enumerate(_cut(frame, count)):
            low = bytes(row_encode(block.head(1), self._output.sort_keys)[0]) if kind == "range" else None
            yield self._encode(block, number if kind == "range" else partition, low)

    def _encode(self, frame: pl.DataFrame, partition: int, low: bytes | None) -> _Encoded:
        size = _size(frame)
        codec = choose_codec(self._output.codec, schema=self._schema, remote=self._store.remote, raw_bytes=size)
        parts = encode_parts(frame, codec) if size >= MIN_PARTS_BYTES else [encode_block(frame, codec)]
        length = sum(map(len, parts))
        return _Encoded(partition=partition, parts=parts, length=length, rows=frame.height, codec=codec, low=low)


def _size(frame: pl.DataFrame) -> int:
    return int(frame.estimated_size())


def _joined(frames: list[pl.DataFrame]) -> pl.DataFrame:
    if len(frames) == 1 or not frames[0].width:
        return frames[0] if len(frames) == 1 else pl.concat(frames, rechunk=False)
    # A quarter of what pl.concat costs, which wakes Polars' threads: a thousand partitions are joined one by one.
    joined = frames[0].vstack(frames[1])
    for frame in frames[2:]:
        joined.vstack(frame, in_place=True)
    return joined


def _cut(frame: pl.DataFrame, count: int) -> Iterable[pl.DataFrame]:
    """Yield about `count` slices of about equal height, none empty."""
    count = max(1, min(count, frame.height))
    for number in range(count):
        start, end = number * frame.height // count, (number + 1) * frame.height // count
        yield frame.slice(start, end - start)


class _Layout:
    """Lays an object out while its blocks are encoded: so a block's memory is used again by the next one."""

    def __init__(self, output: Output, map_index: int, raw_bytes: int) -> None:
        self._output = output
        self._map_index = map_index
        self._raw_bytes = raw_bytes
        self.blocks: list[BlockInfo] = []
        """Those that were asked for yet."""

        self.size = 0
        """Bytes that were asked for yet."""

    def parts(self, encoded: Iterable[_Encoded]) -> Iterator[bytes]:
        """Yield the object's bytes."""
        self.size = len(HEADER)
        yield HEADER
        for block in encoded:
            placed, self.size = _place([block], self.size)
            self.blocks += placed
            yield from block.parts
        footer = encode_footer(self._output.kind, self._map_index, self.blocks, raw_bytes=self._raw_bytes)
        self.size += len(footer)
        yield footer


def _parts(encoded: Iterable[_Encoded]) -> Iterable[bytes]:
    return (part for block in encoded for part in block.parts)


def _place(encoded: Iterable[_Encoded], start: int) -> tuple[tuple[BlockInfo, ...], int]:
    """Return the blocks with their offsets, back to back from byte `start`, and where the last one ends."""
    blocks = []
    for block in encoded:
        blocks.append(
            BlockInfo(
                partition=block.partition,
                offset=start,
                length=block.length,
                rows=block.rows,
                crc32c=crc32c(*block.parts),
                codec=block.codec,
                low=block.low,
            )
        )
        start += block.length
    return tuple(blocks), start
