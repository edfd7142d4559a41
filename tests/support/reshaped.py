"""Steps of random plans that change the shape of a frame, or state a query in other words: SQL, shared inputs, top k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from support.random_exprs import predicate
from support.random_tables import Choices, is_key, is_number, names_of
from support.whole_frames import move

if TYPE_CHECKING:
    from support.plans import State

__all__ = ["align", "lengths", "numbered", "shared", "sql", "top", "unnest", "update"]


def top(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Keep the greatest or the least rows. Which of equal ones is open, so rows are equal when all of them is."""
    schema = state.schema
    if any(dtype.is_nested() or dtype == pl.Null for dtype in schema.values()):
        return move(c, state, base, other)
    first = c.pick(list(schema))
    by = [first, *(name for name in schema if name != first)]
    k, reverse = c.integer(0, 7), [c.flag() for _ in by]
    lf = state.lf.top_k(k, by=by, reverse=reverse) if c.flag() else state.lf.bottom_k(k, by=by, reverse=reverse)
    return state.then(lf, f"top_k or bottom_k({k}, by={by}, {reverse=})", ordered=False)


def shared(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Read what was made so far twice, often through a cache."""
    if state.joins >= 2:
        return move(c, state, base, other)
    lf = state.lf.cache() if c.flag() else state.lf
    condition = predicate(c, state.schema, 0)
    match c.integer(0, 2):
        case 0:
            return state.then(pl.concat([lf, lf.filter(condition)]), f"concat(cache, cache.filter({condition}))", joins=1)
        case 1:
            counts = lf.select(pl.len().alias(f"len{len(state.text)}"))
            return state.then(lf.join(counts, how="cross"), "cross join with cache.select(len)", ordered=False, joins=1)
        case _:
            keys = names_of(state.schema, is_key)
            if not keys:
                return state.then(lf, "cache()")
            key = c.pick(keys)
            side = lf.filter(condition).select(key).unique()
            return state.then(
                lf.join(side, on=key, how="semi", maintain_order="left"),
                f"semi join with cache.filter({condition}), {key!r}",
                joins=1,
            )


def sql(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """A statement over the frame."""
    schema, mark = state.schema, len(state.text)
    keys = names_of(schema, lambda dtype: is_key(dtype) and not dtype.is_nested())
    numbers = [name for name in names_of(schema, is_number) if schema[name] not in (pl.Int128, pl.Float16)]
    if not keys or not numbers:
        return move(c, state, base, other)
    k, x = c.pick(keys), c.pick(numbers)
    means = f'SELECT "{k}", AVG("{x}") AS a{mark} FROM self GROUP BY "{k}" HAVING COUNT(*) > 1'
    statements = [
        f'SELECT "{k}" AS k{mark}, SUM("{x}") AS s{mark}, COUNT(*) AS n{mark} FROM self GROUP BY "{k}"',
        f'SELECT * FROM self WHERE "{x}" > 0 OR "{k}" IS NULL',
        f'SELECT DISTINCT "{k}", "{x}" FROM self' if k != x else f'SELECT DISTINCT "{k}" FROM self',
        f'SELECT "{k}", MAX("{x}") OVER (PARTITION BY "{k}") AS m{mark} FROM self',
        f'SELECT * FROM self WHERE "{x}" IN (SELECT "{x}" FROM self WHERE "{k}" IS NOT NULL)',
        f'WITH t AS ({means}) SELECT self.*, t.a{mark} FROM self LEFT JOIN t ON self."{k}" = t."{k}"',
        f'SELECT "{k}" FROM self UNION ALL SELECT "{k}" FROM self WHERE "{x}" IS NULL',
        f'SELECT "{k}" FROM self EXCEPT SELECT "{k}" FROM self WHERE "{x}" > 1',
        f'SELECT CASE WHEN "{x}" > 1 THEN 1 ELSE 0 END AS c{mark}, * FROM self',
    ]
    statement = c.pick(statements)
    kept = state.ordered and "WHERE" in statement[:26] and " IN " not in statement
    return state.then(state.lf.sql(statement), f"sql({statement!r})", ordered=kept, keys=())


def lengths(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Select one column whose length is another than that of the frame."""
    schema = state.schema
    names = [name for name, dtype in schema.items() if not dtype.is_nested() and dtype != pl.Null]
    if not names:
        return move(c, state, base, other)
    name = c.pick(names)
    column = pl.col(name)
    choices = [
        (column.unique().sort(), True), (column.drop_nulls(), state.ordered), (column.mode().sort(), True),
        (column.value_counts(name="n"), False), (column.unique(), False),
        (column.filter(predicate(c, schema, 0)), state.ordered),
        (column.sort(nulls_last=c.flag()), True), (column.top_k(3), False), (column.bottom_k(2), False),
    ]  # fmt: skip
    if state.ordered:
        choices += [
            (column.rle(), True), (column.unique(maintain_order=True), True), (column.head(3), True),
            (column.reverse(), True),
            (column.is_null().arg_true(), True), (column.unique_counts(), True), (column.gather_every(2), True),
            (column.arg_unique(), True), (column.arg_sort(), True), (column.shift(1).drop_nulls(), True),
            (column.slice(1, 3), True),
            (column.repeat_by(2).explode(), True), (column.implode(), True), (column.extend_constant(None, 2), True),
            (column.sort_by(column.is_null(), maintain_order=True), True), (column.append(column.head(1)), True),
        ]  # fmt: skip
    expr, ordered = c.pick(choices)
    return state.then(state.lf.select(expr), f"select({expr})", ordered=ordered)


def unnest(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Take a struct apart, or put all columns into one."""
    structs = names_of(state.schema, lambda dtype: isinstance(dtype, pl.Struct))
    if not structs:
        return state.then(state.lf.select(pl.struct(pl.all()).alias("all")), "select(struct(all()).alias('all'))")
    name = c.pick(structs)
    return state.then(state.lf.unnest(name, separator="."), f"unnest({name!r}, separator='.')")


def numbered(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Steps of whole frames by the numbers of their rows."""
    mark, far = len(state.text), c.pick((1, -1, 3))
    if not state.ordered:
        return move(c, state, base, other)
    match c.integer(0, 3):
        case 0:
            return state.then(state.lf.with_row_index(f"row{mark}", offset=2), f"with_row_index('row{mark}', offset=2)")
        case 1:
            return state.then(state.lf.shift(far), f"shift({far})")
        case 2:
            return state.then(state.lf.fill_null(strategy="backward"), "fill_null(strategy='backward')")
        case _:
            keys = names_of(state.schema, is_key)
            if not keys:
                return move(c, state, base, other)
            key = c.pick(keys)
            if c.flag():
                return state.then(state.lf.group_by(key).tail(2), f"group_by({key!r}).tail(2)", ordered=False, keys=[key])
            exploded = pl.all().reverse().over(key, mapping_strategy="explode")
            text = f"sort({key!r}, maintain_order=True).select(all().reverse().over({key!r}, mapping_strategy='explode'))"
            return state.then(state.lf.sort(key, maintain_order=True).select(exploded), text)


def align(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Put one frame under or beside another with fewer or other columns."""
    if state.joins >= 2:
        return move(c, state, base, other)
    common = [name for name, dtype in other.collect_schema().items() if state.schema.get(name) == dtype]
    match c.integer(0, 2):
        case 0 if common and not any(state.schema[name].is_nested() for name in common):
            lf = pl.concat([state.lf, other], how="align")
            return state.then(lf, "concat(self, other, how='align')", ordered=False, joins=1)
        case 1 if common:
            lf = pl.concat([other.select(common), state.lf.select(common)], how="vertical_relaxed")
            return state.then(lf, f"concat(other, self, how='vertical_relaxed').select({common})", joins=1)
        case _:
            lf = pl.concat([state.lf, other.select(pl.all().name.suffix("_d"))], how="diagonal")
            return state.then(lf, "concat(self, other, how='diagonal')", joins=1)


def update(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    """Cast to what is stated of a schema, or update a few rows from others."""
    schema = state.schema
    if "id" in schema and schema["id"] == pl.Int64 and state.joins < 1 and state.ordered and c.flag():
        side = base.filter(predicate(c, base.collect_schema(), 0)).unique("id", keep="none")
        return state.then(state.lf.update(side, on="id"), "update(table.filter, on='id')", joins=1, ordered=False)
    lf = state.lf.select(reversed(list(schema))).match_to_schema(schema)
    return state.then(lf, "select(reversed).match_to_schema")
