"""Aggregates: by key (partial and final steps, or whole groups by shuffle), over all rows, and unique rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.decompose import Decomposition, decompose
from frazil_coordinator.plan.exprs import expand, from_expr, has_selector, is_row_wise, plain_column, to_expr
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import Distinct, GroupBy, Node, RawExpr, Select
from frazil_coordinator.plan.relation import SINGLE, Distribution, Relation, apply
from frazil_coordinator.plan.row_states import row_states
from frazil_coordinator.plan.rules.base import distribute, run_single
from frazil_coordinator.plan.rules.dynamic import windows_of_time
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_coordinator.plan.rules.lifting import evaluate
from frazil_coordinator.plan.rules.skewed import with_reserve
from frazil_coordinator.plan.rules.udfs import map_groups
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["aggregate_all", "cast_to"]

_COMPUTED: Final = "__frazil_unique"
"""Of columns that hold what rows are compared by, where it is no column of theirs."""


@distribute.register
def _(node: GroupBy, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    if rows.is_single:
        return rows.then(apply(node.raw, [rows.lf]), "GROUP BY", kind="group_by")
    if node.mapped:
        return map_groups(node, context, rows)
    if not node.plain:
        return windows_of_time(node, context, rows)
    if not node.keys:
        return run_single(node, context, inputs, "a group_by without keys", "GROUP BY")
    if not all(map(is_row_wise, node.keys)):
        return _by_lifted_keys(node, context, rows)
    keys = [to_expr(key) for key in node.keys]
    names = rows.lf.select(keys).collect_schema().names()
    ordered = node.maintain_order and node.number in context.ordered
    if _colocated(rows, node.keys):
        if ordered:
            return run_single(node, context, inputs, "group_by keeps an order that its input no longer has", "GROUP BY")
        return rows.then(apply(node.raw, [rows.lf]), f"GROUP BY {', '.join(names)}", kind="group_by")
    parts = None if node.predicates else decompose(node.aggs, rows.lf, grouped=True, exclude=names)
    if parts is not None and (merged := _in_two_steps(node, context, rows, keys, parts, ordered=ordered)) is not None:
        return merged
    return _whole_groups(node, context, rows, keys, ordered=ordered)


def _by_lifted_keys(node: GroupBy, context: Context, rows: Relation) -> Relation:
    """Group by keys that look at other rows (``x > x.mean()``), which become row-wise over columns beside the rows."""
    names = {to_expr(key).meta.output_name() for key in node.keys if not has_selector(key)}
    aggs = _written_out(node.aggs, rows, exclude=names)
    if aggs is None or any(map(has_selector, node.predicates)):
        return run_single(node, context, [rows], "a group_by with selectors, and keys that look at other rows", "GROUP BY")
    try:
        done = evaluate(node.keys, rows, context, ordered=node.maintain_order and node.number in context.ordered)
    except NotDistributedError as error:
        return run_single(node, context, [rows], f"a key of the group_by looks at more than one row: {error}", "GROUP BY")
    if done.scalar:
        return run_single(node, context, [rows], "the keys of the group_by are the same for all rows", "GROUP BY")
    keys = tuple(from_expr(expr) for expr in done.exprs)
    raw: Raw = {"GroupBy": {**cast("Raw", node.raw["GroupBy"]), "keys": list(keys), "aggs": list(aggs)}}
    return distribute(replace(node, keys=keys, aggs=aggs, raw=raw), context, [done.relation])


def _written_out(aggs: Sequence[RawExpr], rows: Relation, *, exclude: Collection[str]) -> tuple[RawExpr, ...] | None:
    """Return aggregates without selectors, which leave the keys out; None when they can't be told apart."""
    visible = pl.Schema({name: dtype for name, dtype in rows.schema.items() if name not in exclude})
    try:
        return tuple(single for agg in aggs for single in expand(agg, visible))
    except (PolarsError, ValueError):
        return None


def _colocated(rows: Relation, keys: Sequence[RawExpr]) -> bool:
    """Return whether rows of equal keys already lie in one task."""
    columns = {plain_column(key) for key in keys}
    return rows.distribution.kind == "hash" and set(rows.distribution.keys) <= columns


def _hashed(rows: Relation, names: Sequence[str]) -> Distribution:
    schema = rows.schema
    return Distribution(kind="hash", keys=tuple(names), dtypes=tuple(schema[name] for name in names))


def _in_two_steps(
    node: GroupBy, context: Context, rows: Relation, keys: list[pl.Expr], parts: Decomposition, *, ordered: bool
) -> Relation | None:
    """Aggregate in each task, shuffle the partial results by key, and aggregate those."""
    expected = apply(node.raw, [rows.lf]).collect_schema()
    partial_lf = rows.lf.group_by(keys, maintain_order=ordered).agg(parts.partial)
    names = [name for name in partial_lf.collect_schema().names() if name in expected]
    partial = rows.then(partial_lf, f"GROUP BY {', '.join(names)} (partial)", kind="group_by", divisible=True)
    if not ordered:
        partial = replace(partial, row_states=row_states(rows.lf, keys, parts.partial, partial_lf.collect_schema()))
    delivers = _hashed(partial, names)
    by_key = context.shuffle(partial, [pl.col(name) for name in names], delivers=delivers, kind="group_by", row_tag=ordered)
    tags = [pl.col(name).first() for name in ROW_TAG_COLUMNS] if ordered else []
    final = by_key.lf.group_by(names, maintain_order=ordered).agg(*parts.final, *tags)
    tagged = pl.Schema(
        {**expected, **{name: dtype for name, dtype in final.collect_schema().items() if name in ROW_TAG_COLUMNS}}
    )
    aligned = cast_to(final, tagged)
    if aligned is None:
        return None
    merged = by_key.then(aligned, f"GROUP BY {', '.join(names)} (final)")
    return context.restore_order(merged) if ordered else merged


