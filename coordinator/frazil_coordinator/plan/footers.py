"""What is known of a file before it is read: row groups of a Parquet file, record batches of an IPC file, or its size.

Footers are read once per etag and kept. :mod:`~frazil_coordinator.plan.tables` cuts the files by them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Final

import obstore
import pyarrow as pa
import pyarrow.parquet as pq

from frazil_coordinator.plan.ipc_footers import read_ipc_footer
from frazil_functions.errors import QueryError
from frazil_functions.scan_files import FileStat, scan_store

__all__ = ["Footer", "ParquetFooter", "RowGroup", "read_footer", "uncounted"]

_TAIL_BYTES: Final = 64 * 1024
_FOOTER_END_BYTES: Final = 8
_CACHED_FOOTERS: Final = 10_000
_ARROW_SCHEMA: Final = b"ARROW:schema"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """One row group of a file."""

    rows: int
    bytes: dict[str, int]
    """Compressed bytes by top-level column."""

    first: int = 0
    """Rows of the file before it."""

    number: int = 0
    """Its place in the file."""

    whole_bytes: int | None = None
    """Bytes of all columns where nobody tells those of each (IPC)."""

    def size(self, columns: Sequence[str] | None) -> int:
        """Return the compressed bytes of `columns`; None: of all."""
        if self.whole_bytes is not None:
            return self.whole_bytes
        if columns is None:
            return sum(self.bytes.values())
        return sum(self.bytes.get(column, 0) for column in columns)


@dataclass(frozen=True, kw_only=True)
class ParquetFooter:
    """The footer of a Parquet file as it lies there: to read one takes far longer than to keep it."""

    data: bytes
    """The end of the file, from the first byte of its metadata on."""

    @cached_property
    def metadata(self) -> pq.FileMetaData:
        """What it says; where the statistics are."""
        try:
            return pq.read_metadata(pa.BufferReader(self.data))
        except pa.ArrowNotImplementedError:
            # pyarrow turns the Arrow schema that a writer has added into its own, which has no integers of 128 bits. Under
            # another name it lets the schema be; of all that Parquet's footer holds, the last of these names is that
            # schema's.
            before, name, after = self.data.rpartition(_ARROW_SCHEMA)
            return pq.read_metadata(pa.BufferReader(before + name.lower() + after))


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a Parquet footer says, or that of an IPC file, whose record batches are its row groups."""

    row_groups: tuple[RowGroup, ...]
    schema: bytes | None = None
    """The schema of an IPC file, to be compared with those of the scan's other files."""

    file_bytes: int | None = None
    """Size of a file whose rows nobody has counted, in place of row groups; such a file is read whole."""

    pruned_groups: int = 0
    pruned_rows: int = 0
    """Row groups, and their rows, that were left out of `row_groups`."""

    columns: Mapping[str, int] = field(default_factory=dict)
    """Number of each column that is not nested."""

    parquet: ParquetFooter | None = None
    """Where the statistics of a Parquet file are."""

    @property
    def rows(self) -> int:
        """Rows of the file, with those of row groups that were left out."""
        return sum(group.rows for group in self.row_groups) + self.pruned_rows

    @property
    def is_pruned(self) -> bool:
        """Whether nothing is left of the file."""
        return self.pruned_groups > 0 and not self.row_groups

    def only(self, positions: Sequence[int]) -> Footer:
        """Return the footer with only some of its row groups."""
        kept = tuple(self.row_groups[position] for position in positions)
        return replace(
            self,
            row_groups=kept,
            pruned_groups=self.pruned_groups + len(self.row_groups) - len(kept),
            pruned_rows=self.rows - sum(group.rows for group in kept),
        )

    def size(self, columns: Sequence[str] | None) -> int:
        """Return the bytes to read for `columns` (None: for all)."""
        if self.file_bytes is not None:
            return self.file_bytes
        return sum(group.size(columns) for group in self.row_groups)


