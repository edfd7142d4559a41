"""As-of joins and group_by over windows of time, over tiny splits, against single-node Polars."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages, outcome
from support.parity import assert_same

ROWS: Final = 37
_START: Final = dt.datetime(2024, 3, 30, 22, 0, tzinfo=dt.UTC)


def frame() -> pl.DataFrame:
    """Rows in order of time, some at the same time, over a change to summer time."""
    numbers = range(ROWS)
    return pl.DataFrame(
        {
            "i": [n * 2 - n % 3 for n in numbers],
            "t": [_START + dt.timedelta(minutes=13 * (n - n % 2)) for n in numbers],
            "k": [["z", "b", None, "a"][n * n % 4 if n % 5 else n % 3] for n in numbers],
            "j": [n * 5 % 4 - 1 for n in numbers],
            "x": [float(n * n % 19) if n % 7 else None for n in numbers],
        }
    ).with_columns(
        t=pl.col("t").dt.convert_time_zone("Europe/Zurich"),
        d=pl.col("t").dt.date(),
        c=pl.col("k").cast(pl.Categorical),
        st=pl.struct("k", "j"),
    )


Build = Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]


def _aggs() -> list[pl.Expr]:
    return [pl.len().alias("n"), pl.col("x").sum().alias("sum"), pl.col("i").alias("rows"), pl.col("x").median().alias("m")]


BY_KEY: Final[dict[str, Build]] = {
    "windows of time by key": lambda t, r: t.group_by_dynamic("t", every="1h", group_by="k").agg(_aggs()),
    "overlapping windows of an index": lambda t, r: t.group_by_dynamic("i", every="4i", period="9i", group_by="j").agg(
        _aggs()
    ),
    "windows with boundaries": lambda t, r: t.group_by_dynamic(
        "t", every="45m", offset="7m", include_boundaries=True, closed="both", label="right", group_by=["j", "k"]
    ).agg(pl.col("x").max()),
    "windows from the first row": lambda t, r: t.group_by_dynamic("t", every="40m", start_by="datapoint", group_by="k").agg(
        pl.all()
    ),
    "days over a change of time": lambda t, r: t.group_by_dynamic("t", every="1d", group_by="j").agg(_aggs()),
    "windows by an expression": lambda t, r: t.group_by_dynamic("i", every="10i", group_by=pl.col("j") % 2).agg(pl.len()),
    "windows by a struct": lambda t, r: t.group_by_dynamic("i", every="10i", group_by="st").agg(pl.len()),
    "windows before each row": lambda t, r: t.rolling("t", period="1h", group_by="k").agg(_aggs()),
    "windows around each row": lambda t, r: t.rolling("i", period="7i", offset="-3i", closed="none", group_by="j").agg(
        _aggs()
    ),
    "windows in an order that nobody sees": lambda t, r: (
        t.group_by_dynamic("t", every="1h", group_by="c")
        .agg(s=pl.col("x").sum())
        .group_by("c")
        .agg(pl.col("s").sum())
        .sort("c")
    ),
    "group without order": lambda t, r: t.with_columns(i=-pl.col("i")).rolling("i", period="3i", group_by="j").agg(pl.len()),
}

WITHOUT_KEYS: Final[dict[str, Build]] = {
    "windows of an index": lambda t, r: t.group_by_dynamic("i", every="5i").agg(_aggs()),
    "overlapping windows of an index": lambda t, r: t.group_by_dynamic(
        "i", every="4i", period="13i", closed="both", label="right", include_boundaries=True
    ).agg(pl.all()),
    "windows that begin before the rows": lambda t, r: t.group_by_dynamic("i", every="3i", period="8i", offset="-2i").agg(
        pl.col("i").min().alias("least"), pl.len()
    ),
    "days": lambda t, r: t.group_by_dynamic("d", every="1d", label="datapoint").agg(_aggs()),
    "months": lambda t, r: (
        t.with_columns(u=pl.col("t").dt.convert_time_zone("UTC").dt.offset_by("1d"))
        .group_by_dynamic("u", every="1mo", period="2mo")
        .agg(pl.len())
    ),
    "windows from the first row of all": lambda t, r: t.group_by_dynamic("i", every="5i", start_by="datapoint").agg(_aggs()),
    "windows in a time zone": lambda t, r: t.group_by_dynamic("t", every="90m", period="3h", start_by="monday").agg(_aggs()),
    "windows of gaps": lambda t, r: t.filter(pl.col("i") % 31 < 3).group_by_dynamic("i", every="2i", period="5i").agg("i"),
    "windows of nothing": lambda t, r: t.filter(pl.col("j") * 2 < -9).group_by_dynamic("i", every="2i").agg(pl.len()),
    "windows not in order": lambda t, r: t.with_columns(i=-(pl.col("i") // 9)).group_by_dynamic("i", every="2i").agg("x"),
    "windows in an order that nobody sees": lambda t, r: (
        t.group_by_dynamic("i", every="7i").agg(pl.col("x").sum()).select(pl.col("x").max())
    ),
    "windows of groups": lambda t, r: (
        t.group_by("i").agg(pl.col("x").sum()).sort("i").group_by_dynamic("i", every="6i").agg(pl.col("x").sum())
    ),
    "hours before each row": lambda t, r: t.rolling("t", period="1h").agg(_aggs()),
    "rows around each row": lambda t, r: t.rolling("i", period="9i", offset="-4i", closed="none").agg(pl.all()),
    "rows behind each row": lambda t, r: t.rolling("i", period="3i", offset="1i", closed="both").agg("j"),
    "days before each row over a change of time": lambda t, r: t.rolling("t", period="1d", closed="left").agg(pl.len()),
    "rolling windows of nulls": lambda t, r: (
        t.with_columns(i=pl.lit(None, dtype=pl.Int64)).rolling("i", period="2i").agg("x")
    ),
    "rolling windows in order in each task only": lambda t, r: (
        t.with_columns(i=pl.col("i") % 8).sort("j", "i").rolling("i", period="2i").agg("x")
    ),
    "rolling by another column": lambda t, r: t.with_columns(
        s=pl.col("x").rolling_sum_by("t", "1h"), m=pl.col("x").rolling_median_by("t", "2h", closed="both", min_samples=2)
    ),
    "rolling by a column that is not in order": lambda t, r: t.with_columns(
        u=pl.when(pl.col("x") < 9).then(pl.col("x").cast(pl.Int32))
    ).with_columns(s=pl.col("i").rolling_max_by("u", "3i"), n=pl.col("i").rolling_mean_by(pl.col("u") + 1, "2i")),
    "an aggregate of the window at each row": lambda t, r: t.select(
        "i", n=pl.len().rolling("t", period="1h"), s=pl.col("x").sum().rolling("i", period="5i", offset="-2i") - pl.col("x")
    ),
}

ONE_TASK: Final[dict[str, Build]] = {
    "windows before each row, of an index with more numbers than ticks": lambda t, r: (
        t.with_columns(pl.col("i").cast(pl.UInt64)).rolling("i", period="3i").agg(pl.len())
    ),
    "windows in the order of categories": lambda t, r: t.group_by_dynamic("t", every="1h", group_by="c").agg(pl.len()),
}


def _asof(**options: Any) -> Build:
    return lambda t, r: t.join_asof(r, **options)


ASOF: Final[dict[str, Build]] = {
    **{
        f"{strategy} by {by}, {more}": _asof(on="i", by=by, strategy=strategy, **more)
        for strategy in ("backward", "forward", "nearest")
        for by in (None, "k", ["k", "j"])
        for more in ({}, {"tolerance": 2}, {"allow_exact_matches": False})
    },
    "by time": _asof(on="t", tolerance="20m", strategy="nearest"),
    "by columns of other names": lambda t, r: t.join_asof(
        r.rename({"k": "kk", "i": "ii"}), left_on="i", right_on="ii", by_left="k", by_right="kk", suffix="_r"
    ),
    "by a struct": _asof(on="i", by="st"),
    "of the columns that are looked at": lambda t, r: t.join_asof(r, on="i", by="k").select("i", "x_right"),
    "with nothing": lambda t, r: t.join_asof(r.filter(pl.col("i") < 0), on="i"),
    "of nothing": lambda t, r: t.filter(pl.col("i") < 0).join_asof(r, on="i", by="k"),
    "of gaps": lambda t, r: t.filter(pl.col("i") % 20 < 7).join_asof(r, on="i"),
    "left side not in order": lambda t, r: t.with_columns(i=pl.col("i") * 7 % 11).join_asof(r, on="i"),
    "left side in order in each task only": lambda t, r: t.with_columns(i=-(pl.col("i") // 40)).join_asof(r, on="i"),
    "right side not in order": lambda t, r: t.join_asof(r.with_columns(i=-pl.col("i")), on="i"),
    "left side not in order, and nobody checks": lambda t, r: t.sort("i").join_asof(r, on="i", check_sortedness=False),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("time")
    frame().slice(0, 20).write_parquet(folder / "a.parquet", row_group_size=5)
    frame().slice(20).write_parquet(folder / "b.parquet")
    return str(folder / "*.parquet")


def _check(build: Build, path: str, folder: Path, *, broadcast: int = 0, falls_back: bool = False) -> None:
    t = pl.scan_parquet(path)
    query = build(t, t.filter(pl.col("j") > -1).with_columns(i=pl.col("i") + 1))
    settings = Settings(start_small=False, max_rows_per_split=4, broadcast_limit_bytes=broadcast)
    expected = outcome(lambda: query.collect(engine="in-memory"))
    graph = plan_query(query.serialize(), settings)
    assert bool(graph.fallbacks) is falls_back, graph.fallbacks
    actual = outcome(lambda: answer_in_stages(graph, settings, FolderStore(folder)))
    if isinstance(expected, str) or isinstance(actual, str):
        assert isinstance(actual, str)
        assert actual == expected
    else:
        assert_same(actual, expected, ordered=True)


@pytest.mark.parametrize("name", BY_KEY)
def test_windows_by_key(name: str, path: str, tmp_path: Path) -> None:
    _check(BY_KEY[name], path, tmp_path)


@pytest.mark.parametrize("name", WITHOUT_KEYS)
def test_windows_without_keys(name: str, path: str, tmp_path: Path) -> None:
    _check(WITHOUT_KEYS[name], path, tmp_path)


@pytest.mark.parametrize("name", ONE_TASK)
def test_windows_whose_place_only_all_rows_tell_run_in_one_task(name: str, path: str, tmp_path: Path) -> None:
    _check(ONE_TASK[name], path, tmp_path, falls_back=True)


@pytest.mark.parametrize("name", ASOF)
@pytest.mark.filterwarnings("ignore:Sortedness of columns:UserWarning")
def test_asof_join(name: str, path: str, tmp_path: Path) -> None:
    _check(ASOF[name], path, tmp_path)


@pytest.mark.parametrize("name", ["nearest by k, {}", "left side in order in each task only", "right side not in order"])
@pytest.mark.filterwarnings("ignore:Sortedness of columns:UserWarning")
def test_asof_join_with_a_small_right_side(name: str, path: str, tmp_path: Path) -> None:
    _check(ASOF[name], path, tmp_path, broadcast=1 << 20)
