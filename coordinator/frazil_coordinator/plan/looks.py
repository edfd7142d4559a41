"""How far an expression looks: at its own row, at a few neighbours, at all rows before, at its group, at everything.

:func:`look_of` gives one node its class, as if its inputs were plain columns, :func:`looks_at` the widest class inside a
whole expression. :func:`shape_of` says whether an expression has one value, one a row, or a number of its own. Functions are
asked of polars (:func:`~frazil_coordinator.plan.exprs.function_traits`); what neither polars nor the tables here know is
``WHOLE``, which costs a gather and never a wrong answer. Next: :mod:`frazil_coordinator.plan.rules.lifting`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.exprs import (
    function_traits,
    is_literal,
    is_row_wise,
    is_shared_scalar,
    kind_of,
    members,
    operands,
    row_operands,
    takes_a_column,
    to_expr,
    with_operands,
)
from frazil_coordinator.plan.nodes import RawExpr
from frazil_functions.arena import Raw

__all__ = [
    "Look",
    "Shape",
    "first_row_index",
    "is_repeated",
    "is_row_index",
    "keys_of",
    "literal_int",
    "look_of",
    "looks_at",
    "reach_of",
    "reads_rows",
    "shape_of",
]


class Look(IntEnum):
    """What an expression looks at, the nearest first."""

    ROW = 0
    """Its own row."""

    NEAR = 1
    """At most a known number of rows before and after it (``shift``, ``diff``, ``rolling_mean``)."""

    CARRIED = 2
    """All rows before it, or all after it, through a state that can be carried on (``cum_sum``, ``forward_fill``)."""

    GROUP = 3
    """The rows of equal keys (``over``, ``is_unique``)."""

    AGGREGATE = 4
    """All rows, for one value."""

    WHOLE = 5
    """All rows, in a way of its own (``sort``, ``rank``), or nobody knows."""

    OPAQUE = 6
    """Whatever a Python function looks at."""


class Shape(IntEnum):
    """How many values an expression has."""

    SCALAR = 0
    """One, which is given to every row that stands beside it."""

    COLUMN = 1
    """One a row."""

    OTHER = 2
    """Any number: filtered, sliced, unique values."""


_SAME_ROWS: Final = frozenset({"GroupsToRows", "Join"})
"""Strategies of a window that give one value a row, in the order of the rows."""

_DISTINCT: Final = frozenset({"IsFirstDistinct", "IsLastDistinct", "IsUnique", "IsDuplicated"})
_RUNNING: Final = frozenset({"CumSum", "CumProd", "CumCount", "CumMax", "CumMin", "RLEID"})
_PEAKS: Final = frozenset({"PeakMax", "PeakMin"})


def looks_at(raw: RawExpr) -> Look:
    """Return the widest class of the parts of an expression."""
    if is_row_wise(raw):
        return Look.ROW
    own = look_of(raw)
    if is_row_index(raw):
        return own
    return max((own, *(looks_at(part) for part in operands(raw))))


def look_of(raw: RawExpr) -> Look:
    """Return the class of the outermost operation of an expression, whatever its operands are."""
    kind, inner = kind_of(raw), members(raw)
    if kind == "AnonymousFunction":
        return Look.OPAQUE
    if kind in ("Len", "Agg"):
        return Look.AGGREGATE
    if kind == "Over" and isinstance(inner, dict):
        return Look.GROUP if str(inner["mapping"]) in _SAME_ROWS and keys_of(raw) else Look.WHOLE
    if kind == "Function" and isinstance(inner, dict):
        return _look_of_function(raw, inner)
    bare = with_operands(raw, [{"Column": "x"} for _ in operands(raw)])
    return Look.ROW if is_row_wise(bare) else Look.WHOLE


_ROW_WISE_KINDS: Final = frozenset({"Column", "Alias", "KeepName", "RenameAlias", "BinaryExpr", "Cast", "Ternary"})


def _look_of_function(raw: RawExpr, inner: Raw) -> Look:
    function, parts = inner["function"], cast("list[RawExpr]", inner["input"])
    name, body = kind_of(function), members(function)
    separable, keeps_length, scalar = function_traits(function, len(parts))
    if separable and keeps_length:
        return Look.WHOLE if takes_a_column(raw) else Look.ROW
    if reach_of(raw) is not None:
        return Look.NEAR
    if name in _RUNNING or _is_endless_fill(function) or is_row_index(raw):
        return Look.CARRIED
    if name == "Boolean" and kind_of(body) in _DISTINCT and keys_of(raw):
        return Look.GROUP
    return Look.AGGREGATE if scalar else Look.WHOLE


def _is_endless_fill(function: object) -> bool:
    body = members(function)
    return kind_of(function) == "FillNullWithStrategy" and body in ({"Forward": None}, {"Backward": None})


def is_row_index(raw: RawExpr) -> bool:
    """Return whether the expression is ``int_range(n, len() + n)``: the number of the row, from `n` on."""
    return first_row_index(raw) is not None


def first_row_index(raw: RawExpr) -> int | None:
    """Return the number of the first row of an expression that numbers the rows; None for anything else."""
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict):
        return None
    function, parts = inner["function"], cast("list[RawExpr]", inner["input"])
    body = members(function)
    if kind_of(function) != "Range" or kind_of(body) != "IntRange" or len(parts) != 2:
        return None
    first = literal_int(parts[0])
    step = cast("Raw", members(body))["step"]
    return first if step == 1 and first is not None and first >= 0 and _more_than_rows(parts[1]) == first else None


def _more_than_rows(raw: RawExpr) -> int | None:
    """Return `n` of ``len() + n``."""
    if raw == "Len":
        return 0
    inner = cast("Raw", members(raw))
    if kind_of(raw) == "Cast":
        return _more_than_rows(inner["expr"])
    if kind_of(raw) != "BinaryExpr" or inner["op"] != "Plus":
        return None
    sides = (inner["left"], inner["right"])
    return next((literal_int(other) for one, other in (sides, sides[::-1]) if _more_than_rows(one) == 0), None)


def is_repeated(raw: RawExpr) -> bool:
    """Return whether the expression is ``repeat(value, len())``: a literal for every row."""
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict) or inner["function"] != "Repeat":
        return False
    value, count = cast("list[RawExpr]", inner["input"])
    return is_literal(value) and _more_than_rows(count) == 0


def reads_rows(raw: RawExpr) -> bool:
    """Return whether an expression reads a column, or counts the rows."""
    if kind_of(raw) in ("Column", "Selector", "Len", "Over", "Rolling", "Eval", "StructEval", "AnonymousFunction"):
        return True
    return any(map(reads_rows, operands(raw)))


def literal_int(raw: RawExpr) -> int | None:
    """Return the value of a literal integer; None for anything else."""
    if not is_literal(raw):
        return None
    value = pl.select(to_expr(raw)).item()
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def reach_of(raw: RawExpr) -> int | None:
    """Return how many rows before or after it a value depends on at most; None when there is no such number."""
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict):
        return None
    function, parts = inner["function"], cast("list[RawExpr]", inner["input"])
    name, body = kind_of(function), members(function)
    if name in ("Shift", "ShiftAndFill", "PctChange") or (name == "Diff" and body == "Ignore"):
        rows = literal_int(parts[1])
        fills = all(is_literal(part) or is_shared_scalar(part) for part in parts[2:])
        return abs(rows) if rows is not None and fills else None
    if name == "RollingExpr" and isinstance(body, dict):
        if kind_of(body["function"]) == "Map" or _is_random(body):
            return None
        return int(cast("int", cast("Raw", body["options"])["window_size"]))
    if name == "FillNullWithStrategy" and kind_of(body) in ("Forward", "Backward"):
        return cast("int | None", members(body))
    return 1 if name in _PEAKS else None


def _is_random(rolling: Raw) -> bool:
    parameters = cast("Raw", rolling["options"])["fn_params"]
    return isinstance(parameters, dict) and "Random" in str(parameters)


def keys_of(raw: RawExpr) -> list[RawExpr]:
    """Return the row-wise keys of an expression of the class ``GROUP`` by which its groups may be brought together."""
    inner = cast("Raw", members(raw))
    keys = cast("list[RawExpr]", inner["partition_by" if kind_of(raw) == "Over" else "input"])
    return [key for key in keys if is_row_wise(key) and shape_of(key) is Shape.COLUMN]


def shape_of(raw: RawExpr) -> Shape:
    """Return how many values an expression has; what is unknown has a number of its own."""
    kind, inner = kind_of(raw), members(raw)
    if kind == "Literal":
        return Shape.SCALAR if is_literal(raw) else Shape.OTHER
    if kind in ("Len", "Agg"):
        return Shape.SCALAR if "AggGroups" not in str(inner) else Shape.OTHER
    if kind == "Column" or is_row_wise(raw):
        parts = row_operands(raw) if kind == "Function" else operands(raw)
        return max(map(shape_of, parts), default=Shape.COLUMN)
    if not isinstance(inner, dict):
        return max((shape_of(part) for part in operands(raw)), default=Shape.OTHER)
    if kind == "Over":
        return Shape.COLUMN if str(inner["mapping"]) in _SAME_ROWS else Shape.OTHER
    if kind == "Function":
        return _shape_of_function(raw, inner)
    if kind == "Gather":
        if inner["returns_scalar"]:
            return Shape.SCALAR
        return Shape.COLUMN if shape_of(inner["idx"]) is Shape.COLUMN else Shape.OTHER
    if kind in _ROW_WISE_KINDS or kind in ("Eval", "StructEval", "Sort", "SortBy"):
        return max(shape_of(part) for part in operands(raw))
    return Shape.COLUMN if kind == "Rolling" else Shape.OTHER


def _shape_of_function(raw: RawExpr, inner: Raw) -> Shape:
    parts = cast("list[RawExpr]", inner["input"])
    separable, keeps_length, scalar = function_traits(inner["function"], len(parts))
    if scalar:
        return Shape.SCALAR
    if is_row_index(raw) or is_repeated(raw):
        return Shape.COLUMN
    if not keeps_length or not parts:
        return Shape.OTHER
    if not separable:
        return shape_of(parts[0])
    shapes = list(map(shape_of, row_operands(raw)))
    # Of ``x.is_in(y.unique())`` all values of the second operand are looked at for each row.
    is_member = kind_of(inner["function"]) == "Boolean" and kind_of(members(inner["function"])) == "IsIn"
    return shapes[0] if is_member and shapes[-1] is Shape.OTHER else max(shapes)
