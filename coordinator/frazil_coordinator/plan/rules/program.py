"""Plan a few LazyFrame operations over relations, as if the user had written them.

Rules that are best said in polars' own words (``value_counts`` is a group_by, ``rank`` a sort and a join) are written with
this, and get all that the rules of these operations know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.nodes import Node
from frazil_coordinator.plan.relation import Relation
from frazil_coordinator.plan.rules.base import distribute
from frazil_functions.arena import Arena

__all__ = ["planned", "planned_of_several"]


def planned(build: Callable[[pl.LazyFrame], pl.LazyFrame], rows: Relation, context: Context) -> Relation:
    """Return the relation of some operations over `rows`, in the order that polars would give them.

    Parameters
    ----------
    build
        Applies the operations to a frame with the columns of `rows`; nothing else may be read in it.
    rows
        What stands for that frame.
    context
        Inserts exchanges.
    """
    arena = Arena.of(build(pl.LazyFrame(schema=rows.schema)))
    relations: dict[int, Relation] = {}
    for number in arena.reachable():
        node = decode_node(arena, number)
        if not node.inputs:
            relations[number] = rows
            continue
        relations[number] = distribute(_own(node, context), context, [relations[child] for child in node.inputs])
    return relations[arena.root]


def planned_of_several(
    build: Callable[[Sequence[pl.LazyFrame]], pl.LazyFrame], inputs: Sequence[Relation], context: Context
) -> Relation:
    """Return the relation of one operation over several relations (a join, a concat), in polars' order.

    Parameters
    ----------
    build
        Applies the operation to frames with the columns of `inputs`, in their order.
    inputs
        What stands for these frames.
    context
        Inserts exchanges.
    """
    arena = Arena.of(build([pl.LazyFrame(schema=relation.schema) for relation in inputs]))
    return distribute(_own(decode_node(arena, arena.root), context), context, inputs)


def _own(node: Node, context: Context) -> Node:
    """Return a node under a number of its own, whose order is seen; those of the user's own nodes are not negative."""
    own = replace(node, number=-1 - context.number())
    context.ordered |= {own.number}
    return own
