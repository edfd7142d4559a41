"""Where large text files (CSV, NDJSON) are cut into ranges of lines.

The start of a file is read to learn what comes before its first row, and a few bytes around each place where a cut is
wanted. Whether those lie inside of quotes is a guess, which the tasks prove
(:mod:`frazil_functions.text_ranges`). A file whose rows polars would read otherwise when it is cut stays whole, with the
reason. :mod:`~frazil_coordinator.plan.tables` packs the ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError
from polars.testing import assert_frame_equal

from frazil_functions.arena import Arena, Raw
from frazil_functions.scan_files import FileStat
from frazil_functions.text_ranges import TEXT_FORMATS, Dialect, read_bytes, with_header

__all__ = ["Lines", "cut_lines"]

_START_BYTES: Final = 64 * 1024
_WINDOWS: Final = (64 * 1024, 1024 * 1024, 16 * 1024 * 1024)
"""Bytes that are read to find the end of a line; the next more when there is none."""

_THREADS: Final = 32
_COMPRESSED: Final = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""How gzip, zstd and zlib files start, as polars recognises them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """How a text file is cut."""

    header: bytes | None = None
    """The line of column names that every range but the first is given."""

    body: int = 0
    """Offset behind the lines that come before the first row."""

    cuts: tuple[int, ...] = ()
    """Offsets at which the second and every later range starts; none for a file that stays whole."""

    reason: str | None = None
    """Why a file that is larger than a split stays whole."""


def cut_lines(scan: Raw, files: Sequence[FileStat], target_bytes: int, *, enabled: bool) -> tuple[Lines, ...]:
    """Return how each file is cut into ranges of about `target_bytes`.

    Parameters
    ----------
    scan
        The scan node, its schema set.
    files
        Its files.
    target_bytes
        Files that are not larger stay whole. Requests: one GET a larger file, and one a cut.
    enabled
        The setting `split_text_files`.
    """
    own = cast("Raw", scan["Scan"])
    arguments = cast("Raw", own["unified_scan_args"])
    options = arguments.get("cloud_options")
    large = [number for number, file in enumerate(files) if file.size > target_bytes]
    found = [Lines()] * len(files)
    if not large:
        return tuple(found)
    if (reason := _whole(scan) if enabled else "split_text_files is off") is not None:
        return tuple(Lines(reason=reason) if number in set(large) else line for number, line in enumerate(found))
    dialect = Dialect.of(own["scan_type"])
    with ThreadPoolExecutor(_THREADS) as pool:
        starts = list(pool.map(lambda number: _start(scan, files[number], options, dialect), large))
        wanted = [
            (number, at)
            for number, start in zip(large, starts, strict=True)
            if start.reason is None
            for at in range(max(target_bytes, start.body + 1), files[number].size, target_bytes)
        ]
        cuts = pool.map(lambda cut: _border(files[cut[0]], options, dialect, cut[1], target_bytes), wanted)
        by_file: dict[int, set[int]] = {}
        for (number, _), cut in zip(wanted, cuts, strict=True):
            if cut is not None:
                by_file.setdefault(number, set()).add(cut)
    for number, start in zip(large, starts, strict=True):
        found[number] = replace(start, cuts=tuple(sorted(by_file.get(number, ()))))
    return tuple(found)


def _whole(scan: Raw) -> str | None:
    """Return why no file of the scan can be cut."""
    own = cast("Raw", scan["Scan"])
    ((kind, scan_type),) = cast("dict[str, Raw]", own["scan_type"]).items()
    if kind not in TEXT_FORMATS:
        return f"{kind} files have no lines"
    if kind == "Csv" and cast("Raw", cast("Raw", scan_type["options"])["parse_options"])["comment_prefix"] is not None:
        return "comment_prefix"
    return None


def _start(scan: Raw, file: FileStat, options: object, dialect: Dialect) -> Lines:
    """Return what comes before the first row of a file, or why the file can't be cut."""
    data = read_bytes(file.path, options, 0, min(file.size, _START_BYTES))
    if data.startswith(_COMPRESSED):
        return Lines(reason="it is compressed")
    if (header := _header(scan, data, dialect)) is None:
        return Lines(reason="its columns have no names that could be written before a range")
    line, body = header
    borders = [border for border in dialect.borders(data) if border > body]
    if not borders:
        return Lines(reason=f"its first {len(data):,} bytes hold no two rows")
    middle, end = borders[len(borders) // 2 - 1] if len(borders) > 1 else borders[0], borders[-1]
    try:
        whole = _parse(scan, data[:end])
        rest = _parse(scan, line + data[middle:end], headed=True) if middle < end else whole.clear()
        assert_frame_equal(pl.concat([_parse(scan, data[:middle]), rest]), whole, check_exact=True)
    except (PolarsError, AssertionError):
        return Lines(reason="its rows read otherwise when it is cut")
    return Lines(header=line or None, body=body)


def _header(scan: Raw, data: bytes, dialect: Dialect) -> tuple[bytes, int] | None:
    """Return the line of the columns' names and the offset of the first row; None when they can't be told."""
    ((kind, scan_type),) = cast("dict[str, Raw]", cast("Raw", scan["Scan"])["scan_type"]).items()
    if kind != "Csv":
        return b"", 0
    options = cast("Raw", scan_type["options"])
    skip_lines, skip_rows, after = (
        cast("int", options[name]) for name in ("skip_lines", "skip_rows", "skip_rows_after_header")
    )
    ends = [0, *dialect.line_ends(data)]
    before = skip_lines + skip_rows
    if options["has_header"]:
        behind = before + 1 + after
        return (data[ends[before] : ends[before + 1]], ends[behind]) if behind < len(ends) else None
    extra = cast("Raw", cast("Raw", scan["Scan"])["unified_scan_args"])["extra_columns_policy"]
    if before + after >= len(ends) or extra != "Raise":
        return None
    names = list(cast("Raw", cast("Raw", options["schema"])["fields"]))
    separator, quote = bytes([dialect.separator]), b"" if dialect.quote is None else bytes([dialect.quote])
    written = [quote + name.encode() + quote for name in names]
    special = (separator, bytes([dialect.eol]), b"\r", quote or separator, b'"')
    if any(mark in name.encode() for name in names for mark in special):
        return None
    return separator.join(written) + bytes([dialect.eol]), ends[before + after]


def _parse(scan: Raw, data: bytes, *, headed: bool = False) -> pl.DataFrame:
    own = cast("Raw", scan["Scan"])
    arguments = {**cast("Raw", own["unified_scan_args"]), "cloud_options": None, "include_file_paths": None}
    changed: Raw = {"unified_scan_args": arguments, "sources": {"Buffers": [list(data)]}}
    if headed:
        changed["scan_type"] = with_header(cast("Raw", own["scan_type"]))
    arena = Arena()
    arena.root = arena.add({"Scan": {**own, **changed}})
    return arena.lazy().collect(engine="in-memory")


def _border(file: FileStat, options: object, dialect: Dialect, at: int, target_bytes: int) -> int | None:
    """Return the first offset from `at` on at which a range can start, if the next cut isn't nearer."""
    for window in _WINDOWS:
        # One byte more on the left: a line may start at `at` itself.
        data = read_bytes(file.path, options, at - 1, min(file.size, at - 1 + window))
        quoted = dialect.flaws(data, quoted=True) < dialect.flaws(data, quoted=False)
        border = next(dialect.borders(data, quoted=quoted), None)
        if border is not None:
            return at - 1 + border
        if window >= target_bytes or at - 1 + window >= file.size:
            return None
    return None
