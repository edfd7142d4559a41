"""Values at computed places, in another order, and of another number than the rows, against single-node Polars."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl
import pytest

from support.ordered_rows import TABLES, check, named, write

N, J, K, X, F, S, D, B = (pl.col(name) for name in ("i", "j", "k", "x", "f", "s", "d", "b"))

BY_NUMBER: Final[dict[str, list[pl.Expr]]] = {
    "sorted values beside others": [
        X.sort(),
        S.sort(descending=True, nulls_last=True),
        N.sort_by("x", "i"),
        J + N.reverse(),
    ],
    "values at computed places": [S.gather(X.arg_sort()), X.gather(-1 - N)],
    "one value at a computed place": [
        N.get(X.arg_min()),
        N.get(pl.len() + 5, null_on_oob=True),
        N - N.slice(pl.len() // 2, 3).sum() + pl.corr("x", "f", method="spearman"),
    ],
    "windows over all rows in an order": [
        X.cum_sum().over(order_by="i", descending=True),
        pl.int_range(1, pl.len() + 1).over(order_by=["s", "i"]),
        N.shift().over(order_by=[S, N], descending=True, nulls_last=True),
        J.rank("dense").over(order_by="s"),
        J.rolling_sum(3).over(order_by=-N) + N.first().over(order_by=N.shift()),
    ],
}
"""Beside their rows by the numbers of the rows: many stages."""

ONE_VALUE: Final[dict[str, list[pl.Expr]]] = {
    "places of extremes": [
        N.arg_max(),
        N.arg_min(),
        K.arg_max(),
        X.arg_min(),
        F.arg_max(),
        F.arg_min(),
        S.arg_max(),
        S.arg_min(),
        D.arg_min(),
        B.arg_max(),
        X.filter(B).arg_max(),
        pl.col("c").arg_max(),
    ],
    "places of values": [
        N.index_of(7),
        K.index_of(None),
        S.index_of("s1"),
        F.index_of(float("nan")),
        N.index_of(J.max() + 9),
    ],
    "values at extremes": [N.max_by(X), S.min_by(J), X.max_by("f"), pl.col("l").min_by("d")],
    "orders": [N.is_sorted(), J.is_sorted(), (N // 9).is_sorted(), (-N).is_sorted(descending=True), N.filter(B).is_sorted()],
    "whether there are any": [N.is_empty(), N.filter(X > 99).is_empty()],
    "the only value": [N.filter(N == 4).item(allow_empty=True)],
    "joined text": [S.str.join("-"), S.str.join(ignore_nulls=False), S.filter(B).str.join("+")],
    "bounds of a type": [pl.col("i8").lower_bound(), N.upper_bound()],
    "moments": [X.skew(), K.skew(bias=False), X.kurtosis(), J.kurtosis(fisher=False, bias=False), F.skew(), (N * 0).skew()],
    "relations of two": [
        pl.cov("x", "k"),
        pl.cov("i", "j", ddof=0),
        pl.corr("x", "k"),
        pl.corr("i", "f"),
        pl.corr(N, N * 0),
        pl.cov("g", "g"),
    ],
    "entropies": [N.entropy(), (X + 1).entropy(base=2, normalize=False)],
    "means of others than numbers": [D.mean(), pl.col("dec").mean(), pl.col("dec").std(), B.mean()],
    "lists of quantiles": [X.quantile([0.1, 0.8]), K.quantile([0.5], "linear")],
    "values at computed places": [
        N.get(pl.len() - 1, null_on_oob=True),
        X.slice(pl.len() // 3, 5).sum(),
        X.tail(pl.len() // 4).min(),
    ],
}

MANY_VALUES: Final[dict[str, tuple[pl.Expr, bool]]] = {
    "the computed middle": (X.slice(pl.len() // 3, J.max() + 3), True),
    "the computed end": (N.tail(pl.len() // 4), True),
    "a computed number of sorted values": (X.sort().head(pl.len() // 2), True),
    "a computed slice of every column": (pl.all().slice(pl.len() // 3, 3), True),
    "values at places from the end": (N.gather([-1, 3, 3]), True),
    "values at the places of a column": (S.gather(K.drop_nulls()), True),
    "values at places, some of them nowhere": (N.gather(J + 3, null_on_oob=True), True),
    "values at places that are nowhere": (N.gather(N + 1), True),
    "places in order": (X.arg_sort(descending=True, nulls_last=True), True),
    "values behind others": (N.append(X), True),
    "values of groups, one group after the other": (N.sort_by("x", "i").over("k", mapping_strategy="explode"), True),
    "values of groups without any": (X.filter(X > 3).over("s", "b", mapping_strategy="explode"), True),
    "shares of values": (K.value_counts(normalize=True), False),
    "a range between values": (pl.int_range(N.min(), N.max(), 3), True),
    "a part of a constant column without a name": (pl.lit(pl.Series([7, 8, 9])).slice(J.count() * 0, 2), True),
    "a constant of a computed length": (pl.lit("a").repeat_by(3).list.explode().slice(0, N.count()), True),
}

ABREAST: Final[dict[str, list[pl.Expr]]] = {
    "sorted values": [N.sort(descending=True), J.sort(), X.mean()],
    "filtered values and an aggregate": [N.filter(B), X.filter(B), S.first(), pl.lit(3)],
    "groups one after the other": [
        e.over(J % 2, mapping_strategy="explode") for e in (S.sort(nulls_last=True), N.sort_by(-N), pl.col("l").reverse())
    ],
    "aggregates of groups in order": [e.over("k", mapping_strategy="explode") for e in (K.first(), N.sum())],
    "computed slices": [N.slice(pl.len() // 2, 4), X.slice(pl.len() // 2, 4)],
    "values of different numbers": [N.filter(B), N.filter(X > 3)],
    "values beside their columns": [N, J.drop_nulls()],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("ordered"))


@pytest.mark.parametrize("rows", ["rows with gaps", pytest.param("no rows", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", BY_NUMBER)
def test_values_from_other_rows(name: str, rows: str, path: str, tmp_path: Path) -> None:
    check(TABLES[rows](pl.scan_parquet(path)).with_columns(named(BY_NUMBER[name])), tmp_path)


@pytest.mark.parametrize("rows", TABLES)
@pytest.mark.parametrize("name", ONE_VALUE)
def test_one_value_of_all_rows(name: str, rows: str, path: str, tmp_path: Path) -> None:
    check(TABLES[rows](pl.scan_parquet(path)).select(named(ONE_VALUE[name])), tmp_path)


@pytest.mark.parametrize("rows", TABLES)
@pytest.mark.parametrize("name", MANY_VALUES)
def test_values_of_another_number(name: str, rows: str, path: str, tmp_path: Path) -> None:
    expr, ordered = MANY_VALUES[name]
    check(TABLES[rows](pl.scan_parquet(path)).select(expr), tmp_path, ordered=ordered)


@pytest.mark.parametrize("rows", TABLES)
@pytest.mark.parametrize("name", ABREAST)
def test_values_of_another_number_side_by_side(name: str, rows: str, path: str, tmp_path: Path) -> None:
    check(TABLES[rows](pl.scan_parquet(path)).select(named(ABREAST[name])), tmp_path)
