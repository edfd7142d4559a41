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
        When the columns of the two queries differ and the operation does not go by name.
    """
    if node.args.get("by_name"):
        if not isinstance(node, exp.Union):
            raise Unclear("an EXCEPT or INTERSECT by name")
        lf = pl.union([first, second], how="diagonal") if mirror else pl.concat([first, second], how="diagonal")
        return lf.unique() if node.args.get("distinct") else lf
    ours, theirs = first.collect_schema(), second.collect_schema()
    if isinstance(node, exp.Union):
        if list(ours.items()) != list(theirs.items()):
            raise Unclear("a UNION of different columns")
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
