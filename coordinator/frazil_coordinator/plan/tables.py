"""Tables of Parquet files: what their footers say, and how they are cut into splits.

A split is a range of rows of one file (``pre_slice`` of the scan node: polars then skips the row groups outside it), so one
large file gives many tasks. Footers are read once per etag and kept. A scan that this module can't cut exactly is no
error: :func:`open_table` gives the reason, and the scan runs whole in one task.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Final, cast

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PolarsError

from frazil_coordinator.plan.listing import expand
from frazil_coordinator.plan.nodes import Scan
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena, Raw
from frazil_functions.errors import QueryError
from frazil_functions.scan_files import FileStat, scan_store
from frazil_functions.task import Split, input_path

__all__ = ["Table", "Unsplittable", "cut", "open_table"]

_TAIL_BYTES: Final = 64 * 1024
_FOOTER_END_BYTES: Final = 8
_CACHED_FOOTERS: Final = 10_000
_THREADS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RowGroup:
    """One row group of a file."""

    rows: int
    bytes: dict[str, int]
    """Compressed bytes by top-level column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a Parquet footer says."""

    row_groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        """Rows of the file."""
        return sum(group.rows for group in self.row_groups)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A scan whose files are known."""

    scan: Raw
    """The scan node; its path is yet to be replaced by a placeholder."""

    files: tuple[FileStat, ...]
    footers: tuple[Footer, ...]
    schema: pl.Schema
    """What the scan yields."""

    path: str
    """What the user named, for people."""

    @cached_property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(footer.rows for footer in self.footers)

    def bytes(self, columns: Sequence[str] | None) -> int:
        """Return the compressed bytes of `columns` (None: of all) in all files."""
        return sum(_bytes(group, columns) for footer in self.footers for group in footer.row_groups)

    def placeholder(self, number: int) -> pl.LazyFrame:
        """Return the scan with input `number` in the place of its files, every option kept."""
        return _with_paths(self.scan, [input_path(number)])


class Unsplittable(Exception):  # noqa: N818  # a reason, not an error: the scan runs whole in one task
    """Why a scan can't be cut into splits."""


def open_table(node: Scan, schema: pl.Schema) -> Table:
    """List the files of a scan and read their footers.

    Parameters
    ----------
    node
        The scan.
    schema
        What the scan yields, as polars says.

    Raises
    ------
    Unsplittable
        With the reason why the scan must run whole.
    SourceError
        When the store refuses.
    QueryError
        When a file is not Parquet.
    """
    arguments = cast("Raw", cast("Raw", node.raw["Scan"])["unified_scan_args"])
    _check_options(node, arguments)
    options = arguments.get("cloud_options")
    files = tuple(expand(node.paths, options, use_glob=bool(arguments.get("glob", True))))
    with ThreadPoolExecutor(min(_THREADS, max(1, len(files)))) as pool:
        footers = tuple(pool.map(lambda file: _footer(file, options), files))
    path = node.paths[0] if len(node.paths) == 1 else f"{node.paths[0]} and {len(node.paths) - 1} more"
    scan = _without_expansion(node.raw, files, schema)
    return Table(scan=scan, files=files, footers=footers, schema=schema, path=path)


