"""Blocks as bytes: one DataFrame encoded by itself, with Polars' own IPC and Parquet writers.

Values and dtypes come back exactly. A CRC-32C over the encoded bytes is checked at every read. This module knows no objects
and no partitions: :mod:`frazil_functions.exchange.writer` and :mod:`frazil_functions.exchange.reader` come next.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import IO, Final, Literal, TypeAlias, cast

import google_crc32c
import polars as pl

from frazil_functions.errors import BlockError, QueryError
from frazil_functions.exchange.dtypes import anywhere
from frazil_functions.task import Codec, CodecChoice

__all__ = [
    "MIN_PARQUET_BYTES",
    "MIN_PARTS_BYTES",
    "check_block",
    "choose_codec",
    "crc32c",
    "decode_block",
    "encode_block",
    "encode_parts",
]

MIN_PARQUET_BYTES: Final = 1024 * 1024
"""In-memory bytes from which a block on a remote store is Parquet: below, its fixed 0.6 ms a block outweighs its size."""

MAX_STREAM_BYTES: Final = 1024 * 1024
"""In-memory bytes up to which a block is an IPC stream: Polars writes and reads a small one in 0.02 ms each, and a file,
which passes through its query engine, in 0.3 ms and 0.5 ms. Larger files are read by columns and in parallel."""

_Compression: TypeAlias = Literal["uncompressed", "lz4", "zstd"]
_FILES: Final[dict[str, _Compression]] = {"ipc": "uncompressed", "ipc_lz4": "lz4", "ipc_zstd": "zstd"}
_STREAMS: Final[dict[str, _Compression]] = {"ipc_stream": "uncompressed", "ipc_stream_zstd": "zstd"}
_IPC: Final = _FILES | _STREAMS


MIN_PARTS_BYTES: Final = 512 * 1024
"""In-memory bytes from which a block is encoded in parts; below, one buffer costs less than its parts."""

_LEAST_PART_BYTES: Final = 64 * 1024
"""Bytes from which a part of a block is kept as Polars gave it; smaller ones are joined, or each would be a write."""


def crc32c(*parts: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `parts`, back to back."""
    value: int = 0
    for part in parts:
        value = google_crc32c.extend(value, part)
    return value


def choose_codec(choice: CodecChoice, *, schema: pl.Schema, remote: bool, raw_bytes: int) -> Codec:
    """Return the codec of one block.

    Parameters
    ----------
    choice
        What the query asks for; ``auto`` decides by store and size (docs/exchange.md has the figures).
    schema
        Schema of the block. A dtype that the chosen format can't carry exactly changes the format.
    remote
        Whether the store is across a network.
    raw_bytes
        In-memory bytes of the block.

    Raises
    ------
    QueryError
        When neither format carries the schema.
    """
    codec: Codec
    ipc, parquet, nested = _traits(tuple(schema.values()))
    if choice != "auto":
        codec = choice
    elif raw_bytes < MAX_STREAM_BYTES and not nested:
        # Inside nested values Polars streams the whole buffers of strings and lists that a slice shares with other rows.
        codec = "ipc_stream_zstd" if remote else "ipc_stream"
    elif not remote:
        codec = "ipc"
    else:
        codec = "parquet_zstd" if raw_bytes >= MIN_PARQUET_BYTES else "ipc_zstd"
    if not ipc and not parquet:
        raise QueryError(
            f"columns of these types can't pass between stages: {_unfit(schema)}", exception="InvalidOperationError"
        )
    if codec in _IPC and not ipc:
        return "parquet_snappy"
    if codec not in _IPC and not parquet:
        return "ipc_zstd"
    return codec


@lru_cache(maxsize=256)
def _traits(dtypes: tuple[pl.DataType, ...]) -> tuple[bool, bool, bool]:
    """Return whether IPC carries these, whether Parquet does, and whether one is nested; a thousand blocks ask the same."""
    ipc = not any(anywhere(dtype, _breaks_ipc) for dtype in dtypes)
    parquet = len(dtypes) > 0 and not any(anywhere(dtype, _breaks_parquet) for dtype in dtypes)
    return ipc, parquet, any(dtype.is_nested() for dtype in dtypes)


def encode_block(frame: pl.DataFrame, codec: Codec) -> bytes:
    """Return `frame` encoded: one record batch or row group where it fits."""
    buffer = io.BytesIO()
    _encode_into(buffer, frame, codec)
    return buffer.getvalue()


def encode_parts(frame: pl.DataFrame, codec: Codec) -> list[bytes]:
    """Return what :func:`encode_block` does, cut wherever Polars cut it.

    One buffer that grows with a large block costs more than the encoding: its pages are new, and are copied as it grows.
    """
    parts = _Parts()
    _encode_into(cast("IO[bytes]", parts), frame, codec)
    return parts.parts()


