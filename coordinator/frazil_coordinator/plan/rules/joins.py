"""Joins: one side broadcast when it is small, else both sides shuffled by the join keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import is_row_wise, plain_column, to_expr
from frazil_coordinator.plan.nodes import Join
from frazil_coordinator.plan.relation import ANY, SINGLE, Distribution, Relation, apply, tasks_of
from frazil_coordinator.plan.rules.base import combine, distribute, run_single
from frazil_coordinator.plan.rules.join_order import (
    Side,
    equal_keys,
    in_order_of,
    kept_order,
    paired_in_order,
    with_tags_of,
)
from frazil_coordinator.plan.runtime_filters import offer_filter
from frazil_coordinator.settings import MIB

_PAIRED: Final = frozenset({"Cross", "Where"})
"""Joins that may pair any two rows: one side goes to every task, in parts where it is large and nobody looks at the order of
the answer, unless a predicate says which rows are equal."""

_OUTER_WHERE: Final = frozenset({"LeftWhere", "RightWhere", "FullWhere"})
_WHERE: Final = frozenset({"Where"}) | _OUTER_WHERE
_BROADCAST_RIGHT: Final = frozenset({"Inner", "Left", "LeftWhere", "Semi", "Anti"}) | _PAIRED
_BROADCAST_LEFT: Final = frozenset({"Inner", "Right", "RightWhere"}) | _PAIRED
_BY_LEFT: Final = _BROADCAST_RIGHT
"""Joins of which each row of the left side has its own part of the answer, given the whole right side."""

_BY_RIGHT: Final = _BROADCAST_LEFT
_CHEAP_BYTES: Final = 8 * MIB
"""Bytes that all tasks together may read of a broadcast side, however little a shuffle would move. Above, they must be at
most half of what the shuffle would move: every task reads the side, and builds a hash table of it, anew."""

_HASHED: Final = frozenset({"Inner", "Left", "Right", "Full", "Semi", "Anti"})
_UNMATCHED_WITHOUT_ORDER: Final = frozenset({("Left", "right"), ("Right", "left"), ("Full", "left"), ("Full", "right")})
_FILTERS_LEFT: Final = frozenset({"Inner", "Right", "Semi", "Where"})
"""Joins in whose answer no row of the left side is without a partner."""

_FILTERS_RIGHT: Final = frozenset({"Inner", "Left", "Semi", "Anti", "Where"})
_ORDER_OF_LEFT: Final = frozenset({"None", "Left", "LeftRight"})
_ORDER_OF_RIGHT: Final = frozenset({"None", "Right", "RightLeft"})
_CHECKS_RIGHT: Final = frozenset({"ManyToMany", "ManyToOne"})
_CHECKS_LEFT: Final = frozenset({"ManyToMany", "OneToMany"})


@distribute.register
def _(node: Join, context: Context, inputs: Sequence[Relation]) -> Relation:
    left, right = inputs
    operator = _operator(node)
    if left.is_single and right.is_single:
        return _joined(node, left, right, f"{operator} (in one task)", SINGLE)
    if node.how not in _HASHED | _PAIRED | _OUTER_WHERE or (node.how in _OUTER_WHERE and _order_of(node, context)):
        return run_single(node, context, inputs, f"a {node.how} join has no distributed form", operator)
    if not all(map(is_row_wise, (*node.left_on, *node.right_on, *node.predicates))):
        return run_single(node, context, inputs, "a key of the join looks at more than one row", operator)
    side = _side_to_broadcast(node, context, left, right)
    if side is not None and node.how == "Where":
        left_on, right_on = equal_keys(node, left, right)
        node = replace(node, left_on=left_on, right_on=right_on)
    if side == "right":
        whole = _whole(node, context, right)
        _offer_filters(node, context, "left", left, whole)
        return _joined(node, left, whole, f"{operator} (right side broadcast)", left.distribution)
    if side == "left":
        whole = _whole(node, context, left)
        _offer_filters(node, context, "right", right, whole)
        keeps = node.how == "Right" or not right.distribution.keys
        delivers = right.distribution if keeps else ANY
        joined = _joined(node, whole, right, f"{operator} (left side broadcast)", delivers)
        return _with_right_names(joined, right) if delivers.keys else joined
    if node.how == "Cross" or (node.how == "Where" and _order_of(node, context) is not None):
        return paired_in_order(node, context, left, right)
    if node.how in _OUTER_WHERE and not equal_keys(node, left, right)[0]:
        return run_single(node, context, inputs, f"a {node.how} join without equalities has no distributed form", operator)
    return _by_hash(node, context, left, right)


def _whole(node: Join, context: Context, side: Relation) -> Relation:
    """Return the side that every task gets. Where any two rows may be paired, it may be too large for one task.

    Its rows may be divided then, each part with all rows of the other side, unless somebody looks at their order.
    """
    whole = context.broadcast(side)
    divides = node.how in _PAIRED and _order_of(node, context) is None
    return replace(whole, divisible=frozenset(whole.leaves)) if divides else whole


def _operator(node: Join) -> str:
    return f"{node.how.removesuffix('Where').upper()} JOIN WHERE" if node.how in _OUTER_WHERE else f"{node.how.upper()} JOIN"


def _order_of(node: Join, context: Context) -> Side | None:
    """Return the side whose order comes first, where somebody looks at it."""
    return kept_order(node) if node.number in context.ordered else None


def _joined(node: Join, left: Relation, right: Relation, operator: str, distribution: Distribution) -> Relation:
    both = combine([left, right])
    divisible = frozenset[int]()
    if node.validation == "ManyToMany":
        divisible |= left.divisible if node.how in _BY_LEFT and node.maintain_order in _ORDER_OF_LEFT else set()
        divisible |= right.divisible if node.how in _BY_RIGHT and node.maintain_order in _ORDER_OF_RIGHT else set()
    # Of a join on an exchange and a scan, the tasks are the scan's.
    return replace(
        both.then(apply(node.raw, [left.lf, right.lf]), operator, distribution=distribution),
        kind="single" if both.kind == "single" else "join",
        divisible=divisible,
    )


def _side_to_broadcast(node: Join, context: Context, left: Relation, right: Relation) -> str | None:
    """Return the side that every task should get whole; None for a shuffle."""
    limit = context.settings.broadcast_limit_bytes
    order = _order_of(node, context)
    sides: list[tuple[int, str, int]] = []
    # Rows of a broadcast side must not be counted once a task: only the other side's rows may appear unmatched. Uniqueness
    # of keys can be checked for the side that a task has whole.
    if node.how in _BROADCAST_RIGHT and order != "right" and node.validation in _CHECKS_RIGHT and not left.is_single:
        sides.append((right.bytes, "right", tasks_of(left)))
    if node.how in _BROADCAST_LEFT and order != "left" and node.validation in _CHECKS_LEFT and not right.is_single:
        sides.append((left.bytes, "left", tasks_of(right)))
    if not sides:
        return None
    size, side, readers = min(sides)
    if node.how == "Cross" or (node.how in _WHERE and (size <= limit or not equal_keys(node, left, right)[0])):
        return side
    worth = size * readers <= max(_CHEAP_BYTES, (left.bytes + right.bytes) // 2)
    return side if 0 < limit >= size and worth else None


def _with_right_names(joined: Relation, right: Relation) -> Relation:
    """Return a right join whose distribution, so far that of the right side, has the names of its result.

    A column of the left side may have taken the name; all columns of the right side come last, in their order.
    """
    before = right.schema.names()
    after = dict(zip(before, joined.schema.names()[-len(before) :], strict=True))
    keys = tuple(after[name] for name in joined.distribution.keys)
    return replace(joined, distribution=replace(joined.distribution, keys=keys))


def _offer_filters(
    node: Join, context: Context, probe_side: Side, probe: Relation, build: Relation, shuffled: Relation | None = None
) -> None:
    """Offer to leave out rows of one side that have no partner on the other, which `build` reads from an exchange."""
    hows, checks = (_FILTERS_LEFT, _CHECKS_RIGHT) if probe_side == "left" else (_FILTERS_RIGHT, _CHECKS_LEFT)
    # Of a side whose keys must be unique, all rows are needed to see it.
    if not context.settings.runtime_filters or node.how not in hows or node.validation not in checks or node.nulls_equal:
        return
    sides = (node.left_on, node.right_on) if probe_side == "left" else (node.right_on, node.left_on)
    for probe_key, build_key in zip(*sides, strict=True):
        context.filters += offer_filter(probe, probe_key, build, build_key, shuffled)


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a join, cast to their common types."""

    left: tuple[pl.Expr, ...]
    right: tuple[pl.Expr, ...]
    left_names: tuple[str | None, ...]
    right_names: tuple[str | None, ...]
    dtypes: tuple[pl.DataType, ...]


