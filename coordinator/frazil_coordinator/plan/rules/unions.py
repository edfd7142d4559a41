"""Unions: each input keeps its own tasks, one input's after the other's, so that rows keep their order.

Merges of sorted inputs are sorts of their union.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.model import InlineSource, ScanSource
from frazil_coordinator.plan.nodes import MergeSorted, Union
from frazil_coordinator.plan.relation import ANY, ExchangeLeaf, Leaf, Relation, apply, tasks_of
from frazil_coordinator.plan.rules.base import combine, distribute
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
    # Of equal rows those of the first input come first: a stable sort by what the user says the inputs are sorted by.
    keys = [SortKey(column=name, descending=False, nulls_last=False) for name in node.key]
    return context.sort(distribute(union, context, inputs), keys, stable=True)


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
