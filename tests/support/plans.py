"""Random plans over random tables.

A plan remembers how far Polars promises the order of its rows, so that nothing that Polars leaves open is ever asked for:
no slice of rows in an open order, no first of them, no unstable sort that is cut.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import polars as pl
import polars.selectors as cs

from frazil_coordinator.settings import Settings
from support import reshaped, timed
from support.random_aggregates import aggregate
from support.random_exprs import predicate, value
from support.random_tables import (
    FAMILIES,
    JOINABLE,
    Choices,
    Table,
    is_key,
    is_number,
    names_of,
    random_settings,
    random_table,
)
from support.whole_frames import beside, merge, move, pivot, statistics, unpivot

__all__ = ["GROUPS", "JOINS", "ORDERS", "Example", "State", "Step", "random_example"]


@dataclass(frozen=True, kw_only=True)
class State:
    """A plan in the making, and what is known of the order of its rows."""

    lf: pl.LazyFrame
    ordered: bool = True
    sorted_by: tuple[str, ...] = ()
    """When the order is open among equal rows only: the columns whose values are in order."""

    joins: int = 0
    joined_in_order: bool = False
    """Whether the order is that which a join kept. When a slice is all that looks at it, Polars takes it from the join: the
    sum of `join(…, maintain_order="left").head(5)` varies. So no rows are cut off then."""

    keys: tuple[str, ...] = ()
    """Keys of the last join or group_by: what follows is worth doing by them again."""

    text: tuple[str, ...] = ()

    @cached_property
    def schema(self) -> pl.Schema:
        """Schema of its rows."""
        return self.lf.collect_schema()

    def then(
        self, lf: pl.LazyFrame, text: str, *, ordered: bool | None = None, joins: int = 0, keys: Sequence[str] | None = None
    ) -> State:
        """Return the state after one more operator."""
        return replace(
            self,
            lf=lf,
            ordered=self.ordered if ordered is None else ordered,
            sorted_by=(),
            joins=self.joins + joins,
            keys=self.keys if keys is None else tuple(keys),
            text=(*self.text, text),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Example:
    """A table, a small one to join with, a plan over both, and how it is run."""

    table: Table
    other: Table
    plan: State
    settings: Settings
    divisions: int
    """How often each task is divided, as if it had run out of memory."""

    folder: Path
    """Where the tables lie; to be deleted after use."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # what Hypothesis prints of an example that fails
        printer.text(repr(self))

    def __repr__(self) -> str:
        """Return all of it as text."""
        steps = "\n  .".join(("table", *self.plan.text))
        tables = "\n".join(
            f"{name} ({table.files} files, groups of {table.row_group_size} rows): {table.frame.schema}\n"
            f"{table.frame.to_dict(as_series=False)}"
            for name, table in (("table", self.table), ("other", self.other))
        )
        knobs = ["max_rows_per_split", "shuffle_partitions", "broadcast_limit_bytes", "inline_limit_bytes", "codec"]
        knobs += ["coalesce_bytes", "skew_bytes", "skew_factor", "two_level_requests"]
        chosen = {knob: getattr(self.settings, knob) for knob in knobs} | {"divisions": self.divisions}
        return f"{tables}\n{steps}\n{chosen}"


def _keys_of(c: Choices, state: State, most: int) -> list[str]:
    """Return columns to work by: often those by which the rows lie together already."""
    schema = state.schema
    before = [name for name in state.keys if name in schema]
    if before and c.flag():
        return before[:most]
    return c.some(names_of(schema, is_key) or list(schema), 1, most)


