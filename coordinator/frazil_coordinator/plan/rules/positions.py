"""What looks at the number of a row: reversed rows, every n-th row, slices in the middle, rows at given numbers.

A select of which every expression moves the rows of its column in the same way (``pl.all().reverse()``) moves the rows of
the frame: its columns are computed first, and the frame is moved then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import expand, is_literal, is_row_wise, kind_of, members, serialised, to_expr, walk
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import Gather, RawExpr, Select, Slice, Sort
from frazil_coordinator.plan.relation import ANY, Relation, apply
from frazil_coordinator.plan.rules.base import combine, distribute, run_single
from frazil_coordinator.plan.rules.computed import sliced_by
from frazil_coordinator.plan.rules.running import number_rows
from frazil_functions.arena import Arena, Raw
from frazil_functions.task import ROW_TAG_COLUMNS, SortKey

__all__ = ["LARGEST_GATHERED_SLICE", "moved_rows", "rows_between"]

LARGEST_GATHERED_SLICE: Final = 10_000_000
"""Rows up to which a head, tail or top-k is finished in one task."""

_POSITION: Final = "__frazil_position"


def rows_between(context: Context, rows: Relation, first: int, length: int | None) -> Relation:
    """Return the rows from number `first` on, at most `length`, in their order and in their tasks."""
    numbered = number_rows(context, rows, name=_POSITION, offset=0)
    position = pl.col(_POSITION)
    wanted = position >= first if length is None else (position >= first) & (position < first + length)
    return numbered.then(numbered.lf.filter(wanted).drop(_POSITION))


def moved_rows(node: Select, context: Context, rows: Relation, operator: str) -> Relation | None:
    """Return the relation of a select that moves all its columns' rows alike, or looks at the first rows only; else None."""
    try:
        singles = [single for raw in node.exprs for single in expand(raw, rows.schema)]
        moves = [_move_of(single) for single in singles]
    except (PolarsError, ValueError):
        return None
    found = {None if move is None else serialised(move[0]) for move in moves}
    if len(found) == 1 and moves[0] is not None:
        columns = [
            to_expr(cast("tuple[RawExpr, RawExpr]", move)[1]).alias(to_expr(single).meta.output_name())
            for single, move in zip(singles, moves, strict=True)
        ]
        if (moved := _moved(moves[0][0], columns, context, rows, operator)) is not None:
            return moved
    needed = [_first_rows(single) for single in singles]
    if needed and all(count is not None and count <= LARGEST_GATHERED_SLICE for count in needed):
        most = max(cast("list[int]", needed))
        first = context.gather(rows.then(rows.lf.head(most), f"HEAD {most}", kind="slice"), kind="slice")
        return first.then(apply(node.raw, [first.lf]), operator)
    return None


def _move_of(raw: RawExpr) -> tuple[RawExpr, RawExpr] | None:
    """Return how an expression moves rows, with null in the place of what it moves, and that; None when it does not."""
    kind, inner = kind_of(raw), members(raw)
    if kind == "Alias":
        return _move_of(cast("list[object]", inner)[0])
    if not isinstance(inner, dict):
        return None
    if kind == "Function" and kind_of(inner["function"]) in ("Reverse", "GatherEvery"):
        (moved,) = cast("list[RawExpr]", inner["input"])
        move: RawExpr = {kind: {**inner, "input": [None]}}
    elif kind in ("Slice", "Filter", "SortBy"):
        name = "expr" if kind == "SortBy" else "input"
        moved, move = inner[name], {kind: {**inner, name: None}}
    else:
        return None
    return (move, moved) if is_row_wise(moved) and any(kind_of(part) == "Column" for part in walk(moved)) else None


def _moved(move: RawExpr, columns: Sequence[pl.Expr], context: Context, rows: Relation, operator: str) -> Relation | None:
    """Return `columns` of the rows, moved."""
    inner = cast("Raw", members(move))
    match kind_of(move):
        case "Function" if kind_of(inner["function"]) == "Reverse":
            return _reversed(context, rows.then(rows.lf.select(columns)), operator)
        case "Function":
            body = cast("dict[str, int]", members(inner["function"]))
            return _every(context, rows.then(rows.lf.select(columns)), body["n"], body["offset"], operator)
        case "Slice" if is_literal(inner["offset"]) and is_literal(inner["length"]):
            offset, length = (pl.select(to_expr(inner[name])).item() for name in ("offset", "length"))
            cut = pl.LazyFrame({"x": []}).slice(offset, length)
            part = Slice(number=-1, inputs=(0,), raw=_root(cut), offset=offset, length=length)
            return distribute(part, context, [rows.then(rows.lf.select(columns), keeps_rows=True)])
        case "Slice" if all(shape_of(inner[name]) is Shape.SCALAR for name in ("offset", "length")):
            offset, length = to_expr(inner["offset"]), to_expr(inner["length"])
            return sliced_by(offset, length, rows.then(rows.lf.select(columns)), rows, context)
        case "Filter" if is_row_wise(inner["by"]) and not is_literal(inner["by"]):
            kept = rows.lf.filter(to_expr(inner["by"])).select(columns)
            return rows.then(kept, operator, distribution=ANY)
        case "SortBy":
            return _sorted_by(inner, columns, context, rows)
        case _:
            return None


