"""Random choices, and what is made of them alone: tables of every family of dtypes, settings, expressions.

Next: :mod:`support.plans`, which makes plans of them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar, get_args

import polars as pl

from frazil_coordinator.settings import Settings
from frazil_functions.task import CodecChoice

__all__ = [
    "FAMILIES", "JOINABLE", "Choices", "Table", "aggregate", "is_key", "is_list", "is_number", "names_of", "predicate",
    "random_settings", "random_table", "value",
]  # fmt: skip

_T = TypeVar("_T")

_DAY: Final = dt.date(2024, 2, 28)
_MOMENT: Final = dt.datetime(2024, 3, 30, 23, 30)  # noqa: DTZ001  # the zone is that of the column

FAMILIES: Final[dict[str, tuple[pl.DataType, list[object]]]] = {
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

JOINABLE: Final = (
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


def _column(c: Choices, name: str, family: str, rows: int) -> pl.Series:
    dtype, pool = FAMILIES[family]
    choices = [c.integer(-1, len(pool) - 1) for _ in range(rows)]
    values = [None if choice < 0 else pool[choice] for choice in choices]
    if isinstance(dtype, pl.Datetime):
        naive = pl.Series(name, values, dtype=pl.Datetime("us"))
        return naive.dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Zurich")
    return pl.Series(name, values, dtype=dtype)


def random_table(c: Choices, families: Sequence[str], most_rows: int, *, numbered: str) -> Table:
    rows = c.integer(0, c.pick((6, most_rows, most_rows)))
    columns = [pl.Series(numbered, range(rows), dtype=pl.Int64), *(_column(c, name, name, rows) for name in families)]
    return Table(frame=pl.DataFrame(columns), files=c.integer(1, 3) if rows else 1, row_group_size=c.integer(2, 9))


def random_settings(c: Choices) -> Settings:
    codecs: tuple[CodecChoice, ...] = ("auto", "auto", "auto", *get_args(CodecChoice))
    return Settings(
        start_small=False,
        max_rows_per_split=c.pick((7, 4, 3, 2, 2, 1)),
        shuffle_partitions=c.integer(1, 5),
        broadcast_limit_bytes=c.pick((0, 1 << 30, 3_000)),
        inline_limit_bytes=c.pick((256 * 1024, 0)),
        codec=c.pick(codecs),
        coalesce_bytes=c.pick((None, 2_000, 1 << 30)),
        skew_bytes=c.pick((1 << 28, 1)),
        skew_factor=c.pick((5.0, 0.1)),
    )


def names_of(schema: pl.Schema, *wanted: Callable[[pl.DataType], bool]) -> list[str]:
    return [name for name, dtype in schema.items() if not wanted or any(test(dtype) for test in wanted)]


def is_number(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float()


def is_text(dtype: pl.DataType) -> bool:
    return dtype == pl.String


def is_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List)


def is_key(dtype: pl.DataType) -> bool:
    return not isinstance(dtype, (pl.Object, pl.Null))


def predicate(c: Choices, schema: pl.Schema, depth: int = 1) -> pl.Expr:
    """Return a condition on the columns of `schema`."""
    if depth and c.integer(0, 3) == 3:
        one, other = predicate(c, schema, depth - 1), predicate(c, schema, depth - 1)
        return c.pick((one & other, one | other, ~one))
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    choices = [column.is_not_null(), column.is_null()]
    if is_number(dtype):
        choices = [column > 0, column < 3, column.is_in([1, 2]), column.is_between(-1, 2), column != 1, *choices]
        choices += [column > column.mean(), column == column.max()]
    elif dtype == pl.Boolean:
        choices = [column, ~column, column.ne_missing(other=True), *choices]
    elif is_text(dtype):
        choices = [column == "a", column.str.contains("b"), column < "b", column.str.len_chars() > 1, *choices]
    elif isinstance(dtype, (pl.Categorical, pl.Enum)):
        choices = [column.cast(pl.String) > "m", *choices]
    elif dtype == pl.Date:
        choices = [column > _DAY, column.dt.day() == 1, *choices]
    elif is_list(dtype):
        choices = [column.list.len() > 1, *choices]
    elif isinstance(dtype, pl.Struct) and any(part.name == "p" for part in dtype.fields):
        choices = [column.struct.field("p") > 1, *choices]
    return c.pick(choices)


def value(c: Choices, schema: pl.Schema, *, ordered: bool) -> pl.Expr:
    """Return an expression of one value a row, mostly row-wise."""
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    choices = [column, column.is_null(), pl.lit(7), pl.when(predicate(c, schema, 0)).then(column)]
    if is_number(dtype):
        choices += [
            column + 1, column * 2, -column.cast(pl.Int32, strict=False), column.cast(pl.Float64), column.fill_null(0),
            column.cast(pl.Int16, strict=False), column - column.mean(), column.sum(), column / 2, column.abs(),
        ]  # fmt: skip
    elif is_text(dtype):
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
    elif is_list(dtype):
        choices += [column.list.len(), column.list.get(0, null_on_oob=True), column.list.unique(maintain_order=True)]
    elif isinstance(dtype, pl.Struct):
        choices += [column.struct.field(dtype.fields[0].name)]
    if c.integer(0, 7) == 7:
        keys = names_of(schema, lambda found: not found.is_nested())
        if keys:
            key = c.pick(keys)
            choices = [
                column.count().over(key),
                column.n_unique().over(key) if not dtype.is_nested() else pl.len().over(key),
            ]
            if is_number(dtype):
                choices += [
                    column.max().over(key),
                    column.sum().over(key, pl.col(keys[0]).is_null()),
                    column - column.min().over(key),
                ]
                choices += [column.rank("dense").over(key), column.mean().over(pl.col(key).is_null())]
            if ordered:
                choices += [column.first().over(key), column.shift(1).over(key), pl.int_range(pl.len()).over(key)]
    if c.integer(0, 5) == 5:
        choices = _wide(c, column, dtype, ordered=ordered)
    return c.pick(choices)


def _wide(c: Choices, column: pl.Expr, dtype: pl.DataType, *, ordered: bool) -> list[pl.Expr]:
    """Return expressions that look at other rows than their own; those that no order changes, unless it is promised."""
    choices = [pl.len()]
    if not dtype.is_nested():
        choices += [column.is_duplicated(), column.n_unique() + pl.lit(0)]
    if is_number(dtype):
        choices += [
            column.rank("dense"), column.rank("min", descending=c.flag()), column - column.median(),
            column.clip(column.quantile(0.2), column.quantile(0.8)), (column - column.mean()).abs().max(),
            column.filter(column > column.quantile(0.5)).count(), column.sum() - column.sort().head(2).sum(),
        ]  # fmt: skip
    if not ordered:
        return choices
    far = c.pick((1, 2, -1, 5))
    choices += [
        column.shift(far), column.is_null().cum_sum(), pl.int_range(pl.len()), column.forward_fill(), column.backward_fill(),
        column.forward_fill(1), column.cum_count(reverse=c.flag()), column.shift(far).is_null().cum_sum(),
        column.reverse(), column.get(pl.len() // 2, null_on_oob=True), column.slice(pl.len() // 3, 2).len(),
        column.gather(-1 - pl.int_range(pl.len())), column.is_null().cum_sum().over(pl.lit(1)),
    ]  # fmt: skip
    if not isinstance(dtype, pl.Object) and not dtype.is_nested():
        choices += [column.rle_id(), column.is_first_distinct(), column.is_last_distinct(), column.first() == column]
    if dtype.is_integer():
        choices += [
            column.diff(), column.cum_max(reverse=c.flag()), column.cum_min(), column.interpolate(), column.sort(),
            column.interpolate("nearest"), column.cum_max().over(order_by=column.rank("ordinal")),
            column.cast(pl.Int64).rolling_sum(3, min_samples=1),
            column.rolling_max(4, center=True, min_samples=1), column.rank("ordinal"), column.diff().max().cast(pl.Int64),
        ]  # fmt: skip
    elif dtype == pl.Date or dtype.is_decimal():
        choices += [column.diff(), column.cum_max(), column.cum_min(reverse=True)]
    return choices


def aggregate(c: Choices, schema: pl.Schema, *, ordered: bool) -> pl.Expr:
    """Return an aggregate over the columns of `schema`."""
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    choices = [pl.len(), column.count(), column.null_count()]
    if is_number(dtype):
        filtered = column.filter(predicate(c, schema, 0))
        choices += [
            column.sum(), column.mean(), column.min(), column.max(), column.std(), column.var(ddof=0), column.median(),
            filtered.sum(), filtered.max(), column.sum() / pl.len(), (column + 1).max(), column.n_unique(), filtered.count(),
            column.quantile(0.4, "lower"), column.is_null().any(), (column > 1).all(), column.max() - column.min(),
            pl.when(column.count() > 1).then(column.max()).otherwise(column.min()), filtered.mean(), column.is_in([1]).sum(),
            column.sort(descending=True, nulls_last=True).implode(), column.fill_null(1).sum(), column.nan_max() if
            dtype.is_float() else column.min(), column.skew(), column.kurtosis(), pl.cov(column, column.is_null()),
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
    elif is_text(dtype) or isinstance(dtype, (pl.Categorical, pl.Enum)):
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
        if dtype.is_integer():
            choices += [
                column.index_of(1),
                column.is_sorted(),
                column.rank("ordinal").arg_max(),
                column.filter(column > 9).arg_min(),
            ]
    return c.pick(choices)
