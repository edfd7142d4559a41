"""Group_by over windows of time or of an index (``group_by_dynamic``, ``rolling``) by keys: whole groups in one task each.

Polars looks at each group's own rows, in their order, which a hash exchange keeps. Groups come out in the order of their
row-encoded keys, so this is the order into which they are brought. Without keys one window may span tasks, and the first one
depends on the first row of all: that runs in one task.
"""

from __future__ import annotations

from typing import Final, cast

import polars as pl
from polars.functions import _row_encode

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import is_row_wise, to_expr
from frazil_coordinator.plan.nodes import GroupBy
from frazil_coordinator.plan.relation import ANY, Distribution, Relation, apply
from frazil_coordinator.plan.rules.base import run_single
from frazil_functions.arena import Raw
from frazil_functions.exchange.dtypes import anywhere
from frazil_functions.task import SortKey

__all__ = ["windows_by_key"]

_ORDER: Final = "__frazil_order"


def windows_by_key(node: GroupBy, context: Context, rows: Relation) -> Relation:
    """Return the relation of a dynamic or rolling group_by."""
    options = cast("Raw", cast("Raw", node.raw["GroupBy"])["options"])
    if options["dynamic"] is None and options["rolling"] is None:
        return run_single(node, context, [rows], "a sliced group_by has no distributed form", "GROUP BY")
    operator = "GROUP BY DYNAMIC" if options["dynamic"] is not None else "GROUP BY ROLLING"
    if not node.keys:
        return run_single(
            node, context, [rows], "a dynamic or rolling group_by without keys has no distributed form", operator
        )
    if options["slice"] is not None or not all(map(is_row_wise, node.keys)):
        return run_single(node, context, [rows], "a key of the group_by looks at more than one row", operator)
    keys = [to_expr(key) for key in node.keys]
    keyed = rows.lf.select(keys).collect_schema()
    ordered = node.number in context.ordered
    if ordered and any(anywhere(dtype, lambda found: found == pl.Categorical) for dtype in keyed.dtypes()):
        return run_single(node, context, [rows], "groups of categoricals come in the order of their categories", operator)
    delivers = Distribution(kind="hash", keys=tuple(keyed.names()), dtypes=tuple(keyed.dtypes()))
    by_key = context.shuffle(rows, keys, delivers=delivers, kind="group_by")
    grouped = by_key.then(apply(node.raw, [by_key.lf]), f"{operator} {', '.join(keyed)}", distribution=ANY)
    return _in_order_of_keys(grouped, keyed.names(), context) if ordered else grouped


def _in_order_of_keys(grouped: Relation, names: list[str], context: Context) -> Relation:
    """Bring groups into the order in which polars gives them; the windows of each group keep theirs."""
    encoded = _row_encode([pl.col(name) for name in names], unordered=True).cast(pl.Binary).alias(_ORDER)
    with_order = grouped.then(grouped.lf.with_columns(encoded))
    ordered = context.sort(with_order, [SortKey(column=_ORDER, descending=False, nulls_last=False)], stable=True)
    return ordered.then(ordered.lf.drop(_ORDER), "RESTORE ORDER", distribution=None if ordered.is_single else ANY)
