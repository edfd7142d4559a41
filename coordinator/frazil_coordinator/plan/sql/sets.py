"""UNION, EXCEPT and INTERSECT of built queries, as polars lowers them."""

from __future__ import annotations

from typing import Final, Literal

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.sql.dialect import Unclear

__all__ = ["combined"]

_NUMBER: Final = "_POLARS_TMP_SQL_8000"


def combined(node: exp.SetOperation, first: pl.LazyFrame, second: pl.LazyFrame, *, mirror: bool) -> pl.LazyFrame:
    """Return the rows of a set operation, in the order of the first query where polars keeps one.

    Raises
    ------
    Unclear
        When the columns of the two queries differ in number or dtype, and polars does not make them alike.
    """
    if node.args.get("by_name"):
        if not isinstance(node, exp.Union):
            raise Unclear("an EXCEPT or INTERSECT by name")
        lf = pl.union([first, second], how="diagonal") if mirror else pl.concat([first, second], how="diagonal")
        return lf.unique() if node.args.get("distinct") else lf
    ours, theirs = first.collect_schema(), second.collect_schema()
    if isinstance(node, exp.Union):
        first, second = _aligned(first, second)
        lf = pl.union([first, second], how="vertical") if mirror else pl.concat([first, second])
        return lf.unique() if node.args.get("distinct") else lf
    if ours.dtypes() != theirs.dtypes():
        raise Unclear("an EXCEPT or INTERSECT of different types")
    how: Literal["anti", "semi"] = "anti" if isinstance(node, exp.Except) else "semi"
    left_on, right_on = ours.names(), theirs.names()
    if node.args.get("distinct"):
        return first.join(second, left_on=left_on, right_on=right_on, how=how, nulls_equal=True).unique()
    # The n-th of equal rows is taken for the n-th of the other side.
    numbered = first.with_columns(pl.int_range(pl.len().cast(pl.Int64)).over(left_on).alias(_NUMBER))
    others = second.with_columns(pl.int_range(pl.len().cast(pl.Int64)).over(right_on).alias(_NUMBER))
    joined = numbered.join(
        others,
        left_on=[*left_on, _NUMBER],
        right_on=[*right_on, _NUMBER],
        how=how,
        nulls_equal=True,
    )
    return joined.select(left_on)


def _aligned(first: pl.LazyFrame, second: pl.LazyFrame) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """Return two queries with the names of the first one and common dtypes: columns of a UNION go by their places.

    Raises
    ------
    Unclear
        When one has more columns.
    """
    ours, theirs = first.collect_schema(), second.collect_schema()
    if len(ours) != len(theirs):
        raise Unclear("a UNION of more and fewer columns")
    if ours.names() != theirs.names():
        names = zip(theirs.names(), ours.names(), strict=True)
        second = second.select([pl.col(old) if old == new else pl.col(old).alias(new) for old, new in names])
    if ours.dtypes() == theirs.dtypes():
        return first, second
    empty = [
        pl.LazyFrame(schema=dict(zip(ours.names(), dtypes, strict=True))) for dtypes in (ours.dtypes(), theirs.dtypes())
    ]
    common = pl.concat(empty, how="vertical_relaxed").collect_schema()
    return _cast(first, common), _cast(second, common)


def _cast(lf: pl.LazyFrame, common: pl.Schema) -> pl.LazyFrame:
    schema = lf.collect_schema()
    casts = [pl.col(name).cast(dtype, strict=False) for name, dtype in common.items() if schema[name] != dtype]
    return lf.with_columns(casts) if casts else lf
