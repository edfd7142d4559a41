"""Random aggregates over the columns of a schema: expressions of one value a group."""

from __future__ import annotations

import polars as pl

from support.random_exprs import predicate
from support.random_tables import Choices, is_number, is_text

__all__ = ["aggregate"]


def aggregate(c: Choices, schema: pl.Schema, *, ordered: bool) -> pl.Expr:
    """Return an aggregate over the columns of `schema`."""
    name = c.pick(list(schema))
    dtype, column = schema[name], pl.col(name)
    choices = [pl.len(), column.count(), column.null_count(), column.is_null().any(), column.has_nulls()]
    if is_number(dtype):
        choices += _of_number(c, schema, column, dtype)
    elif dtype == pl.Boolean:
        choices += [
            column.any(), column.all(), column.sum(), column.mean(), column.any(ignore_nulls=False),
            column.all(ignore_nulls=False), column.min(), column.n_unique(), column.var(), column.max(), (~column).sum(),
        ]  # fmt: skip
    elif dtype.is_temporal() or dtype.is_decimal():
        choices += [
            column.min(),
            column.max(),
            column.mean(),
            column.n_unique(),
            column.median(),
            column.quantile(0.5, "lower"),
        ]
        choices += [column.max() - column.min(), column.sort().implode(), column.unique().sort().implode()]
        if dtype.is_decimal() or isinstance(dtype, pl.Duration):
            choices += [column.sum(), column.std()]
    elif is_text(dtype) or isinstance(dtype, (pl.Categorical, pl.Enum)):
        choices += [column.min(), column.max(), column.n_unique(), column.cast(pl.String).str.join("-").is_null()]
        choices += [column.unique().len(), column.cast(pl.String).sort().str.join("-"), column.mode().len()]
    elif dtype == pl.Binary:
        choices += [column.min(), column.max(), column.n_unique()]
    elif dtype == pl.List(pl.Int64):
        choices += [
            column.list.sum().sum(),
            column.list.len().max(),
            column.list.max().mean(),
            column.list.len().implode().list.sort(),
        ]
    elif isinstance(dtype, (pl.Struct, pl.Array, pl.List)):
        choices += [column.n_unique(), column.drop_nulls().len()]
    if ordered:
        choices += _in_order(c, schema, column, dtype)
    return c.pick(choices)


def _of_number(c: Choices, schema: pl.Schema, column: pl.Expr, dtype: pl.DataType) -> list[pl.Expr]:
    # No variance with ddof=0 of nulls: of a group that is one null, Polars' engines say 0 or null, by the number of groups.
    filtered = column.filter(predicate(c, schema, 0, grouped=True))
    return [
        column.sum(), column.mean(), column.min(), column.max(), column.std(), column.fill_null(0).var(ddof=0),
        column.median(),
        filtered.sum(), filtered.max(), column.sum() / pl.len(), (column + 1).max(), column.n_unique(), filtered.count(),
        column.quantile(0.4, "lower"), (column > 1).all(), column.max() - column.min(), filtered.mean(), filtered.n_unique(),
        pl.when(column.count() > 1).then(column.max()).otherwise(column.min()), column.is_in([1]).sum(), filtered.median(),
        column.sort(descending=True, nulls_last=True).implode(), column.fill_null(1).sum(),
        column.nan_max() if dtype.is_float() else column.product(), column.skew(), column.kurtosis(),
        pl.cov(column, column.is_null()), column.quantile(0.7, "linear"), column.unique().sort().implode(),
        (column - column.mean()).abs().max(), column.mode().sort().implode(), column.top_k(2).sum(),
        column.drop_nulls().len(),
        column.nan_min() if dtype.is_float() else column.bitwise_xor(),
        column.bottom_k(1).sum(),
        pl.corr(column, column.cast(pl.Float64) * 2), column.value_counts().len(), column.rank("dense").max(),
        column.sort().head(2).sum(), column.sort_by(column, descending=True, nulls_last=True).first(),
        pl.struct(column.min().alias("low"), column.max().alias("high")),
        column.entropy() if dtype == pl.Int8 else column.len(),
    ]  # fmt: skip


def _in_order(c: Choices, schema: pl.Schema, column: pl.Expr, dtype: pl.DataType) -> list[pl.Expr]:
    by = pl.col(c.pick(list(schema)))
    # No places of extremes of Booleans and texts: in groups, Polars' depend on how a column is cut into chunks.
    made = [
        column.first(), column.last(), column.head(2).implode(), column.first(ignore_nulls=True), column.implode(),
        column.tail(1).implode(), column.reverse().first(), column.shift(1).last(), column.slice(1, 1).implode(),
        column.filter(predicate(c, schema, 0, grouped=True)).first(),
        column.filter(predicate(c, schema, 0, grouped=True)).implode(),
        column.sort_by(by.is_null(), maintain_order=True).first(), column.gather_every(2).implode(),
        column.drop_nulls().first(),
        column.get(0, null_on_oob=True), column.unique(maintain_order=True).implode(),
        column.last(ignore_nulls=True), column.is_null().rle().len(), column.drop_nulls().implode(),
    ]  # fmt: skip
    if dtype.is_integer():
        # Which of several greatest values `arg_max` names differs between Polars' engines.
        place = column.rank("ordinal")
        made += [
            column.index_of(1), column.is_sorted(), place.arg_max(), column.filter(column > 9).rank("ordinal").arg_min(),
            column.cum_max().implode(), column.diff().implode(), place.arg_min(), by.get(place.arg_max()),
            column.cast(pl.Int64).cum_sum().last(), column.rank("min").implode(),
            by.sort_by(column, maintain_order=True).last(),
        ]  # fmt: skip
    return made
