"""Tables of files, and how they are cut into splits.

A split of a Parquet or IPC file is a range of its rows (``pre_slice`` of the scan node: polars then skips the row groups
and record batches outside it), so one large file gives many tasks; CSV and NDJSON files are not counted, so they are cut
into ranges of lines (:mod:`~frazil_coordinator.plan.lines`). A scan that can't be cut exactly is no error:
:func:`open_table` gives the reason, and the scan runs whole in one task. Next: :mod:`~frazil_coordinator.plan.explicit`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, cast

import polars as pl
from msgspec import structs

from frazil_coordinator.plan.explicit import Unsplittable, check_options, explicit_scan, scan_type_of, with_paths
from frazil_coordinator.plan.field_ids import check_defaults
from frazil_coordinator.plan.footers import Footer, read_footer, uncounted
from frazil_coordinator.plan.lines import Lines, cut_lines
from frazil_coordinator.plan.listing import expand
from frazil_coordinator.plan.nodes import Scan
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Raw
from frazil_functions.errors import QueryError
from frazil_functions.scan_files import FileStat, of_each
from frazil_functions.task import Split, input_path
from frazil_functions.text_ranges import TEXT_FORMATS

__all__ = ["Cuts", "Table", "Unsplittable", "cut", "listed_bytes", "open_table"]

_THREADS: Final = 16
_STEADY_TASKS: Final = 1_024
"""Files up to which each has a task of its own when answers shall be used again."""


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

    first: int = 0
    """Number of rows that the scan skips."""

    hive_start: int = 0
    """Where in the files' paths the names of hive partitions begin."""

    most: int | None = None
    """Rows that the scan yields at most, of all files together."""

    scan_type: bytes | None = None
    """What `scan` really is, when it is only a stand-in: see `frazil_functions.task.ScanInput`."""

    counted: bool = True
    """Whether the rows of the files are known; then the splits hold those from `first` on only, `most` of them."""

    row_index: tuple[str, int] | None = None
    """Name and offset of a row index that `scan` doesn't yield, because rows are not counted: to be added to its rows."""

    @cached_property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(footer.rows for footer in self.footers)

    def bytes(self, columns: Sequence[str] | None) -> int:
        """Return the compressed bytes of `columns` (None: of all) in all files."""
        return sum(footer.size(columns) for footer in self.footers)

    def placeholder(self, number: int) -> pl.LazyFrame:
        """Return the scan with input `number` in the place of its files, every option kept."""
        return with_paths(self.scan, [input_path(number)])


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
        When a file is not of the scan's format.
    """
    arguments = cast("Raw", cast("Raw", node.raw["Scan"])["unified_scan_args"])
    check_options(node, arguments)
    try:
        return _table(node, arguments, schema)
    except (FileNotFoundError, QueryError) as error:
        if _may_be_spared(node, arguments):
            raise Unsplittable("a scan of files that can't all be opened is not split") from error
        raise


def _may_be_spared(node: Scan, arguments: Raw) -> bool:
    """Return whether polars may answer without a look into every file: by names of folders, or for a given schema."""
    hive, scan_type = cast("Raw", arguments["hive_options"]), cast("Raw", node.raw["Scan"])["scan_type"]
    options = cast("Raw", cast("Raw", scan_type)[node.format]).get("options") if isinstance(scan_type, dict) else None
    given = isinstance(options, dict) and options.get("schema") is not None
    return (
        given or hive["schema"] is not None or (hive["enabled"] is not False and any("=" in path for path in _names(node)))
    )


def _names(node: Scan) -> list[str]:
    try:
        return [file.path for file in _listed(node)]
    except FileNotFoundError:
        return list(node.paths)


def _table(node: Scan, arguments: Raw, schema: pl.Schema) -> Table:
    options = arguments.get("cloud_options")
    files = tuple(_listed(node))
    text = node.format in TEXT_FORMATS
    if text:
        files = tuple(file for file in files if file.size)  # polars skips empty ones among others, and refuses one alone
    scan, hive_start = explicit_scan(node, files, schema)
    footers = tuple(uncounted(file) for file in files) if text else _footers(files, options, node.format)
    check_defaults(arguments, footers)
    path = node.paths[0] if len(node.paths) == 1 else f"{node.paths[0]} and {len(node.paths) - 1} more"
    first, most = _slice(arguments)
    return Table(
        scan=scan,
        files=files,
        footers=footers,
        schema=schema,
        path=path,
        first=first,
        most=most,
        hive_start=hive_start,
        counted=not text,
        row_index=_row_index(arguments) if text else None,
        scan_type=scan_type_of(node) if node.format == "Ipc" else None,
    )


def _footers(files: Sequence[FileStat], options: object, kind: str) -> tuple[Footer, ...]:
    footers = tuple(
        of_each(lambda file: read_footer(file, options, kind), files, path=lambda file: file.path, threads=_THREADS)
    )
    if len({footer.schema for footer in footers}) > 1:
        raise Unsplittable(f"a scan of {kind} files with different columns is not split")
    return footers


def _row_index(arguments: Raw) -> tuple[str, int] | None:
    given = cast("Raw | None", arguments.get("row_index"))
    return None if given is None else (str(given["name"]), cast("int", given["offset"]))


def listed_bytes(node: Scan) -> int:
    """Return the bytes of a scan's files: what it reads at most.

    Raises
    ------
    FileNotFoundError, SourceError, Unsplittable
        As listing does.
    """
    return sum(file.size for file in _listed(node))


def _listed(node: Scan) -> list[FileStat]:
    arguments = cast("Raw", cast("Raw", node.raw["Scan"])["unified_scan_args"])
    return expand(
        node.paths,
        arguments.get("cloud_options"),
        use_glob=bool(arguments.get("glob", True)),
        hidden=cast("list[str]", arguments.get("hidden_file_prefix") or ()),
    )


def _slice(arguments: Raw) -> tuple[int, int | None]:
    """Return the first row and the number of rows that the user asked for (`n_rows`)."""
    given = arguments.get("pre_slice")
    if given is None:
        return 0, None
    own = cast("dict[str, int]", cast("Raw", given)["Positive"])
    return own["offset"], own["len"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """A table, cut into splits."""

    groups: tuple[tuple[Split, ...], ...]
    """The splits of each task, in row order. At least one group; an empty table gives one group without splits."""

    reason: str | None = None
    """Why a file that is larger than a split is one."""


def cut(table: Table, columns: Sequence[str] | None, settings: Settings, *, small: bool = False) -> Cuts:
    """Pack the row groups, or the ranges of lines, of a table into one group of splits a task.

    Parameters
    ----------
    table
        The table.
    columns
        The columns that the query reads; None for all.
    settings
        `split_target_bytes`, `min_tasks_per_scan`, `max_rows_per_split`, `max_tasks_per_stage`, `split_text_files`, `reuse`.
    small
        Whether the whole table is for one task.
    """
    limit = None if small else settings.max_rows_per_split
    size = table.bytes(columns)
    target = max(1, size) if small else settings.split_target_bytes
    if settings.min_tasks_per_scan > 1 and not small:
        target = min(target, max(1, size // settings.min_tasks_per_scan))
    text = any(footer.file_bytes is not None for footer in table.footers)
    most = settings.max_tasks_per_stage
    target = max(target, -(-size // most))
    steady = settings.reuse != "off" and not small
    if steady:  # more files, or another measure of memory, shall cut the old ones as before
        target = 1 << (target.bit_length() - 1)
    if limit is not None:
        limit = max(limit, -(-sum(footer.rows for footer in table.footers) // most))
    lines = [Lines()] * len(table.files)
    if text and not small:
        lines = list(cut_lines(table.scan, table.files, target, enabled=settings.split_text_files))
    packer = _Packer(table, target_bytes=target, max_rows=limit)
    together = _files_together(len(table.files)) if steady else 0
    for file, footer, own_lines in zip(table.files, table.footers, lines, strict=True):
        if footer.file_bytes is None:
            packer.rows(file, footer, columns)
        else:
            packer.lines(file, own_lines)
        if together and zlib.crc32(file.path.encode()) % together == 0:
            packer.pause()
    return Cuts(groups=packer.done(), reason=next((line.reason for line in lines if line.reason is not None), None))


def _files_together(files: int) -> int:
    """Return how many files a task scans on average where its answer shall be used again.

    Where one task ends and the next begins is said by the names of the files, so that a file that is added, wherever it
    comes in their order, changes the task that it comes into and no other. The number is a power of two: when it doubles,
    each end is still one or goes, and so the tasks change once for twice as many files.
    """
    return 1 << max(0, (max(1, files) - 1).bit_length() - (_STEADY_TASKS - 1).bit_length())


class _Packer:
    """Cuts row ranges off the files, one task after the other."""

    def __init__(self, table: Table, *, target_bytes: int, max_rows: int | None) -> None:
        self._target = target_bytes
        self._max_rows = max_rows
        self._first = table.first
        self._hive_start = table.hive_start
        self._end = None if table.most is None else table.first + table.most
        self._seen = 0
        """Rows of the files before the present one."""

        self._groups: list[tuple[Split, ...]] = []
        self._open: list[Split] = []
        self._open_bytes = 0
        self._open_rows = 0

    def lines(self, file: FileStat, lines: Lines) -> None:
        """Add a file whose rows are not counted: its ranges of lines, or the whole file."""
        for start, end in pairwise((0, *lines.cuts, file.size)):
            size = end - start
            if self._open and (self._max_rows is not None or self._open_bytes + size > self._target):
                self._close()
            split = Split(path=file.path, offset=0, rows=0, size=file.size, etag=file.etag, whole=not lines.cuts)
            if lines.cuts:
                split = structs.replace(split, start=start, length=size, header=lines.header if start else None)
            self._open.append(split)
            self._open_bytes += size

    def rows(self, file: FileStat, footer: Footer, columns: Sequence[str] | None) -> None:
        """Add the row groups of one file."""
        for group in footer.row_groups:
            offset = group.first
            # What the user's slice leaves of this row group.
            low = max(0, self._first - self._seen - offset)
            high = group.rows if self._end is None else min(group.rows, self._end - self._seen - offset)
            step = max(1, group.rows if self._max_rows is None else min(self._max_rows, group.rows))
            for start in range(low, high, step):
                rows = min(step, high - start)
                self._add(file, footer.rows, offset + start, rows, group.size(columns) * rows // max(1, group.rows))
        self._seen += footer.rows

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
        split = Split(
            path=file.path,
            offset=offset,
            rows=rows,
            whole=whole,
            size=file.size,
            etag=file.etag,
            rows_before=self._seen,
            hive_start=self._hive_start,
        )
        self._open.append(split)
        self._open_bytes += size
        self._open_rows += rows

    def pause(self) -> None:
        """End the task that was begun, if there is one."""
        if self._open:
            self._close()

    def _close(self) -> None:
        self._groups.append(tuple(self._open))
        self._open = []
        self._open_bytes = self._open_rows = 0

    def done(self) -> tuple[tuple[Split, ...], ...]:
        """Return the groups; one without splits when there is nothing to read."""
        self.pause()
        return tuple(self._groups) or ((),)
