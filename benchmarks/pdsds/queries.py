"""The 99 queries of PDS-DS by number: SQL that Polars runs, one file each in ``sql/``.

Each asks what the query of that number in the TPC-DS specification asks, with the specification's validation parameters,
and is written for this repository: every query that cuts its answer (``LIMIT``) is ordered so that no tie is cut.

The next module is :mod:`benchmarks.pdsds.harness`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl
import sqlglot
from sqlglot import exp

__all__ = ["QUERIES", "build", "ordered_by", "title"]

_FOLDER: Final = Path(__file__).parent / "sql"

QUERIES: Final[Mapping[int, str]] = {
    int(path.stem[1:]): path.read_text() for path in sorted(_FOLDER.glob("q*.sql"), key=lambda path: path.stem)
}
"""Texts by the number in the specification."""


def title(number: int) -> str:
    """Return what a query asks, in one sentence: the comment at its head."""
    return QUERIES[number].partition("\n")[0].removeprefix("-- ")


def build(number: int, tables: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Return a query over the tables."""
    return pl.SQLContext(dict(tables)).execute(QUERIES[number])


def ordered_by(number: int) -> tuple[str, ...]:
    """Return the columns of the answer by which it is ordered, first to last, as far as the order is by its columns.

    Rows that tie in them may come in any order, so these columns alone are the same in every right answer.
    """
    tree = sqlglot.parse_one(QUERIES[number])
    if not isinstance(tree, exp.Select):
        raise TypeError(f"query {number} is no SELECT")
    order, columns = tree.args.get("order"), [column.alias_or_name for column in tree.selects]
    found: list[str] = []
    for key in () if order is None else (one.this for one in order.expressions):
        if isinstance(key, exp.Literal):
            found.append(columns[int(key.name) - 1])
        elif isinstance(key, exp.Column) and key.name in columns:
            found.append(key.name)
        else:
            break
    return tuple(dict.fromkeys(found))
