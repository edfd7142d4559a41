"""Ranges of lines of a text file (CSV, NDJSON): where lines end, and how a task reads a range of them.

A line of CSV ends at a newline outside of quotes, and whether a byte is inside of quotes depends on all quotes before it.
Nobody reads a large file for that. The planner guesses places where lines end from the bytes around them, and each task
proves its share of the guess: a range that starts outside of quotes and holds an even number of them ends outside of
quotes. The first range starts the file; so, when every range is even, every guess was right. One that is not fails with
:class:`~frazil_functions.errors.BordersError`, and the query is planned again with whole files.

The bytes of a range lie in memory as a file that polars scans like any other (:class:`RangeFile`), a line of the columns'
names in front of them, so that the columns are those of the whole file whatever the first row of the range is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self, cast

import obstore

from frazil_functions.errors import BordersError
from frazil_functions.scan_files import scan_store
from frazil_functions.task import Split

__all__ = ["TEXT_FORMATS", "Dialect", "RangeFile", "read_bytes", "with_header"]

TEXT_FORMATS: Final = frozenset({"Csv", "NDJson"})

_GETS_AT_ONCE: Final = 8
_GET_BYTES: Final = 8 * 1024 * 1024
_CHECKED_BYTES: Final = 4 * 1024 * 1024
_NEWLINE: Final = 10
_CARRIAGE_RETURN: Final = 13
_BYTE_ORDER_MARK: Final = 0xEF


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a text file writes its lines."""

    eol: int = _NEWLINE
    """The byte that ends a line."""

    quote: int | None = None
    """The byte between two of which a line does not end; None when nothing is quoted."""

    separator: int = 0
    """The byte between two fields."""

    @classmethod
    def of(cls, scan_type: object) -> Dialect:
        """Return what a scan's `scan_type` says, e.g. ``{"Csv": {"options": ...}}``."""
        ((kind, members),) = cast("dict[str, dict[str, dict[str, object]]]", scan_type).items()
        if kind != "Csv":
            return cls()  # a newline inside of a JSON string is written as an escape
        options = cast("dict[str, int | None]", members["options"]["parse_options"])
        return cls(
            eol=cast("int", options["eol_char"]), quote=options["quote_char"], separator=cast("int", options["separator"])
        )

    def borders(self, data: bytes, *, quoted: bool = False) -> Iterator[int]:
        """Yield the offsets in `data` at which a line starts that a range may start with.

        Parameters
        ----------
        data
            Bytes of a file.
        quoted
            Whether its first byte is inside of quotes.

        Notes
        -----
        It does not start with an empty line or a byte order mark: at the start of a file, polars skips them.
        """
        for end in self.line_ends(data, quoted=quoted):
            if end < len(data) and data[end] not in (self.eol, _CARRIAGE_RETURN, _BYTE_ORDER_MARK):
                yield end

    def line_ends(self, data: bytes, *, quoted: bool = False) -> Iterator[int]:
        """Yield the offsets in `data` behind each end of a line; see :meth:`borders`."""
        for start, text in self._outside(data, quoted=quoted):
            at = text.find(self.eol)
            while at >= 0:
                yield start + at + 1
                at = text.find(self.eol, at + 1)

    def _outside(self, data: bytes, *, quoted: bool) -> Iterator[tuple[int, bytes]]:
        """Yield the offset and the bytes of each run outside of quotes."""
        if self.quote is None:
            yield 0, data
            return
        start = 0
        for number, text in enumerate(data.split(bytes([self.quote]))):
            if (number % 2 == 1) == quoted:
                yield start, text
            start += len(text) + 1

    def flaws(self, data: bytes, *, quoted: bool) -> int:
        """Return the number of quotes that open or close a field where none starts or ends, were `data` to start so."""
        if self.quote is None:
            return 0
        before = {self.eol, self.separator}
        after = {*before, _CARRIAGE_RETURN}
        parts = data.split(bytes([self.quote]))
        found = 0
        for number, (left, right) in enumerate(pairwise(parts)):
            opens = (number % 2 == 0) != quoted
            if opens:
                found += bool(left) and left[-1] not in before
            else:
                found += bool(right) and right[0] not in after
        return found

    def check(self, data: bytes) -> None:
        """Make sure that `data`, which starts outside of quotes, ends outside of them.

        It is known when quotes only stand around whole fields, or doubled inside of them.

        Raises
        ------
        BordersError
            When it is not known.
        """
        if self.quote is None or data.find(self.quote) < 0:
            return
        # Every byte by what it means here: a quote, the end of a field, anything else.
        meaning = bytearray(b"x" * 256)
        meaning[self.eol] = meaning[self.separator] = ord("e")
        meaning[self.quote] = ord("q")
        quoted, start = False, 0
        while start < len(data):
            end = data.find(self.eol, start + _CHECKED_BYTES) + 1 or len(data)
            text = data[start:end].translate(meaning).replace(b"qq", b"")
            # The quotes in order, those behind anything else as c: such a quote can't open a field.
            quotes = text.replace(b"xq", b"c").translate(None, b"xe")
            if b"c" in quotes[quoted::2]:
                raise BordersError("quotes inside of unquoted fields hide where lines end")
            quoted ^= len(quotes) % 2 == 1
            start = end
        if quoted:
            raise BordersError("a range of lines ends inside of quotes")


