"""From a SQL statement to a plan: the one that ``pl.SQLContext`` makes over the tables' scans, so the answer is polars'.

Polars says which tables a statement means, those of catalogs (``catalog.namespace.table``) too; only these are opened, each
once. Errors name the line and the column, where polars or the statement tell one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import polars as pl

from frazil_coordinator.catalog.parameters import Parameters, bound
from frazil_functions.arena import Arena
from frazil_functions.errors import QueryError, RequestError

if TYPE_CHECKING:
    from frazil_coordinator.plan.sql.catalogs import Name

__all__ = ["OpenOutside", "OpenTable", "Shown", "Statement", "plan_of", "with_position", "words_of"]

Shown: TypeAlias = Literal["result", "plan", "analysis"]
OpenTable: TypeAlias = Callable[[], pl.LazyFrame]
OpenOutside: TypeAlias = Callable[[tuple[str, ...]], pl.LazyFrame]
_NONE: Final[Mapping[str, OpenOutside]] = MappingProxyType({})

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


def plan_of(statement: Statement, tables: Mapping[str, OpenTable], catalogs: Mapping[str, OpenOutside] = _NONE) -> bytes:
    """Return the plan of a statement; no file of a table is opened, but what tells which files it has.

    Parameters
    ----------
    statement
        What is asked.
    tables
        Name → gives its scan. Only those that the statement means are called, each once.
    catalogs
        Name → gives the scan of a table by its namespace and name.

    Raises
    ------
    RequestError
        As :func:`~frazil_coordinator.catalog.parameters.bound`.
    QueryError
        When polars refuses it, or there is no such table; `where` has its ``line`` and ``column`` where they are known.
    FrazilError
        What opening a table raises.
    """
    parameters = statement.parameters
    text = bound(statement.text, parameters) if parameters else statement.text
    from frazil_coordinator.plan.sql.catalogs import executed

    try:
        named, outside = _meant(text, tables, catalogs)
        scans = {name: tables[name]() for name in named}
        others = {name: catalogs[name[0]](name[1:]) for name in outside}
        return executed(text, scans, others).serialize()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raised = QueryError(str(error), exception=type(error).__name__)
        raise with_position(raised, statement) from error
    except QueryError as error:
        raise with_position(error, statement) from error


def _meant(text: str, tables: Iterable[str], catalogs: Iterable[str]) -> tuple[list[str], list[Name]]:
    """Return the names of the tables that a statement means; raise now what polars would say of one that there is not.

    Columns are not looked at: that would open files.
    """
    from frazil_coordinator.plan.sql.catalogs import executed, names_of_catalogs  # sqlglot: only where plans are made

    outside = names_of_catalogs(text, tables, catalogs)
    unresolved = executed(text, {name: pl.LazyFrame() for name in tables}, {name: pl.LazyFrame() for name in outside})
    if _READS_FILES.search(text) is None:
        _check_names(unresolved)
    arena = Arena.of(unresolved)
    statements = [arena.payload(number) for number in arena.reachable() if arena.kind(number) == "SQL"]
    relations = [cast("list[Any]", payload["relations"]) for payload in statements]
    return list(dict.fromkeys(str(name) for found in relations for name, _ in found)), outside


def _check_names(unresolved: pl.LazyFrame) -> None:
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
        place := re.search(_as_written(named[1]), statement.text)
    ) is not None:
        line, column = _line_and_column(statement.text[: place.start()])
    else:
        return error
    error.where = {**error.where, "line": str(line), "column": str(column)}
    return error


def _as_written(name: str) -> str:
    """Return a pattern of the ways in which a statement may write a name: with quotes, and blanks between its parts."""
    parts = (re.escape(part) for part in name.split("."))
    return r'(?<![\w."`])["`]?' + r'["`]?\s*\.\s*["`]?'.join(parts) + r"(?!\w)"


def _line_and_column(before: str) -> tuple[int, int]:
    """Return the place behind a text."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
