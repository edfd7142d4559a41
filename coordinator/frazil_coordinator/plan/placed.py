"""Aggregates that say where something is, or look at the ends of each part: split into a step a task and one over all.

The rows of a task come after those of all tasks before it, so a place among all rows is one among the task's rows and the
number of rows before. :func:`placed` is asked by :mod:`~frazil_coordinator.plan.decompose`, for aggregates of all rows only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.exprs import (
    from_expr,
    is_row_wise,
    is_separable,
    kind_of,
    members,
    operands,
    to_expr,
    with_operands,
)
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import RawExpr

__all__ = ["Parts", "placed"]

_SAME_EVERYWHERE: Final = frozenset({"LowerBound", "UpperBound"})
"""What a dtype has, whatever the rows are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How partial aggregates are added."""

    add: Callable[[pl.Expr], pl.Expr]
    """Adds a partial aggregate, and returns the column of its values, one a task in the order of tasks."""

    collected: Callable[[pl.Expr], pl.Expr]
    """Adds some values of each task, and returns those of all tasks, in their order."""


def placed(raw: RawExpr, parts: Parts) -> pl.Expr | None:
    """Return the final expression of an aggregate over all rows; None when it is none of those known here.

    Parameters
    ----------
    raw
        The aggregate.
    parts
        Takes its partial aggregates.
    """
    inner = members(raw)
    if kind_of(raw) == "Agg" and kind_of(inner) == "Item":
        (values,) = operands(raw)
        return _over(raw, parts.collected(to_expr(values).head(2))) if _has_rows(values) else None
    if kind_of(raw) != "Function" or not isinstance(inner, dict):
        return None
    function = cast("RawExpr", inner["function"])
    columns = operands(raw)
    if not columns or not _has_rows(columns[0]):
        return None
    name = kind_of(function)
    if name == "Boolean":
        return _boolean(raw, kind_of(members(function)), parts)
    if name == "StringExpr" and kind_of(members(function)) == "ConcatVertical":
        return _over(raw, parts.collected(to_expr(columns[0])))
    if name in ("ArgMin", "ArgMax"):
        return _place_of_extreme(to_expr(columns[0]), parts, largest=name == "ArgMax")
    if name in ("MinBy", "MaxBy"):
        return _value_at_extreme(columns, parts, largest=name == "MaxBy")
    if name == "IndexOf" and is_row_wise(columns[1]) and shape_of(columns[1]) is Shape.SCALAR:
        return (parts.add(to_expr(raw)).cast(pl.Int64) + _before(to_expr(columns[0]), parts)).min()
    return parts.add(to_expr(raw)).first() if name in _SAME_EVERYWHERE else None


def _has_rows(raw: RawExpr) -> bool:
    return is_separable(raw) and shape_of(raw) is not Shape.SCALAR


def _over(raw: RawExpr, values: pl.Expr) -> pl.Expr:
    return to_expr(with_operands(raw, [from_expr(values), *operands(raw)[1:]]))


def _before(values: pl.Expr, parts: Parts) -> pl.Expr:
    """Return how many values the tasks before each have."""
    return parts.add(values.len().cast(pl.Int64)).cum_sum().shift(1, fill_value=0)


def _boolean(raw: RawExpr, name: str, parts: Parts) -> pl.Expr | None:
    if name == "IsEmpty":
        return parts.add(to_expr(raw)).all()
    if name != "IsSorted":
        return None
    # All are in order when those of each task are, and the first and last ones of all tasks one after the other.
    values = to_expr(operands(raw)[0])
    ends = parts.collected(values.head(1).append(values.tail(1)))
    return parts.add(to_expr(raw)).all() & _over(raw, ends)


def _extreme(listed: pl.Expr, *, largest: bool) -> pl.Expr:
    """Return the place of the largest or smallest value in a list: of equal ones, that of polars' in-memory engine."""
    return listed.list.arg_max() if largest else listed.list.arg_min()


def _place_of_extreme(values: pl.Expr, parts: Parts, *, largest: bool) -> pl.Expr:
    place = _extreme(values.implode(), largest=largest)
    best = parts.add(values.implode().list.get(place))
    places = parts.add(place).cast(pl.Int64) + _before(values, parts)
    return places.implode().list.get(_extreme(best.implode(), largest=largest))


def _value_at_extreme(columns: list[RawExpr], parts: Parts, *, largest: bool) -> pl.Expr | None:
    if not all(is_row_wise(column) and shape_of(column) is Shape.COLUMN for column in columns):
        return None
    values, by = map(to_expr, columns)
    place = _extreme(by.implode(), largest=largest)
    best, value = parts.add(by.implode().list.get(place)), parts.add(values.implode().list.get(place))
    return value.implode().list.get(_extreme(best.implode(), largest=largest))