def with_header(scan_type: dict[str, object]) -> dict[str, object]:
    """Return the `scan_type` of a CSV scan for files that start with a line of columns' names; any other as it is."""
    ((kind, members),) = cast("dict[str, dict[str, dict[str, object]]]", scan_type).items()
    if kind != "Csv":
        return scan_type
    starts: dict[str, object] = {"has_header": True, "skip_rows": 0, "skip_lines": 0, "skip_rows_after_header": 0}
    return {kind: {**members, "options": {**members["options"], **starts}}}


def read_bytes(path: str, cloud_options: object, start: int, end: int) -> bytes:
    """Return bytes ``start <= at < end`` of a file; one GET per 8 MiB, eight at a time."""
    store, _, key = scan_store(path, cloud_options)
    starts = range(start, end, _GET_BYTES)

    def get(first: int) -> bytes:
        return bytes(obstore.get_range(store, key, start=first, end=min(first + _GET_BYTES, end)))

    if len(starts) <= 1:
        return get(start) if starts else b""
    with ThreadPoolExecutor(_GETS_AT_ONCE) as pool:
        return b"".join(pool.map(get, starts))


class RangeFile:
    """A file in memory that will hold a range of lines; a context manager.

    Parameters
    ----------
    split
        The range.
    dialect
        How its file writes lines.
    """

    def __init__(self, split: Split, dialect: Dialect) -> None:
        self._split = split
        self._dialect = dialect
        self._name: str | None = None
        if hasattr(os, "memfd_create"):
            self._handle = os.memfd_create("frazil-range")
            self.path = f"/proc/self/fd/{self._handle}"
        else:  # not Linux
            self._handle, self._name = tempfile.mkstemp(prefix="frazil-range-")
            self.path = self._name
        self.lines = 0
        """Lines of the range once it is filled; empty ones and those inside of quotes count."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the memory."""
        os.close(self._handle)
        if self._name is not None:
            os.unlink(self._name)  # noqa: PTH108  # the name that mkstemp gave

    def fill(self, cloud_options: object) -> None:
        """Read the range and check that it starts and ends where lines do.

        Raises
        ------
        BordersError
            When that is not known.
        """
        split = self._split
        start, length = split.start, cast("int", split.length)
        data = read_bytes(split.path, cloud_options, start, start + length)
        self._dialect.check(data)
        self.lines = data.count(self._dialect.eol) + (not data.endswith(bytes([self._dialect.eol])))
        if split.header:
            self._write(split.header)
        self._write(data)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]
