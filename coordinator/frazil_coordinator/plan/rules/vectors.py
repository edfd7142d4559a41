"""One expression with a number of values of its own (``unique``, ``mode``, ``value_counts``, ``sort``) as a plan.

``select(x.value_counts())`` is a group_by, ``select(x.sort())`` a sort; what stands around them is a select over theirs.
Several such expressions side by side have no distributed form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import (
    is_literal,
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
from frazil_coordinator.plan.relation import Relation
from frazil_coordinator.plan.rules.program import planned
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["vector"]

_VALUE: Final = "__frazil_value"
_INDEX: Final = "__frazil_index"
_COUNT: Final = "__frazil_count"

_Build: TypeAlias = Callable[[pl.LazyFrame], pl.LazyFrame]


def vector(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    """Return the values of an expression as a relation of one column, under its name; None when there is no plan for it.

    Parameters
    ----------
    raw
        An expression without selectors.
    rows
        What it is evaluated over.
    context
        Inserts exchanges.
    """
    name = to_expr(raw).meta.output_name()
    found = _values(raw, rows, context)
    return None if found is None else found.then(found.lf.select(pl.col(_VALUE).alias(name)))


def _values(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    """Return the values in a column :data:`_VALUE`."""
    kind, parts = kind_of(raw), operands(raw)
    if kind in ("Alias", "KeepName", "RenameAlias"):
        return _values(parts[0], rows, context)
    if is_separable(raw):
        return planned(lambda lf: lf.select(to_expr(raw).alias(_VALUE)), rows, context)
    if kind == "SortBy":
        return _sorted_by(raw, rows, context)
    build = _build(raw)
    if build is not None:
        inner = _values(parts[0], rows, context)
        return None if inner is None else planned(build, inner, context)
    if kind == "Function" and kind_of(cast("Raw", members(raw))["function"]) == "Reverse":
        inner = _values(parts[0], rows, context)
        return None if inner is None else _in_reverse(inner, context)
    return _around(raw, rows, context)


def _around(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    """Return an operation over other values, as a select over these."""
    parts = operands(raw)
    if not parts or is_row_wise(parts[0]) or not all(map(is_literal, parts[1:])) or kind_of(parts[0]) in ("Over", "Rolling"):
        return None
    if shape_of(parts[0]) is not Shape.OTHER and kind_of(parts[0]) not in ("Sort", "SortBy"):
        return None
    inner = _values(parts[0], rows, context)
    if inner is None:
        return None
    over = to_expr(with_operands(raw, [{"Column": _VALUE}, *parts[1:]])).alias(_VALUE)
    return planned(lambda lf: lf.select(over), inner, context)


def _sorted_by(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    own = cast("Raw", members(raw))
    options = cast("Raw", own["sort_options"])
    values, *by = operands(raw)
    if not all(is_row_wise(part) and shape_of(part) is Shape.COLUMN for part in (values, *by)):
        return None
    keys = [to_expr(part).alias(f"{_INDEX}{number}") for number, part in enumerate(by)]
    descending, nulls_last = (cast("list[bool]", options[name]) for name in ("descending", "nulls_last"))

    def build(lf: pl.LazyFrame) -> pl.LazyFrame:
        keyed = lf.select(to_expr(values).alias(_VALUE), *keys)
        names = [key.meta.output_name() for key in keys]
        stable = bool(options["maintain_order"])
        many = len(names)
        return keyed.sort(
            names,
            descending=descending * many if len(descending) == 1 else descending,
            nulls_last=nulls_last * many if len(nulls_last) == 1 else nulls_last,
            maintain_order=stable,
        ).select(_VALUE)

    return planned(build, rows, context)


def _build(raw: RawExpr) -> _Build | None:
    """Return what an expression does to the frame of its first operand's values; None when nothing is known of it."""
    kind, inner = kind_of(raw), cast("Raw", members(raw))
    value = pl.col(_VALUE)
    if kind == "Sort":
        return lambda lf: _sort(lf, cast("Raw", inner["options"]))
    if kind == "Slice":
        offset, length = (pl.select(to_expr(part)).item() if is_literal(part) else None for part in operands(raw)[1:])
        if not isinstance(offset, int):
            return None
        return lambda lf: lf.slice(offset, length)
    if kind != "Function":
        return None
    name, body = kind_of(inner["function"]), members(inner["function"])
    counts = pl.len().alias(_COUNT)
    match name:
        case "Unique":
            stable = bool(body)
            return lambda lf: lf.unique(keep="first" if stable else "any", maintain_order=stable)
        case "UniqueCounts":
            return lambda lf: lf.group_by(_VALUE, maintain_order=True).agg(counts).select(pl.col(_COUNT).alias(_VALUE))
        case "ArgUnique":
            return lambda lf: (
                lf.with_row_index(_INDEX)
                .group_by(_VALUE)
                .agg(pl.col(_INDEX).min())
                .select(pl.col(_INDEX).alias(_VALUE))
                .sort(_VALUE)
            )
        case "ArgWhere":
            return lambda lf: lf.with_row_index(_INDEX).filter(value).select(pl.col(_INDEX).alias(_VALUE))
        case "Mode":
            stable = bool(cast("Raw", body)["maintain_order"])
            most = pl.col(_COUNT) == pl.col(_COUNT).max()
            return lambda lf: lf.group_by(_VALUE, maintain_order=stable).agg(counts).filter(most).select(_VALUE)
        case "ValueCounts":
            return _value_counts(cast("Raw", body), to_expr(operands(raw)[0]).meta.output_name())
        case "RLE":
            return _runs
        case _:
            return None


def _sort(lf: pl.LazyFrame, options: Raw) -> pl.LazyFrame:
    return lf.sort(
        _VALUE,
        descending=bool(options["descending"]),
        nulls_last=bool(options["nulls_last"]),
        maintain_order=bool(options["maintain_order"]),
    )


def _value_counts(options: Raw, values: str) -> _Build | None:
    name = str(options["name"])
    if options["normalize"]:
        return None

    def build(lf: pl.LazyFrame) -> pl.LazyFrame:
        counted = lf.group_by(_VALUE).agg(pl.len().alias(_COUNT))
        if options["sort"]:
            counted = counted.sort(_COUNT, descending=True)
        return counted.select(pl.struct(pl.col(_VALUE).alias(values), pl.col(_COUNT).alias(name)).alias(_VALUE))

    return build


def _runs(lf: pl.LazyFrame) -> pl.LazyFrame:
    """Return the length and the value of each run of equal values."""
    run = pl.col(_VALUE).rle_id().alias(_INDEX)
    lengths = lf.with_columns(run).group_by(_INDEX, maintain_order=True).agg(pl.len().alias("len"), pl.col(_VALUE).first())
    return lengths.select(pl.struct("len", pl.col(_VALUE).alias("value")).alias(_VALUE))


def _in_reverse(rows: Relation, context: Context) -> Relation:
    """Return the rows from the last to the first."""
    if rows.is_single:
        return rows.then(rows.lf.reverse(), "REVERSE")
    tagged = context.tagged(rows)
    turned = planned(lambda lf: lf.sort(ROW_TAG_COLUMNS, descending=True), tagged, context)
    return turned.then(turned.lf.drop(ROW_TAG_COLUMNS), "REVERSE")
