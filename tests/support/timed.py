"""Steps of random plans that work by ranges of an ordered column: windows of time, as-of joins, inequality joins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

from support.random_aggregates import aggregate
from support.random_tables import Choices, names_of
from support.whole_frames import move

if TYPE_CHECKING:
    from support.plans import State

__all__ = ["asof", "dynamic", "rolling", "where"]

_SPANS: Final = ("1i", "2i", "5i"), ("1d", "2d", "1w"), ("20m", "1h", "1d")
_SMALL: Final = 1 << 16
"""Windows of one after the other reach from the least to the greatest value: of integers, no further than this."""


def _index(c: Choices, state: State) -> tuple[str, tuple[str, ...], pl.LazyFrame] | None:
    """Return a column to put windows over, sizes for them, and the rows that have it, in its order."""
    schema = state.schema
    names = names_of(schema, lambda dtype: dtype in (pl.Int64, pl.Int32, pl.Date) or isinstance(dtype, pl.Datetime))
    if not names or not state.ordered:
        return None
    name = c.pick(names)
    rows = state.lf.drop_nulls(name)
    whole = schema[name].is_integer()
    if whole:
        rows = rows.filter(pl.col(name).is_between(-_SMALL, _SMALL))
    spans = _SPANS[0] if whole else _SPANS[1 if schema[name] == pl.Date else 2]
    return name, spans, rows.sort(name, maintain_order=True)


def _aggregates(c: Choices, state: State, index: str) -> list[pl.Expr]:
    names = {name: dtype for name, dtype in state.schema.items() if name != index} or dict(state.schema)
    return [aggregate(c, pl.Schema(names), ordered=True).alias(f"w{len(state.text)}{n}") for n in range(c.integer(1, 2))]


def _groups(c: Choices, state: State, index: str) -> list[str]:
    keys = names_of(state.schema, lambda dtype: not dtype.is_nested() and not dtype.is_float() and dtype != pl.Null)
    return c.some([key for key in keys if key != index], 0, 1)


def dynamic(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Group by windows that begin at regular places."""
    found = _index(c, state)
    if found is None:
        return move(c, state, base, other)
    name, spans, rows = found
    groups = _groups(c, state, name)
    options: dict[str, Any] = {
        "every": c.pick(spans[1:]),
        "period": c.pick((None, None, *spans)),
        "closed": c.pick(("left", "right", "both", "none")),
        "label": c.pick(("left", "right", "datapoint")),
        "start_by": c.pick(("window", "window", "datapoint")),
        "include_boundaries": c.integer(0, 3) == 3,
    }
    aggs = _aggregates(c, state, name)
    lf = rows.group_by_dynamic(name, group_by=groups or None, **options).agg(aggs)
    text = (
        f"drop_nulls({name!r}).sort.group_by_dynamic({name!r}, group_by={groups}, {options}).agg({[str(a) for a in aggs]})"
    )
    return state.then(lf, text, ordered=not groups, keys=groups)


def rolling(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Group by a window around the value of each row."""
    found = _index(c, state)
    if found is None:
        return move(c, state, base, other)
    name, spans, rows = found
    groups = _groups(c, state, name)
    options: dict[str, Any] = {
        "period": c.pick(spans),
        "offset": c.pick((None, None, f"-{spans[0]}", spans[0])),
        "closed": c.pick(("right", "left", "both", "none")),
    }
    aggs = _aggregates(c, state, name)
    lf = rows.rolling(name, group_by=groups or None, **options).agg(aggs)
    text = f"drop_nulls({name!r}).sort.rolling({name!r}, group_by={groups}, {options}).agg({[str(agg) for agg in aggs]})"
    return state.then(lf, text, ordered=not groups, keys=groups)


def asof(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Join each row with the nearest of another table, or of every second row of its own."""
    if not state.ordered or state.joins >= 2:
        return move(c, state, base, other)
    own = c.flag()
    side = state.lf.gather_every(2) if own else other
    left, right = state.schema, side.collect_schema()
    names = [
        name
        for name in names_of(left, lambda dtype: dtype.is_integer() or dtype.is_temporal())
        if right.get(name) == left[name] and left[name] != pl.Time
    ]
    if not names:
        return move(c, state, base, other)
    name = c.pick(names)
    by = [
        key for key in names_of(left, lambda dtype: dtype.is_integer() or dtype == pl.String) if left[key] == right.get(key)
    ]
    by = c.some([key for key in by if key != name], 0, 1)
    options: dict[str, Any] = {
        "by": by or None,
        "strategy": c.pick(("backward", "forward", "nearest")),
        "tolerance": c.pick((None, None, 1)) if left[name].is_integer() else None,
        "allow_exact_matches": c.integer(0, 3) != 3,
        "suffix": f"_{len(state.text)}",
        "check_sortedness": False,
    }
    rows = [lf.drop_nulls(name).sort(name, maintain_order=True) for lf in (state.lf, side)]
    lf = rows[0].join_asof(rows[1], on=name, **options)
    return state.then(lf, f"join_asof({'self.gather_every(2)' if own else 'other'}, on={name!r}, {options})", joins=1)


def where(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Join by inequalities; the order is open."""
    mark = f"_w{len(state.text)}"
    side = other.select(pl.all().name.suffix(mark))
    left, right = state.schema, side.collect_schema()
    pairs = [(one, two) for one in left for two in right if left[one] == right[two] and not left[one].is_nested()]
    pairs = [pair for pair in pairs if left[pair[0]] not in (pl.Null, pl.Boolean)]
    if not pairs or state.joins >= 2:
        return move(c, state, base, other)
    chosen = c.some(pairs, 1, 2)
    conditions = []
    for one, two in chosen:
        a, b = pl.col(one), pl.col(two)
        categories = isinstance(left[one], (pl.Categorical, pl.Enum))
        conditions.append(a == b if categories else c.pick((a < b, a <= b, a > b, a >= b, a == b, a != b)))
    lf = state.lf.join_where(side, *conditions)
    return state.then(lf, f"join_where(other, {[str(one) for one in conditions]})", ordered=False, joins=1)
