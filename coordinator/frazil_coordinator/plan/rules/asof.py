"""As-of joins: the right side whole to every task, or with `by` keys both sides shuffled by them.

Each row of the left side looks for its own partner, so the left side may lie anywhere. Without `by` polars checks that both
sides are sorted: the right side is checked by every task, the left one by each task in its own rows, and once more where one
task's rows follow another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import is_row_wise
from frazil_coordinator.plan.nodes import AsofJoin
from frazil_coordinator.plan.relation import ANY, SINGLE, Distribution, Relation, apply
from frazil_coordinator.plan.rules.base import combine, distribute, run_single

__all__: list[str] = []

_CHECK: Final = "__frazil_check"
_OPERATOR: Final = "ASOF JOIN"


@distribute.register
def _(node: AsofJoin, context: Context, inputs: Sequence[Relation]) -> Relation:
    left, right = inputs
    if left.is_single:
        return run_single(node, context, inputs, "an asof join whose left side lies in one task", _OPERATOR)
    if not all(map(is_row_wise, (*node.left_on, *node.right_on))):
        return run_single(node, context, inputs, "a key of the join looks at more than one row", _OPERATOR)
    small = right.bytes <= context.settings.broadcast_limit_bytes
    if node.left_by and not small and not right.is_single:
        return _by_hash(node, context, left, right)
    whole = context.broadcast(right)
    if node.check_sortedness and not node.left_by:
        left = _checked_between_tasks(node, context, left, whole)
    joined = apply(node.raw, [left.lf, whole.lf])
    if _CHECK in left.schema:
        joined = joined.drop(_CHECK)
    both = combine([left, whole])
    return both.then(joined, f"{_OPERATOR} (right side broadcast)", distribution=left.distribution, kind="join")


def _checked_between_tasks(node: AsofJoin, context: Context, left: Relation, right: Relation) -> Relation:
    """Let polars check that the first and last keys of all tasks are in order: it raises what it would raise for all rows.

    The check's answer, one row, is joined to the rows, so that nothing comes out before it is known.
    """
    ends = pl.concat([left.lf.head(1), left.lf.tail(1)])
    gathered = context.gather(left.then(ends, "FIRST AND LAST ROW", kind="aggregate"), kind="aggregate")
    nothing = right.lf.head(0)
    checked = apply(node.raw, [gathered.lf, nothing]).select(pl.len().alias(_CHECK))
    answer = context.broadcast(
        replace(combine([gathered, right]).then(checked, "CHECK ORDER", distribution=SINGLE), kind="aggregate")
    )
    beside = left.lf.join(answer.lf, how="cross", maintain_order="left")
    return combine([left, answer]).then(beside, distribution=left.distribution)


def _by_hash(node: AsofJoin, context: Context, left: Relation, right: Relation) -> Relation:
    dtypes = [left.schema[name] for name in node.left_by]
    if dtypes != [right.schema[name] for name in node.right_by]:
        return run_single(node, context, [left, right], "keys of an asof join of different types", _OPERATOR)
    ordered = node.number in context.ordered

    def shuffled(side: Relation, names: Sequence[str], *, row_tag: bool) -> Relation:
        delivers = Distribution(kind="hash", keys=tuple(names), dtypes=tuple(dtypes))
        keys = [pl.col(name) for name in names]
        return context.shuffle(side, keys, delivers=delivers, kind="join", row_tag=row_tag)

    left_side = shuffled(left, node.left_by, row_tag=ordered)
    right_side = shuffled(right, node.right_by, row_tag=False)
    both = combine([left_side, right_side])
    joined = both.then(
        apply(node.raw, [left_side.lf, right_side.lf]), f"{_OPERATOR} (by hash)", distribution=ANY, kind="join"
    )
    return context.restore_order(joined) if ordered else joined
