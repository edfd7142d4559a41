"""The dispatch, and the rule for everything that has no distributed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import singledispatch
from typing import Final

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.model import ScanSource
from frazil_coordinator.plan.nodes import Node, Opaque
from frazil_coordinator.plan.relation import SINGLE, Leaf, Relation, apply
from frazil_functions.errors import InternalError

__all__ = ["beside", "combine", "distribute", "run_single"]

_EMPTY: Final = pl.LazyFrame()


@singledispatch
def distribute(node: Node, context: Context, inputs: Sequence[Relation]) -> Relation:
    """Return the relation of `node` over the relations of its inputs.

    Parameters
    ----------
    node
        The node.
    context
        Shared state; the rule may insert exchanges through it.
    inputs
        The relations of the node's inputs, in order.
    """
    kind = node.kind if isinstance(node, Opaque) else type(node).__name__
    return run_single(node, context, inputs, f"{kind} has no distributed form", kind)


def run_single(node: Node, context: Context, inputs: Sequence[Relation], reason: str, operator: str) -> Relation:
    """Run `node` in one task. Inputs that lie in one task already make it free; otherwise `reason` is a fallback."""
    gathered = [context.gather(relation, reason) for relation in inputs]
    whole = combine(gathered)
    if not inputs:
        whole = replace(whole, fallbacks=() if context.small else (reason,), kind="single")
    return whole.then(apply(node.raw, [relation.lf for relation in gathered]), operator, distribution=SINGLE)


def combine(relations: Sequence[Relation]) -> Relation:
    """Return one relation with the leaves of several, to be given a LazyFrame over them all.

    The first one's distribution and kind are kept, unless another one is a fallback.
    """
    if not relations:
        return Relation(lf=_EMPTY, leaves={}, distribution=SINGLE, kind="single")
    first = relations[0]
    kind = "single" if any(relation.kind == "single" for relation in relations) else first.kind
    return replace(
        first,
        leaves=_all_leaves(relations),
        operators=tuple(step for relation in relations for step in relation.operators),
        fallbacks=tuple(dict.fromkeys(reason for relation in relations for reason in relation.fallbacks)),
        bytes=sum(relation.bytes for relation in relations),
        kind=kind,
        tasks=next((relation.tasks for relation in relations if relation.tasks is not None), None),
        divisible=frozenset(),
        first_rows=None,
        row_states=None,
    )


def _all_leaves(relations: Sequence[Relation]) -> dict[int, Leaf]:
    """Return the leaves of all; a number names one leaf, or rows would be lost without a word."""
    leaves: dict[int, Leaf] = {}
    for number, leaf in (item for relation in relations for item in relation.leaves.items()):
        before = leaves.setdefault(number, leaf)
        if isinstance(leaf, ScanSource) and before is not leaf and before != leaf:
            raise InternalError(f"two sources of one fragment have the number {number}")
    return leaves


def beside(rows: Relation, row: Relation) -> Relation:
    """Return the rows with the columns of a single row beside each."""
    joined = rows.lf.join(row.lf, how="cross", maintain_order="left")
    return combine([rows, row]).then(joined, "WITH AGGREGATES", distribution=rows.distribution)
