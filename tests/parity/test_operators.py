"""Every operator that is distributed, over tiny splits, against single-node Polars on the same data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest

import frazil
from support.parity import assert_same
from support.profiles import fallbacks, most_tasks, stages_of

ROWS = 41
KEYS = ("k", "s", "f", "d", "b", "c", "e", "dec", "l", "st", "dtm", "i8")


def wide_frame() -> pl.DataFrame:
    """Nulls, NaN, both zeros, and a column of every family of dtypes."""
    numbers = range(ROWS)
    frame = pl.DataFrame(
        {
            "id": numbers,
            "k": [n % 5 if n % 7 else None for n in numbers],
            "x": [float(n * n % 17) if n % 11 else None for n in numbers],
            "f": [float("nan") if n % 13 == 0 else (-0.0 if n % 3 == 0 else 0.0) for n in numbers],
            "s": [f"s{n % 6}" for n in numbers],
            "d": [dt.date(2024, 1, 1) + dt.timedelta(days=n % 9) for n in numbers],
            "b": [n % 3 == 0 if n % 4 else None for n in numbers],
        }
    )
    return frame.with_columns(
        c=pl.col("s").cast(pl.Categorical),
        e=pl.col("s").cast(pl.Enum([f"s{n}" for n in range(6)])),
        dec=pl.col("id").cast(pl.Decimal(12, 2)),
        l=pl.concat_list("id", "k"),
        st=pl.struct("k", "s"),
        dtm=pl.col("d").cast(pl.Datetime("us", "UTC")),
        i8=pl.col("id").cast(pl.Int8),
    )


RIGHT = pl.DataFrame(
    {
        "k": [0, 1, 1, 2, None, 9],
        "v": ["a", "b", "c", "d", "e", "f"],
        "id": [1, 2, 3, 4, 5, 6],
        "s": ["s0", "s1", "s1", "s9", None, "s2"],
    }
).with_columns(c=pl.col("s").cast(pl.Categorical))


@dataclass(frozen=True)
class Case:
    build: Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]
    ordered: bool = False
    fallback: bool = False
    one_task: bool = False
    """Whether one task is all it needs: a slice inside one split."""


def _aggregates() -> list[pl.Expr]:
    x, b = pl.col("x"), pl.col("b")
    return [
        x.sum().alias("sum"), x.mean().alias("mean"), x.min().alias("min"), x.max().alias("max"), x.std().alias("std"),
        x.var(ddof=0).alias("var"), x.count().alias("count"), pl.len().alias("len"), b.any().alias("any"),
        b.all().alias("all"), b.any(ignore_nulls=False).alias("any_kleene"), b.all(ignore_nulls=False).alias("all_kleene"),
        x.null_count().alias("nulls"), (x.sum() / pl.len()).alias("ratio"), b.sum().alias("true"),
        x.filter(pl.col("id") > 10).sum().alias("filtered"), pl.col("i8").sum().alias("small"),
        pl.col("i8").mean().alias("small_mean"), pl.col("dec").sum().alias("decimal"), pl.col("f").min().alias("zero"),
        pl.col("f").max().alias("nan"), pl.col("s").min().alias("text"), pl.col("d").max().alias("date"),
        pl.col("c").min().alias("category"), pl.col("e").max().alias("enum"),
        x.cast(pl.Float32).mean().alias("single"), x.cast(pl.Float32).var().alias("single_var"),
        (x.max() - x.min()).round(1).alias("spread"),
        pl.when(x.sum() > 50).then(x.max()).otherwise(x.min()).alias("chosen"),
    ]  # fmt: skip


CASES: dict[str, Case] = {
    "whole table": Case(lambda t, r: t, ordered=True),
    "filter": Case(lambda t, r: t.filter(pl.col("k") > 1), ordered=True),
    "filter that keeps nothing": Case(lambda t, r: t.filter(pl.col("id").abs() < 0), ordered=True),
    "select": Case(lambda t, r: t.select(pl.col("x") * 2, "s", pl.lit(1).alias("one")), ordered=True),
    "with_columns": Case(
        lambda t, r: t.with_columns(y=pl.col("x") + pl.col("k"), s=pl.col("s").str.to_uppercase()), ordered=True
    ),
    "rename and drop": Case(lambda t, r: t.rename({"k": "kk"}).drop("s", "l"), ordered=True),
    "explode": Case(lambda t, r: t.explode("l"), ordered=True),
    "unnest": Case(lambda t, r: t.select("id", "st").unnest("st"), ordered=True),
    "drop_nulls": Case(lambda t, r: t.drop_nulls("k"), ordered=True),
    "cache": Case(lambda t, r: t.cache().filter(pl.col("k") == 1), ordered=True),
    "count of rows": Case(lambda t, r: t.select(pl.len())),
    "all aggregates by key": Case(lambda t, r: t.group_by("k").agg(_aggregates())),
    "all aggregates of everything": Case(lambda t, r: t.select(_aggregates())),
    "all aggregates of nothing": Case(lambda t, r: t.filter(pl.col("id").abs() < 0).select(_aggregates())),
    "aggregates by key of nothing": Case(lambda t, r: t.filter(pl.col("id").abs() < 0).group_by("k").agg(_aggregates())),
    "aggregates of every numeric column": Case(lambda t, r: t.group_by("s").agg(cs.numeric().sum())),
    "first and last by key": Case(lambda t, r: t.group_by("k").agg(pl.col("id").first(), pl.col("s").last())),
    "quantile by key": Case(lambda t, r: t.group_by("s").agg(pl.col("x").quantile(0.3, "linear"))),
    "distinct values by key": Case(lambda t, r: t.group_by("s").agg(pl.col("k").n_unique())),
    "lists by key": Case(lambda t, r: t.group_by("s").agg(pl.col("id"), pl.col("x").sort_by("id").head(2))),
    "having": Case(lambda t, r: t.group_by("k").having(pl.len() > 5).agg(pl.col("x").sum())),
    "keys that are expressions": Case(
        lambda t, r: t.group_by(pl.col("id") % 3, (pl.col("k") > 2).alias("big")).agg(pl.col("x").sum())
    ),
    "group_by in order of first appearance": Case(
        lambda t, r: t.group_by("s", maintain_order=True).agg(pl.col("id").sum(), pl.col("x").first()), ordered=True
    ),
    "whole groups in order of first appearance": Case(
        lambda t, r: t.group_by("k", maintain_order=True).agg(pl.col("id"), pl.col("x").median()), ordered=True
    ),
    "group_by of a group_by": Case(
        lambda t, r: t.group_by("k", "s").agg(pl.col("x").sum()).group_by("k").agg(pl.col("x").max()).sort("k"), ordered=True
    ),
    "join of different integer types": Case(lambda t, r: t.with_columns(pl.col("k").cast(pl.Int32)).join(r, on="k")),
    "join without coalescing": Case(lambda t, r: t.join(r, on="k", how="left", coalesce=False)),
    "join with a suffix": Case(lambda t, r: t.join(r, on="k", suffix="_q")),
    "join on categoricals": Case(lambda t, r: t.join(r, on="c")),
    "join that checks uniqueness": Case(
        lambda t, r: t.join(r.unique("k", keep="first"), on="k", how="left", validate="m:1")
    ),
    "join that fails its check": Case(lambda t, r: t.join(r, on="k", how="left", validate="m:1")),
    "join in order of both sides": Case(lambda t, r: t.join(r, on="k", maintain_order="left_right"), ordered=True),
    "cross join": Case(lambda t, r: t.select("id", "s").join(r.select("v"), how="cross")),
    "cross join in order of the large side": Case(
        lambda t, r: t.select("id").filter(pl.col("id") < 30).join(r.select("v"), how="cross", maintain_order="left"),
        ordered=True,
    ),
    "cross join in order of the small side": Case(
        lambda t, r: (
            r.select(pl.col("id").sum()).join(t.select(other="id"), how="cross", maintain_order="left").sort("other")
        ),
        ordered=True,
    ),
    "join then group_by on the same key": Case(
        lambda t, r: t.join(r, on="k").group_by("k").agg(pl.col("x").sum(), pl.col("v").n_unique())
    ),
    "join whose other column is pruned": Case(lambda t, r: t.join(r, on="k").select("id_right", "v")),
    "join then filters for both sides": Case(
        lambda t, r: t.join(r, on="k").filter(pl.col("v") == "b", pl.col("x") > 3).select("id", "v")
    ),
    "count of a join": Case(lambda t, r: t.join(r, on="k").select(pl.len())),
    "join of an empty side": Case(lambda t, r: t.filter(pl.col("id").abs() < 0).join(r, on="k", how="left")),
    "sort by two keys": Case(lambda t, r: t.sort("k", "x", "id"), ordered=True),
    "stable sort": Case(lambda t, r: t.sort("k", maintain_order=True), ordered=True),
    "sort by an expression": Case(lambda t, r: t.sort(-pl.col("x"), "id"), ordered=True),
    "sort with NaN and nulls": Case(
        lambda t, r: t.sort("f", "x", "id", descending=[True, True, False], nulls_last=[True, False, True]), ordered=True
    ),
    "sort of nothing": Case(lambda t, r: t.filter(pl.col("id").abs() < 0).sort("x"), ordered=True),
    "top-k": Case(lambda t, r: t.sort("x", "id", descending=True, nulls_last=True).head(5), ordered=True),
    "top_k and bottom_k": Case(lambda t, r: t.top_k(9, by="id").bottom_k(4, by=["x", "id"]), ordered=True),
    "slice of a sort": Case(lambda t, r: t.sort("x", "id").slice(3, 6), ordered=True),
    "tail of a sort": Case(lambda t, r: t.sort("x", "id").tail(3), ordered=True),
    "head": Case(lambda t, r: t.head(6), ordered=True),
    "head of none": Case(lambda t, r: t.head(0), ordered=True, one_task=True),
    "tail": Case(lambda t, r: t.tail(7), ordered=True),
    "slice in the middle": Case(lambda t, r: t.slice(11, 9), ordered=True),
    "slice from the end": Case(lambda t, r: t.slice(-9, 4), ordered=True, one_task=True),
    "slice beyond the end": Case(lambda t, r: t.slice(100, 5), ordered=True, one_task=True),
    "limit after a filter": Case(lambda t, r: t.filter(pl.col("k") == 2).limit(3), ordered=True),
    "unique, first kept in order": Case(lambda t, r: t.unique("k", keep="first", maintain_order=True), ordered=True),
    "unique, last kept in order": Case(lambda t, r: t.unique("s", keep="last", maintain_order=True), ordered=True),
    "unique, none kept": Case(lambda t, r: t.unique(["k", "s"], keep="none")),
    "unique rows": Case(lambda t, r: t.select("k", "s").unique()),
    "shared aggregate, joined with its own maximum": Case(
        lambda t, r: (lambda g: g.join(g.select(m=pl.col("x").max()), how="cross").filter(pl.col("x") == pl.col("m")))(
            t.group_by("k").agg(pl.col("x").sum())
        )
    ),
    "window": Case(lambda t, r: t.with_columns(m=pl.col("x").mean().over("k")), ordered=True),
    "ranks and running sums in windows": Case(
        lambda t, r: t.select(
            "id",
            rank=pl.col("x").rank("ordinal").over("k"),
            running=pl.col("x").cum_sum().over("k", order_by="id", descending=True),
            before=pl.col("id").shift().over("k", "s"),
        ),
        ordered=True,
    ),
    "window over every numeric column": Case(
        lambda t, r: t.with_columns((cs.numeric() - cs.numeric().mean().over("s")).name.suffix("_c")), ordered=True
    ),
    "filter by a window": Case(lambda t, r: t.filter(pl.col("id") == pl.col("id").max().over("s")), ordered=True),
    "window by an expression": Case(
        lambda t, r: t.with_columns(n=pl.len().over(pl.col("id") % 3, pl.col("s").str.to_uppercase())), ordered=True
    ),
    "windows without a common key": Case(
        lambda t, r: t.select(a=pl.col("x").sum().over("k"), b=pl.col("x").sum().over("s")), ordered=True
    ),
    "deviation from the mean of a join": Case(
        lambda t, r: t.join(r, on="k").select("id", "v", d=pl.col("x") - pl.col("x").mean(), n=pl.len())
    ),
    "share of a sum by key": Case(
        lambda t, r: t.group_by("k").agg(pl.col("x").sum()).with_columns(share=pl.col("x") / pl.col("x").sum())
    ),
    "largest sum by key": Case(lambda t, r: t.group_by("s").agg(pl.col("x").sum()).filter(pl.col("x") == pl.col("x").max())),
    "aggregate among rows of nothing": Case(
        lambda t, r: t.filter(pl.col("id").abs() < 0).select(pl.col("x") - pl.col("x").mean(), n=pl.len()), ordered=True
    ),
    "concat of a scan, an aggregate, a join and a frame": Case(
        lambda t, r: pl.concat(
            [
                t.select("k", n="id"),
                t.group_by("k").agg(n=pl.col("id").sum()),
                t.select(k=pl.col("k").sum(), n=pl.col("id").max()),
                t.join(r, on="k").select("k", n="id_right"),
                r.select("k", n="id"),
            ]
        )
    ),
    "concat of sorted parts": Case(
        lambda t, r: pl.concat([t.sort("x", "id").select("id"), t.sort("s", "id").select("id"), t.head(3).select("id")]),
        ordered=True,
    ),
    "concat, then group_by, then join with a small table": Case(
        lambda t, r: pl.concat([t, t.filter(pl.col("id") > 30)]).group_by("k").agg(pl.len()).join(r, on="k")
    ),
    "concat joined with a small table": Case(lambda t, r: pl.concat([t.select("id", "k")] * 3).join(r, on="k")),
    "concat of many: scans, aggregates, a join, and what is empty": Case(
        lambda t, r: pl.concat(
            [
                *(t.select("id", y=pl.col("k") + n) for n in range(5)),
                *(t.filter(pl.col("id") % 5 == n).select(pl.col("id").sum(), y=pl.len().cast(pl.Int64)) for n in range(3)),
                t.join(r, on="k").select("id", y="v"),
                t.filter(pl.col("id") < 0).select("id", y="k"),
                r.select(id="k", y=pl.lit(7, pl.Int64)),
            ],
        ),
    ),
    "concat of different types": Case(
        lambda t, r: pl.concat([t.select("id"), t.select(pl.col("id").cast(pl.Float64))], how="vertical_relaxed"),
        ordered=True,
    ),
    "concat of different columns": Case(
        lambda t, r: pl.concat([t.select("id", "k"), t.select("id", "s"), r.select("v")], how="diagonal"), ordered=True
    ),
    "concat of a concat": Case(
        lambda t, r: pl.concat(
            [pl.concat([t, t.head(2)]).with_columns(y=pl.col("id") + 1), t.with_columns(y=pl.lit(0))], how="vertical_relaxed"
        ),
        ordered=True,
    ),
    "running aggregates": Case(
        lambda t, r: t.with_columns(
            total=pl.col("id").cum_sum(),
            partly=pl.col("k").cum_sum() * 2 + pl.col("id"),
            real=pl.col("x").cum_sum(),
            count=pl.col("x").cum_count(),
            highest=pl.col("k").cum_max(),
            lowest=pl.col("i8").cum_min(),
        ),
        ordered=True,
    ),
    "running sum of a filtered, sorted table": Case(
        lambda t, r: t.filter(pl.col("k") > 1).sort("x", "id").select("id", total=pl.col("i8").cum_sum()), ordered=True
    ),
    "running sum of nothing": Case(
        lambda t, r: t.filter(pl.col("id").abs() < 0).select(pl.col("id").cum_sum()), ordered=True
    ),
    "running sum from the end": Case(lambda t, r: t.with_columns(m=pl.col("id").cum_sum(reverse=True)), ordered=True),
    "aggregate among rows": Case(lambda t, r: t.select(pl.col("x") - pl.col("x").mean()), ordered=True),
    "filter by an aggregate": Case(lambda t, r: t.filter(pl.col("x") > pl.col("x").mean()), ordered=True),
    "distinct values of everything": Case(
        lambda t, r: t.select(pl.col("k").n_unique(), pl.col("s").n_unique(), nan=pl.col("f").n_unique(), n=pl.len())
    ),
    "one list of everything": Case(
        lambda t, r: t.select(pl.col("id").implode(), pl.col("x").filter(pl.col("id") > 7).sum())
    ),
    "pivot": Case(lambda t, r: t.pivot("k", on_columns=[1, 2], index="s", values="id", aggregate_function="sum")),
    "median of everything": Case(lambda t, r: t.select(pl.col("x").median())),
    "vertical concat": Case(lambda t, r: pl.concat([t, t]), ordered=True),
    "horizontal concat": Case(lambda t, r: pl.concat([t.select("id"), t.select(z="s")], how="horizontal"), ordered=True),
    "unpivot": Case(lambda t, r: t.unpivot(["id", "x"], index="s")),
    "row index": Case(lambda t, r: t.filter(pl.col("k") > 1).with_row_index("n", 7), ordered=True),
    "row index of a sort": Case(
        lambda t, r: t.sort("x", "id").with_row_index().filter(pl.col("index") % 5 == 0), ordered=True
    ),
    "reverse": Case(lambda t, r: t.reverse(), ordered=True),
    "asof join": Case(lambda t, r: t.sort("id").join_asof(r.sort("id").select("id", "v"), on="id"), ordered=True),
    "inequality join": Case(
        lambda t, r: t.select("id", "x").join_where(r.select(other="id"), pl.col("id") < pl.col("other"))
    ),
    "group_by of days": Case(
        lambda t, r: t.sort("d").group_by_dynamic("d", every="2d").agg(pl.col("x").sum()), ordered=True
    ),
}


def _by_key(key: str) -> dict[str, Case]:
    return {
        f"sum by {key}": Case(lambda t, r: t.group_by(key).agg(pl.col("x").sum(), pl.len().alias("n"))),
        f"median by {key}": Case(lambda t, r: t.group_by(key).agg(pl.col("x").median(), pl.col("id").alias("ids"))),
        f"sort by {key}": Case(lambda t, r: t.sort(key, "id", nulls_last=True, descending=[True, False]), ordered=True),
        f"unique {key}": Case(lambda t, r: t.select(key).unique()),
    }


def _joins(how: str) -> dict[str, Case]:
    return {
        f"{how} join": Case(lambda t, r: t.join(r, on="k", how=how)),  # type: ignore[arg-type]  # a JoinStrategy
        f"{how} join, nulls equal": Case(lambda t, r: t.join(r, on="k", how=how, nulls_equal=True)),  # type: ignore[arg-type]
        f"{how} join on two keys": Case(lambda t, r: t.join(r, on=["k", "s"], how=how)),  # type: ignore[arg-type]
        f"{how} join on expressions": Case(
            lambda t, r: t.join(r, left_on=pl.col("id") % 7, right_on=pl.col("id") - 1, how=how)  # type: ignore[arg-type]
        ),
        f"{how} join with itself": Case(
            lambda t, r: t.select("id", "k", "x").join(t.select("id", "s", j="k"), left_on="k", right_on="j", how=how)  # type: ignore[arg-type]
        ),
    }


for _key in KEYS:
    CASES |= _by_key(_key)
for _how in ("inner", "left", "right", "full", "semi", "anti"):
    CASES |= _joins(_how)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two files, the first with several row groups."""
    folder: Path = tmp_path_factory.mktemp("operators")
    frame = wide_frame()
    frame.slice(0, 20).write_parquet(folder / "a.parquet", row_group_size=7)
    frame.slice(20).write_parquet(folder / "b.parquet")
    return str(folder / "*.parquet")


