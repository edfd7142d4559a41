"""Windows (``over``): rows of equal keys into one task, the expression as it is, and the rows back into their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import expand, is_row_wise, kind_of, members, serialised, substitute, to_expr, walk
from frazil_coordinator.plan.nodes import Filter, HStack, Node, RawExpr, Select
from frazil_coordinator.plan.relation import ANY, Distribution, Relation, apply
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["over_windows"]

_STAND_IN: Final = "__frazil_window"
_SAME_ROWS: Final = frozenset({"GroupsToRows", "Join"})
"""Mapping strategies that give one value a row of the input, in its order."""


def over_windows(node: Node, exprs: Sequence[RawExpr], context: Context, rows: Relation, operator: str) -> Relation | None:
    """Return the relation of a node whose expressions are row-wise but for windows; None when they are not.

    All windows must share at least one key: rows are shuffled by the keys that they share, which brings every window's
    groups together. Rows keep their order inside a partition; where somebody looks at it, row tags bring them back into
    it between partitions.
    """
    try:
        singles = [single for raw in exprs for single in expand(raw, rows.schema)]
    except (PolarsError, ValueError):
        return None
    keys = _shared_keys(singles)
    if not keys:
        return None
    on = [to_expr(key) for key in keys]
    keyed = rows.lf.select([key.alias(f"{_STAND_IN}{n}") for n, key in enumerate(on)]).collect_schema()
    delivers = Distribution(kind="hash", keys=tuple(keyed.names()), dtypes=tuple(keyed.dtypes()))
    ordered = node.number in context.ordered
    by_key = context.shuffle(rows, on, delivers=delivers, kind="map", row_tag=ordered)
    done = by_key.then(apply(_written_out(node, singles, tagged=ordered), [by_key.lf]), operator, distribution=ANY)
    return context.restore_order(done) if ordered else done


def _shared_keys(exprs: Sequence[RawExpr]) -> list[RawExpr]:
    """Return the row-wise keys that all windows of the expressions have; none when something else looks at several rows."""
    windows: list[Raw] = []

    def stand_in(part: RawExpr) -> RawExpr | None:
        if kind_of(part) != "Over" or not isinstance(part, dict):
            return None
        windows.append(cast("Raw", members(part)))
        return {"Column": _STAND_IN}

    if not all(is_row_wise(substitute(raw, stand_in)) for raw in exprs):
        return []
    if not windows or not all(str(window["mapping"]) in _SAME_ROWS for window in windows):
        return []
    by_window = [
        {
            serialised(key): key
            for key in cast("list[RawExpr]", window["partition_by"])
            if is_row_wise(key) and any(kind_of(part) == "Column" for part in walk(key))
        }
        for window in windows
    ]
    return [key for name, key in by_window[0].items() if all(name in others for others in by_window)]


def _written_out(node: Node, exprs: Sequence[RawExpr], *, tagged: bool) -> Raw:
    """Return the node with its selectors written out, so that they leave the row tags alone, and the tags kept."""
    match node:
        case Select():
            tags: list[RawExpr] = [{"Column": name} for name in ROW_TAG_COLUMNS] if tagged else []
            return {"Select": {**cast("Raw", node.raw["Select"]), "expr": [*exprs, *tags]}}
        case HStack():
            return {"HStack": {**cast("Raw", node.raw["HStack"]), "exprs": list(exprs)}}
        case Filter():
            return {"Filter": {**cast("Raw", node.raw["Filter"]), "predicate": exprs[0]}}
        case _:
            msg = f"no windows in {type(node).__name__}"
            raise TypeError(msg)
