"""Joins that keep an order which some of their rows don't have, and equality among the predicates of ``join_where``.

Rows that found no partner carry no row tag of the other side. Polars puts them after all rows that have one, so both sides
are tagged, and the tags of the side whose order comes first are sorted with nulls last. Used by
:mod:`~frazil_coordinator.plan.rules.joins`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, cast

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import kind_of, members, plain_column, substitute, walk
from frazil_coordinator.plan.nodes import Join, RawExpr
from frazil_coordinator.plan.relation import ANY, Relation, apply
from frazil_coordinator.plan.rules.base import combine
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS, SortKey

__all__ = ["Side", "equal_keys", "in_order_of", "kept_order", "paired_in_order", "with_tags_of"]

Side: TypeAlias = Literal["left", "right"]

_NUMBER: Final = "__frazil_number"
_ORDERS: Final[dict[str, Side]] = {"Left": "left", "LeftRight": "left", "Right": "right", "RightLeft": "right"}


def kept_order(node: Join) -> Side | None:
    """Return the side by whose order the rows come first; None when their order is open."""
    if node.how in ("Semi", "Anti"):  # rows of the right side are not in the result, nor can their order be
        return None if node.maintain_order in ("None", "Right") else "left"
    return _ORDERS.get(node.maintain_order)


def _tags(side: Side) -> list[str]:
    return [f"{name}_{side}" for name in ROW_TAG_COLUMNS]


def with_tags_of(rows: Relation, side: Side) -> Relation:
    """Return tagged rows with tags that stay apart from those of the other side of a join."""
    return rows.then(rows.lf.rename(dict(zip(ROW_TAG_COLUMNS, _tags(side), strict=True))))


def in_order_of(context: Context, joined: Relation, first: Side) -> Relation:
    """Bring joined rows into the order of the side `first`, then of the other, and drop the tags of both."""
    names = [*_tags(first), *_tags("right" if first == "left" else "left")]
    return _sorted(context, joined, names)


def _sorted(context: Context, joined: Relation, names: Sequence[str]) -> Relation:
    keys = [SortKey(column=name, descending=False, nulls_last=True) for name in names]
    ordered = context.sort(joined, keys, stable=True)
    return ordered.then(ordered.lf.drop(names), "RESTORE ORDER", distribution=ANY)


def paired_in_order(node: Join, context: Context, left: Relation, right: Relation) -> Relation:
    """Return a join of any two rows in the order of its side that lies in one task, which is sent to the other's tasks."""
    first: Side = "left" if left.is_single else "right"
    one, many = (left, right) if first == "left" else (right, left)
    other: Side = "right" if first == "left" else "left"
    small = context.broadcast(one.then(one.lf.with_row_index(_NUMBER), "ROW INDEX"))
    large = with_tags_of(context.tagged(many), other)
    sides = (small, large) if first == "left" else (large, small)
    both = combine([large, small]).then(
        apply(node.raw, [side.lf for side in sides]),
        f"{node.how.upper()} JOIN ({first} side broadcast)",
        distribution=ANY,
        kind="join",
    )
    return _sorted(context, both, [_NUMBER, *_tags(other)])


def equal_keys(node: Join, left: Relation, right: Relation) -> tuple[tuple[RawExpr, ...], tuple[RawExpr, ...]]:
    """Return the sides of those predicates of a ``Where`` join that say ``expression of left == expression of right``."""
    suffix = cast("Raw", cast("Raw", cast("Raw", node.raw["Join"])["options"])["args"])["suffix"]
    of_left = set(left.schema.names())
    of_right = {f"{name}{suffix or '_right'}" if name in of_left else name: name for name in right.schema.names()}
    pairs: list[tuple[RawExpr, RawExpr]] = []
    for predicate in node.predicates:
        inner = members(predicate)
        if kind_of(predicate) != "BinaryExpr" or not isinstance(inner, dict) or inner["op"] != "Eq":
            continue
        for one, two in ((inner["left"], inner["right"]), (inner["right"], inner["left"])):
            roots, others = _columns(one), _columns(two)
            if roots and others and roots <= of_left and others <= of_right.keys():
                pairs.append((one, _renamed(two, of_right)))
                break
    return tuple(one for one, _ in pairs), tuple(two for _, two in pairs)


def _columns(raw: RawExpr) -> set[str]:
    return {str(plain_column(part)) for part in walk(raw) if kind_of(part) == "Column"}


def _renamed(raw: RawExpr, names: dict[str, str]) -> RawExpr:
    def column(part: RawExpr) -> RawExpr | None:
        name = plain_column(part)
        return None if name is None else {"Column": names[name]}

    return substitute(raw, column)
