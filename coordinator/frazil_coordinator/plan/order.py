"""Whose rows' order is looked at by somebody: computed from the root down, so that most queries never pay for it.

A hash exchange keeps the order of rows inside a partition and loses it between partitions. A rule that is asked to keep
an order (``maintain_order``, a window) tags the rows and sorts them back only where :func:`order_demand` says that it can
be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.exprs import is_row_wise, kind_of, members, row_operands, substitute
from frazil_coordinator.plan.nodes import (
    Cache,
    DataFrameScan,
    Distinct,
    Filter,
    GroupBy,
    HStack,
    Join,
    MapFunction,
    MatchToSchema,
    Node,
    Pivot,
    RawExpr,
    Scan,
    Select,
    Sort,
    Union,
)
from frazil_functions.arena import Arena, Raw

__all__ = ["is_order_free", "order_demand"]

_FREE_AGGREGATES: Final = frozenset({"Sum", "Min", "Max", "Mean", "Median", "Count", "Std", "Var", "NUnique"})
"""Aggregates whose value does not depend on the order of their rows, but for the rounding of float sums."""

_FREE_FUNCTIONS: Final = frozenset({"NullCount", "Quantile", "ApproxNUnique"})
_FREE_BOOLEANS: Final = frozenset({"Any", "All"})
_KEEPS_ORDER: Final = frozenset({"Rename", "Explode", "FillNan", "Unnest", "Unpivot", "Hint"})
_ORDER_FREE_FUNCTIONS: Final = frozenset({"Stats"})


def order_demand(arena: Arena, digests: dict[int, str], *, root: bool = True) -> frozenset[str]:
    """Return the digests of the nodes the order of whose rows can be seen: by the user, or by an operation on the way.

    Parameters
    ----------
    arena
        The user's plan.
    digests
        ``arena.digests()``; equal sub-plans are planned once, so one demand holds for all of them.
    root
        Whether the order of the plan's own rows can be seen.
    """
    seen = {digests[arena.root]} if root else set[str]()
    for number in reversed(arena.reachable()):
        node = decode_node(arena, number)
        needs = _needs(node, seen=digests[number] in seen)
        seen |= {digests[child] for child, needed in zip(node.inputs, needs, strict=True) if needed}
    return frozenset(seen)


def _needs(node: Node, *, seen: bool) -> Sequence[bool]:
    """Return for each input of `node` whether its order can be seen; `seen`: whether that of the node itself can."""
    match node:
        case Scan() | DataFrameScan():
            return ()
        case Union(maintain_order=False):
            return (False,) * len(node.inputs)
        case Cache() | Union() | MatchToSchema():
            return (seen,) * len(node.inputs)
        case Filter():
            return (seen or not is_order_free(node.predicate),)
        case Select() | HStack():
            return (seen or not all(map(is_order_free, node.exprs)),)
        case MapFunction() if node.function in _ORDER_FREE_FUNCTIONS:
            return (False,)
        case Pivot():
            value = substitute(node.agg, lambda part: {"Column": "x"} if part == "Element" else None)
            return ((node.maintain_order and seen) or not is_order_free(value),)
        case MapFunction():
            function = cast("Raw", node.raw["MapFunction"])["function"]
            kept = node.function in _KEEPS_ORDER and (node.function != "FillNan" or is_order_free(function))
            return (seen or not kept,) * len(node.inputs)
        case GroupBy():
            looked_at = (*node.keys, *node.aggs, *node.predicates)
            return ((node.maintain_order and seen) or not node.plain or not all(map(is_order_free, looked_at)),)
        case Sort():
            return (node.maintain_order or not all(map(is_order_free, node.by)),)
        case Distinct():
            looked_at = node.subset or ()
            kept = (node.maintain_order and seen) or node.keep in ("First", "Last")
            return (kept or not all(map(is_order_free, looked_at)),)
        case Join():
            kept = seen and node.maintain_order != "None"
            return (kept, kept)
        case _:
            return (True,) * len(node.inputs)


def is_order_free(raw: RawExpr) -> bool:
    """Return whether the values of an expression stay the same, row by row, when the rows come in another order."""
    if is_row_wise(raw):
        return True
    kind, inner = kind_of(raw), members(raw)
    if kind == "Len":
        return True
    if kind == "Alias":
        return is_order_free(cast("list[object]", inner)[0])
    if kind == "KeepName":
        return is_order_free(inner)
    if not isinstance(inner, dict):
        return False
    if kind == "Agg":
        return _is_free_aggregate(inner)
    if kind == "Function":
        return _is_free_function(raw, inner)
    if kind == "Over" and not all(map(is_order_free, cast("list[RawExpr]", inner["partition_by"]))):
        return False
    names = _PARTS.get(kind)
    return names is not None and all(is_order_free(inner[name]) for name in names)


_PARTS: Final = {
    "BinaryExpr": ("left", "right"),
    "Cast": ("expr",),
    "Ternary": ("predicate", "truthy", "falsy"),
    "RenameAlias": ("expr",),
    "Filter": ("input", "by"),
    "Over": ("function",),
}


def _is_free_aggregate(inner: Raw) -> bool:
    (name,) = inner
    value = inner[name]
    if name not in _FREE_AGGREGATES:
        return False
    if isinstance(value, list):  # [column, ddof]
        return is_order_free(value[0])
    return is_order_free(value["input"] if isinstance(value, dict) and "input" in value else value)


def _is_free_function(raw: RawExpr, inner: Raw) -> bool:
    function, inputs = inner["function"], cast("list[RawExpr]", inner["input"])
    stand_ins = [{"Column": f"x{number}"} for number in range(len(inputs))]
    free = (
        kind_of(function) in _FREE_FUNCTIONS
        or (kind_of(function) == "Boolean" and kind_of(members(function)) in _FREE_BOOLEANS)
        or is_row_wise({kind_of(raw): {**inner, "input": stand_ins}})
    )
    return free and all(map(is_order_free, row_operands(raw)))
