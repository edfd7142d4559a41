"""Random tables and random plans over them, and a way to run a plan's stages inside this process.

A plan remembers how far Polars promises the order of its rows, so that nothing that Polars leaves open is ever asked for:
no slice of rows in an open order, no first of them, no unstable sort that is cut.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

import polars as pl
import polars.selectors as cs

from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.schedule.bind import bind_stage, output_for, result_blocks
from frazil_coordinator.settings import Settings
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.errors import QueryError
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.run import run_task
from frazil_functions.storage import Store
from frazil_functions.task import (
    CodecChoice,
    Descriptor,
    ExchangeInput,
    TaskRequest,
    decode_request,
    encode_request,
)

__all__ = ["Choices", "Example", "Outcome", "State", "Table", "answer_in_stages", "outcome", "random_example"]

_T = TypeVar("_T")

Outcome: TypeAlias = pl.DataFrame | str
"""An answer, or the name of the class that was raised."""

_DAY: Final = dt.date(2024, 2, 28)
_MOMENT: Final = dt.datetime(2024, 3, 30, 23, 30)  # noqa: DTZ001  # the zone is that of the column

_POOLS: Final[dict[str, tuple[pl.DataType, list[object]]]] = {
    "i64": (pl.Int64(), [0, 1, 2, 3, -1, 2**40]),
    "i8": (pl.Int8(), [0, 1, 2, -3, 127, -128]),
    "i32": (pl.Int32(), [0, 1, 2, 3, 7]),
    "u8": (pl.UInt8(), [0, 1, 2, 255]),
    "u64": (pl.UInt64(), [0, 1, 2, 3, 2**63]),
    "f64": (pl.Float64(), [0.0, -0.0, 0.5, -1.25, 3.0, 1000.0, float("nan"), float("inf"), float("-inf")]),
    "g64": (pl.Float64(), [0.0, 0.5, 1.5, -2.0, 3.0]),
    "f32": (pl.Float32(), [0.0, -0.0, 0.5, 2.0, float("nan"), -7.25]),
    "s": (pl.String(), ["", "a", "b", "ab", "Äö", "\x00z"]),
    "b": (pl.Boolean(), [True, False]),
    "d": (pl.Date(), [_DAY + dt.timedelta(days=n) for n in range(4)]),
    "t": (pl.Datetime("us", "Europe/Zurich"), [_MOMENT + dt.timedelta(minutes=20 * n) for n in range(5)]),
    "dur": (pl.Duration("ms"), [dt.timedelta(hours=n) for n in (-1, 0, 1, 30)]),
    "c": (pl.Categorical(), ["y", "x", "a", "zz"]),
    "e": (pl.Enum(["hi", "lo", "mid"]), ["lo", "mid", "hi"]),
    "dec": (pl.Decimal(12, 2), [Decimal("0.00"), Decimal("1.10"), Decimal("-3.25"), Decimal("99.99")]),
    "l": (pl.List(pl.Int64()), [[], [1], [1, 2], [None], [3, None, 1]]),
    "ls": (pl.List(pl.String()), [[], ["a"], ["b", None]]),
    "st": (pl.Struct({"p": pl.Int64(), "q": pl.String()}), [{"p": 1, "q": "a"}, {"p": None, "q": "b"}, {"p": 2, "q": None}]),
    "bin": (pl.Binary(), [b"", b"\x00", b"ab"]),
}

_JOINABLE: Final = (
    "i64", "i8", "i32", "u8", "g64", "f64", "s", "b", "d", "t", "c", "e", "dec", "l",
    "st", "bin", "dur", "u64",
)  # fmt: skip


class Choices:
    """Makes the choices of an example; all of them are integers.

    Parameters
    ----------
    integer
        Returns an integer between two, both included; the lower one is the simpler one.
    """

    def __init__(self, integer: Callable[[int, int], int]) -> None:
        self.integer = integer

    def pick(self, options: Sequence[_T]) -> _T:
        """Return one of `options`."""
        return options[self.integer(0, len(options) - 1)]

    def flag(self) -> bool:
        """Return False or True."""
        return bool(self.integer(0, 1))

    def some(self, options: Sequence[_T], least: int, most: int) -> list[_T]:
        """Return different ones of `options`."""
        left = list(options)
        return [left.pop(self.integer(0, len(left) - 1)) for _ in range(self.integer(least, min(most, len(left))))]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A frame, and how it is cut into files."""

    frame: pl.DataFrame
    files: int
    row_group_size: int

    def write(self, folder: Path) -> str:
        """Write the files and return the pattern that scans them all."""
        folder.mkdir(parents=True)
        step = max(1, -(-self.frame.height // self.files))
        for number in range(self.files):
            part = self.frame.slice(number * step, step)
            part.write_parquet(folder / f"{number}.parquet", row_group_size=self.row_group_size)
        return str(folder / "*.parquet")


@dataclass(frozen=True, kw_only=True)
class State:
    """A plan in the making, and what is known of the order of its rows."""

    lf: pl.LazyFrame
    ordered: bool = True
    sorted_by: tuple[str, ...] = ()
    """When the order is open among equal rows only: the columns whose values are in order."""

    joins: int = 0
    keys: tuple[str, ...] = ()
    """Keys of the last join or group_by: what follows is worth doing by them again."""

    text: tuple[str, ...] = ()

    @property
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


@dataclass(frozen=True, kw_only=True)
class Example:
    """A table, a small one to join with, a plan over both, and how it is run."""

    table: Table
    other: Table
    plan: State
    settings: Settings
    folder: Path
    """Where the tables lie; to be deleted after use."""

    def describe(self) -> str:
        """Return all of it as text."""
        steps = "\n  .".join(("table", *self.plan.text))
        tables = "\n".join(
            f"{name} ({table.files} files, groups of {table.row_group_size} rows): {table.frame.schema}\n"
            f"{table.frame.to_dict(as_series=False)}"
            for name, table in (("table", self.table), ("other", self.other))
        )
        knobs = ("max_rows_per_split", "shuffle_partitions", "broadcast_limit_bytes", "inline_limit_bytes", "codec")
        return f"{tables}\n{steps}\n{ {knob: getattr(self.settings, knob) for knob in knobs} }"


# --- tables ---------------------------------------------------------------------------------------------------------------


def _column(c: Choices, name: str, family: str, rows: int) -> pl.Series:
    dtype, pool = _POOLS[family]
    choices = [c.integer(-1, len(pool) - 1) for _ in range(rows)]
    values = [None if choice < 0 else pool[choice] for choice in choices]
    if isinstance(dtype, pl.Datetime):
        naive = pl.Series(name, values, dtype=pl.Datetime("us"))
        return naive.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Zurich")
    return pl.Series(name, values, dtype=dtype)


def _table(c: Choices, families: Sequence[str], most_rows: int, *, numbered: str) -> Table:
    rows = c.integer(0, c.pick((6, most_rows, most_rows)))
    columns = [pl.Series(numbered, range(rows), dtype=pl.Int64), *(_column(c, name, name, rows) for name in families)]
    return Table(frame=pl.DataFrame(columns), files=c.integer(1, 3) if rows else 1, row_group_size=c.integer(2, 9))


def _settings(c: Choices) -> Settings:
    codecs: tuple[CodecChoice, ...] = ("auto", "ipc", "ipc_lz4", "ipc_zstd", "parquet_snappy", "parquet_zstd")
    return Settings(
        start_small=False,
        max_rows_per_split=c.pick((7, 4, 3, 2, 2, 1)),
        shuffle_partitions=c.integer(1, 5),
        broadcast_limit_bytes=c.pick((0, 1 << 30)),
        inline_limit_bytes=c.pick((256 * 1024, 0)),
        codec=c.pick(codecs),
    )


# --- expressions ----------------------------------------------------------------------------------------------------------


def _names(schema: pl.Schema, *wanted: Callable[[pl.DataType], bool]) -> list[str]:
    return [name for name, dtype in schema.items() if not wanted or any(test(dtype) for test in wanted)]


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float()


def _is_text(dtype: pl.DataType) -> bool:
    return dtype == pl.String


def _is_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List)


def _is_key(dtype: pl.DataType) -> bool:
    return not isinstance(dtype, (pl.Object, pl.Null))


def predicate(c: Choices, schema: pl.Schema, depth: int = 1) -> pl.Expr:
    """Return a condition on the columns of `schema`."""
    if depth and c.integer(0, 3) == 3:
        one, other = predicate(c, schema, depth - 1), predicate(c, schema, depth - 1)
        return c.pick((one & other, one | other, ~one))
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    choices = [column.is_not_null(), column.is_null()]
    if _is_number(dtype):
        choices = [column > 0, column < 3, column.is_in([1, 2]), column.is_between(-1, 2), column != 1, *choices]
        choices += [column > column.mean(), column == column.max()]
    elif dtype == pl.Boolean:
        choices = [column, ~column, column.ne_missing(other=True), *choices]
    elif _is_text(dtype):
        choices = [column == "a", column.str.contains("b"), column < "b", column.str.len_chars() > 1, *choices]
    elif isinstance(dtype, (pl.Categorical, pl.Enum)):
        choices = [column.cast(pl.String) > "m", *choices]
    elif dtype == pl.Date:
        choices = [column > _DAY, column.dt.day() == 1, *choices]
    elif _is_list(dtype):
        choices = [column.list.len() > 1, *choices]
    elif isinstance(dtype, pl.Struct) and any(part.name == "p" for part in dtype.fields):
        choices = [column.struct.field("p") > 1, *choices]
    return c.pick(choices)


def value(c: Choices, schema: pl.Schema, *, ordered: bool) -> pl.Expr:
    """Return an expression of one value a row, mostly row-wise."""
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    choices = [column, column.is_null(), pl.lit(7), pl.when(predicate(c, schema, 0)).then(column)]
    if _is_number(dtype):
        choices += [
            column + 1, column * 2, -column.cast(pl.Int32, strict=False), column.cast(pl.Float64), column.fill_null(0),
            column.cast(pl.Int16, strict=False), column - column.mean(), column.sum(), column / 2, column.abs(),
        ]  # fmt: skip
    elif _is_text(dtype):
        choices += [column.str.to_uppercase(), column.str.len_bytes(), column + "!", column.cast(pl.Categorical)]
        choices += [column.fill_null("none"), pl.concat_str(column, pl.lit("-"), ignore_nulls=True)]
    elif dtype == pl.Boolean:
        choices += [~column, column.cast(pl.Int8), column.any()]
    elif dtype == pl.Date:
        choices += [column.dt.year(), column.dt.offset_by("1mo"), column.cast(pl.Datetime("ms"))]
    elif isinstance(dtype, pl.Datetime):
        choices += [column.dt.truncate("1h"), column.dt.hour(), column.dt.date()]
    elif isinstance(dtype, (pl.Categorical, pl.Enum)):
        choices += [column.cast(pl.String)]
    elif _is_list(dtype):
        choices += [column.list.len(), column.list.get(0, null_on_oob=True), column.list.unique(maintain_order=True)]
    elif isinstance(dtype, pl.Struct):
        choices += [column.struct.field(dtype.fields[0].name)]
    if c.integer(0, 7) == 7:
        keys = _names(schema, lambda found: not found.is_nested())
        if keys:
            key = c.pick(keys)
            choices = [
                column.count().over(key),
                column.n_unique().over(key) if not dtype.is_nested() else pl.len().over(key),
            ]
            if _is_number(dtype):
                choices += [
                    column.max().over(key),
                    column.sum().over(key, pl.col(keys[0]).is_null()),
                    column - column.min().over(key),
                ]
                choices += [column.rank("dense").over(key), column.mean().over(pl.col(key).is_null())]
            if ordered:
                choices += [column.first().over(key), column.shift(1).over(key), pl.int_range(pl.len()).over(key)]
                choices += [column.shift(1), column.is_null().cum_sum(), pl.int_range(pl.len())]
    return c.pick(choices)


def aggregate(c: Choices, schema: pl.Schema, *, ordered: bool) -> pl.Expr:
    """Return an aggregate over the columns of `schema`."""
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    choices = [pl.len(), column.count(), column.null_count()]
    if _is_number(dtype):
        filtered = column.filter(predicate(c, schema, 0))
        choices += [
            column.sum(), column.mean(), column.min(), column.max(), column.std(), column.var(ddof=0), column.median(),
            filtered.sum(), filtered.max(), column.sum() / pl.len(), (column + 1).max(), column.n_unique(), filtered.count(),
            column.quantile(0.4, "lower"), column.is_null().any(), (column > 1).all(), column.max() - column.min(),
            pl.when(column.count() > 1).then(column.max()).otherwise(column.min()), filtered.mean(), column.is_in([1]).sum(),
            column.sort(descending=True, nulls_last=True).implode(), column.fill_null(1).sum(), column.nan_max() if
            dtype.is_float() else column.min(),
        ]  # fmt: skip
    elif dtype == pl.Boolean:
        choices += [
            column.any(), column.all(), column.sum(), column.mean(), column.any(ignore_nulls=False),
            column.all(ignore_nulls=False), column.min(), column.n_unique(), column.var(),
        ]  # fmt: skip
    elif dtype.is_temporal() or dtype.is_decimal():
        choices += [column.min(), column.max(), column.mean(), column.n_unique(), column.median()]
        if dtype.is_decimal() or isinstance(dtype, pl.Duration):
            choices += [column.sum(), column.std()]
    elif _is_text(dtype) or isinstance(dtype, (pl.Categorical, pl.Enum)):
        choices += [column.min(), column.max(), column.n_unique(), column.cast(pl.String).str.join("-").is_null()]
    elif dtype == pl.Binary:
        choices += [column.min(), column.max()]
    elif dtype == pl.List(pl.Int64):
        choices += [column.list.sum().sum(), column.list.len().max(), column.list.max().mean()]
    if ordered:
        choices += [
            column.first(),
            column.last(),
            column.head(2).implode(),
            column.first(ignore_nulls=True),
            column.implode(),
        ]
    return c.pick(choices)


# --- operators ------------------------------------------------------------------------------------------------------------


def _keys_of(c: Choices, state: State, most: int) -> list[str]:
    """Return columns to work by: often those by which the rows lie together already."""
    schema = state.schema
    before = [name for name in state.keys if name in schema]
    if before and c.flag():
        return before[:most]
    return c.some(_names(schema, _is_key), 1, most)


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
    numbers = _names(schema, lambda dtype: dtype.is_integer())
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
    keeps: tuple[Literal["first", "last", "none"], ...] = ("first", "last", "none") if state.ordered else ("none",)
    keep = c.pick(keeps)
    order = state.ordered and c.flag()
    text = f"unique({subset}, keep={keep!r}, maintain_order={order})"
    return state.then(state.lf.unique(subset, keep=keep, maintain_order=order), text, ordered=order)


def _sort(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    keys = _keys_of(c, state, 3)
    descending = [c.flag() for _ in keys]
    nulls_last = [c.flag() for _ in keys]
    stable = c.flag()
    by = [pl.col(key) for key in keys]
    if _is_number(state.schema[keys[0]]) and c.integer(0, 3) == 3:
        by[0] = pl.col(keys[0]).cast(pl.Float64) * 2
    lf = state.lf.sort(by, descending=descending, nulls_last=nulls_last, maintain_order=stable)
    text = f"sort({[str(key) for key in by]}, {descending=}, {nulls_last=}, maintain_order={stable})"
    after = state.then(lf, text, ordered=state.ordered and stable)
    return replace(after, sorted_by=tuple(keys))


def _slice(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    if not state.ordered:
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
    match c.pick(("other", "other", "base", "own", "own aggregate", "other aggregate")):
        case "base":
            return base, True, "table"
        case "own":
            return state.lf, state.ordered, "self"
        case "own aggregate":
            key = _keys_of(c, state, 1)[0]
            return state.lf.group_by(key).agg(cnt=pl.len()), False, f"self.group_by({key!r}).agg(cnt=pl.len())"
        case "other aggregate":
            key = c.pick(_names(other.collect_schema(), _is_key))
            return other.group_by(key).agg(cnt=pl.len()), False, f"other.group_by({key!r}).agg(cnt=pl.len())"
        case _:
            return other, True, "other"


def _join(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    if state.joins >= 2:
        return _filter(c, state, base, other)
    side, side_ordered, name = _join_side(c, state, base, other)
    left, right = state.schema, side.collect_schema()
    pairs = [(one, two) for one in left for two in right if left[one] == right[two] and _is_key(left[one])]
    pairs.sort(key=lambda pair: pair[0] != pair[1])
    numbers = [(a, b) for a in _names(left, _is_number) for b in _names(right, _is_number) if left[a] != right[b]]
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
    return state.then(lf, text, ordered=kept, joins=1, keys=after)


def _cross_join(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    if state.joins >= 1:
        return _select(c, state, base, other)
    lf = state.lf.join(other, how="cross", suffix=f"_{len(state.text)}")
    return state.then(lf, "cross join", ordered=False, joins=1)


def _explode(c: Choices, state: State, base: pl.LazyFrame, other: pl.LazyFrame) -> State:
    lists = _names(state.schema, _is_list)
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
                pl.concat([state.lf, state.lf.head(3) if state.ordered else state.lf]), "concat(self)", joins=1
            )
        case 1:
            condition = predicate(c, state.schema)
            lf = pl.concat([state.lf.filter(~condition), state.lf.filter(condition)])
            return state.then(lf, f"concat(filter(~), filter({condition}))", joins=1)
        case _:
            lf = pl.concat([other, state.lf], how="diagonal_relaxed")
            return state.then(lf, "concat(other, self, how='diagonal_relaxed')", joins=1)


_OPERATORS: Final = (
    _filter, _group_by, _join, _sort, _select, _with_columns, _slice, _unique, _aggregate_all, _explode, _rename, _cast,
    _fill_null, _drop_nulls, _cross_join, _group_by, _join, _concat,
)  # fmt: skip


def random_example(c: Choices, folder: Path) -> Example:
    """Draw a table, a small one to join with, and a plan over both; the tables are written into `folder`."""
    families = c.some(list(_POOLS), 1, 6)
    shared = [name for name in families if name in _JOINABLE and c.flag()]
    extra = c.some(("i64", "s", "i32", "l"), 0, 2)
    table = _table(c, families, 40, numbered="id")
    other = _table(c, list(dict.fromkeys((*shared, *extra))), 8, numbered=c.pick(("id", "v")))
    place = folder / uuid.uuid4().hex
    base = pl.scan_parquet(table.write(place / "table"))
    second = other.frame.lazy() if c.flag() else pl.scan_parquet(other.write(place / "other"))
    state = State(lf=base)
    for step in [c.pick(_OPERATORS) for _ in range(c.integer(1, 6))]:
        try:
            state = step(c, state, base, second)
            if not state.schema:
                break
        except pl.exceptions.PolarsError:
            break  # a plan that can't be resolved must be refused alike
    return Example(table=table, other=other, plan=state, settings=_settings(c), folder=place)


# --- running --------------------------------------------------------------------------------------------------------------


def answer_in_stages(query: pl.LazyFrame, settings: Settings, store: Store) -> pl.DataFrame:
    """Plan a query, run every task of every stage one after the other in this process, and read the result.

    Raises
    ------
    FrazilError
        What planning or a task raises.
    """
    graph = plan_query(query.serialize(), settings)
    name = QueryId(uuid.uuid4().hex[:16])
    written: dict[StageId, list[Descriptor]] = {}
    for stage in graph.stages:
        bound = bind_stage(stage, written, graph)
        written[stage.id] = []
        for task, inputs in enumerate(bound):
            request = TaskRequest(
                query=name,
                stage=stage.id,
                task=TaskIndex(task),
                attempt=0,
                fragment=stage.fragment,
                inputs=inputs,
                output=output_for(stage, task, query=name, settings=settings, exchange_prefix="exchange"),
                polars_version=pl.__version__,
                protocol_version=PROTOCOL_VERSION,
            )
            written[stage.id].append(run_task(decode_request(encode_request(request)), store=store))
    blocks = result_blocks(written[graph.root.id])
    frames = read_exchange(store, ExchangeInput(blocks=blocks), with_columns=None, predicate=None, n_rows=None)
    parts = [frame for frame in frames if frame.width]
    return pl.concat(parts) if parts else pl.DataFrame(schema=graph.schema)


def outcome(run: Callable[[], pl.DataFrame]) -> Outcome:
    """Return the answer, or the name of the Polars class that was raised."""
    try:
        return run()
    except QueryError as error:
        return error.exception
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return type(error).__name__