def _keys(node: Join, left: Relation, right: Relation) -> _Keys | None:
    """Return the keys under which equal values hash alike on both sides; None when there are no common types."""
    left_on, right_on = [to_expr(raw) for raw in node.left_on], [to_expr(raw) for raw in node.right_on]
    dtypes: list[pl.DataType] = []
    for one, other in zip(left_on, right_on, strict=True):
        (a,) = left.lf.select(one).collect_schema().dtypes()
        (b,) = right.lf.select(other).collect_schema().dtypes()
        common = _common_type(a, b)
        if common is None:
            return None
        dtypes.append(common)
    return _Keys(
        left=tuple(expr.cast(dtype) for expr, dtype in zip(left_on, dtypes, strict=True)),
        right=tuple(expr.cast(dtype) for expr, dtype in zip(right_on, dtypes, strict=True)),
        left_names=tuple(map(plain_column, node.left_on)),
        right_names=tuple(map(plain_column, node.right_on)),
        dtypes=tuple(dtypes),
    )


def _common_type(a: pl.DataType, b: pl.DataType) -> pl.DataType | None:
    if a == b:
        return a
    frames = [pl.LazyFrame(schema={"key": dtype}) for dtype in (a, b)]
    try:
        return pl.concat(frames, how="vertical_relaxed").collect_schema()["key"]
    except PolarsError:
        return None


