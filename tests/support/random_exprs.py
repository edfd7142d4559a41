"""Random expressions over the columns of a schema: conditions, and values of one a row.

Aggregates are in :mod:`support.random_aggregates`. Whatever depends on the order of rows is made where it is promised only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from support.random_tables import DAY, Choices, is_integer, is_list, is_number, is_text, names_of

__all__ = ["predicate", "value"]

_Made = list[pl.Expr]


def predicate(c: Choices, schema: pl.Schema, depth: int = 1, *, grouped: bool = False) -> pl.Expr:
    """Return a condition on the columns of `schema`.

    Inside an aggregate (`grouped`) nothing is asked of duplicates: of no groups, Polars makes Nulls of that and raises.
    """
    if depth and c.integer(0, 3) == 3:
        one, other = predicate(c, schema, depth - 1), predicate(c, schema, depth - 1)
        return c.pick((one & other, one | other, ~one))
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    choices = [column.is_not_null(), column.is_null()]
    if is_number(dtype):
        choices = [column > 0, column < 3, column.is_in([1, 2]), column.is_between(-1, 2), column != 1, *choices]
        choices += [column > column.mean(), column == column.max(), column.is_null() | (column <= column.median())]
    elif dtype == pl.Boolean:
        choices = [column, ~column, column.ne_missing(other=True), *choices]
    elif is_text(dtype):
        choices = [column == "a", column.str.contains("b"), column < "b", column.str.len_chars() > 1, *choices]
    elif isinstance(dtype, (pl.Categorical, pl.Enum)):
        choices = [column.cast(pl.String) > "m", *choices]
    elif dtype == pl.Date:
        choices = [column > DAY, column.dt.day() == 1, *choices]
    elif isinstance(dtype, pl.Datetime):
        choices = [column.dt.minute() == 30, column == column.min(), *choices]
    elif is_list(dtype):
        choices = [column.list.len() > 1, *choices]
    elif isinstance(dtype, pl.Struct) and any(part.name == "p" for part in dtype.fields):
        choices = [column.struct.field("p") > 1, *choices]
    if not grouped and not dtype.is_nested():
        choices += [column.is_unique(), column.is_duplicated()]
    return c.pick(choices)


def value(c: Choices, schema: pl.Schema, *, ordered: bool) -> pl.Expr:
    """Return an expression of one value a row, mostly row-wise."""
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    match c.integer(0, 11):
        case 11 | 10:
            return c.pick(_wide(c, column, dtype, ordered=ordered))
        case 9:
            return _mixed(c, schema, column, dtype)
        case 8:
            return c.pick(_windows(c, schema, column, dtype, ordered=ordered))
        case _:
            choices = [column, column.is_null(), pl.lit(7), pl.when(predicate(c, schema, 0)).then(column)]
            made = next((make(c, column, dtype) for test, make in _ROW_WISE if test(dtype)), [])
            return c.pick([*choices, *made])


def _of_number(c: Choices, column: pl.Expr, dtype: pl.DataType) -> _Made:
    made = [
        column + 1, column * 2, -column.cast(pl.Int32, strict=False), column.cast(pl.Float64), column.fill_null(0),
        column.cast(pl.Int16, strict=False), column - column.mean(), column.sum(), column / 2, column.abs(), column // 2,
        column % 3, column.clip(0, 2), column.sign(), column.cast(pl.String), column.is_in([1, None]), column.replace(1, 0),
        column.replace_strict({1: "one"}, default="none"), column.bin_intervals([0, 2], labels=False),
        pl.struct(column, pl.lit("x").alias("q")),
        pl.concat_list(column, column), column.eq_missing(pl.lit(None)), column.pow(2),
    ]  # fmt: skip
    if dtype.is_float():
        made += [column.is_nan(), column.fill_nan(None), column.round(0), column.floor(), column.is_finite(), column.sqrt()]
    elif dtype in (pl.Int32, pl.Int64):
        made += [column.cast(pl.Date, strict=False), column.cast(pl.Duration("us")), column.bitwise_count_ones()]
    return made


def _of_text(c: Choices, column: pl.Expr, dtype: pl.DataType) -> _Made:
    return [
        column.str.to_uppercase(), column.str.len_bytes(), column + "!", column.cast(pl.Categorical),
        column.fill_null("none"),
        pl.concat_str(column, pl.lit("-"), ignore_nulls=True), column.str.split("b"), column.str.extract("(b)"),
        column.str.slice(1), column.str.head(1), column.str.replace("a", "z"), column.str.to_integer(strict=False),
        column.str.zfill(3), column.str.reverse(), column.str.encode("hex"), column.cast(pl.Enum(["a", "b"]), strict=False),
        column.str.strptime(pl.Date, "%Y", strict=False), column.hash(7), column.cast(pl.Binary),
    ]  # fmt: skip


def _of_time(c: Choices, column: pl.Expr, dtype: pl.DataType) -> _Made:
    if dtype == pl.Date:
        return [
            column.dt.year(), column.dt.offset_by("1mo"), column.cast(pl.Datetime("ms")), column.dt.weekday(),
            column.dt.week(),
            column.dt.month_end(), column.dt.truncate("1w"), column - DAY, column.dt.to_string("%d"), column.dt.epoch("d"),
        ]  # fmt: skip
    if isinstance(dtype, pl.Datetime):
        made = [
            column.dt.truncate("1h"), column.dt.hour(), column.dt.date(), column.dt.round("2h"), column.dt.time(),
            column.dt.offset_by("1h"), column.dt.cast_time_unit("ms"), column.dt.timestamp("us"), column - column.min(),
            column.dt.replace_time_zone(None), column.dt.ordinal_day(),
        ]  # fmt: skip
        if dtype.time_zone:
            made += [column.dt.convert_time_zone("Asia/Kolkata"), column.dt.dst_offset(), column.dt.offset_by("1d")]
        return made
    if dtype == pl.Time:
        return [column.dt.hour(), column.dt.microsecond(), column.cast(pl.Duration("us"))]
    return [
        column.dt.total_minutes(),
        column * 2,
        column.abs(),
        -column,
        column / pl.duration(hours=1),
        column.cast(pl.Int64),
    ]


def _of_nested(c: Choices, column: pl.Expr, dtype: pl.DataType) -> _Made:
    if isinstance(dtype, pl.List):
        made = [
            column.list.len(), column.list.get(0, null_on_oob=True), column.list.head(1), column.list.reverse(),
            column.list.eval(pl.element().is_null()), column.list.drop_nulls(), column.list.slice(1, 1), column.list.last(),
        ]  # fmt: skip
        if not dtype.inner.is_nested():
            made += [column.list.unique(maintain_order=True), column.list.sort(), column.list.n_unique()]
            made += [column.list.eval(pl.element().rank("dense")), column.list.set_union(column.list.head(1)).list.len()]
        if dtype.inner.is_numeric():
            made += [column.list.sum(), column.list.max(), column.list.mean(), column.list.eval(pl.element().cum_sum())]
        return made
    if isinstance(dtype, pl.Array):
        made = [column.arr.len(), column.arr.get(0), column.arr.to_list(), column.arr.reverse(), column.arr.first()]
        return made + ([column.arr.sum(), column.arr.max(), column.arr.sort()] if dtype.inner.is_numeric() else [])
    assert isinstance(dtype, pl.Struct)
    first = dtype.fields[0].name
    return [
        *(column.struct.field(part.name) for part in dtype.fields), column.struct.with_fields(pl.field(first).alias("more")),
        column.struct.rename_fields(["one", "two", "three"][: len(dtype.fields)]), column.struct.json_encode(),
    ]  # fmt: skip


def _of_other(c: Choices, column: pl.Expr, dtype: pl.DataType) -> _Made:
    if dtype == pl.Boolean:
        return [~column, column.cast(pl.Int8), column.any(), column.not_(), column.xor(pl.lit(value=True)), column & column]
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return [column.cast(pl.String), column.cat.len_chars(), column.cat.starts_with("h"), column == "x"]
    if dtype.is_decimal():
        return [column + column, column.cast(pl.Float64), column.abs(), column.round(1), column.cast(pl.String), column / 3]
    if dtype == pl.Binary:
        return [column.bin.size(), column.bin.encode("hex"), column.bin.starts_with(b"a")]
    return [column.cast(pl.Int64), column.fill_null(1)] if dtype == pl.Null else []


_ROW_WISE: Final[tuple[tuple[Callable[[pl.DataType], bool], Callable[[Choices, pl.Expr, pl.DataType], _Made]], ...]] = (
    (is_number, _of_number),
    (is_text, _of_text),
    (lambda dtype: dtype.is_temporal(), _of_time),
    (lambda dtype: dtype.is_nested(), _of_nested),
    (lambda _: True, _of_other),
)


def _mixed(c: Choices, schema: pl.Schema, column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return an expression of several columns, or of a column and of what all of its rows are together."""
    other = c.pick(list(schema))
    second = pl.col(other)
    choices = [
        pl.struct(column.alias("l"), second.alias("r")), column.is_null() == second.is_null(),
        column.count() - second.count(),
        pl.when(second.is_null()).then(column).otherwise(pl.lit(None)),
        pl.struct(column, pl.lit(1).alias("_")).is_duplicated(),
    ]  # fmt: skip
    if schema[other] == dtype:
        choices += [pl.coalesce(column, second), column.eq_missing(second), column.fill_null(second)]
        if not dtype.is_nested():
            choices += [pl.max_horizontal(column, second), column == second, column.is_in(second.implode())]
    if is_number(dtype) and is_number(schema[other]):
        choices += [column + second, column - second.mean(), pl.sum_horizontal(column, second), column > second.max()]
        choices += [(column > 0).any() & (second > 0), column.filter(second > 0).max() - second.min()]
    return c.pick(choices)


