"""From a SQL statement to a plan: the one that ``pl.SQLContext`` makes over the tables' scans, so the answer is polars'.

Errors name the line and the column, where polars or the statement tell one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import polars as pl

from frazil_coordinator.catalog.parameters import Parameters, bound
from frazil_functions.errors import QueryError, RequestError

__all__ = ["Shown", "Statement", "plan_of", "with_position", "words_of"]

Shown: TypeAlias = Literal["result", "plan", "analysis"]

_LOGGER = logging.getLogger(__name__)

_MAX_CHARACTERS: Final = 1_000_000
_EXPLAIN: Final = re.compile(
    r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(EXPLAIN\b(?:\s+(ANALYZE|ANALYSE)\b)?)", re.IGNORECASE | re.DOTALL
)
_FIRST: Final = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*([A-Za-z]+)", re.DOTALL)
_CHANGES: Final = frozenset(
    {"CREATE", "DROP", "DELETE", "INSERT", "UPDATE", "TRUNCATE", "ALTER", "COPY", "SET", "SHOW", "DESCRIBE", "MERGE"}
)
_POSITION: Final = re.compile(r"at Line: (\d+), Column: (\d+)")
_AT_END: Final = re.compile(r"found: EOF\b")
_READS_FILES: Final = re.compile(r"read_\w+\s*\(", re.IGNORECASE)
_NAMED: Final = re.compile(r"(?:relation|column|table)s? ['\"]([^'\"]+)['\"]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement, read so far that one knows what it wants."""

    text: str
    """Without ``EXPLAIN``, in whose place are blanks: positions stay."""

    shown: Shown
    parameters: Parameters = ()

    @classmethod
    def of(cls, text: str, parameters: Parameters = ()) -> Statement:
        """Return a statement.

        Raises
        ------
        RequestError
            When it is empty, too long, or changes something.
        """
        if not text.strip() or len(text) > _MAX_CHARACTERS:
            raise RequestError(f"sql must be a statement of 1 to {_MAX_CHARACTERS:,} characters")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise RequestError(f"sql must be Unicode: {error}") from error
        shown: Shown = "result"
        if (match := _EXPLAIN.match(text)) is not None:
            shown = "analysis" if match[2] else "plan"
            text = text[: match.start(1)] + " " * len(match[1]) + text[match.end(1) :]
        first = _FIRST.match(text)
        if first is not None and first[1].upper() in _CHANGES:
            raise RequestError(
                f"{first[1].upper()} is not a query: only SELECT (WITH, VALUES) and EXPLAIN are taken; tables are made, "
                "listed and dropped by /v1/tables"
            )
        return cls(text=text, shown=shown, parameters=parameters)


def words_of(text: str) -> frozenset[str]:
    """Return all words of a statement; the names of its tables are among them."""
    return frozenset(re.findall(r"\w+", text))


def plan_of(statement: Statement, tables: Mapping[str, pl.LazyFrame]) -> bytes:
    """Return the plan of a statement over tables; no file is opened.

    Raises
    ------
    RequestError
        As :func:`~frazil_coordinator.catalog.parameters.bound`.
    QueryError
        When polars refuses it; `where` has its ``line`` and ``column`` where they are known.
    """
    parameters = statement.parameters
    text = bound(statement.text, parameters) if parameters else statement.text
    try:
        _check_names(text, tables)
        with pl.SQLContext(dict(tables), register_globals=False, eager=False) as context:
            return context.execute(text).serialize()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raised = QueryError(str(error), exception=type(error).__name__)
        raise with_position(raised, statement) from error


def _check_names(text: str, tables: Mapping[str, pl.LazyFrame]) -> None:
    """Raise now what polars would say of an unknown table when the query is planned.

    Columns are not looked at: that would open files.
    """
    if _READS_FILES.search(text) is not None:
        return
    with pl.SQLContext({name: pl.LazyFrame() for name in tables}, register_globals=False, eager=False) as context:
        unresolved = context.execute(text)
        try:
            unresolved.collect_schema()
        except pl.exceptions.SQLInterfaceError as error:
            if "relation" in str(error) and "not found" in str(error):
                raise
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            # These frames have no columns, so nearly everything fails.
            _LOGGER.debug("names not checked to the end", extra={"error": type(error).__name__})


def with_position(error: QueryError, statement: Statement) -> QueryError:
    """Return an error with the line and column of what it tells of, both from 1, when they can be told.

    With parameters, only those of names: polars counts in the text that has them in place.
    """
    if not statement.parameters and (found := _POSITION.search(error.message)) is not None:
        line, column = int(found[1]), int(found[2])
    elif _AT_END.search(error.message) is not None:
        line, column = _line_and_column(statement.text.rstrip())
    elif (named := _NAMED.search(error.message)) is not None and (
        place := re.search(rf"(?<!\w){re.escape(named[1])}(?!\w)", statement.text)
    ) is not None:
        line, column = _line_and_column(statement.text[: place.start()])
    else:
        return error
    error.where = {**error.where, "line": str(line), "column": str(column)}
    return error


def _line_and_column(before: str) -> tuple[int, int]:
    """Return the place behind a text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
