"""DataFrames of every dtype, for tests of the exchange: values, nulls, empty frames, slices of several chunks."""

from __future__ import annotations

import datetime as dt
import decimal

import polars as pl

__all__ = ["every_dtype", "every_frame"]

_DAY = dt.datetime(2020, 1, 1, 12, 30)  # noqa: DTZ001  # a zone is put on it below
_SIZES = pl.Enum(["s", "m", "l"])
_NUMBERS: list[type[pl.DataType]] = [
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128),
    *(pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.UInt128),
    *(pl.Float16, pl.Float32, pl.Float64),
]


def _flat() -> list[pl.Series]:
    found = [pl.Series([1, None, 3], dtype=dtype) for dtype in _NUMBERS]
    found += [
        pl.Series([2**100, None, -(2**100)], dtype=pl.Int128),
        pl.Series([float("nan"), -0.0, None]),
        pl.Series([True, None, False]),
        pl.Series(["a", None, ""]),
        pl.Series([b"a", None, b""]),
        pl.Series([dt.date(2020, 1, 1), None, dt.date(1, 1, 1)]),
        pl.Series([dt.time(1, 2, 3, 4), None, dt.time(0)]),
        pl.Series([None, None, None]),
        pl.Series(["x", None, "y"], dtype=pl.Categorical),
        pl.Series(["x", None, "y"], dtype=pl.Categorical(pl.Categories("colours", "frazil-tests", physical=pl.UInt8))),
        pl.Series(["l", None, "s"], dtype=_SIZES),
        pl.Series([None, None], dtype=pl.Enum([])),
        pl.Series([1, None, 3], dtype=pl.Int64).ext.to(pl.Extension("frazil.tests", pl.Int64())),
    ]
    for unit in ("ms", "us", "ns"):
        moment = pl.Series([_DAY, None, _DAY]).dt.cast_time_unit(unit)
        found += [moment, moment.dt.replace_time_zone("UTC"), moment.dt.replace_time_zone("Europe/Paris")]
        found.append(pl.Series([1, None, -3], dtype=pl.Duration(unit)))
    for precision, scale in ((38, 0), (38, 38), (10, 2), (1, 0)):
        values = [decimal.Decimal(0), None, decimal.Decimal(1).scaleb(-scale)]
        found.append(pl.Series(values, dtype=pl.Decimal(precision, scale)))
    return found


def _nested() -> list[pl.Series]:
    return [
        pl.Series([[1, None], None, []], dtype=pl.List(pl.Int32)),
        pl.Series([["a", None], None, []], dtype=pl.List(pl.String)),
        pl.Series([[[1], None, []], None, []], dtype=pl.List(pl.List(pl.Int8))),
        pl.Series([["x", None], None, []], dtype=pl.List(pl.Categorical)),
        pl.Series([["s", None], None, []], dtype=pl.List(_SIZES)),
        pl.Series([[None], None, []], dtype=pl.List(pl.Null)),
        pl.Series([[1], None], dtype=pl.List(pl.Int128)),
        pl.Series([[decimal.Decimal("1.50")], None], dtype=pl.List(pl.Decimal(10, 2))),
        pl.Series([[{"a": 1, "b": ["x"]}], None, [None]]),
        pl.Series([[[1, 2], None], None, []], dtype=pl.List(pl.Array(pl.Int8, 2))),
        pl.Series([[1, None], None, [3, 4]], dtype=pl.Array(pl.Int32, 2)),
        pl.Series([[[1, 2], [3, 4]], None, [[3, 4], None]], dtype=pl.Array(pl.Array(pl.Int32, 2), 2)),
        pl.Series([[], None, []], dtype=pl.Array(pl.Int32, 0)),
        pl.Series([[True, None], None], dtype=pl.Array(pl.Boolean, 2)),
        pl.Series([{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
        pl.Series([{"a": "q", "b": "l"}, None], dtype=pl.Struct({"a": pl.Categorical, "b": _SIZES})),
        pl.Series([{"a": None}, None], dtype=pl.Struct({"a": pl.Null})),
        pl.Series([{"a": [1, 2]}, None], dtype=pl.Struct({"a": pl.Array(pl.Int8, 2)})),
        pl.Series([{}, None, {}], dtype=pl.Struct([])),
        pl.Series([{"a": 1}, None, {}], dtype=pl.Map(pl.String, pl.Int64)),
        pl.Series([{"s": ["x"]}, None, {}], dtype=pl.Map(_SIZES, pl.List(pl.Categorical))),
    ]


def every_dtype() -> dict[str, pl.DataFrame]:
    """Return frames of one column ``c``, one for each kind of dtype, by a unique name."""
    columns = [*_flat(), *_nested()]
    return {f"{number}: {column.dtype}": column.alias("c").to_frame() for number, column in enumerate(columns)}


def every_frame() -> dict[str, pl.DataFrame]:
    """Return the frames of :func:`every_dtype`, also empty, of nulls only and sliced out of two chunks, and odd ones."""
    found: dict[str, pl.DataFrame] = {}
    for name, frame in every_dtype().items():
        found[name] = frame
        found[f"{name}, empty"] = frame.clear()
        found[f"{name}, nulls"] = frame.clear(2)
        found[f"{name}, sliced"] = pl.concat([frame, frame], rechunk=False).slice(1, 3)
    found["no columns"] = pl.DataFrame()
    found["rows without columns"] = pl.DataFrame(height=5)
    found["odd names"] = pl.DataFrame({"": [1], " ": [2], "ü\n": [3], "a.b": [4]})
    return found
