"""Steps of random plans that move, reshape and put side by side whole frames; see :mod:`support.plans`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from support.random_tables import Choices, is_key, is_number, names_of

if TYPE_CHECKING:
    from support.plans import State

__all__ = ["beside", "merge", "move", "pivot", "statistics", "unpivot"]


def unpivot(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Polars' engines give the blocks of the columns in different orders, so the order is open."""
    numbers = names_of(state.schema, is_number)
    if not numbers or {"variable", "value"} & set(state.schema):
        return move(c, state, base, other)
    on = c.some(numbers, 1, 3)
    index = [name for name in state.schema if name not in on][:2]
    lf = state.lf.unpivot(on, index=index)
    return state.then(lf, f"unpivot({on}, index={index})", ordered=False)


def pivot(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Pivot on a few values of an integer column, by another key."""
    integers = names_of(state.schema, lambda dtype: dtype.is_integer())
    keys = names_of(state.schema, is_key)
    numbers = names_of(state.schema, is_number)
    if not integers or len(keys) < 2 or not numbers:
        return move(c, state, base, other)
    on = c.pick(integers)
    index = [name for name in c.some(keys, 1, 2) if name != on]
    values = [name for name in c.some(numbers, 1, 2) if name not in (on, *index)]
    if not index or not values:
        return move(c, state, base, other)
    aggregates = ("sum", "min", "max", "len", *(("first", "last") if state.ordered else ()))
    chosen: Any = c.pick(aggregates)
    keep = state.ordered and c.flag()
    wanted = pl.Series(on, [0, 1, 2], dtype=state.schema[on])
    lf = state.lf.pivot(on, on_columns=wanted, index=index, values=values, aggregate_function=chosen, maintain_order=keep)
    text = f"pivot({on!r}, [0, 1, 2], index={index}, values={values}, {chosen!r}, maintain_order={keep})"
    return state.then(lf, text, ordered=keep)


def move(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Move the rows of the frame by their numbers."""
    if not state.ordered or state.joined_in_order:
        lf = state.lf.filter(pl.col(next(iter(state.schema))).is_not_null())
        return state.then(lf, "filter(first column is not null)")
    n, offset = c.integer(1, 4), c.integer(0, 3)
    # Polars' optimizer does not see that `select(all().tail(n))` looks at the order, and takes it from a join before.
    match c.pick((0, 1, 4, 4, 4) if state.joins else (0, 1, 2, 3, 4)):
        case 0:
            return state.then(state.lf.reverse(), "reverse()")
        case 1:
            return state.then(state.lf.gather_every(n, offset), f"gather_every({n}, {offset})")
        case 2:
            return state.then(state.lf.select(pl.all().tail(n)), f"select(all().tail({n}))")
        case 3:
            return state.then(state.lf.select(pl.all().head(n)), f"select(all().head({n}))")
        case _:
            return state.then(state.lf.slice(offset), f"slice({offset})")


def beside(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Put the rows beside themselves in another order, or beside those of another table.

    Filled up: whether frames of different heights are an error depends on which rows Polars' optimizer leaves of them.
    """
    if not state.ordered or state.joins >= 2:
        return move(c, state, base, other)
    mark = len(state.text)
    if c.flag():
        turned = state.lf.reverse().select(pl.all().name.prefix(f"b{mark}_"))
        return state.then(pl.concat([state.lf, turned], how="horizontal"), "beside its own reverse", joins=1)
    third = other.select(pl.all().name.prefix(f"o{mark}_"))
    return state.then(pl.concat([third, state.lf], how="horizontal_extend"), "beside other, filled up", joins=1)


def merge(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Merge with some of the same rows, both sorted.

    Not by floats: Polars' in-memory engine puts NaN before numbers, and its engines differ in the order of equal rows.
    """
    keys = names_of(state.schema, lambda dtype: is_key(dtype) and not dtype.is_nested() and not dtype.is_float())
    if not state.ordered or not keys or state.joins >= 2:
        return move(c, state, base, other)
    key = c.pick(keys)
    first = state.lf.sort(key, maintain_order=True)
    second = state.lf.gather_every(2).sort(key, maintain_order=True)
    return state.then(
        first.merge_sorted(second, key=key, maintain_order=True), f"merge with every second by {key!r}", joins=1
    )


def statistics(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """One row of statistics of the numbers."""
    numbers = [name for name in names_of(state.schema, is_number) if not state.schema[name].is_decimal()]
    if not numbers:
        return move(c, state, base, other)
    name = c.pick(("sum", "min", "max", "mean", "std", "var", "null_count"))
    lf: pl.LazyFrame = getattr(state.lf.select(c.some(numbers, 1, 3)), name)()
    return state.then(lf, f"select(numbers).{name}()", ordered=True)
