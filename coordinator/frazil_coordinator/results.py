"""A result as one Arrow IPC stream: the schema once, then every block's batches, in order.

It is what ``GET /v1/queries/{id}/result`` sends. It holds one block at a time, and casts nothing: Polars writes each block
as an IPC stream of its own, and the messages of these streams are spliced: the first block's schema, then the dictionary
and record batches of all blocks, then one end-of-stream marker. A block's dictionaries replace those of the block before,
which the stream format provides for. pyarrow isn't used for it: it can't read Polars' 128-bit integers.

The framing is that of https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format.
"""

from __future__ import annotations

import asyncio
import io
import struct
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

import polars as pl

from frazil_functions.errors import InternalError

__all__ = ["ARROW_STREAM", "END_OF_STREAM", "arrow_stream", "splice"]

ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
"""Media type of the stream."""

END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"

_CONTINUATION: Final = 0xFFFFFFFF
_PREFIX: Final = struct.Struct("<II")
_SCHEMA: Final = 1
"""Value of ``MessageHeader.Schema`` in Arrow's Message.fbs."""


def splice(stream: bytes, *, first: bool) -> bytes:
    """Return what an IPC stream adds to a longer one of the same schema.

    Parameters
    ----------
    stream
        A whole IPC stream as Polars writes it.
    first
        Whether its schema message is kept. The end-of-stream marker never is.

    Raises
    ------
    InternalError
        When `stream` isn't an Arrow IPC stream.
    """
    view = memoryview(stream)
    return b"".join(message for header, message in _messages(view) if first or header != _SCHEMA)


def _messages(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield each message of a stream with its header type."""
    start = 0
    while start < len(view):
        if start + _PREFIX.size > len(view):
            raise InternalError("a block's Arrow IPC stream is torn")
        marker, length = _PREFIX.unpack_from(view, start)
        if marker != _CONTINUATION:
            raise InternalError("a block's Arrow IPC stream has no continuation marker")
        if length == 0:
            return
        metadata = start + _PREFIX.size
        header, body_length = _message_fields(view[metadata : metadata + length])
        end = metadata + length + body_length
        yield header, view[start:end]
        start = end


def _message_fields(metadata: memoryview) -> tuple[int, int]:
    """Return header type and body length of a flatbuffer ``Message`` (its fields 1 and 3; absent means 0)."""
    table: int = struct.unpack_from("<I", metadata, 0)[0]
    vtable: int = table - struct.unpack_from("<i", metadata, table)[0]
    size: int = struct.unpack_from("<H", metadata, vtable)[0]

    def position(field: int) -> int | None:
        slot = 4 + 2 * field
        offset: int = struct.unpack_from("<H", metadata, vtable + slot)[0] if slot < size else 0
        return table + offset if offset else None

    at_header, at_length = position(1), position(3)
    header: int = 0 if at_header is None else metadata[at_header]
    body_length: int = 0 if at_length is None else struct.unpack_from("<q", metadata, at_length)[0]
    return header, body_length


def _encode(frame: pl.DataFrame, *, first: bool) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return splice(buffer.getvalue(), first=first)


async def arrow_stream(frames: AsyncGenerator[pl.DataFrame, None]) -> AsyncGenerator[bytes, None]:
    """Yield the Arrow IPC stream of `frames`, in one chunk a frame; encoding runs in a thread.

    Parameters
    ----------
    frames
        At least one frame, all of one schema. It is closed with the stream.
    """
    first = True
    async with aclosing(frames):
        async for frame in frames:
            if first or frame.height:
                yield await asyncio.to_thread(_encode, frame, first=first)
                first = False
    yield END_OF_STREAM
