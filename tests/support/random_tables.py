"""Random choices, and what is made of them alone: tables of every family of dtypes, and settings.

Next: :mod:`support.random_exprs` makes expressions over them, and :mod:`support.plans` plans.
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
    "DAY", "FAMILIES", "JOINABLE", "Choices", "Table", "is_integer", "is_key", "is_list", "is_number", "is_text", "names_of",
    "random_settings", "random_table",
]  # fmt: skip

_T = TypeVar("_T")

DAY: Final = dt.date(2024, 2, 28)
_MOMENT: Final = dt.datetime(2024, 3, 30, 23, 30)  # noqa: DTZ001  # the zone is that of the column
"""Before the summer time of Zurich begins, in UTC."""

_AUTUMN: Final = dt.datetime(2024, 11, 3, 4, 45)  # noqa: DTZ001  # the zone is that of the column
"""Before the summer time of New York ends, in UTC: hours of the clock come twice."""

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
    "d": (pl.Date(), [DAY + dt.timedelta(days=n) for n in range(4)]),
    "t": (pl.Datetime("us", "Europe/Zurich"), [_MOMENT + dt.timedelta(minutes=20 * n) for n in range(5)]),
    "dur": (pl.Duration("ms"), [dt.timedelta(hours=n) for n in (-1, 0, 1, 30)]),
    "c": (pl.Categorical(), ["y", "x", "a", "zz"]),
    "e": (pl.Enum(["hi", "lo", "mid"]), ["lo", "mid", "hi"]),
    "dec": (pl.Decimal(12, 2), [Decimal("0.00"), Decimal("1.10"), Decimal("-3.25"), Decimal("99.99")]),
    "l": (pl.List(pl.Int64()), [[], [1], [1, 2], [None], [3, None, 1]]),
    "ls": (pl.List(pl.String()), [[], ["a"], ["b", None]]),
    "st": (pl.Struct({"p": pl.Int64(), "q": pl.String()}), [{"p": 1, "q": "a"}, {"p": None, "q": "b"}, {"p": 2, "q": None}]),
    "bin": (pl.Binary(), [b"", b"\x00", b"ab"]),
    "i16": (pl.Int16(), [0, 1, -2, 3, 300]),
    "u32": (pl.UInt32(), [0, 1, 2, 2**32 - 1]),
    "i128": (pl.Int128(), [0, 1, 2, -3, 2**100]),
    "f16": (pl.Float16(), [0.0, -0.0, 0.5, 2.0, float("nan")]),
    "tm": (pl.Time(), [dt.time(0), dt.time(1, 30), dt.time(23, 59, 59, 999999)]),
    "tms": (pl.Datetime("ms"), [_MOMENT + dt.timedelta(hours=7 * n) for n in range(4)]),
    "tns": (pl.Datetime("ns", "UTC"), [_MOMENT + dt.timedelta(microseconds=n) for n in range(3)]),
    "tny": (pl.Datetime("us", "America/New_York"), [_AUTUMN + dt.timedelta(minutes=30 * n) for n in range(5)]),
    "durn": (pl.Duration("ns"), [dt.timedelta(microseconds=n) for n in (-1, 0, 1, 10**9)]),
    "dec4": (pl.Decimal(18, 4), [Decimal("0.0000"), Decimal("1.1000"), Decimal("-0.0001")]),
    "dec0": (pl.Decimal(38, 0), [Decimal(0), Decimal(7), Decimal(10**20)]),
    "nul": (pl.Null(), [None]),
    "a": (pl.Array(pl.Int32(), 2), [[0, 1], [1, None], [2, 2]]),
    "as": (pl.Array(pl.String(), 1), [["a"], [None], ["b"]]),
    "ll": (pl.List(pl.List(pl.Int64())), [[], [[]], [[1], None], [[1, 2], [3]]]),
    "lf": (pl.List(pl.Float64()), [[], [0.5, float("nan")], [-0.0], [None, 2.0]]),
    "lc": (pl.List(pl.Categorical()), [[], ["x"], ["y", None, "x"]]),
    "lst": (pl.List(pl.Struct({"p": pl.Int64()})), [[], [{"p": 1}], [{"p": None}, {"p": 2}], [None]]),
    "stn": (
        pl.Struct({"p": pl.Float64(), "l": pl.List(pl.Date())}),
        [{"p": -0.0, "l": [DAY]}, {"p": 0.0, "l": [DAY]}, {"p": 1.5, "l": None}],
    ),
    "ste": (
        pl.Struct({"e": pl.Enum(["u", "v"]), "dec": pl.Decimal(9, 1)}),
        [{"e": "v", "dec": Decimal("1.5")}, {"e": None, "dec": None}],
    ),
}
"""The dtype and some values of each; a null is always among them."""

JOINABLE: Final = (
    "i64", "i8", "i32", "u8", "g64", "f64", "s", "b", "d", "t", "c", "e", "dec", "l",
    "st", "bin", "dur", "u64", "i128", "f16", "tm", "tms", "tns", "tny", "dec4", "nul", "a", "lc", "stn", "ste",
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
        naive = pl.Series(name, values, dtype=pl.Datetime(dtype.time_unit))
        return naive.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone) if dtype.time_zone else naive
    return pl.Series(name, values, dtype=dtype)


def random_table(c: Choices, families: Sequence[str], most_rows: int, *, numbered: str) -> Table:
    rows = c.integer(0, c.pick((1, 6, 6, most_rows, most_rows, most_rows)))
    columns = [pl.Series(numbered, range(rows), dtype=pl.Int64), *(_column(c, name, name, rows) for name in families)]
    return Table(frame=pl.DataFrame(columns), files=c.integer(1, 3) if rows else 1, row_group_size=c.integer(2, 9))


def random_settings(c: Choices, rows: int) -> Settings:
    """Return settings that cut a table of so many rows into a handful of splits: more of them find nothing more."""
    codecs: tuple[CodecChoice, ...] = ("auto", "auto", "auto", *get_args(CodecChoice))
    return Settings(
        start_small=False,
        max_rows_per_split=max(c.pick((7, 4, 3, 2, 2, 1)), rows // c.pick((3, 4, 4, 6, 12))),
        shuffle_partitions=c.integer(1, 5),
        broadcast_limit_bytes=c.pick((0, 1 << 30, 3_000)),
        inline_limit_bytes=c.pick((256 * 1024, 0)),
        codec=c.pick(codecs),
        coalesce_bytes=c.pick((None, 2_000, 1 << 30)),
        skew_bytes=c.pick((1 << 28, 1)),
        skew_factor=c.pick((5.0, 0.1)),
        two_level_requests=c.pick((None, 1)),
    )


def names_of(schema: pl.Schema, *wanted: Callable[[pl.DataType], bool]) -> list[str]:
    return [name for name, dtype in schema.items() if not wanted or any(test(dtype) for test in wanted)]


def is_number(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float()


def is_integer(dtype: pl.DataType) -> bool:
    return dtype.is_integer()


def is_text(dtype: pl.DataType) -> bool:
    return dtype == pl.String


def is_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List)


def is_key(dtype: pl.DataType) -> bool:
    return not isinstance(dtype, (pl.Object, pl.Null))
