"""Raw expressions: back and forth to `pl.Expr`, and how they may be split over rows.

Expressions stay opaque (ADR 0002): they are classified, never translated. `Expr.meta` looks at the top node only, so
:func:`is_row_wise` walks the tree. Whatever is not known to be row-wise is not: an unknown kind costs a gather, never
a wrong answer. Next: :mod:`~frazil_coordinator.plan.decompose` splits aggregates.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from typing import Final, cast

import msgspec
import polars as pl
from polars import selectors as cs
from polars.exceptions import PolarsError

from frazil_coordinator.plan.nodes import RawExpr
from frazil_functions.arena import Raw

__all__ = [
    "SCALAR_PREFIX",
    "alias_of",
    "expand",
    "from_expr",
    "function_traits",
    "has_selector",
    "is_literal",
    "is_row_wise",
    "is_separable",
    "is_shared_scalar",
    "kind_of",
    "members",
    "operands",
    "plain_column",
    "row_operands",
    "serialised",
    "shared_scalar",
    "substitute",
    "takes_a_column",
    "to_expr",
    "walk",
    "with_operands",
]

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder()
_STAND_IN: Final = "__frazil_column"


def kind_of(raw: RawExpr) -> str:
    """Return the kind of an expression, e.g. ``"Agg"``."""
    return next(iter(raw), "") if isinstance(raw, dict) else str(raw)


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
        When it holds several different selectors, which polars expands together by rules of its own, or when what comes of
        it is not what polars makes of it.
    PolarsError
        When polars refuses the expression.
    """
    selectors = {serialised(part) for part in walk(raw) if kind_of(part) == "Selector"}
    if not selectors:
        return [raw]
    if len(selectors) > 1:
        raise ValueError("several selectors in one expression")
    (selector,) = selectors
    names = cs.expand_selector(schema, pl.Expr.deserialize(io.BytesIO(selector)), strict=False)
    frame = pl.LazyFrame(schema=schema)
    taken_in = _with_columns_inside(raw, names, frame)
    singles = [_named(taken_in, name) for name in names] if has_selector(taken_in) else [taken_in]
    if _resolved(singles, frame) != _resolved([raw], frame):
        raise ValueError("polars expands the selector in a way of its own")
    return singles


def _named(raw: RawExpr, name: str) -> RawExpr:
    return substitute(raw, lambda part: {"Column": name} if kind_of(part) == "Selector" else None)


def _with_columns_inside(raw: RawExpr, names: Sequence[str], frame: pl.LazyFrame) -> RawExpr:
    """Return an expression with selectors replaced inside of functions of many columns (``sum_horizontal(pl.all())``)."""
    if isinstance(raw, list):
        return [_with_columns_inside(value, names, frame) for value in raw]
    if not isinstance(raw, dict) or kind_of(raw) == "Selector" or not has_selector(raw):
        return raw
    done: Raw = {name: _with_columns_inside(value, names, frame) for name, value in raw.items()}
    kind, inner = kind_of(done), members(done)
    if kind not in ("Function", "AnonymousFunction") or not has_selector(done) or len(names) == len(_columns(done, frame)):
        return done
    parts = cast("list[RawExpr]", cast("Raw", inner)["input"])
    inputs = [
        single for part in parts for single in ([_named(part, name) for name in names] if has_selector(part) else [part])
    ]
    return {kind: {**cast("Raw", inner), "input": inputs}}


def _columns(raw: RawExpr, frame: pl.LazyFrame) -> list[str]:
    return frame.select(to_expr(raw)).collect_schema().names()


def _resolved(exprs: Sequence[RawExpr], frame: pl.LazyFrame) -> str:
    """Return how polars prints expressions when it has replaced their selectors."""
    return frame.select([to_expr(raw) for raw in exprs]).explain(optimized=False)