def _sorted_by(inner: Raw, columns: Sequence[pl.Expr], context: Context, rows: Relation) -> Relation | None:
    options, by = cast("Raw", inner["sort_options"]), cast("list[RawExpr]", inner["by"])
    if options["limit"] is not None or not all(map(is_row_wise, by)):
        return None
    flags = {name: cast("list[bool]", options[name]) for name in ("descending", "nulls_last")}
    each = {name: tuple(given * len(by) if len(given) == 1 else given) for name, given in flags.items()}
    stable = bool(options["maintain_order"])
    ordering = pl.LazyFrame({"x": []}).sort("x")
    raw = cast("Raw", _root(ordering)["Sort"])
    sort = Sort(
        number=-1,
        inputs=(0,),
        raw={"Sort": {**raw, "by_column": by, "sort_options": options}},
        by=tuple(by),
        descending=each["descending"],
        nulls_last=each["nulls_last"],
        maintain_order=stable,
        limit=None,
    )
    ordered = distribute(sort, context, [rows])
    return ordered.then(ordered.lf.select(columns), distribution=None if ordered.is_single else ANY)


def _root(lf: pl.LazyFrame) -> Raw:
    arena = Arena.of(lf)
    return arena.nodes[arena.root]


def _reversed(context: Context, rows: Relation, operator: str) -> Relation:
    tagged = context.tagged(rows)
    keys = [SortKey(column=name, descending=True, nulls_last=False) for name in ROW_TAG_COLUMNS]
    turned = context.sort(tagged, keys, stable=False)
    return turned.then(turned.lf.drop(ROW_TAG_COLUMNS), operator, distribution=ANY)


def _every(context: Context, rows: Relation, n: int, offset: int, operator: str) -> Relation:
    numbered = number_rows(context, rows, name=_POSITION, offset=0)
    position = pl.col(_POSITION)
    kept = numbered.lf.filter((position >= offset) & ((position - offset) % n == 0)).drop(_POSITION)
    return numbered.then(kept, operator, distribution=ANY)


def _first_rows(raw: RawExpr) -> int | None:
    """Return how many first rows an expression looks at; None when that is not known."""
    kind, inner = kind_of(raw), members(raw)
    if kind == "Alias":
        return _first_rows(cast("list[object]", inner)[0])
    if not isinstance(inner, dict):
        return None
    if kind == "Slice" and is_row_wise(inner["input"]) and is_literal(inner["offset"]) and is_literal(inner["length"]):
        offset, length = (pl.select(to_expr(inner[name])).item() for name in ("offset", "length"))
        return None if offset < 0 or length is None else offset + length
    if kind == "Gather" and is_row_wise(inner["expr"]) and kind_of(inner["idx"]) == "Literal":
        numbers = pl.select(to_expr(inner["idx"])).to_series()
        if numbers.dtype.is_integer() and numbers.len() and not numbers.has_nulls() and cast("int", numbers.min()) >= 0:
            return cast("int", numbers.max()) + 1
    return None


@distribute.register
def _(node: Gather, context: Context, inputs: Sequence[Relation]) -> Relation:
    rows, numbers = inputs
    if rows.is_single and numbers.is_single:
        return combine(inputs).then(apply(node.raw, [rows.lf, numbers.lf]), "GATHER ROWS")
    if numbers.is_single or rows.bytes > context.settings.broadcast_limit_bytes:
        return run_single(node, context, inputs, "gather looks for rows by their number among all rows", "GATHER ROWS")
    whole = context.broadcast(rows)
    both = replace(combine([numbers, whole]), distribution=ANY)
    return both.then(apply(node.raw, [whole.lf, numbers.lf]), "GATHER ROWS", kind="map")
