"""Python functions over frames: batches of rows where they are declared to be enough, else whole groups or the whole frame.

Functions inside expressions (``map_elements``, ``map_batches`` of a column) are classified with all other expressions by
:mod:`~frazil_coordinator.plan.exprs`; a plan gets here only where `Settings.allow_udfs` permits Python at all.
"""

from __future__ import annotations

from typing import cast

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import is_row_wise, plain_column, to_expr
from frazil_coordinator.plan.nodes import GroupBy, MapFunction
from frazil_coordinator.plan.relation import ANY, SINGLE, Distribution, Relation, apply
from frazil_coordinator.plan.rules.base import run_single
from frazil_functions.arena import Raw

__all__ = ["map_batches", "map_groups"]


def map_batches(node: MapFunction, context: Context, rows: Relation) -> Relation:
    """Return the relation of a ``LazyFrame.map_batches``.

    A function that is declared ``streamable`` gives the same rows batch by batch as for the whole frame, so each task gives
    it its own rows; any other one gets the whole frame in one task.
    """
    function = cast("Raw", cast("Raw", node.raw["MapFunction"])["function"])
    if not rows.is_single and not cast("Raw", function["OpaquePython"])["streamable"]:
        return run_single(node, context, [rows], "map_batches gets the whole frame: it is not streamable", "MAP BATCHES")
    return rows.then(apply(node.raw, [rows.lf]), "MAP BATCHES", distribution=SINGLE if rows.is_single else ANY)


def map_groups(node: GroupBy, context: Context, rows: Relation) -> Relation:
    """Return the relation of a ``group_by().map_groups``: whole groups in one task each, their rows in order.

    The function's rows can't carry row tags through it, so the order of groups can't be restored.
    """
    if not node.keys or not all(map(is_row_wise, node.keys)):
        return run_single(node, context, [rows], "a key of the group_by looks at more than one row", "MAP GROUPS")
    if node.maintain_order and node.number in context.ordered:
        return run_single(node, context, [rows], "map_groups in the order in which groups first appear", "MAP GROUPS")
    keys = [to_expr(key) for key in node.keys]
    names = rows.lf.select(keys).collect_schema()
    operator = f"MAP GROUPS {', '.join(names)}"
    if rows.distribution.kind == "hash" and set(rows.distribution.keys) <= set(map(plain_column, node.keys)):
        return rows.then(apply(node.raw, [rows.lf]), operator, kind="group_by", distribution=ANY)
    delivers = Distribution(kind="hash", keys=tuple(names), dtypes=tuple(names.dtypes()))
    by_key = context.shuffle(rows, keys, delivers=delivers, kind="group_by")
    return by_key.then(apply(node.raw, [by_key.lf]), operator, distribution=ANY)
