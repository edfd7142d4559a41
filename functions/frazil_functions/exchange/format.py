"""Layout of an exchange object, version 1 (docs/exchange.md is the specification).

::

    header   8 bytes   magic "FRZX", u16 version, u16 0
    blocks   ...       back to back, in the order of the index
    index    n bytes   MessagePack
    trailer  16 bytes  u32 n, u32 CRC-32C of the index, u16 version, u16 0, magic "FRZX"

All numbers are little-endian. An object describes itself, for replay and for tools; readers go by the descriptor instead and
never fetch the index.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec
import polars as pl

from frazil_functions.errors import BlockError
from frazil_functions.exchange.codec import crc32c
from frazil_functions.storage_model import Store
from frazil_functions.task import BlockInfo, BlockRef, Codec, Descriptor, ExchangeKind

__all__ = ["HEADER", "VERSION", "Footer", "block_refs", "encode_footer", "read_footer"]

VERSION: Final = 1
"""Version of the format that is written."""

_MAGIC: Final = b"FRZX"
_HEADER: Final = struct.Struct("<4sHH")
_TRAILER: Final = struct.Struct("<IIHH4s")
_TAIL_BYTES: Final = 64 * 1024
"""Bytes of the first read at an object's end: enough for the index of about 2,000 blocks."""

HEADER: Final = _HEADER.pack(_MAGIC, VERSION, 0)
"""First bytes of every object; the first block follows them."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    """A block in the index: an array, so that the names are not repeated for each."""

    partition: int
    offset: int
    length: int
    rows: int
    crc32c: int
    codec: Codec
    low: bytes | None


class Footer(msgspec.Struct, frozen=True, kw_only=True):
    """The index of an object."""

    kind: ExchangeKind
    map_index: int
    """Task of the producing stage."""

    polars: str
    """Version of polars that encoded the blocks."""

    rows: int
    raw_bytes: int
    """In-memory bytes of all blocks."""

    blocks: tuple[_Row, ...]

    def infos(self) -> tuple[BlockInfo, ...]:
        """Return the blocks as the descriptor reports them."""
        return tuple(BlockInfo(**msgspec.structs.asdict(row)) for row in self.blocks)

    def descriptor(self, key: str) -> Descriptor:
        """Return what the task that wrote object `key` reported, without its statistics."""
        return Descriptor(key=key, blocks=self.infos())


def encode_footer(kind: ExchangeKind, map_index: int, blocks: Sequence[BlockInfo], *, raw_bytes: int) -> bytes:
    """Return index and trailer of an object."""
    rows = tuple(_Row(b.partition, b.offset, b.length, b.rows, b.crc32c, b.codec, b.low) for b in blocks)
    footer = Footer(
        kind=kind,
        map_index=map_index,
        polars=pl.__version__,
        rows=sum(row.rows for row in rows),
        raw_bytes=raw_bytes,
        blocks=rows,
    )
    index = msgspec.msgpack.encode(footer)
    return index + _TRAILER.pack(len(index), crc32c(index), VERSION, 0, _MAGIC)


def read_footer(store: Store, key: str) -> Footer:
    """Read the index of an object: 1 HEAD, and 1 GET (2 when it has thousands of blocks).

    Raises
    ------
    BlockError
        When the object is missing, torn, corrupt, no exchange object, or of a newer version.
    """
    size = store.head(key).size
    if size < _HEADER.size + _TRAILER.size:
        raise BlockError(f"object {key} is too short to be an exchange object ({size} bytes)")
    tail = store.get_range(key, size - min(size, _TAIL_BYTES), min(size, _TAIL_BYTES))
    length, crc, version, _, magic = _TRAILER.unpack(tail[-_TRAILER.size :])
    if magic != _MAGIC:
        raise BlockError(f"object {key} is no exchange object, or was cut short")
    if version > VERSION:
        raise BlockError(f"object {key} has format version {version}; this is version {VERSION} of Frazil's exchange format")
    end = size - _TRAILER.size
    if length > end - _HEADER.size:
        raise BlockError(f"object {key} is corrupt: its index can't be {length} bytes")
    if length + _TRAILER.size <= len(tail):
        index = tail[len(tail) - _TRAILER.size - length : len(tail) - _TRAILER.size]
    else:
        index = store.get_range(key, end - length, length)
    if crc32c(index) != crc:
        raise BlockError(f"object {key} is corrupt: the CRC-32C of its index is wrong")
    try:
        return msgspec.msgpack.decode(index, type=Footer)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BlockError(f"object {key} has an index that can't be read: {error}") from error


def block_refs(descriptor: Descriptor, map_index: int, partition: int | None = None) -> tuple[BlockRef, ...]:
    """Return the blocks of one partition (None: of all) of a finished task as a reader takes them.

    Parameters
    ----------
    descriptor
        What the task reported.
    map_index
        Its number in its stage.
    partition
        Partition to read.
    """
    inline = descriptor.inline
    return tuple(
        BlockRef(
            key=descriptor.key or "",
            offset=info.offset,
            length=info.length,
            rows=info.rows,
            crc32c=info.crc32c,
            codec=info.codec,
            map_index=map_index,
            data=None if inline is None else inline[info.offset : info.offset + info.length],
        )
        for info in descriptor.blocks
        if partition is None or info.partition == partition
    )
