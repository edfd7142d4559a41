"""Unions: each input keeps its own tasks, one input's after the other's, so that rows keep their order.

Merges of sorted inputs are sorts of their union.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import SCALAR_PREFIX, from_expr
from frazil_coordinator.plan.model import InlineSource, ScanSource
from frazil_coordinator.plan.nodes import MergeSorted, Union
from frazil_coordinator.plan.relation import ANY, ExchangeLeaf, Leaf, Relation, apply, tasks_of
from frazil_coordinator.plan.rules.base import beside, combine, distribute
from frazil_coordinator.plan.rules.running import number_rows
from frazil_coordinator.plan.rules.scalars import scalar_row
from frazil_functions.arena import Arena
from frazil_functions.task import SortKey


@distribute.register
def _(node: Union, context: Context, inputs: Sequence[Relation]) -> Relation:
    if all(relation.is_single for relation in inputs):
        return combine(inputs).then(apply(node.raw, [relation.lf for relation in inputs]), "UNION")
    parts = [context.alone(relation) if _yields_of_nothing(relation) else relation for relation in inputs]
    total = sum(map(tasks_of, parts))
    shifted: list[Relation] = []
    first = 0
    for part in parts:
        tasks = tasks_of(part)
        leaves = {number: _shifted(leaf, first, total - first - tasks) for number, leaf in part.leaves.items()}
        shifted.append(context.renumbered(replace(part, leaves=leaves, tasks=None)))
        first += tasks
    united = apply(node.raw, [part.lf for part in shifted])
    return replace(combine(shifted).then(united, "UNION", distribution=ANY), tasks=total)


@distribute.register
def _(node: MergeSorted, context: Context, inputs: Sequence[Relation]) -> Relation:
    if all(relation.is_single for relation in inputs):
        return combine(inputs).then(apply(node.raw, [relation.lf for relation in inputs]), "MERGE SORTED")
    pair = Arena.of(pl.concat([pl.LazyFrame({"x": []}), pl.LazyFrame({"x": []})]))
    union = Union(number=node.number, inputs=node.inputs, raw=pair.nodes[pair.root])
    rows = context.once(distribute(union, context, [_numbered(context, relation) for relation in inputs]))
    # Polars looks at the first key of each input to know whether nulls come first in both.
    ends = {
        f"{SCALAR_PREFIX}{n}": (pl.col(name).is_null() & (pl.col(_POSITION) == 0)).any() for n, name in enumerate(node.key)
    }
    row = scalar_row({name: from_expr(expr) for name, expr in ends.items()}, rows, context)
    known = beside(rows, context.broadcast(row))
    ranks = {f"{_RANK}{n}": pl.col(key) for n, key in enumerate(node.key)}
    ranked = known.lf.with_columns(
        key.is_null().xor(pl.col(scalar)).alias(rank) for (rank, key), scalar in zip(ranks.items(), ends, strict=True)
    )
    # Of equal rows those of the first input come first: a stable sort by what the user says the inputs are sorted by.
    keys = [
        SortKey(column=column, descending=False, nulls_last=False)
        for pair_of_columns in zip(ranks, node.key, strict=True)
        for column in pair_of_columns
    ]
    merged = context.sort(known.then(ranked, "MERGE SORTED"), keys, stable=True)
    return merged.then(merged.lf.drop(_POSITION, *ends, *ranks), distribution=ANY)


_POSITION: Final = "__frazil_position"
_RANK: Final = "__frazil_rank"


def _numbered(context: Context, rows: Relation) -> Relation:
    if rows.is_single:
        return rows.then(rows.lf.with_row_index(_POSITION), "POSITIONS")
    return number_rows(context, rows, name=_POSITION, offset=0)


def _yields_of_nothing(relation: Relation) -> bool:
    """Return whether the fragment may yield rows in a task that has none of its input: an aggregate, a frame."""
    return relation.is_single or relation.tasks is not None


def _shifted(leaf: Leaf, before: int, after: int) -> Leaf:
    """Return a leaf whose tasks come `before` tasks later, with `after` tasks behind them."""
    match leaf:
        case ScanSource():
            return replace(leaf, splits=((),) * before + leaf.splits + ((),) * after)
        case InlineSource():
            return replace(leaf, blocks=((),) * before + leaf.blocks + ((),) * after)
        case ExchangeLeaf(read="all"):
            return leaf
        case ExchangeLeaf():
            return replace(leaf, first_task=leaf.first_task + before)
