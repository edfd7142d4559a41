"""Group_by over windows of time or of an index (``group_by_dynamic``, ``rolling``).

By keys: whole groups in one task each. Polars looks at each group's own rows, in their order, which a hash exchange keeps.
Groups come out in the order of their row-encoded keys, so this is the order into which they are brought.

Without keys: spans of time in one task each (:mod:`.spans`), which are keys to polars, and the windows that begin in a span
(or, rolling, whose row lies in it) are kept.
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
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_coordinator.plan.rules.spans import SPAN, Reach, copied_into_spans, is_in_span, most_ticks, ticks, with_ends
from frazil_functions.arena import Raw
from frazil_functions.exchange.dtypes import anywhere
from frazil_functions.task import SortKey

__all__ = ["windows_of_time"]

_ORDER: Final = "__frazil_order"
_LOWER: Final = "_lower_boundary"
"""Polars' own name for the column of where a window begins."""


def windows_of_time(node: GroupBy, context: Context, rows: Relation) -> Relation:
    """Return the relation of a dynamic or rolling group_by."""
    options = cast("Raw", cast("Raw", node.raw["GroupBy"])["options"])
    if options["dynamic"] is None and options["rolling"] is None:
        return run_single(node, context, [rows], "a sliced group_by has no distributed form", "GROUP BY")
    operator = "GROUP BY DYNAMIC" if options["dynamic"] is not None else "GROUP BY ROLLING"
    if not node.keys:
        try:
            return _rolling(node, context, rows) if options["dynamic"] is None else _dynamic(node, context, rows)
        except NotDistributedError as error:
            return run_single(node, context, [rows], f"windows without keys: {error}", operator)
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


def _rolling(node: GroupBy, context: Context, rows: Relation) -> Relation:
    """Return windows before or around each row. Those of equal ticks are equal, so that their order does not matter."""
    options = cast("Raw", cast("Raw", node.raw["GroupBy"])["options"])
    own = cast("Raw", options["rolling"])
    index, dtype = _index_of(own, options, rows)
    tick = ticks(pl.col(index), dtype)
    reach = _reach_of_rolling(cast("Raw", own["offset"]), cast("Raw", own["period"]), dtype)
    known = with_ends(index, rows, context, ordered=True)
    spans = copied_into_spans(tick, reach, known, context, rows.schema.names())
    expected = apply(node.raw, [rows.lf]).collect_schema()
    rolled = apply(_by_span(node.raw), [spans.lf]).filter(is_in_span(tick)).select(expected.names())
    windows = spans.then(rolled, f"GROUP BY ROLLING {index}", distribution=ANY)
    return _checked(windows, expected, _in_order_of(index, windows, node, context))


def _reach_of_rolling(offset: Raw, period: Raw, dtype: pl.DataType) -> Reach:
    """Return how far windows reach that begin an offset from their tick, and by default end there."""
    away, long = most_ticks(offset, dtype), most_ticks(period, dtype)
    if not offset["negative"]:
        return Reach(before=0, after=away + long)
    return Reach(before=away, after=0 if offset == {**period, "negative": True} else long)


def _dynamic(node: GroupBy, context: Context, rows: Relation) -> Relation:
    """Return windows at regular starts.

    Polars finds them from the first row on. Where they depend on it, the first row of all is given to every span, so that
    polars begins there too.
    """
    options = cast("Raw", cast("Raw", node.raw["GroupBy"])["options"])
    own = cast("Raw", options["dynamic"])
    index, dtype = _index_of(own, options, rows)
    every, period, offset = (cast("Raw", own[name]) for name in ("every", "period", "offset"))
    bounded: Raw = {**own, "include_boundaries": True}
    raw: Raw = {"GroupBy": {**cast("Raw", node.raw["GroupBy"]), "options": {**options, "dynamic": bounded}}}
    expected = apply(node.raw, [rows.lf]).collect_schema()
    most = sum(most_ticks(duration, dtype) for duration in (every, period, offset))
    known = with_ends(index, rows, context, ordered=True)
    spans = copied_into_spans(
        ticks(pl.col(index), dtype),
        Reach(before=0, after=most),
        known,
        context,
        rows.schema.names(),
        first_everywhere=not _starts_anywhere(own, dtype),
    )
    begin = ticks(pl.col(_LOWER), apply(raw, [rows.lf]).collect_schema()[_LOWER])
    kept = apply(_by_span(raw), [spans.lf]).filter(is_in_span(begin)).select(pl.col(_LOWER).alias(_ORDER), *expected.names())
    windows = spans.then(kept, f"GROUP BY DYNAMIC {index}", distribution=ANY)
    ordered = _in_order_of(_ORDER, windows, node, context)
    return _checked(windows, expected, ordered.then(ordered.lf.drop(_ORDER)))


def _starts_anywhere(own: Raw, dtype: pl.DataType) -> bool:
    """Return whether polars finds the same windows from any row on: none overlap, and they begin where the calendar says."""
    every, offset = cast("Raw", own["every"]), cast("Raw", own["offset"])
    if own["start_by"] != "WindowBound" or own["period"] != every or own["closed_window"] == "Both":
        return False
    if isinstance(dtype, pl.Datetime) and dtype.time_zone not in (None, "UTC"):
        return False  # hours are counted on over a change of time
    units = [name for name in ("months", "weeks", "days", "nsecs") if every[name]]
    return len(units) == 1 and not any(offset[name] for name in ("months", "weeks", "days", "nsecs"))


def _index_of(own: Raw, options: Raw, rows: Relation) -> tuple[str, pl.DataType]:
    index = str(own["index_column"])
    dtype = rows.schema.get(index)
    if options["slice"] is not None or dtype is None:
        raise NotDistributedError("a part of them is wanted, or their index is no column")
    if dtype not in (pl.Int32, pl.Int64, pl.UInt32, pl.Date) and not isinstance(dtype, pl.Datetime):
        raise NotDistributedError(f"their index is {dtype}")
    return index, dtype


def _by_span(raw: Raw) -> Raw:
    """Return a node with the spans as its keys."""
    return {"GroupBy": {**cast("Raw", raw["GroupBy"]), "keys": [{"Column": name} for name in SPAN]}}


def _in_order_of(column: str, windows: Relation, node: GroupBy, context: Context) -> Relation:
    if node.number not in context.ordered:
        return windows
    ordered = context.sort(windows, [SortKey(column=column, descending=False, nulls_last=False)], stable=True)
    return ordered.then(ordered.lf, distribution=None if ordered.is_single else ANY)


def _checked(windows: Relation, expected: pl.Schema, ordered: Relation) -> Relation:
    """Return windows whose columns are those of the user's node."""
    found = {name: dtype for name, dtype in windows.schema.items() if name != _ORDER}
    if found != dict(expected):
        raise NotDistributedError("by spans of time they have other columns")
    return ordered