def _filter(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    condition = predicate(c, state.schema)
    return state.then(state.lf.filter(condition), f"filter({condition})")


def _exprs(c: Choices, state: State) -> list[pl.Expr]:
    made: list[pl.Expr] = []
    for number in range(c.integer(1, 3)):
        expr = value(c, state.schema, ordered=state.ordered)
        name = c.pick((f"n{len(state.text)}{number}", *list(state.schema)[:3]))
        made.append(expr.alias(name))
    return list({expr.meta.output_name(): expr for expr in made}.values())


def _select(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    names = list(state.schema)
    kept = c.some(names, 1, len(names))
    exprs = _exprs(c, state) if c.flag() else []
    taken = {expr.meta.output_name() for expr in exprs}
    bare = [pl.col(name) for name in kept if name not in taken]
    return state.then(state.lf.select(*bare, *exprs), f"select({[str(expr) for expr in (*bare, *exprs)]})")


def _aggregate_all(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    aggs = [
        aggregate(c, state.schema, ordered=state.ordered).alias(f"a{len(state.text)}{number}")
        for number in range(c.integer(1, 4))
    ]
    return state.then(state.lf.select(aggs), f"select({[str(agg) for agg in aggs]})")


def _with_columns(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    exprs = _exprs(c, state)
    return state.then(state.lf.with_columns(exprs), f"with_columns({[str(expr) for expr in exprs]})")


def _group_by(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    schema = state.schema
    keys: list[str | pl.Expr] = [*_keys_of(c, state, 2)]
    numbers = names_of(schema, lambda dtype: dtype.is_integer())
    if numbers and c.integer(0, 4) == 4:
        keys[0] = (pl.col(c.pick(numbers)) % 3).alias("m")
        keys = [key for key in keys if not isinstance(key, str) or key != "m"]
    aggs = [
        aggregate(c, schema, ordered=state.ordered).alias(f"a{len(state.text)}{number}") for number in range(c.integer(0, 4))
    ]
    if c.integer(0, 9) == 9 and len(aggs) < 2:
        aggs.append(cs.numeric().sum().name.suffix("_sum"))
    keep = state.ordered and c.flag()
    grouped = state.lf.group_by(keys, maintain_order=keep)
    if c.integer(0, 7) == 7:
        grouped = grouped.having(pl.len() > 1)
    text = f"group_by({[str(key) for key in keys]}, maintain_order={keep}).agg({[str(agg) for agg in aggs]})"
    return state.then(grouped.agg(aggs), text, ordered=keep, keys=[key for key in keys if isinstance(key, str)])


def _unique(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    subset = None if c.flag() else _keys_of(c, state, 2)
    keeps: tuple[Literal["first", "last", "none", "any"], ...] = ("first", "last", "none") if state.ordered else ("none",)
    keep = c.pick(keeps if subset else (*keeps, "any"))
    order = state.ordered and c.flag()
    text = f"unique({subset}, keep={keep!r}, maintain_order={order})"
    return state.then(state.lf.unique(subset, keep=keep, maintain_order=order), text, ordered=order)


def _sort(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    keys = _keys_of(c, state, 3)
    descending = [c.flag() for _ in keys]
    nulls_last = [c.flag() for _ in keys]
    stable = c.flag()
    by = [pl.col(key) for key in keys]
    if is_number(state.schema[keys[0]]) and c.integer(0, 3) == 3:
        by[0] = pl.col(keys[0]).cast(pl.Float64) * 2
    lf = state.lf.sort(by, descending=descending, nulls_last=nulls_last, maintain_order=stable)
    text = f"sort({[str(key) for key in by]}, {descending=}, {nulls_last=}, maintain_order={stable})"
    after = state.then(lf, text, ordered=state.ordered and stable)
    return replace(after, sorted_by=tuple(keys), joined_in_order=False)


def _slice(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    if not state.ordered or state.joined_in_order:
        return _sort(c, state, base, other)
    count = c.integer(0, 9)
    offset = c.integer(-12, 12)
    match c.pick(("head", "tail", "slice", "slice to end")):
        case "head":
            return state.then(state.lf.head(count), f"head({count})")
        case "tail":
            return state.then(state.lf.tail(count), f"tail({count})")
        case "slice":
            return state.then(state.lf.slice(offset, count), f"slice({offset}, {count})")
        case _:
            return state.then(state.lf.slice(offset), f"slice({offset})")


def _join_side(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> tuple[pl.LazyFrame, bool, str]:
    """Return what to join with: another table, the same one, or something made of the plan so far."""
    match c.pick(("other", "some of other", "base", "own", "own aggregate", "other aggregate")):
        case "some of other":
            condition = predicate(c, other.collect_schema())
            return other.filter(condition), True, f"other.filter({condition})"
        case "base":
            return base, True, "table"
        case "own":
            return state.lf, state.ordered, "self"
        case "own aggregate":
            key = _keys_of(c, state, 1)[0]
            return state.lf.group_by(key).agg(cnt=pl.len()), False, f"self.group_by({key!r}).agg(cnt=pl.len())"
        case "other aggregate":
            key = c.pick(names_of(other.collect_schema(), is_key))
            return other.group_by(key).agg(cnt=pl.len()), False, f"other.group_by({key!r}).agg(cnt=pl.len())"
        case _:
            return other, True, "other"


def _join(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    if state.joins >= 2:
        return _filter(c, state, base, other)
    side, side_ordered, name = _join_side(c, state, base, other)
    left, right = state.schema, side.collect_schema()
    pairs = [(one, two) for one in left for two in right if left[one] == right[two] and is_key(left[one])]
    pairs.sort(key=lambda pair: pair[0] != pair[1])
    numbers = [(a, b) for a in names_of(left, is_number) for b in names_of(right, is_number) if left[a] != right[b]]
    if numbers and c.integer(0, 5) == 5:
        pairs = numbers
    if not pairs:
        return _filter(c, state, base, other)
    chosen = c.some(pairs, 1, 2)
    chosen = list({one: (one, two) for one, two in chosen}.values())
    left_on: list[str | pl.Expr] = [one for one, _ in chosen]
    right_on: list[str | pl.Expr] = [two for _, two in {two: (one, two) for one, two in chosen}.values()]
    left_on = left_on[: len(right_on)]
    if c.integer(0, 5) == 5 and left[chosen[0][0]].is_integer() and right[chosen[0][1]].is_integer():
        left_on[0], right_on[0] = pl.col(chosen[0][0]).cast(pl.Int64) % 3, pl.col(chosen[0][1]).cast(pl.Int64)
    how = c.pick(("inner", "left", "right", "full", "semi", "anti"))
    order = c.pick((None, None, None, "left", "right", "left_right", "right_left"))
    options: dict[str, Any] = {
        "how": how,
        "nulls_equal": c.flag(),
        "coalesce": c.pick((None, None, True, False)),
        "suffix": f"_{len(state.text)}",
        "maintain_order": order,
    }
    if how in ("semi", "anti") or any(isinstance(key, pl.Expr) for key in left_on):
        options["coalesce"] = None
    if c.integer(0, 9) == 9 and how in ("inner", "left"):
        options["validate"] = c.pick(("m:1", "1:m", "1:1"))
    if how in ("semi", "anti"):
        kept = state.ordered and order in ("left", "left_right")
    else:
        kept = state.ordered and side_ordered and order in ("left_right", "right_left")
    lf = state.lf.join(side, left_on=left_on, right_on=right_on, **options)
    text = f"join({name}, left_on={[str(k) for k in left_on]}, right_on={[str(k) for k in right_on]}, {options})"
    after = [name for name in lf.collect_schema() if name.startswith(tuple(str(key) for pair in chosen for key in pair))]
    return replace(state.then(lf, text, ordered=kept, joins=1, keys=after), joined_in_order=kept)


def _cross_join(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    if state.joins >= 1:
        return _select(c, state, base, other)
    lf = state.lf.join(other, how="cross", suffix=f"_{len(state.text)}")
    return state.then(lf, "cross join", ordered=False, joins=1)


def _explode(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    lists = names_of(state.schema, lambda dtype: isinstance(dtype, (pl.List, pl.Array)))
    if not lists:
        return _with_columns(c, state, base, other)
    name = c.pick(lists)
    return state.then(state.lf.explode(name), f"explode({name!r})")


def _drop_nulls(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    subset = None if c.flag() else c.some(list(state.schema), 1, 2)
    return state.then(state.lf.drop_nulls(subset), f"drop_nulls({subset})")


def _rename(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    names = list(state.schema)
    one, two = c.pick(names), c.pick(names)
    mapping = {one: f"r{len(state.text)}"} if one == two else {one: two, two: one}
    return state.then(state.lf.rename(mapping), f"rename({mapping})")


def _cast(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    name = c.pick(list(state.schema))
    dtype = state.schema[name]
    targets: list[pl.DataType] = [dtype]
    if dtype.is_integer():
        targets = [pl.Float64(), pl.Int64(), pl.String(), pl.Int8()]
    elif dtype == pl.String:
        targets = [pl.Categorical(), pl.Int64(), pl.Binary()]
    elif dtype == pl.Boolean:
        targets = [pl.Int8(), pl.String()]
    elif isinstance(dtype, (pl.Categorical, pl.Enum)):
        targets = [pl.String()]
    elif dtype.is_decimal():
        targets = [pl.Float64(), pl.Decimal(20, 4)]
    target = c.pick(targets)
    strict = c.integer(0, 4) == 4
    return state.then(state.lf.cast({name: target}, strict=strict), f"cast({{{name!r}: {target}}}, strict={strict})")


def _fill_null(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    fill = c.pick((0, "none", True))
    if state.ordered and c.integer(0, 5) == 5:
        return state.then(state.lf.fill_null(strategy="forward"), "fill_null(strategy='forward')")
    return state.then(state.lf.fill_null(fill), f"fill_null({fill!r})")


def _concat(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    if state.joins >= 2:
        return _filter(c, state, base, other)
    match c.integer(0, 2):
        case 0:
            return state.then(
                pl.concat([state.lf, state.lf.head(3) if state.ordered and not state.joined_in_order else state.lf]),
                "concat(self)",
                joins=1,
            )
        case 1:
            condition = predicate(c, state.schema)
            lf = pl.concat([state.lf.filter(~condition), state.lf.filter(condition)])
            return state.then(lf, f"concat(filter(~), filter({condition}))", joins=1)
        case _:
            lf = pl.concat([other, state.lf], how="diagonal_relaxed")
            return state.then(lf, "concat(other, self, how='diagonal_relaxed')", joins=1)


JOINS: Final = (_join, _join, _cross_join, _concat, beside, merge, timed.asof, timed.where, reshaped.align, reshaped.shared)
"""Steps that read two inputs."""

GROUPS: Final = (
    _group_by, _group_by, _aggregate_all, _unique, pivot, statistics, timed.dynamic, timed.rolling, reshaped.sql,
)  # fmt: skip
"""Steps that make fewer rows of many."""

ORDERS: Final = (_sort, _slice, move, reshaped.lengths, reshaped.numbered, reshaped.top)
"""Steps that look at the order of rows."""

_OTHERS: Final = (
    _filter, _select, _select, _with_columns, _with_columns, _explode, _rename, _cast, _fill_null, _drop_nulls, unpivot,
    reshaped.unnest, reshaped.update,
)  # fmt: skip
Step: TypeAlias = Callable[[Choices, State, pl.LazyFrame, pl.LazyFrame], State]


def random_example(c: Choices, folder: Path, *, often: Sequence[Step] = ()) -> Example:
    """Draw a table, a small one to join with, and a plan over both; the tables are written into `folder`.

    Half of the steps are those that shall come often, when any shall; the others are any.
    """
    steps: Sequence[Step] = (*JOINS, *GROUPS, *ORDERS, *_OTHERS)
    families = c.some(list(FAMILIES), 1, 6)
    shared = [name for name in families if name in JOINABLE and c.flag()]
    extra = c.some(("i64", "s", "i32", "l", "d"), 0, 2)
    table = random_table(c, families, 40, numbered="id")
    other = random_table(c, list(dict.fromkeys((*shared, *extra))), 8, numbered=c.pick(("id", "v")))
    place = folder / uuid.uuid4().hex
    base = pl.scan_parquet(table.write(place / "table"))
    second = other.frame.lazy() if c.flag() else pl.scan_parquet(other.write(place / "other"))
    state = State(lf=base)
    for _ in range(c.integer(1, 6)):
        step = c.pick(often if often and c.flag() else steps)
        try:
            state = step(c, state, base, second)
            if not state.schema:
                break
        except pl.exceptions.PolarsError:
            break  # a plan that can't be resolved must be refused alike
    settings, divisions = random_settings(c, table.frame.height), c.pick((0, 0, 0, 1, 1, 2))
    return Example(table=table, other=other, plan=state, settings=settings, divisions=divisions, folder=place)
