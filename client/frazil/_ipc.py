"""Reading an Arrow IPC stream record batch by record batch, as its bytes arrive: with polars, or pyarrow where it can't.

Polars reads a whole stream only. Every record batch is therefore given to it as a stream of its own: the schema message,
the dictionaries that are in force, the batch, an end-of-stream marker. Framing and message fields are those of
https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format and Arrow's ``Message.fbs``.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from typing import Final

import polars as pl

from frazil._session import UnreachableError
from frazil_functions.errors import RequestError
from frazil_functions.exchange.dtypes import anywhere

__all__ = ["read_batches"]

_PREFIX: Final = struct.Struct("<Ii")
_CONTINUATION: Final = 0xFFFFFFFF
_END: Final = _PREFIX.pack(_CONTINUATION, 0)
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_FIELD_HEADER_TYPE, _FIELD_HEADER, _FIELD_BODY_LENGTH = 1, 2, 3
_FIELD_DICTIONARY_ID, _FIELD_IS_DELTA = 0, 2
_REFUSED: Final = "Cannot read zero sized arrays"


def read_batches(chunks: Iterable[bytes]) -> Iterator[pl.DataFrame]:
    """Yield one DataFrame a record batch; if there is no batch, one empty DataFrame.

    Parameters
    ----------
    chunks
        The bytes of the stream, cut anywhere.

    Raises
    ------
    RequestError
        When the bytes are not an Arrow IPC stream.
    UnreachableError
        When the stream ends before its end-of-stream marker.
    """
    schema = b""
    dictionaries: dict[int, list[bytes]] = {}
    empty = True
    for metadata, message in _messages(_Reader(chunks)):
        kind = metadata.unsigned_byte(_FIELD_HEADER_TYPE)
        if kind == _SCHEMA:
            schema = message
        elif kind == _DICTIONARY:
            header = metadata.table(_FIELD_HEADER)
            known = dictionaries.setdefault(header.long(_FIELD_DICTIONARY_ID), [])
            if not header.unsigned_byte(_FIELD_IS_DELTA):
                known.clear()
            known.append(message)
        elif kind == _BATCH:
            empty = False
            in_force = (one for messages in dictionaries.values() for one in messages)
            yield _frame(b"".join((schema, *in_force, message, _END)))
    if empty:
        yield _frame(schema + _END)


def _frame(stream: bytes) -> pl.DataFrame:
    """Return the rows of a stream; arrays of no width, which polars writes and refuses to read, are read by pyarrow."""
    try:
        return pl.read_ipc_stream(io.BytesIO(stream))
    except pl.exceptions.ComputeError as error:
        if _REFUSED not in str(error):
            raise
        return _frame_by_arrow(stream, error)


def _frame_by_arrow(stream: bytes, refused: Exception) -> pl.DataFrame:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise RequestError("the result has arrays of no width, which only pyarrow can read: install it") from refused
    table = pa.ipc.open_stream(stream).read_all()
    types = pl.DataFrame(table.slice(0, 0)).schema  # polars makes no frame of its rows
    others = [name for name, dtype in types.items() if not anywhere(dtype, _is_refused)]
    frame = pl.read_ipc_stream(io.BytesIO(stream), columns=others) if others else pl.DataFrame(height=table.num_rows)
    made = [pl.Series(name, table[name].to_pylist(), types[name]) for name in types if name not in others]
    return frame.with_columns(made).select(types.names())


def _is_refused(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Array) and dtype.size == 0


class _Reader:
    """Takes exact numbers of bytes off a stream of chunks."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._held = bytearray()

    def take(self, count: int) -> bytes:
        while len(self._held) < count:
            try:
                self._held += next(self._chunks)
            except StopIteration:
                raise UnreachableError("the result was cut off: the coordinator stopped sending it") from None
        taken = bytes(memoryview(self._held)[:count])
        del self._held[:count]
        return taken


class _Table:
    """A table of a flatbuffer; an absent field is 0."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - struct.unpack_from("<i", data, at)[0]
        self._vtable_bytes: int = struct.unpack_from("<H", data, self._vtable)[0]

    def _position(self, field: int) -> int | None:
        slot = 4 + 2 * field
        offset = struct.unpack_from("<H", self._data, self._vtable + slot)[0] if slot < self._vtable_bytes else 0
        return self._at + offset if offset else None

    def unsigned_byte(self, field: int) -> int:
        position = self._position(field)
        return 0 if position is None else self._data[position]

    def long(self, field: int) -> int:
        position = self._position(field)
        return 0 if position is None else int(struct.unpack_from("<q", self._data, position)[0])

    def table(self, field: int) -> _Table:
        position = self._position(field)
        if position is None:
            raise RequestError("the result is not an Arrow IPC stream: a message has no header")
        return _Table(self._data, position + int(struct.unpack_from("<I", self._data, position)[0]))


def _messages(reader: _Reader) -> Iterator[tuple[_Table, bytes]]:
    """Yield each message of a stream: its metadata, and all its bytes."""
    while True:
        prefix = reader.take(_PREFIX.size)
        marker, length = _PREFIX.unpack(prefix)
        if marker != _CONTINUATION or length < 0:
            raise RequestError("the result is not an Arrow IPC stream: no coordinator answers at this address")
        if length == 0:
            return
        data = reader.take(length)
        try:
            metadata = _Table(data, struct.unpack_from("<I", data)[0])
            body_bytes = metadata.long(_FIELD_BODY_LENGTH)
        except (struct.error, IndexError) as error:
            raise RequestError(f"the result is not an Arrow IPC stream: {error}") from error
        yield metadata, b"".join((prefix, data, reader.take(body_bytes)))
