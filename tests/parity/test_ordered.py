"""Expressions that look at other rows, over tiny splits, with empty and one-row tasks, against single-node Polars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import polars as pl
import polars.selectors as cs
import pytest

from frazil_coordinator.plan.planner import plan_query
from support.ordered_rows import TABLES, check, named, settings, write

N, J, K, X, F, S, D, B = (pl.col(name) for name in ("i", "j", "k", "x", "f", "s", "d", "b"))
METHODS: Final[tuple[Literal["average", "min", "max", "dense", "ordinal"], ...]] = (
    "average",
    "min",
    "max",
    "dense",
    "ordinal",
)
IN_ORDER: Final[dict[str, list[pl.Expr]]] = {
    "rows before and behind": [
        X.shift(1),
        K.shift(-2),
        S.shift(5),
        pl.col("l").shift(9),
        pl.col("st").shift(1),
        pl.col("c").shift(-3),
        pl.col("dec").shift(2, fill_value=0),
        J.shift(60),
        N.shift(-60),
        D.shift(0),
    ],
    "differences": [N.diff(), J.diff(-2), D.diff(3), X.pct_change(2), pl.col("dec").diff(), pl.col("du").diff(), F.diff()],
    "rolling windows of rows": [
        X.rolling_mean(3),
        N.rolling_sum(7, center=True, min_samples=2),
        K.rolling_max(4, min_samples=1),
        X.rolling_median(5).alias("m"),
        J.rolling_std(3).alias("sd"),
        J.rolling_var(6, ddof=0, min_samples=3).alias("v"),
        N.rolling_mean(3, weights=[0.2, 0.3, 0.5]).alias("w"),
        J.rolling_quantile(0.3, window_size=4).alias("q"),
        J.rolling_min(2, center=True).alias("n"),
        J.rolling_skew(5).alias("k3"),
        pl.rolling_corr(N, J, window_size=5).alias("corr"),
    ],
    "fills of a few rows": [
        K.forward_fill(1),
        X.backward_fill(2),
        S.forward_fill(3),
        D.backward_fill(20),
        B.forward_fill(0),
    ],
    "fills": [K.forward_fill(), X.backward_fill(), S.forward_fill(), D.backward_fill(), B.forward_fill(), F.backward_fill()],
    "fills of nested values": [pl.col("l").forward_fill(), pl.col("st").backward_fill(), pl.col("c").forward_fill()],
    "fills by an extreme": [K.fill_null(strategy="min"), X.fill_null(strategy="max"), D.fill_null(strategy="min")],
    "peaks": [J.peak_max(), X.peak_min()],
    "running sums": [
        N.cum_sum(),
        X.cum_sum(),
        pl.col("i8").cum_sum(),
        B.cum_sum(),
        pl.col("dec").cum_sum(),
        pl.col("du").cum_sum(),
    ],
    "running sums from the end": [
        N.cum_sum(reverse=True),
        X.cum_sum(reverse=True),
        K.cum_count(reverse=True),
        B.cum_sum(reverse=True),
    ],
    "running products": [pl.col("i8").cum_prod(), J.cum_prod(), (X / 10 + 1).cum_prod(reverse=True), B.cum_prod()],
    "running extremes": [
        K.cum_max(),
        X.cum_min(),
        F.cum_max(),
        pl.col("g").cum_min(),
        S.cum_max(),
        D.cum_min(),
        pl.col("dec").cum_max(),
        B.cum_max(),
        pl.col("t").cum_max(),
        pl.col("du").cum_min(),
        J.cum_max(),
    ],
    "running extremes from the end": [K.cum_max(reverse=True), F.cum_min(reverse=True), S.cum_min(reverse=True)],
    "running counts": [X.cum_count(), S.cum_count(), F.cum_count(reverse=True)],
    "numbers of rows": [pl.int_range(pl.len()).alias("n"), pl.row_index(), pl.int_range(pl.len(), dtype=pl.Int8).alias("m")],
    "runs": [K.rle_id(), (N // 7).rle_id(), F.rle_id(), S.rle_id(), pl.col("st").rle_id(), B.rle_id()],
    "differences from aggregates": [
        X - X.mean(),
        N - N.max(),
        K.clip(K.quantile(0.1), K.quantile(0.8)),
        S.fill_null(S.first()),
    ],
    "aggregates of aggregates": [(X - X.mean()).abs().max() - X, N * pl.len(), X.filter(X.mean() < X).sum() + N],
    "membership in a series": [J.is_in(pl.Series([1, -2])) & (J.mean() > J)],
    "membership in other rows": [K.is_in(J.implode()), S.is_in(S.filter(B).implode())],
    "structs of them": [pl.struct(N.shift(), X.mean().alias("m"), J.cum_sum().over("k").alias("c"))],
    "windows": [
        X.sum().over("k"),
        N.shift().over("k"),
        X.rank().over("s").alias("r"),
        J.cum_sum().over("s", "b").alias("c"),
    ],
    "windows of different keys": [X.sum().over("k"), N.first().over("s"), J.last().over("b"), D.shift().over("c")],
    "windows of nested and odd keys": [
        N.sum().over("l"),
        J.max().over("st"),
        X.min().over("f"),
        S.count().over("dec"),
        K.first().over("t"),
    ],
    "windows by expressions": [
        N.sum().over(J % 2),
        pl.len().over(S.str.to_uppercase(), K).alias("n"),
        J.last().over(K.is_null()),
    ],
    "windows in an order": [
        X.cum_sum().over("k", order_by=["s", "i"], descending=True),
        N.first().over("s", order_by=[F, N]),
    ],
    "windows of lists": [N.over("k", mapping_strategy="join"), J.head(2).over("s", mapping_strategy="join")],
    "windows in windows' places": [
        X.sum().over(K.rle_id()),
        (N - N.min().over("k")).max().over("s"),
        J.max().over(N.shift() // 4),
    ],
    "windows, neighbours, running sums and aggregates at once": [
        X.sum().over("k") / X.sum(),
        N.cum_sum().alias("c"),
        J.shift(1),
        X.mean().over("s").shift(1).alias("m"),
        K.diff().cum_max(),
    ],
    **{
        f"ranks, {method}": [
            X.rank(method),
            K.rank(method, descending=True),
            F.rank(method),
            S.rank(method),
            D.rank(method, descending=True) - J,
        ]
        for method in METHODS
    },
    "ranks among others": [X.rank() + K.shift(), J.rank("dense").cum_sum(), S.rank("min").over("b"), J.rank().max()],
    "uniqueness": [
        K.is_unique(),
        S.is_first_distinct(),
        D.is_last_distinct(),
        pl.col("l").is_duplicated(),
        F.is_first_distinct(),
        pl.col("st").is_unique(),
    ],
    "shifts filled with an aggregate": [N.shift(1, fill_value=N.max()), S.shift(-2, fill_value=S.first())],
    "numbers of rows from one on": [pl.int_range(1, pl.len() + 1), pl.int_range(7, pl.len() + 7), pl.repeat("a", pl.len())],
    "lines over gaps": [
        K.interpolate(),
        X.interpolate(),
        F.interpolate(),
        pl.col("i8").interpolate(),
        pl.col("g").interpolate(),
    ],
    "the nearest values in gaps": [K.interpolate("nearest"), X.interpolate("nearest"), D.interpolate("nearest")],
    "fills by a mean": [X.fill_null(strategy="mean"), K.fill_null(strategy="mean"), F.fill_null(strategy="mean")],
    "membership in other columns": [K.is_in(J), S.is_in(S.filter(B)), J.is_in(N.top_k(5)), J.is_in("l")],
    "fading means": [
        X.ewm_mean(alpha=0.3),
        N.ewm_mean(span=4, min_samples=9),
        K.ewm_mean(half_life=2.5, ignore_nulls=True, min_samples=2),
        F.ewm_mean(alpha=0.9),
        pl.when(N == 9).then(float("inf")).otherwise(X).ewm_mean(alpha=0.5),
    ],
    "fading sums": [X.ewm_sum(alpha=0.3), K.ewm_sum(alpha=0.01, ignore_nulls=True), J.ewm_sum(alpha=1.0, min_samples=5)],
    "windows over all rows": [X.sum().over(pl.lit(1)), J.cum_sum().over(pl.lit(1)), (N - N.min()).over(pl.lit("a"))],
    "every column shifted": [pl.all().shift(2)],
    "every number against its mean": [cs.integer() - cs.integer().mean()],
}

ONE_VALUE: Final[dict[str, list[pl.Expr]]] = {
    "medians": [X.median(), K.median(), F.median(), D.median(), pl.col("dec").median(), B.median(), pl.col("t").median()],
    "quantiles": [
        X.quantile(0.3).alias("a"),
        X.quantile(0.9, "linear").alias("b"),
        K.quantile(0.5, "lower").alias("c"),
        K.quantile(0.41, "higher").alias("d"),
        J.quantile(0.37, "midpoint").alias("e"),
        J.quantile(0.37, "equiprobable").alias("f"),
        F.quantile(0.0).alias("g"),
        F.quantile(1.0).alias("h"),
        pl.col("du").quantile(0.77).alias("l"),
        X.filter(B).quantile(0.5, "linear").alias("m"),
    ],
    "first and last": [X.first(), S.last(), K.drop_nulls().first(), pl.col("l").last(), B.filter(B.is_not_null()).last()],
    "values at the ends": [N.head(3).sum(), J.tail(4).max(), S.head(2).implode(), X.sort(descending=True).head(3).sum()],
    "structs of several": [pl.struct(X.sum(), N.max().alias("m"), S.first().alias("f")), pl.struct(K.median(), pl.len())],
    "ends of sorted values": [N.sort_by("x", "i").last(), S.sort_by(-J, N).first(), X.sort(nulls_last=True).first()],
    "the largest values": [X.top_k(3).min(), K.bottom_k(2).sum(), J.top_k(5).mean()],
    "unique values": [K.unique().len(), S.n_unique(), F.n_unique(), D.unique().min()],
    "nulls": [K.has_nulls(), N.has_nulls(), S.null_count()],
    "products and bits": [pl.col("i8").product(), (N + 1).bitwise_xor(), J.bitwise_or(), K.bitwise_and()],
    "deviations": [(X - X.mean()).abs().mean(), (N - N.median()).abs().max(), X.filter(X.quantile(0.9) < X).sum()],
    "the most frequent": [S.mode().len().alias("a"), K.value_counts().struct.field("count").max().alias("b")],
    "ends of windows": [X.sum().over("k").max(), N.shift().sum(), J.cum_sum().min(), K.rle_id().max()],
}

MANY_VALUES: Final[dict[str, tuple[pl.Expr, bool]]] = {
    "unique values": (K.unique(), False),
    "unique values in order": (S.unique(maintain_order=True), True),
    "counts of values": (K.value_counts(), False),
    "named counts of values": (S.alias("z").value_counts(name="n"), False),
    "counts in order of first appearance": (J.unique_counts(), True),
    "places of unique values": (K.arg_unique(), True),
    "places of true values": (B.arg_true(), True),
    "most frequent values": (S.mode(), False),
    "runs": ((N // 7).rle(), True),
    "runs with nulls": (K.rle(), True),
    "sorted values": (X.sort(descending=True, nulls_last=True), True),
    "sorted by others": (N.sort_by("x", "i", descending=[True, False]), True),
    "first of those sorted by others": (N.sort_by("x", "i").head(4), True),
    "reversed values": (S.reverse(), True),
    "all columns reversed": (pl.all().reverse(), True),
    "values without nulls": (X.drop_nulls() + 1, True),
    "sums over values without nulls": (K.drop_nulls().cum_sum(), True),
    "filtered values": (N.filter(X > 2), True),
    "values of lists": (pl.col("l").explode(), True),
    "the middle": (X.slice(3, 5), True),
    "ends": (N.tail(5), True),
    "neighbours of sorted values": (X.sort().shift(1), True),
}

FALLBACKS: Final[dict[str, pl.Expr]] = {
    "exponential means that are not adjusted": X.ewm_mean(alpha=0.3, adjust=False),
    "one value by another of some": N.filter(B).sort_by("x").sum(),
    "mean of times": pl.col("t").mean(),
    "aggregate of a constant": pl.lit(1).sum() + N.sum(),
    "places in a sorted column": N.search_sorted(7),
    "value between others by another": X.interpolate_by("i"),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("ordered"))


@pytest.mark.parametrize("rows", TABLES)
@pytest.mark.parametrize("name", IN_ORDER)
def test_values_beside_their_rows(name: str, rows: str, path: str, tmp_path: Path) -> None:
    check(TABLES[rows](pl.scan_parquet(path)).with_columns(named(IN_ORDER[name])), tmp_path)


@pytest.mark.parametrize(
    "name",
    # A task a row makes each of these a second or more: every eighth here, the others among the slow tests.
    [pytest.param(name, marks=[pytest.mark.slow] if number % 8 else []) for number, name in enumerate(IN_ORDER)],
)
def test_values_alone_over_single_rows(name: str, path: str, tmp_path: Path) -> None:
    check(pl.scan_parquet(path).filter(pl.col("i") % 6 < 4).select(named(IN_ORDER[name])), tmp_path, split=1)


@pytest.mark.parametrize("rows", TABLES)
@pytest.mark.parametrize("name", ONE_VALUE)
def test_one_value_of_all_rows(name: str, rows: str, path: str, tmp_path: Path) -> None:
    check(TABLES[rows](pl.scan_parquet(path)).select(named(ONE_VALUE[name])), tmp_path)


@pytest.mark.parametrize("name", ONE_VALUE)
def test_one_value_of_all_rows_beside_them(name: str, path: str, tmp_path: Path) -> None:
    check(pl.scan_parquet(path).with_columns(named(ONE_VALUE[name])), tmp_path)


@pytest.mark.parametrize("rows", TABLES)
@pytest.mark.parametrize("name", MANY_VALUES)
def test_values_of_another_number(name: str, rows: str, path: str, tmp_path: Path) -> None:
    expr, ordered = MANY_VALUES[name]
    check(TABLES[rows](pl.scan_parquet(path)).select(expr), tmp_path, ordered=ordered)


@pytest.mark.parametrize("name", FALLBACKS)
def test_what_is_not_exact_in_parts_runs_in_one_task(name: str, path: str, tmp_path: Path) -> None:
    check(pl.scan_parquet(path).select(FALLBACKS[name]), tmp_path, falls_back=True)


PREDICATES: Final[dict[str, list[pl.Expr]]] = {
    "above a quantile": [X.quantile(0.7) < X],
    "deviation above its mean": [(X - X.mean()).abs() > (X - X.mean()).abs().mean()],
    "one value for all rows": [X.max() > 3],
    "changed from the row before": [K.ne_missing(K.shift())],
    "best of two windows": [X.max().over("k") == X, N.mean().over("s") <= N],
    "first of its kind, below a running maximum": [S.is_first_distinct() | (J.cum_max() > J)],
    "nothing": [X.max() < X],
}


@pytest.mark.parametrize("rows", TABLES)
@pytest.mark.parametrize("name", PREDICATES)
def test_filters_by_other_rows(name: str, rows: str, path: str, tmp_path: Path) -> None:
    check(TABLES[rows](pl.scan_parquet(path)).filter(PREDICATES[name]), tmp_path)


def test_windows_whose_order_nobody_sees_are_not_brought_back_into_it(path: str, tmp_path: Path) -> None:
    windows = pl.scan_parquet(path).with_columns(a=X.sum().over("k"), b=X.max().over("s"))
    query = windows.group_by("k").agg(pl.col("a").sum(), pl.col("b").max())
    check(query, tmp_path, ordered=False)
    graph = plan_query(query.serialize(), settings())
    assert not [stage for stage in graph.stages if "RESTORE ORDER" in stage.operators]


def test_window_over_keys_by_which_rows_lie_together_moves_no_rows(path: str, tmp_path: Path) -> None:
    sums = pl.scan_parquet(path).group_by("k", "s").agg(X.sum())
    query = sums.with_columns(n=pl.len().over("k", "s"))
    check(query, tmp_path, ordered=False)
    assert len(plan_query(query.serialize(), settings()).stages) == len(plan_query(sums.serialize(), settings()).stages)


KEYS: Final[dict[str, tuple[Callable[[pl.LazyFrame], pl.LazyFrame], bool]]] = {
    "group by the side of a mean": (lambda t: t.group_by(X.mean() < X).agg(N.sum(), pl.len().alias("n")), False),
    "group by runs, in their order": (
        lambda t: t.group_by(B.rle_id().alias("r"), maintain_order=True).agg(pl.all().first()),
        True,
    ),
    "group by a rank": (lambda t: t.group_by("b", K.rank("dense").alias("r")).agg(N), False),
    "group by sizes of groups": (lambda t: t.group_by(pl.len().over("k").alias("n")).agg(S.n_unique(), X.median()), False),
    "every column of groups in their order": (lambda t: t.group_by("k", maintain_order=True).agg(pl.all()), True),
    "numbers of groups in their order": (
        lambda t: t.group_by("s", "b", maintain_order=True).agg(cs.numeric().median()),
        True,
    ),
    "ends of groups": (lambda t: t.group_by("k").agg(N.head(2), X.tail(1).alias("t"), S.sort_by("i").last()), False),
    "first rows of groups": (lambda t: t.group_by("k", maintain_order=True).head(2), True),
    "groups of nested keys that have enough rows": (
        lambda t: (
            t.group_by("l", "st").having(pl.len() < 9, X.count() > 0).agg(N.quantile(0.3), N.shift().last().alias("z"))
        ),
        False,
    ),
    "sort by sizes of groups": (lambda t: t.sort(pl.len().over("k"), "i"), True),
    "sort by distance from a mean": (lambda t: t.sort((X - X.mean()).abs(), "i", descending=True, nulls_last=True), True),
    "stable sort by neighbours": (lambda t: t.sort(K.shift(), maintain_order=True), True),
}


@pytest.mark.parametrize("rows", TABLES)
@pytest.mark.parametrize("name", KEYS)
def test_keys_that_look_at_other_rows(name: str, rows: str, path: str, tmp_path: Path) -> None:
    build, ordered = KEYS[name]
    check(build(TABLES[rows](pl.scan_parquet(path))), tmp_path, ordered=ordered)