@pytest.fixture(scope="module", params=["hash", "broadcast"])
def engine(request: pytest.FixtureRequest) -> Iterator[frazil.Engine]:
    limit = 0 if request.param == "hash" else 2**20
    settings = frazil.Settings(start_small=False, max_rows_per_split=4, broadcast_limit_bytes=limit)
    with frazil.local(max_functions=2, settings=settings) as local:
        yield local


def _outcome(run: Callable[[], pl.DataFrame]) -> pl.DataFrame | type[BaseException]:
    try:
        return run()
    except pl.exceptions.PolarsError as error:
        return type(error)


@pytest.mark.parametrize("name", CASES)
def test_answer_equals_polars(name: str, engine: frazil.Engine, table: str) -> None:
    case = CASES[name]
    query = case.build(pl.scan_parquet(table), RIGHT.lazy())
    expected = _outcome(query.collect)
    actual = _outcome(lambda: query.collect(engine=engine))
    if isinstance(expected, pl.DataFrame):
        assert isinstance(actual, pl.DataFrame)
        assert_same(actual, expected, ordered=case.ordered)
    else:
        assert actual is expected
        return
    stages = stages_of(engine)
    assert (most_tasks(stages) == 1) is case.one_task
    assert bool(fallbacks(stages)) is case.fallback


def test_frame_in_memory_is_cut_into_tasks_too(engine: frazil.Engine) -> None:
    query = (
        wide_frame()
        .lazy()
        .join(RIGHT.lazy(), on="k")
        .group_by("s")
        .agg(pl.col("x").sum(), pl.col("l").list.sum().sum())
        .sort("s")
    )
    assert_same(query.collect(engine=engine), query.collect(), ordered=True)
    assert most_tasks(stages_of(engine)) > 1


def test_parts_of_a_result_with_different_types_are_an_error_where_polars_is_wrong_about_them(engine: frazil.Engine) -> None:
    query = pl.LazyFrame({"a": pl.Series(range(10), dtype=pl.UInt128)}).select(pl.col("a").cum_sum())
    assert query.collect_schema() != query.collect().schema, "polars has mended it: this test can go"
    with pytest.raises(pl.exceptions.SchemaError, match="different types"):
        query.collect(engine=engine)