def _by_hash(node: Join, context: Context, left: Relation, right: Relation) -> Relation:
    operator = _operator(node)
    order = _order_of(node, context)
    partly = (node.how, order) in _UNMATCHED_WITHOUT_ORDER
    if node.how in _WHERE:
        left_on, right_on = equal_keys(node, left, right)
        node = replace(node, left_on=left_on, right_on=right_on)
    keys = _keys(node, left, right)
    if keys is None:
        return run_single(node, context, [left, right], "join keys without a common type", operator)
    left_side = _hash_side(context, left, keys.left, keys.left_names, keys.dtypes, row_tag=partly or order == "left")
    right_side = _hash_side(context, right, keys.right, keys.right_names, keys.dtypes, row_tag=partly or order == "right")
    if left_side is not left and right_side is not right:
        _offer_filters(node, context, "left", left, right_side, left_side)
        _offer_filters(node, context, "right", right, left_side, right_side)
    elif right_side is not right:
        _offer_filters(node, context, "left", left, right_side)
    elif left_side is not left:
        _offer_filters(node, context, "right", right, left_side)
    if partly:
        left_side, right_side = with_tags_of(left_side, "left"), with_tags_of(right_side, "right")
    names = keys.right_names if node.how == "Right" else keys.left_names
    plain = tuple(name for name in names if name is not None)
    keeps_keys = node.how not in {"Full", *_WHERE} and len(plain) == len(names)
    delivers = Distribution(kind="hash", keys=plain, dtypes=keys.dtypes) if keeps_keys else ANY
    joined = _joined(node, left_side, right_side, f"{operator} (by hash)", delivers)
    if node.how == "Right":
        joined = _with_right_names(joined, right_side)
    if order is None:
        return joined
    return in_order_of(context, joined, order) if partly else context.restore_order(joined)


def _hash_side(
    context: Context,
    side: Relation,
    exprs: Sequence[pl.Expr],
    names: Sequence[str | None],
    dtypes: tuple[pl.DataType, ...],
    *,
    row_tag: bool,
) -> Relation:
    """Return the side with equal keys in one task: as it is when it lies so already, else shuffled."""
    delivered = side.distribution
    if not row_tag and delivered.kind == "hash" and delivered.keys == tuple(names) and delivered.dtypes == dtypes:
        return side
    shown = tuple(name if name is not None else str(expr) for name, expr in zip(names, exprs, strict=True))
    delivers = Distribution(kind="hash", keys=shown, dtypes=dtypes)
    return context.shuffle(side, exprs, delivers=delivers, kind="join", row_tag=row_tag)
