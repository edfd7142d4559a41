"""Rows that a query spells out (``VALUES``), and the names that an alias gives to columns.

Used by :mod:`~frazil_coordinator.plan.sql.query`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.sql.dialect import Unclear, text_of

__all__ = ["is_values", "spelled_out", "with_names"]

_WRAPPED: Final = "_values"
"""What the parser calls VALUES that stand alone, which it reads as ``SELECT * FROM (VALUES …) AS _values``."""


def is_values(query: exp.Expr) -> bool:
    """Return whether a query is nothing but ``VALUES``."""
    clause = query.args.get("from_")
    return clause is not None and isinstance(clause.this, exp.Values) and clause.this.alias == _WRAPPED


def spelled_out(node: exp.Values) -> pl.LazyFrame:
    """Return the rows of ``VALUES``, under the names that polars gives; polars itself evaluates them.

    Raises
    ------
    Unclear
        When they depend on other rows.
    polars.exceptions.PolarsError
        When polars refuses them.
    """
    if node.find(exp.Column, exp.Query, exp.Exists) is not None:
        raise Unclear("VALUES that depend on other rows")
    bare = exp.Values(expressions=[row.copy() for row in node.expressions])
    return pl.SQLContext().execute(text_of(bare)).collect(engine="in-memory").lazy()


def with_names(lf: pl.LazyFrame, alias: exp.TableAlias | None) -> pl.LazyFrame:
    """Return a table with the names that its alias gives to its columns: ``t (a, b)``.

    Raises
    ------
    Unclear
        When it names less or more columns than there are.
    """
    given: Sequence[exp.Expr] = alias.columns if alias is not None else ()
    if not given:
        return lf
    names = lf.collect_schema().names()
    if len(names) != len(given):
        raise Unclear("an alias that names some of the columns")
    return lf.select(pl.col(name).alias(one.name) for name, one in zip(names, given, strict=True))