class _Parts:
    """As much of a file as Polars needs to write to it: keeps what is written as it comes, small parts joined."""

    def __init__(self) -> None:
        self._large: list[bytes] = []
        self._small: list[bytes] = []
        self._small_bytes = 0

    def write(self, part: bytes) -> int:
        """Keep `part`."""
        if len(part) >= _LEAST_PART_BYTES:
            self._join()
            self._large.append(part)
        else:
            self._small.append(part)
            self._small_bytes += len(part)
            if self._small_bytes >= _LEAST_PART_BYTES:
                self._join()
        return len(part)

    def flush(self) -> None:
        """Do nothing: nothing waits to be written."""

    def parts(self) -> list[bytes]:
        """Return all that was written."""
        self._join()
        return self._large

    def _join(self) -> None:
        if self._small:
            self._large.append(b"".join(self._small))
            self._small, self._small_bytes = [], 0


def _encode_into(buffer: IO[bytes], frame: pl.DataFrame, codec: Codec) -> None:
    frame = frame.rechunk()
    if codec in _IPC:
        frame = _with_codes(frame)
    if codec in _STREAMS:
        frame.write_ipc_stream(buffer, compression=_STREAMS[codec])
    elif codec in _FILES:
        frame.write_ipc(buffer, compression=_FILES[codec])
    elif codec == "parquet_snappy":
        frame.write_parquet(buffer, compression="snappy", statistics=False)
    else:
        frame.write_parquet(buffer, compression="zstd", compression_level=1, statistics=False)


def _with_codes(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with a code of a category under each null of an Enum, which readers of IPC look at.

    ``min()`` of a group of nulls leaves one that no category has (polars 2.1, streaming engine).
    """
    if not any(isinstance(dtype, pl.Enum) for dtype in frame.dtypes):
        return frame
    for column in frame.iter_columns():
        if isinstance(column.dtype, pl.Enum) and column.null_count() and len(column.dtype.categories):
            filled = column.fill_null(column.dtype.categories[0])
            frame = frame.with_columns(pl.when(column.is_not_null()).then(filled).alias(column.name))
    return frame


def decode_block(
    data: bytes, codec: Codec, *, rows: int, columns: Sequence[str] | None = None, place: str = ""
) -> pl.DataFrame:
    """Return the DataFrame in `data`, whose checksum has been checked.

    Parameters
    ----------
    data
        One encoded block.
    codec
        How it is encoded.
    rows
        Rows that it is known to hold.
    columns
        Columns to decode, in the order wanted; None decodes all.
    place
        Where the block comes from, for errors.

    Raises
    ------
    BlockError
        When the bytes can't be decoded or hold another number of rows.
    QueryError
        When a column of `columns` is not in the block.
    """
    if columns is not None and not columns:
        return pl.DataFrame(height=rows)
    wanted = list(columns) if columns is not None else None
    try:
        if codec in _STREAMS:
            frame = pl.read_ipc_stream(data, columns=wanted)
        else:
            frame = pl.read_ipc(data, columns=wanted) if codec in _FILES else pl.read_parquet(data, columns=wanted)
    except pl.exceptions.ColumnNotFoundError as error:
        raise QueryError(str(error).partition("\n")[0], exception="ColumnNotFoundError") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise BlockError(f"block {place} is not {codec}: {error}") from error
    if frame.height != rows:
        raise BlockError(f"block {place} holds {frame.height} rows instead of {rows}")
    return frame


def check_block(data: bytes, expected: int, *, place: str) -> None:
    """Check the CRC-32C of a block.

    Raises
    ------
    BlockError
        When it is not `expected`.
    """
    found = crc32c(data)
    if found != expected:
        raise BlockError(f"block {place} is corrupt: CRC-32C {found:08x} instead of {expected:08x}")


def _breaks_ipc(dtype: pl.DataType) -> bool:
    # polars 2.1 writes arrays of width 0 but says "Cannot read zero sized arrays from IPC".
    return isinstance(dtype, pl.Object) or (isinstance(dtype, pl.Array) and dtype.size == 0)


def _breaks_parquet(dtype: pl.DataType) -> bool:
    # Parquet has no groups without a member, so polars refuses structs without fields.
    return isinstance(dtype, pl.Object) or (isinstance(dtype, pl.Struct) and not dtype.fields)


def _unfit(schema: pl.Schema) -> str:
    def unfit(dtype: pl.DataType) -> bool:
        return _breaks_ipc(dtype) or _breaks_parquet(dtype)

    return ", ".join(f"{name} {dtype}" for name, dtype in schema.items() if anywhere(dtype, unfit))