def _whole_groups(node: GroupBy, context: Context, rows: Relation, keys: list[pl.Expr], *, ordered: bool) -> Relation:
    """Shuffle the rows by key, and run the original aggregates."""
    names = rows.lf.select(keys).collect_schema().names()
    keyed = rows.lf.select(keys).collect_schema()
    delivers = Distribution(kind="hash", keys=tuple(names), dtypes=tuple(keyed.dtypes()))
    operator = f"GROUP BY {', '.join(names)} (whole groups)"
    if not ordered:
        by_key = context.shuffle(rows, keys, delivers=delivers, kind="group_by")
        return with_reserve(node, keys, rows, by_key.then(apply(node.raw, [by_key.lf]), operator), context)
    aggs = _written_out(node.aggs, rows, exclude=names)
    if aggs is None:
        return run_single(
            node, context, [rows], "group_by with maintain_order and several selectors in one aggregate", "GROUP BY"
        )
    by_key = context.shuffle(rows, keys, delivers=delivers, kind="group_by", row_tag=True)
    own = cast("Raw", node.raw["GroupBy"])
    tags: list[object] = [{"Agg": {"First": {"Column": name}}} for name in ROW_TAG_COLUMNS]
    tagged: Raw = {"GroupBy": {**own, "aggs": [*aggs, *tags]}}
    return context.restore_order(by_key.then(apply(tagged, [by_key.lf]), operator))


def aggregate_all(node: Select, context: Context, rows: Relation) -> Relation | None:
    """Return the relation of a select that aggregates all rows; None when it can't be done in two steps."""
    parts = decompose(node.exprs, rows.lf, grouped=False)
    if parts is None or not parts.partial:
        return None
    expected = apply(node.raw, [rows.lf]).collect_schema()
    partial = rows.then(rows.lf.select(parts.partial), "AGGREGATE (partial)", kind="aggregate", divisible=True)
    gathered = context.gather(replace(partial, bytes=0), kind="aggregate")
    aligned = cast_to(gathered.lf.select(parts.final), expected)
    return None if aligned is None else gathered.then(aligned, "AGGREGATE (final)", distribution=SINGLE)


def cast_to(lf: pl.LazyFrame, expected: pl.Schema) -> pl.LazyFrame | None:
    """Return `lf` with the dtypes of `expected`; None when its columns are others."""
    schema = lf.collect_schema()
    if schema.names() != expected.names():
        return None
    casts = [pl.col(name).cast(dtype) for name, dtype in expected.items() if schema[name] != dtype]
    return lf.with_columns(casts) if casts else lf


@distribute.register
def _(node: Distinct, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    ordered = node.maintain_order and node.number in context.ordered
    if rows.is_single:
        return rows.then(apply(node.raw, [rows.lf]), "UNIQUE")
    try:
        keyed, names = _with_computed(node, context, rows, ordered=ordered or node.keep in ("First", "Last"))
    except NotDistributedError as error:
        return run_single(node, context, inputs, f"unique by what looks at more than one row: {error}", "UNIQUE")
    if not names:
        return run_single(node, context, inputs, "unique without columns of its own", "UNIQUE")
    columns = [pl.col(name) for name in names]
    delivers = _hashed(keyed, names)
    by_key = context.shuffle(keyed, columns, delivers=delivers, kind="group_by", row_tag=ordered)
    kept = apply(_with_subset(node, names), [by_key.lf])
    if helpers := [name for name in keyed.schema.names() if name not in rows.schema]:
        kept = kept.drop(helpers)
        delivers = Distribution(kind="any") if set(helpers) & set(names) else delivers
    unique = by_key.then(kept, f"UNIQUE {', '.join(names)}", distribution=delivers)
    return context.restore_order(unique) if ordered else unique


def _with_computed(node: Distinct, context: Context, rows: Relation, *, ordered: bool) -> tuple[Relation, list[str]]:
    """Return the rows with what they are compared by in columns of their own, and the names of all these columns.

    Raises
    ------
    NotDistributedError
        When a part of them has no distributed form.
    """
    if node.subset is None:
        return rows, rows.schema.names()
    try:
        singles = [single for raw in node.subset for single in expand(raw, rows.schema)]
    except (PolarsError, ValueError) as error:
        raise NotDistributedError(str(error)) from error
    plain = [plain_column(single) for single in singles]
    computed = [single for single, name in zip(singles, plain, strict=True) if name is None]
    names = [name for name in plain if name is not None]
    if not computed:
        return rows, list(dict.fromkeys(names))
    if all(shape_of(single) is Shape.SCALAR for single in computed):
        raise NotDistributedError("it is the same for all rows", computed[0])
    done = evaluate(computed, rows, context, ordered=ordered)
    own = [expr.alias(f"{_COMPUTED}{number}") for number, expr in enumerate(done.exprs)]
    added = done.relation.then(done.relation.lf.with_columns(own), keeps_rows=True, divisible=True)
    return added, list(dict.fromkeys([*names, *(expr.meta.output_name() for expr in own)]))


def _with_subset(node: Node, names: Sequence[str]) -> Raw:
    """Return a unique whose columns are named, so that row tags are not among them."""
    own = cast("Raw", node.raw["Distinct"])
    options = {**cast("Raw", own["options"]), "subset": [{"Column": name} for name in names]}
    return {"Distinct": {**own, "options": options}}