def operands(raw: RawExpr) -> list[RawExpr]:
    """Return the expressions that an expression is made of and that are evaluated on the same rows as itself.

    The function of a window is not among them (it is evaluated inside its groups), nor is what is done inside a list.
    """
    kind, inner = kind_of(raw), members(raw)
    if kind == "Alias":
        return [cast("list[RawExpr]", inner)[0]]
    if kind == "KeepName":
        return [inner]
    if kind == "Agg" and isinstance(inner, dict):
        (value,) = inner.values()
        if isinstance(value, list):  # [column, ddof]
            return [value[0]]
        return [value["input"] if isinstance(value, dict) and "input" in value else value]
    if not isinstance(inner, dict):
        return []
    if kind in ("Function", "AnonymousFunction"):
        return list(cast("list[RawExpr]", inner["input"]))
    if kind == "Over":
        order = cast("list[RawExpr] | None", inner["order_by"])
        return [*cast("list[RawExpr]", inner["partition_by"]), *([] if order is None else order[:1])]
    if kind == "SortBy":
        return [inner["expr"], *cast("list[RawExpr]", inner["by"])]
    return [inner[name] for name in _OPERANDS.get(kind, ())]


_OPERANDS: Final = {
    "BinaryExpr": ("left", "right"),
    "Cast": ("expr",),
    "Ternary": ("predicate", "truthy", "falsy"),
    "RenameAlias": ("expr",),
    "StructEval": ("expr",),
    "Eval": ("expr",),
    "Filter": ("input", "by"),
    "Sort": ("expr",),
    "Gather": ("expr", "idx"),
    "Slice": ("input", "offset", "length"),
    "Explode": ("input",),
    "Rolling": ("index_column",),
}


def with_operands(raw: RawExpr, parts: Sequence[RawExpr]) -> RawExpr:
    """Return the expression with other operands, as many as :func:`operands` gives."""
    kind, inner = kind_of(raw), members(raw)
    if kind == "Alias":
        return {kind: [parts[0], *cast("list[object]", inner)[1:]]}
    if kind == "KeepName":
        return {kind: parts[0]}
    if not parts or not isinstance(inner, dict):
        return raw
    if kind == "Agg":
        ((name, value),) = inner.items()
        if isinstance(value, list):
            return {kind: {name: [parts[0], *value[1:]]}}
        has_options = isinstance(value, dict) and "input" in value
        return {kind: {name: {**cast("Raw", value), "input": parts[0]} if has_options else parts[0]}}
    if kind in ("Function", "AnonymousFunction"):
        return {kind: {**inner, "input": list(parts)}}
    if kind == "Over":
        count = len(cast("list[RawExpr]", inner["partition_by"]))
        order = cast("list[RawExpr] | None", inner["order_by"])
        ordered = None if order is None else [parts[count], *order[1:]]
        return {kind: {**inner, "partition_by": list(parts[:count]), "order_by": ordered}}
    if kind == "SortBy":
        return {kind: {**inner, "expr": parts[0], "by": list(parts[1:])}}
    return {kind: {**inner, **dict(zip(_OPERANDS[kind], parts, strict=True))}}


def is_row_wise(raw: RawExpr) -> bool:
    """Return whether each row of the result depends on the same row of the input only, and has exactly one value.

    A literal by itself counts as row-wise: polars broadcasts it. At least one column must stand beside it. The first value
    of a column of :data:`SCALAR_PREFIX` is a literal too: all its values are the same.
    """
    kind, inner = kind_of(raw), members(raw)
    if kind in ("Column", "Selector"):
        return True
    if kind == "Literal":
        return is_literal(raw)
    if kind in ("Alias", "KeepName"):
        return is_row_wise(operands(raw)[0])
    if not isinstance(inner, dict):
        return False
    if kind in _ROW_WISE_KINDS:
        return all(map(is_row_wise, operands(raw)))
    if kind == "Function":
        parts = operands(raw)
        separable, keeps_length, _ = function_traits(inner["function"], len(parts))
        return separable and keeps_length and all(map(is_row_wise, row_operands(raw))) and not takes_a_column(raw)
    if kind == "AnonymousFunction":
        return _declared_row_wise(inner) and all(map(is_row_wise, operands(raw)))
    if kind == "Eval":
        return kind_of(inner["variant"]) in _INSIDE_LISTS and is_row_wise(inner["expr"])
    if kind == "StructEval":
        fields = cast("list[RawExpr]", inner["evaluation"])
        return is_row_wise(inner["expr"]) and all(is_row_wise(_with_fields_as_columns(field)) for field in fields)
    return kind == "Agg" and is_shared_scalar(raw)


