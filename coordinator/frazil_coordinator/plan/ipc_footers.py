"""The record batches of an Arrow IPC file, read from its footer and the head of each batch, never from the batches' data.

Only the few fields that are needed are read of the flatbuffers (the format is specified in "Arrow Columnar Format:
Serialization and Interprocess Communication"). :mod:`~frazil_coordinator.plan.footers` keeps what is read here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import obstore
import pyarrow as pa

from frazil_functions.errors import QueryError
from frazil_functions.scan_files import FileStat, scan_store

__all__ = ["IpcBatch", "IpcFooter", "read_ipc_footer"]

_MAGIC: Final = b"ARROW1"
_END_BYTES: Final = 10
"""Length of the footer (4 bytes) and the magic."""

_TAIL_BYTES: Final = 64 * 1024
_BLOCK: Final = struct.Struct("<qi4xq")
_CONTINUATION: Final = b"\xff\xff\xff\xff"
_FOOTER_BATCHES: Final = 3
"""Number of the field of a footer that lists the record batches."""

_MESSAGE_HEADER: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class IpcBatch:
    """One record batch."""

    rows: int
    bytes: int
    """Of all columns, as they lie in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IpcFooter:
    """What an IPC file says of itself."""

    batches: tuple[IpcBatch, ...]
    schema: bytes
    """To be compared: equal schemas are equal bytes."""


def read_ipc_footer(file: FileStat, options: object) -> IpcFooter:
    """Read the footer of an IPC file; one GET of its last 64 KiB (one more for a larger footer), and one a record batch.

    Raises
    ------
    QueryError
        When it is not an IPC file.
    """
    store, _, name = scan_store(file.path, options)

    def get(start: int, end: int) -> bytes:
        return bytes(obstore.get_range(store, name, start=max(0, start), end=end))

    tail = get(file.size - _TAIL_BYTES, file.size)
    if not tail.endswith(_MAGIC):
        message = f"not an Arrow IPC file, or a broken one: {file.path}"
        raise QueryError(message, exception="ComputeError", where={"file": file.path})
    length = int.from_bytes(tail[-_END_BYTES : -_END_BYTES + 4], "little")
    if length + _END_BYTES > len(tail):
        tail = get(file.size - length - _END_BYTES, file.size)
    try:
        footer = tail[-_END_BYTES - length : -_END_BYTES]
        blocks = _blocks(footer)
        starts, lengths = [block[0] for block in blocks], [block[1] for block in blocks]
        heads = obstore.get_ranges(store, name, starts=starts, lengths=lengths, coalesce=0) if blocks else []
        rows = [_rows(bytes(head)) for head in heads]
        # Enough of a file for pyarrow to read its schema.
        schema = pa.ipc.open_file(pa.py_buffer(_MAGIC + b"\0\0" + tail[-_END_BYTES - length :])).schema
    except (struct.error, IndexError, ValueError, pa.ArrowException) as error:
        message = f"not an Arrow IPC file, or a broken one: {file.path}: {error}"
        raise QueryError(message, exception="ComputeError", where={"file": file.path}) from error
    batches = tuple(IpcBatch(rows=count, bytes=block[1] + block[2]) for count, block in zip(rows, blocks, strict=True))
    return IpcFooter(batches=batches, schema=schema.serialize().to_pybytes())


def _field(data: bytes, table: int, number: int) -> int | None:
    """Return where a field of a flatbuffers table lies; None when it is not there."""
    (back,) = struct.unpack_from("<i", data, table)
    entry = 4 + 2 * number
    (size,) = struct.unpack_from("<H", data, table - back)
    if entry >= size:
        return None
    (offset,) = struct.unpack_from("<H", data, table - back + entry)
    return table + offset if offset else None


def _follow(data: bytes, at: int) -> int:
    """Return where a reference points."""
    (offset,) = struct.unpack_from("<I", data, at)
    return int(at + offset)


def _blocks(footer: bytes) -> list[tuple[int, int, int]]:
    """Return offset, length of the head and length of the body of every record batch."""
    field = _field(footer, _follow(footer, 0), _FOOTER_BATCHES)
    if field is None:
        return []
    vector = _follow(footer, field)
    (count,) = struct.unpack_from("<I", footer, vector)
    return [_BLOCK.unpack_from(footer, vector + 4 + number * _BLOCK.size) for number in range(count)]


def _rows(head: bytes) -> int:
    """Return the number of rows that the head of a record batch tells."""
    message = head[8:] if head.startswith(_CONTINUATION) else head[4:]  # before 0.15 there was no continuation mark
    field = _field(message, _follow(message, 0), _MESSAGE_HEADER)
    if field is None:
        raise ValueError("a record batch without a header")
    length = _field(message, _follow(message, field), 0)
    return 0 if length is None else int(struct.unpack_from("<q", message, length)[0])