class _FooterCache:
    """Footers by kind, path and etag, the most recently used ones."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._footers: OrderedDict[tuple[str, str, str], Footer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str, str]) -> Footer | None:
        """Return a footer that was kept."""
        with self._lock:
            if (footer := self._footers.get(key)) is not None:
                self._footers.move_to_end(key)
            return footer

    def put(self, key: tuple[str, str, str], footer: Footer) -> None:
        """Keep a footer, perhaps in place of the one used longest ago."""
        with self._lock:
            self._footers[key] = footer
            while len(self._footers) > self._capacity:
                self._footers.popitem(last=False)


_CACHE: Final = _FooterCache(_CACHED_FOOTERS)


def uncounted(file: FileStat) -> Footer:
    """Return what is known of a text file: its size."""
    return Footer(row_groups=(), file_bytes=file.size)


def read_footer(file: FileStat, options: object, kind: str = "Parquet") -> Footer:
    """Read the footer of a file, unless it was read before.

    Parameters
    ----------
    file
        The file.
    options
        The scan's ``cloud_options``.
    kind
        ``Parquet`` (one GET of the file's last 64 KiB, and one more for a larger footer) or ``Ipc``
        (:mod:`~frazil_coordinator.plan.ipc_footers`).

    Raises
    ------
    QueryError
        When the file is not of this kind.
    """
    key = None if file.etag is None else (kind, file.path, file.etag)
    if key is not None and (cached := _CACHE.get(key)) is not None:
        return cached
    footer = _read_ipc(file, options) if kind == "Ipc" else _read_parquet(file, options)
    if key is not None:
        _CACHE.put(key, footer)
    return footer


def _read_ipc(file: FileStat, options: object) -> Footer:
    found = read_ipc_footer(file, options)
    groups = tuple(RowGroup(rows=batch.rows, bytes={}, whole_bytes=batch.bytes) for batch in found.batches)
    return Footer(row_groups=_numbered(groups), schema=found.schema)


def _read_parquet(file: FileStat, options: object) -> Footer:
    store, _, name = scan_store(file.path, options)
    tail = _range(store, name, max(0, file.size - _TAIL_BYTES), file.size)
    try:
        length = int.from_bytes(tail[-_FOOTER_END_BYTES : -_FOOTER_END_BYTES + 4], "little")
        if length + _FOOTER_END_BYTES > len(tail):
            tail = _range(store, name, max(0, file.size - length - _FOOTER_END_BYTES), file.size)
        parquet = ParquetFooter(data=tail[-length - _FOOTER_END_BYTES :])
        metadata = parquet.metadata
    except (pa.ArrowException, OSError) as error:
        message = f"not a Parquet file, or a broken one: {file.path}: {error}"
        raise QueryError(message, exception="ComputeError", where={"file": file.path}) from error
    groups = [_row_group(metadata.row_group(number)) for number in range(metadata.num_row_groups)]
    return Footer(row_groups=_numbered(groups), columns=_flat_columns(metadata.schema), parquet=parquet)


def _numbered(groups: Sequence[RowGroup]) -> tuple[RowGroup, ...]:
    firsts = accumulate((group.rows for group in groups), initial=0)
    return tuple(replace(group, first=first, number=number) for number, (group, first) in enumerate(zip(groups, firsts)))  # noqa: B905  # one first more


def _flat_columns(schema: pq.ParquetSchema) -> dict[str, int]:
    """Return the numbers of the columns that are neither lists nor structs."""
    columns = [schema.column(number) for number in range(len(schema))]
    return {
        column.name: number
        for number, column in enumerate(columns)
        if column.path == column.name and column.max_repetition_level == 0 and "." not in column.name
    }


def _range(store: obstore.store.ObjectStore, name: str, start: int, end: int) -> bytes:
    return bytes(obstore.get_range(store, name, start=start, end=end))


def _row_group(metadata: pq.RowGroupMetaData) -> RowGroup:
    sizes: dict[str, int] = {}
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        top = column.path_in_schema.partition(".")[0]
        sizes[top] = sizes.get(top, 0) + column.total_compressed_size
    return RowGroup(rows=metadata.num_rows, bytes=sizes)
