"""Raw expressions: back and forth to `pl.Expr`, and how they may be split over rows.

Expressions stay opaque (ADR 0002): they are classified, never translated. `Expr.meta` looks at the top node only, so
:func:`is_row_wise` walks the tree. Whatever is not known to be row-wise is not: an unknown kind costs a gather, never
a wrong answer. Next: :mod:`~frazil_coordinator.plan.decompose` splits aggregates.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Final, cast

import msgspec
import polars as pl
from polars import selectors as cs
from polars.exceptions import PolarsError

from frazil_coordinator.plan.nodes import RawExpr
from frazil_functions.arena import Raw

__all__ = [
    "alias_of",
    "expand",
    "from_expr",
    "has_selector",
    "is_literal",
    "is_row_wise",
    "kind_of",
    "plain_column",
    "serialised",
    "substitute",
    "to_expr",
    "walk",
]

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder()
_STAND_IN: Final = "__frazil_column"


def kind_of(raw: RawExpr) -> str:
    """Return the kind of an expression, e.g. ``"Agg"``."""
    return next(iter(raw)) if isinstance(raw, dict) else str(raw)


def members(raw: RawExpr) -> object:
    """Return what the kind holds; None for a bare kind such as ``"Len"``."""
    return next(iter(raw.values())) if isinstance(raw, dict) else None


def to_expr(raw: RawExpr) -> pl.Expr:
    """Return the expression as polars has it."""
    return pl.Expr.deserialize(io.BytesIO(serialised(raw)))


def from_expr(expr: pl.Expr) -> RawExpr:
    """Return a polars expression as raw."""
    return cast("RawExpr", _DECODER.decode(expr.meta.serialize()))


def serialised(raw: RawExpr) -> bytes:
    """Return the bytes that `pl.Expr.deserialize` reads."""
    return _ENCODER.encode(raw)


def plain_column(raw: RawExpr) -> str | None:
    """Return the name when the expression is a bare column, else None."""
    if isinstance(raw, dict) and kind_of(raw) == "Column":
        return str(raw["Column"])
    return None


def alias_of(raw: RawExpr) -> tuple[RawExpr, str] | None:
    """Return ``(inner, name)`` when the expression is ``inner.alias(name)``, else None."""
    if isinstance(raw, dict) and kind_of(raw) == "Alias":
        inner, name = cast("list[object]", raw["Alias"])
        return inner, str(name)
    return None


def is_literal(raw: RawExpr) -> bool:
    """Return whether the expression is one literal value, with or without a name or a cast."""
    kind, inner = kind_of(raw), members(raw)
    if kind == "Literal":
        return isinstance(inner, dict) and kind_of(inner) in ("Dyn", "Scalar")
    if kind == "Alias":
        return is_literal(cast("list[object]", inner)[0])
    return kind == "Cast" and is_literal(cast("Raw", inner)["expr"])


def walk(raw: RawExpr) -> Iterator[RawExpr]:
    """Yield every map and bare kind inside an expression, itself first."""
    stack: list[object] = [raw]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def substitute(raw: RawExpr, replace: Callable[[RawExpr], RawExpr | None]) -> RawExpr:
    """Return the expression with every part for which `replace` gives a value replaced by it, outermost first."""
    found = replace(raw)
    if found is not None:
        return found
    if isinstance(raw, dict):
        return {name: substitute(value, replace) for name, value in raw.items()}
    if isinstance(raw, list):
        return [substitute(value, replace) for value in raw]
    return raw


def has_selector(raw: RawExpr) -> bool:
    """Return whether the expression may stand for several columns."""
    return any(kind_of(part) == "Selector" for part in walk(raw))


def expand(raw: RawExpr, schema: pl.Schema) -> list[RawExpr]:
    """Return one expression a column for an expression with a selector.

    Raises
    ------
    ValueError
        When it holds several different selectors, which polars expands together by rules of its own.
    """
    selectors = {serialised(part) for part in walk(raw) if kind_of(part) == "Selector"}
    if not selectors:
        return [raw]
    if len(selectors) > 1:
        raise ValueError("several selectors in one expression")
    (selector,) = selectors
    names = cs.expand_selector(schema, pl.Expr.deserialize(io.BytesIO(selector)), strict=False)

    def named(name: str) -> RawExpr:
        return substitute(raw, lambda part: {"Column": name} if kind_of(part) == "Selector" else None)

    return [named(name) for name in names]


def is_row_wise(raw: RawExpr) -> bool:
    """Return whether each row of the result depends on the same row of the input only.

    A literal by itself counts as row-wise: polars broadcasts it. At least one column must stand beside it.
    """
    kind, inner = kind_of(raw), members(raw)
    if kind in ("Column", "Selector"):
        return True
    if kind == "Literal":
        return is_literal(raw)
    if kind in ("Alias", "KeepName"):
        return is_row_wise(cast("list[object]", inner)[0] if kind == "Alias" else inner)
    if not isinstance(inner, dict):
        return False
    names = _ROW_WISE_MEMBERS.get(kind)
    if names is not None:
        return all(is_row_wise(inner[name]) for name in names)
    if kind == "Function":
        inputs = cast("list[RawExpr]", inner["input"])
        return _separable(_ENCODER.encode([inner["function"], len(inputs)])) and all(
            is_row_wise(part) or _is_series_literal(part) for part in inputs
        )
    if kind == "AnonymousFunction":
        return _declared_row_wise(inner) and all(map(is_row_wise, cast("list[RawExpr]", inner["input"])))
    if kind == "Eval":
        return str(inner.get("variant")) in ("List", "ListAgg", "Array", "ArrayAgg") and is_row_wise(inner["expr"])
    return False


_ROW_WISE_MEMBERS: Final = {
    "BinaryExpr": ("left", "right"),
    "Cast": ("expr",),
    "Ternary": ("predicate", "truthy", "falsy"),
    "RenameAlias": ("expr",),
    "StructEval": ("expr",),
}


def _declared_row_wise(function: Raw) -> bool:
    """Return whether a Python function was declared to look at one row at a time (``is_elementwise``, ``map_elements``)."""
    return _flags_of(function) & _row_wise_flags() == _row_wise_flags()


def _flags_of(function: Raw) -> int:
    return cast("int", cast("Raw", function["options"])["flags"])


@cache
def _row_wise_flags() -> int:
    """Return the flags by which polars marks a function as declared; `Expr.meta` would have to resolve its dtype."""
    plain, declared = (
        cast("Raw", members(from_expr(pl.col("x").map_batches(len, return_dtype=pl.Int64, is_elementwise=flag))))
        for flag in (False, True)
    )
    return _flags_of(declared) & ~_flags_of(plain)


def _is_series_literal(raw: RawExpr) -> bool:
    """Return whether a whole column is the argument (``is_in(series)``): the function looks at all of it for each row."""
    return kind_of(raw) == "Literal" and not is_literal(raw)


@lru_cache(maxsize=4096)
def _separable(function_and_arity: bytes) -> bool:
    """Ask polars about one function, applied to bare columns."""
    function, arity = cast("tuple[object, int]", _DECODER.decode(function_and_arity))
    if kind_of(function) in _NOT_SEPARABLE:
        return False
    if kind_of(function) == "Sql":  # polars can't tell before it knows the types
        return kind_of(members(function)) in _SQL_ROW_WISE
    raw = {"Function": {"input": [{"Column": f"{_STAND_IN}{n}"} for n in range(arity)], "function": function}}
    try:
        return bool(to_expr(raw).meta.is_row_separable())
    except PolarsError:
        return False


_NOT_SEPARABLE: Final = frozenset({"Random", "FfiPlugin", "Range"})
"""Random values depend on where a row lies; plugins and ranges tell too little about themselves."""

_SQL_ROW_WISE: Final = frozenset({"Binary", "IsIn", "Round"})
"""Arithmetic, ``IN`` and ``ROUND`` of SQL, whose form polars chooses by the types of their inputs."""