SCALAR_PREFIX: Final = "__frazil_scalar"
"""Columns of this prefix have the same value in every row of a query."""

_ROW_WISE_KINDS: Final = frozenset({"BinaryExpr", "Cast", "Ternary", "RenameAlias"})
_INSIDE_LISTS: Final = frozenset({"List", "ListAgg", "Array", "ArrayAgg"})


def shared_scalar(name: str) -> RawExpr:
    """Return the one value of a column of :data:`SCALAR_PREFIX`, which polars broadcasts like a literal."""
    return {"Agg": {"First": {"Column": name}}}


def is_shared_scalar(raw: RawExpr) -> bool:
    """Return whether the expression is one that :func:`shared_scalar` made."""
    inner = members(raw)
    name = plain_column(inner["First"]) if isinstance(inner, dict) and kind_of(inner) == "First" else None
    return name is not None and name.startswith(SCALAR_PREFIX)


def is_separable(raw: RawExpr) -> bool:
    """Return whether the values over all rows are those over each part of the rows, one part after the other.

    Unlike a row-wise expression it may have any number of values (``filter``, ``drop_nulls``, ``explode``), so it must not
    stand beside another one.
    """
    if is_row_wise(raw):
        return not is_literal(raw) and not is_shared_scalar(raw)
    kind, inner, parts = kind_of(raw), members(raw), operands(raw)
    if kind in ("Alias", "KeepName", "RenameAlias", "Cast"):
        return is_separable(parts[0])
    if kind in ("Filter", "Explode"):
        return all(map(is_row_wise, parts)) and not is_literal(parts[0])
    if kind == "Function" and isinstance(inner, dict):
        separable, _, _ = function_traits(inner["function"], len(parts))
        return separable and is_separable(parts[0]) and all(map(is_literal, parts[1:]))
    return False


def _with_fields_as_columns(raw: RawExpr) -> RawExpr:
    """Return what is evaluated on a struct as if its fields were columns."""
    return substitute(raw, lambda part: {"Column": _STAND_IN} if kind_of(part) == "Field" else None)


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


def row_operands(raw: RawExpr) -> list[RawExpr]:
    """Return the operands of a function but for a literal column of which it looks at all values for each row.

    Such are the values of ``is_in(series)``, and holidays. Other functions take a literal column row by row (``concat_str``,
    ``fill_null``), and so it belongs to the rows of the whole table.
    """
    function, parts = cast("Raw", members(raw))["function"], operands(raw)
    first, end = _WHOLE_ARGUMENTS.get(_name_of(function), (0, 0))
    return [part for place, part in enumerate(parts) if not (first <= place < end and kind_of(part) == "Literal")]


def takes_a_column(raw: RawExpr) -> bool:
    """Return whether a function may look at all values of a column for each row: ``x.is_in(y)``, unless `y` holds lists.

    Which of the two it is, polars knows by the dtype only: it then looks for ``y.implode()``.
    """
    function = cast("Raw", members(raw))["function"]
    first, end = _WHOLE_ARGUMENTS.get(_name_of(function), (0, 0))
    return any(
        is_row_wise(part) and kind_of(part) != "Literal" and not is_literal(part) and not is_shared_scalar(part)
        for part in map(_unnamed, operands(raw)[first:end])
    )


