"""Order: sorts by sampled ranges, top-k, heads and tails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Final

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import is_row_wise, plain_column, to_expr
from frazil_coordinator.plan.model import ScanSource
from frazil_coordinator.plan.nodes import RawExpr, Slice, Sort
from frazil_coordinator.plan.relation import ANY, SINGLE, Relation, apply
from frazil_coordinator.plan.rules.base import beside, distribute, run_single
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_coordinator.plan.rules.lifting import evaluate
from frazil_coordinator.plan.rules.positions import LARGEST_GATHERED_SLICE, rows_between
from frazil_functions.task import SortKey

__all__ = ["top_k"]

_KEY_PREFIX: Final = "__frazil_sort"


@distribute.register
def _(node: Sort, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    if rows.is_single:
        return rows.then(apply(node.raw, [rows.lf]), "SORT")
    names = _key_names(rows, node)
    if names is None:
        return run_single(node, context, inputs, "a sort key stands for several columns", "SORT")
    added = [(raw, name) for raw, name in zip(node.by, names, strict=True) if plain_column(raw) is None]
    try:
        keyed = _with_keys(added, rows, context, ordered=node.maintain_order) if added else rows
    except NotDistributedError as error:
        return run_single(node, context, inputs, f"a sort key looks at more than one row: {error}", "SORT")
    keys = [
        SortKey(column=name, descending=descending, nulls_last=nulls_last)
        for name, descending, nulls_last in zip(names, node.descending, node.nulls_last, strict=True)
    ]
    ordered = context.sort(keyed, keys, stable=node.maintain_order)
    if not added:
        return ordered
    temporary = [name for name in names if name.startswith(_KEY_PREFIX)]
    return ordered.then(ordered.lf.drop(temporary), distribution=ANY)


def _with_keys(added: Sequence[tuple[RawExpr, str]], rows: Relation, context: Context, *, ordered: bool) -> Relation:
    """Return the rows with expressions to sort by as columns.

    Raises
    ------
    NotDistributedError
        When one of them has no distributed form.
    """
    exprs = [raw for raw, _ in added]
    names = [name for _, name in added]
    if all(map(is_row_wise, exprs)):
        return rows.then(rows.lf.with_columns(to_expr(raw).alias(name) for raw, name in added), divisible=True)
    done = evaluate(exprs, rows, context, ordered=ordered)
    wide = beside(rows, context.broadcast(done.relation)) if done.scalar else done.relation
    columns = [expr.alias(name) for expr, name in zip(done.exprs, names, strict=True)]
    return wide.then(wide.lf.with_columns(columns).drop(done.helpers))


def _key_names(rows: Relation, node: Sort) -> list[str] | None:
    """Return the columns to sort by, new ones for expressions; None when an expression gives several columns."""
    names: list[str] = []
    for number, raw in enumerate(node.by):
        column = plain_column(raw)
        if column is None and len(rows.lf.select(to_expr(raw)).collect_schema()) != 1:
            return None
        names.append(column if column is not None else f"{_KEY_PREFIX}{number}")
    return names


@distribute.register
def _(node: Slice, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    operator = f"SLICE {node.offset}, {'all' if node.length is None else node.length}"
    node, rows = _within(node, context, rows)
    if rows.is_single:
        return rows.then(rows.lf.slice(node.offset, node.length), operator)
    needed = _needed(node)
    if needed is None or needed > LARGEST_GATHERED_SLICE:
        if node.offset < 0:
            return run_single(node, context, inputs, "a slice that begins far from the last rows", operator)
        return rows_between(context, rows, node.offset, node.length)
    from_end = node.offset < 0
    part = rows.then(
        rows.lf.tail(needed) if from_end else rows.lf.head(needed),
        f"{'TAIL' if from_end else 'HEAD'} {needed}",
        kind="slice",
        divisible=True,
    )
    if not from_end:
        part = replace(part, first_rows=needed)
    gathered = context.gather(part, kind="slice")
    return gathered.then(gathered.lf.slice(node.offset, node.length), operator)


def _within(node: Slice, context: Context, rows: Relation) -> tuple[Slice, Relation]:
    """Leave out the splits that a slice of a scan does not touch; the slice then counts from the first one that is left.

    What is left has a number of its own: others may read the whole scan in the same task.
    """
    leaf = next(iter(rows.leaves.values()), None)
    if not rows.keeps_rows or len(rows.leaves) != 1 or not isinstance(leaf, ScanSource):
        return node, rows
    one_task = len(leaf.splits) == 1
    groups = tuple((split,) for split in leaf.splits[0]) if one_task else leaf.splits
    counts = [sum(split.rows for split in group) for group in groups]
    total = sum(counts)
    start = node.offset if node.offset >= 0 else total + node.offset
    if not groups or not all(split.rows > 0 for group in groups for split in group):
        return node, rows
    stop = total if node.length is None else min(total, start + node.length)
    if start < 0:  # it begins before the first row
        start, stop = 0, max(0, stop)
        node = replace(node, offset=0, length=stop)
    ends = list(accumulate(counts))
    touched = [number for number, end in enumerate(ends) if end - counts[number] < stop and end > start] or [0]
    first, last = touched[0], touched[-1]
    if last + 1 - first == len(groups):
        return node, rows
    rows = context.renumbered(rows)
    (number,) = rows.leaves
    before = ends[first] - counts[first]
    left = groups[first : last + 1]
    kept = replace(
        leaf,
        splits=(tuple(split for group in left for split in group),) if one_task else left,
        files=len({split.path for group in left for split in group}),
        bytes=leaf.bytes * (ends[last] - before) // max(1, total),
        row_groups=-(-leaf.row_groups * (ends[last] - before) // max(1, total)),
    )
    near = replace(
        rows,
        leaves={number: kept},
        distribution=SINGLE if len(kept.splits) == 1 else rows.distribution,
        details={**rows.details, "splits left out": f"{len(groups) - len(left)}/{len(groups)}"},
    )
    return replace(node, offset=start - before), near


def _needed(node: Slice) -> int | None:
    """Return how many rows of each task can be in the slice, from the first or (negative offset) the last one on."""
    if node.offset < 0:
        return -node.offset
    return None if node.length is None else node.offset + node.length


def top_k(node: Slice, sort: Sort, context: Context, rows: Relation) -> Relation | None:
    """Return the relation of a slice of a sort without sorting everything; None when that does not apply.

    Each task keeps its own first rows in sort order; one task merges them. Equal rows stay in order of arrival when the sort
    is stable, because tasks are gathered in order.
    """
    needed = _needed(node)
    if rows.is_single or node.offset < 0 or needed is None or needed > LARGEST_GATHERED_SLICE:
        return None
    if not all(map(is_row_wise, sort.by)):
        return None
    first = rows.then(apply(sort.raw, [rows.lf]).head(needed), f"TOP {needed} (partial)", kind="top_k", divisible=True)
    gathered = context.gather(first, kind="top_k")
    merged = apply(node.raw, [apply(sort.raw, [gathered.lf])])
    return gathered.then(merged, f"TOP {needed} (final)")