def _windows(c: Choices, schema: pl.Schema, column: pl.Expr, dtype: pl.DataType, *, ordered: bool) -> _Made:
    """Return expressions over the rows of a group."""
    keys = names_of(schema, lambda found: not found.is_nested())
    if not keys:
        return [pl.len()]
    key: list[str | pl.Expr] = [*c.some(keys, 1, 2)]
    if c.integer(0, 4) == 4:
        key[0] = pl.col(str(key[0])).is_null()
    choices = [column.count().over(key), pl.len().over(key), column.null_count().over(key)]
    if not dtype.is_nested():
        choices += [column.n_unique().over(key), column.is_duplicated().over(key)]
        choices += [column.sort().implode().over(key), column.sort().over(key, mapping_strategy="join")]
    if is_number(dtype):
        choices += [
            column.max().over(key), column.sum().over([*key, pl.col(keys[0]).is_null()]), column - column.min().over(key),
            column.rank("dense").over(key), column.mean().over(pl.col(keys[0]).is_null()), column.median().over(key),
            (column - column.mean()).over(key), column.filter(column > 1).sum().over(key), column.quantile(0.3).over(key),
            column.sum().over(key) / column.sum(), column.max().over(key).sum(), column.std().over(key),
        ]  # fmt: skip
    if ordered:
        descending = c.flag()
        choices += [
            column.first().over(key), column.shift(1).over(key), pl.int_range(pl.len()).over(key), column.last().over(key),
            column.over(key, mapping_strategy="join"), column.forward_fill().over(key), column.reverse().over(key),
            column.cum_count().over(key), column.first().over(key, order_by=column.is_null(), descending=descending),
            pl.int_range(pl.len()).over(key, order_by=pl.col(keys[0]), descending=descending), column.rle_id().over(key),
        ]  # fmt: skip
        if dtype.is_integer():
            choices += [
                column.cast(pl.Int64).cum_sum().over(key), column.diff().over(key), column.rank("ordinal").over(key),
                column.cum_max().over(key, order_by=pl.int_range(pl.len()), descending=descending),
                column.cast(pl.Int64).rolling_sum(2).over(key),
                column.first().over(key, order_by=column, descending=descending),
            ]  # fmt: skip
    return choices


