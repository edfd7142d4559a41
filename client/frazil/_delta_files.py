"""What the log of a Delta table is told of data files: size, partition, and statistics of columns.

Statistics come from the files' Parquet footers, which the functions wrote: one GET a file. Readers of the table leave out
files by them. :mod:`frazil._delta` commits what is made here.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from frazil._written import WrittenFile

if TYPE_CHECKING:
    from deltalake.transaction import AddAction
    from pyarrow.parquet import ColumnChunkMetaData, FileMetaData

    from frazil_functions.storage import Store

__all__ = ["add_actions"]

_READERS: Final = 8
"""Footers that are read at once."""

_TAIL_BYTES: Final = 64 * 1024
_FOOTER_END_BYTES: Final = 8
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
"""How a folder's name says that the key is null."""

_INDEXED_COLUMNS: Final = 32
"""Columns with statistics: ``delta.dataSkippingNumIndexedCols`` by default."""

_LONGEST_TEXT: Final = 64
"""Characters; longer ones would make the log larger than they are of use."""


def add_actions(files: Sequence[WrittenFile], keys: Sequence[str], prefix: str, store: Store) -> list[AddAction]:
    """Return the add action of each file.

    Parameters
    ----------
    files
        With paths relative to the table's folder.
    keys
        The partition columns: behind the prefix, a path has a folder ``key=value`` for each.
    prefix
        What the paths begin with.
    store
        Of the table's folder.

    Notes
    -----
    "Add File" and "Per-file Statistics" of the Delta protocol. Floats have no bounds: those of Parquet say nothing of NaN.
    """
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda file: _add_action(file, keys, prefix, store), files))


def _add_action(file: WrittenFile, keys: Sequence[str], prefix: str, store: Store) -> AddAction:
    from deltalake.transaction import AddAction

    return AddAction(
        path=file.path,  # as it is: deltalake escapes it
        size=file.bytes,
        partition_values=_partition(file.path[len(prefix) :], len(keys)),
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps(_statistics(_footer(file, store))),
    )


def _partition(path: str, keys: int) -> dict[str, str | None]:
    parts = [folder.partition("=") for folder in path.split("/")[:keys]]
    return {unquote(key): None if value == _NULL else unquote(value) for key, _, value in parts}


def _footer(file: WrittenFile, store: Store) -> FileMetaData:
    import pyarrow as pa
    from pyarrow import parquet

    tail = _tail(file, store, _TAIL_BYTES)
    length = int.from_bytes(tail[-_FOOTER_END_BYTES : -_FOOTER_END_BYTES + 4], "little") + _FOOTER_END_BYTES
    if length > len(tail):
        tail = _tail(file, store, length)
    return parquet.read_metadata(pa.BufferReader(tail))


def _tail(file: WrittenFile, store: Store, length: int) -> bytes:
    length = min(length, file.bytes)
    return store.get_range(file.path, file.bytes - length, length)


def _statistics(footer: FileMetaData) -> dict[str, object]:
    """Return the statistics of a file as the log has them: of columns that are not nested, over all row groups."""
    lowest: dict[str, object] = {}
    highest: dict[str, object] = {}
    nulls: dict[str, int] = {}
    for number in range(min(footer.num_columns, _INDEXED_COLUMNS)):
        column = footer.schema.column(number)
        if column.path != column.name or column.max_repetition_level:
            continue
        chunks = [footer.row_group(group).column(number) for group in range(footer.num_row_groups)]
        told = [statistics for chunk in chunks if (statistics := _told(chunk)) is not None]
        if len(told) < len(chunks):
            continue
        nulls[column.name] = sum(statistics.null_count for statistics in told)
        bounds = _bounds([statistics for statistics in told if statistics.num_values])
        if bounds is not None:
            lowest[column.name], highest[column.name] = bounds
    return {"numRecords": footer.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls}


def _told(chunk: ColumnChunkMetaData) -> Any | None:  # noqa: ANN401  # its type stub lacks members
    """Return the statistics of a column in a row group; None when they don't count nulls."""
    statistics: Any = chunk.statistics
    return statistics if statistics is not None and statistics.has_null_count else None


def _bounds(filled: Sequence[Any]) -> tuple[object, object] | None:
    """Return the least and the greatest value, of row groups with values; None when not known, or not logged."""
    if not filled or not all(statistics.has_min_max for statistics in filled):
        return None
    low = _logged(min(statistics.min for statistics in filled))
    high = _logged(max(statistics.max for statistics in filled))
    return None if low is None or high is None else (low, high)


def _logged(value: object) -> object:
    """Return a value as the log has it in JSON; None for types that it has no bounds of here."""
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