def cut(table: Table, columns: Sequence[str] | None, settings: Settings) -> tuple[tuple[Split, ...], ...]:
    """Pack the row groups of a table into one group of splits a task, in row order.

    Parameters
    ----------
    table
        The table.
    columns
        The columns that the query reads; None for all.
    settings
        `split_target_bytes`, `max_rows_per_split`, `max_tasks_per_stage`.

    Returns
    -------
    tuple of tuple of Split
        At least one group; an empty table gives one group without splits.
    """
    limit = settings.max_rows_per_split
    target = settings.split_target_bytes
    if limit is None:
        target = max(target, -(-table.bytes(columns) // settings.max_tasks_per_stage))
    packer = _Packer(target_bytes=target, max_rows=limit)
    for file, footer in zip(table.files, table.footers, strict=True):
        packer.file(file, footer, columns)
    return packer.done()


class _Packer:
    """Cuts row ranges off the files, one task after the other."""

    def __init__(self, *, target_bytes: int, max_rows: int | None) -> None:
        self._target = target_bytes
        self._max_rows = max_rows
        self._groups: list[tuple[Split, ...]] = []
        self._open: list[Split] = []
        self._open_bytes = 0
        self._open_rows = 0

    def file(self, file: FileStat, footer: Footer, columns: Sequence[str] | None) -> None:
        """Add the row groups of one file."""
        offset = 0
        for group in footer.row_groups:
            size = _bytes(group, columns)
            step = group.rows if self._max_rows is None else min(self._max_rows, max(1, group.rows))
            for start in range(0, group.rows, step or 1):
                rows = min(step, group.rows - start)
                self._add(file, footer.rows, offset + start, rows, size * rows // max(1, group.rows))
            offset += group.rows

    def _add(self, file: FileStat, file_rows: int, offset: int, rows: int, size: int) -> None:
        over_bytes = self._open_bytes + size > self._target
        over_rows = self._max_rows is not None and self._open_rows + rows > self._max_rows
        if self._open and (over_bytes or over_rows):
            self._close()
        last = self._open[-1] if self._open else None
        if last is not None and last.path == file.path and last.offset + last.rows == offset:
            self._open.pop()
            offset, rows = last.offset, last.rows + rows
            self._open_rows -= last.rows
        whole = offset == 0 and rows == file_rows
        split = Split(path=file.path, offset=offset, rows=rows, whole=whole, size=file.size, etag=file.etag)
        self._open.append(split)
        self._open_bytes += size
        self._open_rows += rows

    def _close(self) -> None:
        self._groups.append(tuple(self._open))
        self._open = []
        self._open_bytes = self._open_rows = 0

    def done(self) -> tuple[tuple[Split, ...], ...]:
        """Return the groups; one without splits when there is nothing to read."""
        if self._open:
            self._close()
        return tuple(self._groups) or ((),)


def _bytes(group: RowGroup, columns: Sequence[str] | None) -> int:
    if columns is None:
        return sum(group.bytes.values())
    return sum(group.bytes.get(column, 0) for column in columns)


def _check_options(node: Scan, arguments: Raw) -> None:
    if node.format != "Parquet":
        raise Unsplittable(f"a scan of {node.format} files is not split")
    if not node.paths:
        raise Unsplittable("a scan of in-memory buffers is not split")
    for name, why in _WHOLE.items():
        if arguments.get(name) is not None:
            raise Unsplittable(f"a scan with {why} is not split")


_WHOLE: Final = {
    "row_index": "a row index",
    "pre_slice": "n_rows",
    "deletion_files": "deletion files",
    "column_mapping": "a column mapping",
    "default_values": "default values",
    "resolve_heavy_sources": "sources resolved late",
}


def _without_expansion(raw: Raw, files: Sequence[FileStat], schema: pl.Schema) -> Raw:
    """Return the scan over explicit files with its schema set, so that no footer is read to learn it.

    Raises
    ------
    Unsplittable
        When the explicit files give another schema than the scan: columns from the folders' names.
    """
    first = _with_paths(raw, [files[0].path]) if files else None
    if first is None:
        raise Unsplittable("a scan of no files is not split")
    try:
        explicit = first.collect_schema()
    except PolarsError as error:
        raise Unsplittable(f"its files can't be scanned one by one ({error})") from error
    if explicit != schema:
        raise Unsplittable("a scan with columns from the names of its folders (hive) is not split")
    own = cast("Raw", raw["Scan"])
    arguments = cast("Raw", own["unified_scan_args"])
    scan_type = cast("Raw", own["scan_type"])
    parquet = cast("Raw", scan_type["Parquet"])
    read = {name: dtype for name, dtype in schema.items() if name != arguments.get("include_file_paths")}
    stand_in = Arena.of(pl.scan_parquet("schema", schema=read, glob=False))
    given = cast("Raw", cast("Raw", cast("Raw", stand_in.payload(stand_in.root)["scan_type"])["Parquet"])["options"])
    options = {**cast("Raw", parquet["options"]), "schema": given["schema"]}
    return {"Scan": {**own, "scan_type": {"Parquet": {**parquet, "options": options}}}}


def _with_paths(raw: Raw, paths: Sequence[str]) -> pl.LazyFrame:
    own = cast("Raw", raw["Scan"])
    arguments = {**cast("Raw", own["unified_scan_args"]), "glob": False}
    arena = Arena()
    arena.root = arena.add(
        {"Scan": {**own, "sources": {"Paths": [{"inner": path} for path in paths]}, "unified_scan_args": arguments}}
    )
    return arena.lazy()


class _FooterCache:
    """Footers by path and etag, the most recently used ones."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._footers: OrderedDict[tuple[str, str], Footer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str]) -> Footer | None:
        """Return a footer that was kept."""
        with self._lock:
            if (footer := self._footers.get(key)) is not None:
                self._footers.move_to_end(key)
            return footer

    def put(self, key: tuple[str, str], footer: Footer) -> None:
        """Keep a footer, perhaps in place of the one used longest ago."""
        with self._lock:
            self._footers[key] = footer
            while len(self._footers) > self._capacity:
                self._footers.popitem(last=False)


_CACHE: Final = _FooterCache(_CACHED_FOOTERS)


def _footer(file: FileStat, options: object) -> Footer:
    """Read a footer: one GET of the file's last 64 KiB, and one more for a larger footer."""
    key = None if file.etag is None else (file.path, file.etag)
    if key is not None and (cached := _CACHE.get(key)) is not None:
        return cached
    store, _, name = scan_store(file.path, options)
    tail = _range(store, name, max(0, file.size - _TAIL_BYTES), file.size)
    try:
        length = int.from_bytes(tail[-_FOOTER_END_BYTES : -_FOOTER_END_BYTES + 4], "little")
        if length + _FOOTER_END_BYTES > len(tail):
            tail = _range(store, name, max(0, file.size - length - _FOOTER_END_BYTES), file.size)
        metadata = pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowException, OSError) as error:
        message = f"not a Parquet file, or a broken one: {file.path}: {error}"
        raise QueryError(message, exception="ComputeError", where={"file": file.path}) from error
    footer = Footer(row_groups=tuple(_row_group(metadata.row_group(n)) for n in range(metadata.num_row_groups)))
    if key is not None:
        _CACHE.put(key, footer)
    return footer


def _range(store: obstore.store.ObjectStore, name: str, start: int, end: int) -> bytes:
    return bytes(obstore.get_range(store, name, start=start, end=end))


def _row_group(metadata: pq.RowGroupMetaData) -> RowGroup:
    sizes: dict[str, int] = {}
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        top = column.path_in_schema.partition(".")[0]
        sizes[top] = sizes.get(top, 0) + column.total_compressed_size
    return RowGroup(rows=metadata.num_rows, bytes=sizes)