def _wide(c: Choices, column: pl.Expr, dtype: pl.DataType, *, ordered: bool) -> _Made:
    """Return expressions that look at other rows than their own; those that no order changes, unless it is promised."""
    choices = [pl.len()]
    if not dtype.is_nested():
        choices += [
            column.is_duplicated(),
            column.is_unique(),
            column.n_unique() + pl.lit(0),
            column.is_in(column.implode()),
        ]
    if is_number(dtype):
        choices += [
            column.rank("dense"), column.rank("min", descending=c.flag()), column - column.median(), column.rank("average"),
            column.clip(column.quantile(0.2), column.quantile(0.8)), (column - column.mean()).abs().max(),
            column.rank("max"),
            column.filter(column > column.quantile(0.5)).count(), column.sum() - column.sort().head(2).sum(),
            column.bin_intervals(3, labels=False) if dtype.is_integer() else column.max(), column.value_counts().len(),
            column.unique().len(), column.mode().max(), column.top_k(2).min(), column.bottom_k(2).max(),
            (column == column.max()).sum(), pl.col(pl.Int64).max().first() if dtype == pl.Int64 else column.min(),
        ]  # fmt: skip
    if not ordered:
        return choices
    far = c.pick((1, 2, -1, 5))
    choices += [
        column.shift(far), column.is_null().cum_sum(), pl.int_range(pl.len()), column.forward_fill(), column.backward_fill(),
        column.forward_fill(1), column.cum_count(reverse=c.flag()), column.shift(far).is_null().cum_sum(),
        column.reverse(), column.get(pl.len() // 2, null_on_oob=True), column.slice(pl.len() // 3, 2).len(),
        column.gather(-1 - pl.int_range(pl.len())), column.is_null().cum_sum().over(pl.lit(1)),
        column.fill_null(column.first()),
        column.fill_null(strategy=c.pick(("forward", "backward"))), column.is_null().rle_id(), column.last().is_null(),
    ]  # fmt: skip
    if not isinstance(dtype, pl.Object) and not dtype.is_nested():
        choices += [column.rle_id(), column.is_first_distinct(), column.is_last_distinct(), column.first() == column]
    if is_integer(dtype):
        choices += _running(c, column)
    elif dtype == pl.Date or dtype.is_decimal():
        choices += [column.diff(), column.cum_max(), column.cum_min(reverse=True)]
    return choices


def _running(c: Choices, column: pl.Expr) -> _Made:
    """Return running expressions of an integer column: those of floats depend on the order of additions."""
    return [
        column.diff(), column.cum_max(reverse=c.flag()), column.cum_min(), column.interpolate(), column.sort(),
        column.interpolate("nearest"), column.cum_max().over(order_by=column.rank("ordinal")),
        column.cast(pl.Int64).rolling_sum(3, min_samples=1), column.cast(pl.Int64).cum_sum(reverse=c.flag()),
        column.rolling_max(4, center=True, min_samples=1), column.rank("ordinal"), column.diff().max().cast(pl.Int64),
        column.rolling_min(2), column.rolling_median(3, min_samples=2), column.diff(2), column.cast(pl.Int64).cum_prod(),
        column.pct_change(), column.shift(2, fill_value=0), column.arg_sort(), column.peak_max(), column.sort_by(column % 3),
        column.ewm_mean(alpha=0.5), column.rank("ordinal", descending=True), column.rolling_quantile(0.5, window_size=2),
        column.cum_max().cum_sum(), column.cum_sum().shift(1), column.is_first_distinct().cum_sum(),
    ]  # fmt: skip
