"""One expression with a number of values of its own (``unique``, ``mode``, ``value_counts``, ``sort``) as a plan.

``select(x.value_counts())`` is a group_by, ``select(x.sort())`` a sort; what stands around them is a select over theirs.
Several side by side are brought together by the numbers of their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeAlias, cast

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
from frazil_coordinator.plan.looks import Shape, reads_rows, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import Relation, apply
from frazil_coordinator.plan.rules.base import beside
from frazil_coordinator.plan.rules.computed import gathered_at, sliced_by
from frazil_coordinator.plan.rules.constants import constants
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_coordinator.plan.rules.program import planned, planned_of_several
from frazil_functions.arena import Arena, Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["vector", "vector_columns", "vectors_abreast"]

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


def vectors_abreast(exprs: Sequence[RawExpr], rows: Relation, context: Context) -> Relation | None:
    """Return several expressions side by side, single values beside each row; None when there is no plan for one of them.

    Parameters
    ----------
    exprs
        Expressions without selectors, at least one of them with a number of values of its own.
    rows
        What they are evaluated over.
    context
        Inserts exchanges.
    """
    whole = context.once(rows)
    sides: list[Relation] = []
    single: list[pl.Expr] = []
    for raw in exprs:
        if shape_of(raw) is Shape.SCALAR:
            single.append(to_expr(raw).alias(to_expr(raw).meta.output_name()))
            continue
        made = _part(raw, whole, context)
        if made is None:
            return None
        sides.append(made.then(made.lf.select(pl.col(_VALUE).alias(to_expr(raw).meta.output_name()))))
    abreast = (
        sides[0] if len(sides) == 1 else planned_of_several(lambda lfs: pl.concat(lfs, how="horizontal"), sides, context)
    )
    if single:
        row = planned(lambda lf: lf.select(single), whole, context)
        if not row.is_single:
            return None
        abreast = beside(abreast, context.broadcast(row))
    return abreast.then(abreast.lf.select(to_expr(raw).meta.output_name() for raw in exprs))


def vector_columns(exprs: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    """Return the rows with expressions of as many values as columns, side by side (``x.sort()``, ``x.reverse()``).

    Parameters
    ----------
    exprs
        Column → expression over the columns of `rows`.
    rows
        The rows, without row tags.
    context
        Inserts exchanges.

    Raises
    ------
    NotDistributedError
        When there is no plan for one of them.
    """
    if not exprs:
        return rows
    whole = context.once(rows)
    sides = [whole]
    for name, raw in exprs.items():
        made = _values(raw, whole, context)
        if made is None:
            raise NotDistributedError("it looks at the whole column", raw)
        sides.append(made.then(made.lf.select(pl.col(_VALUE).alias(name))))
    return _beside_one_another(sides, context)


def _beside_one_another(sides: Sequence[Relation], context: Context) -> Relation:
    if len(sides) == 1:
        return sides[0]
    return planned_of_several(lambda lfs: pl.concat(lfs, how="horizontal"), sides, context)


def _values(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    """Return the values in a column :data:`_VALUE`."""
    kind, parts = kind_of(raw), operands(raw)
    if kind in ("Alias", "KeepName", "RenameAlias"):
        return _values(parts[0], rows, context)
    if not reads_rows(raw):
        return constants([to_expr(raw).alias(_VALUE)], "CONSTANTS")
    if is_separable(raw):
        return planned(lambda lf: lf.select(to_expr(raw).alias(_VALUE)), rows, context)
    if kind == "SortBy":
        return _sorted_by(raw, rows, context)
    if kind == "Gather":
        return _gathered(raw, rows, context)
    if kind == "Rolling":
        return _rolling(raw, rows, context)
    build = _build(raw)
    if build is not None:
        inner = _values(parts[0], rows, context)
        return None if inner is None else planned(build, inner, context)
    if kind == "Slice":
        return _sliced(raw, rows, context)
    name = kind_of(cast("Raw", members(raw))["function"]) if kind == "Function" else ""
    if name == "Reverse":
        inner = _values(parts[0], rows, context)
        return None if inner is None else _in_reverse(inner, context)
    if name == "Append":
        return _appended(raw, rows, context)
    return _around(raw, rows, context)


def _part(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    """Return the values of a part of an expression, which may be anything that a select has a plan for."""
    found = _values(raw, rows, context)
    if found is None and shape_of(raw) is not Shape.OTHER:
        return planned(lambda lf: lf.select(to_expr(raw).alias(_VALUE)), rows, context)
    return found


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


def _rolling(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    """Return an aggregate of the window at each row, as the group_by that it is."""
    own = cast("Raw", members(raw))
    index = own["index_column"]
    if shape_of(own["function"]) is not Shape.SCALAR or not is_row_wise(index) or shape_of(index) is not Shape.COLUMN:
        return None
    indexed = rows.then(rows.lf.with_columns(to_expr(index).alias(_INDEX)))
    arena = Arena.of(
        pl.LazyFrame(schema=indexed.schema).rolling(_INDEX, period="1d").agg(to_expr(own["function"]).alias(_VALUE))
    )
    node = cast("Raw", arena.nodes[arena.root]["GroupBy"])
    rolling = {"index_column": _INDEX, **{name: own[name] for name in ("period", "offset", "closed_window")}}
    options = {**cast("Raw", node["options"]), "rolling": rolling}
    patched: Raw = {"GroupBy": {**node, "options": options}}
    return planned_of_several(lambda lfs: apply(patched, lfs), [indexed], context)


def _appended(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    values, more = (_part(part, rows, context) for part in operands(raw))
    if values is None or more is None:
        return None
    relaxed = cast("Raw", members(cast("Raw", members(raw))["function"]))["upcast"]
    how: Literal["vertical", "vertical_relaxed"] = "vertical_relaxed" if relaxed else "vertical"
    return planned_of_several(lambda lfs: pl.concat(lfs, how=how), [values, more], context)


def _sliced(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    values, offset, length = operands(raw)
    if shape_of(offset) is not Shape.SCALAR or shape_of(length) is not Shape.SCALAR:
        return None
    inner = _part(values, rows, context)
    return None if inner is None else sliced_by(to_expr(offset), to_expr(length), inner, rows, context)


def _gathered(raw: RawExpr, rows: Relation, context: Context) -> Relation | None:
    values, places = (_part(part, rows, context) for part in operands(raw))
    if values is None or places is None:
        return None
    return gathered_at(values, places, context, null_on_oob=bool(cast("Raw", members(raw))["null_on_oob"]))


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
        if not all(map(is_literal, operands(raw)[1:])):
            return None
        offset, length = (pl.select(to_expr(part)).item() for part in operands(raw)[1:])
        return (lambda lf: lf.slice(offset, length)) if isinstance(offset, int) else None
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
        case "ArgSort":
            options = cast("Raw", body)
            flags = {name: bool(options[name]) for name in ("descending", "nulls_last")}
            return lambda lf: (
                lf.with_row_index(_INDEX).sort(_VALUE, **flags, maintain_order=True).select(pl.col(_INDEX).alias(_VALUE))
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


def _value_counts(options: Raw, values: str) -> _Build:
    name = str(options["name"])

    def build(lf: pl.LazyFrame) -> pl.LazyFrame:
        counted = lf.group_by(_VALUE).agg(pl.len().alias(_COUNT))
        if options["sort"]:
            counted = counted.sort(_COUNT, descending=True)
        if options["normalize"]:
            counted = counted.with_columns(pl.col(_COUNT) / pl.col(_COUNT).sum())
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