def _unnamed(raw: RawExpr) -> RawExpr:
    return _unnamed(operands(raw)[0]) if kind_of(raw) in ("Alias", "KeepName") else raw


_WHOLE_ARGUMENTS: Final = {
    "Boolean.IsIn": (1, 2),
    "Business.AddBusinessDay": (2, 3),
    "Business.BusinessDayCount": (2, 3),
    "Business.IsBusinessDay": (1, 2),
    "Replace": (1, 3),
    "ReplaceStrict": (1, 3),
    "Sql.IsIn": (1, 2),
    "StringExpr.ContainsAny": (1, 2),
    "StringExpr.ExtractMany": (1, 2),
    "StringExpr.FindMany": (1, 2),
    "StringExpr.ReplaceMany": (1, 3),
}
"""Function → its arguments, from and up to, that may be a literal column to be looked at as a whole."""


def _name_of(function: object) -> str:
    """Return the kind of a function, and what kind of that it is where it has options."""
    kind, inner = kind_of(function), members(function)
    return f"{kind}.{kind_of(inner)}" if kind in ("Boolean", "Business", "Sql", "StringExpr") else kind


def function_traits(function: object, arity: int) -> tuple[bool, bool, bool]:
    """Return what polars says of a function of `arity` columns.

    Returns
    -------
    tuple[bool, bool, bool]
        Whether it may be applied to each part of the rows, whether it keeps their number, whether it has one value.
        Nothing holds of a function that polars can't tell about.
    """
    return _traits(_ENCODER.encode([function, arity]))


@lru_cache(maxsize=4096)
def _traits(function_and_arity: bytes) -> tuple[bool, bool, bool]:
    function, arity = cast("tuple[object, int]", _DECODER.decode(function_and_arity))
    # Polars can't tell of some functions before it knows the types.
    known = _KNOWN.get(kind_of(function)) or _KNOWN.get(f"{kind_of(function)}.{kind_of(members(function))}")
    if known is not None:
        return known
    if kind_of(function) == "Bin":  # by given breaks, or by those that the whole column has
        method = cast("Raw", members(function))["method"]
        by_breaks = kind_of(method) == "Intervals" and kind_of(cast("Raw", members(method))["spec"]) == "Breaks"
        return by_breaks, True, False
    columns: list[RawExpr] = [{"Column": f"{_STAND_IN}{n}"} for n in range(arity)]
    # Some take nothing but a single value as their second argument, and polars says so.
    for parts in (columns, [*columns[:1], *[_ANY_LITERAL] * (arity - 1)]):
        try:
            meta = to_expr({"Function": {"input": parts, "function": function}}).meta
            separable = kind_of(function) not in _NOT_SEPARABLE and bool(meta.is_row_separable())
            return separable, bool(meta.is_length_preserving()), bool(meta.is_scalar())
        except (PolarsError, OSError):
            continue
    return _NOTHING_KNOWN


_ANY_LITERAL: Final[RawExpr] = from_expr(pl.lit(1))
_NOTHING_KNOWN: Final = (False, False, False)

_NOT_SEPARABLE: Final = frozenset({"Random"})
"""Random values depend on where a row lies."""

_ROW_BY_ROW: Final = (True, True, False)
_ONE_VALUE: Final = (False, False, True)
_KNOWN: Final = {
    "Sql.Binary": _ROW_BY_ROW,
    "Sql.IsIn": _ROW_BY_ROW,
    "Sql.Round": _ROW_BY_ROW,
    "Reinterpret": _ROW_BY_ROW,
    "ArrayExpr.ToStruct": _ROW_BY_ROW,
    "StructExpr.SelectFields": _ROW_BY_ROW,
    "IndexOf": _ONE_VALUE,
    "LowerBound": _ONE_VALUE,
    "UpperBound": _ONE_VALUE,
    "ApproxQuantile": _ONE_VALUE,
}
