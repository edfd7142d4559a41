"""Scans filtered by the keys that a join's other side really has: the answer stays that of Polars, and rows are left out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from frazil_functions.task import ScanInput
from support.in_stages import answer_in_stages
from support.parity import assert_same

SHUFFLED = Settings(start_small=False, max_rows_per_split=250, shuffle_partitions=3, broadcast_limit_bytes=0)
BROADCAST = replace(SHUFFLED, broadcast_limit_bytes=1 << 20)
ROWS = 1_000


def facts() -> pl.DataFrame:
    """Rows in the order of their day, each with the key of one part; some without."""
    numbers = range(ROWS)
    return pl.DataFrame(
        {
            "day": [dt.date(2024, 1, 1) + dt.timedelta(days=n // 10) for n in numbers],
            "part": [None if n % 17 == 0 else n % 211 for n in numbers],
            "name": [None if n % 13 == 0 else f"p{n % 211}" for n in numbers],
            "at": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=n) for n in numbers],
            "x": [float("nan") if n % 19 == 0 else -0.0 if n % 7 == 0 else float(n % 5) for n in numbers],
            "n": numbers,
        }
    )


def parts() -> pl.DataFrame:
    """Keys that are, and some that are not among the facts; doubled, and null."""
    return pl.DataFrame(
        {
            "part": [3, 5, 5, None, 900, 7],
            "name": ["p3", "p5", "p5", None, "p900", "p7"],
            "day": [*(dt.date(2024, 1, day) for day in (11, 12, 12)), None, dt.date(1990, 1, 1), dt.date(2024, 1, 13)],
            "at": [dt.datetime(2024, 1, 1, hour, tzinfo=dt.UTC) for hour in range(6)],
            "x": [1.0, float("nan"), 0.0, None, -0.0, 3.0],
            "kind": ["a", "a", "b", "a", "b", "c"],
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runtime_filters")
    facts().write_parquet(folder / "facts.parquet", row_group_size=250)
    parts().write_parquet(folder / "parts.parquet", row_group_size=3)
    return folder


Build = Callable[[pl.LazyFrame, pl.LazyFrame], pl.LazyFrame]


def run(build: Build, settings: Settings, tables: Path, place: Path) -> list[Layout]:
    """Run a query, check its answer, and return the layouts of its stages."""
    query = build(pl.scan_parquet(tables / "facts.parquet"), pl.scan_parquet(tables / "parts.parquet"))
    layouts: list[Layout] = []
    actual = answer_in_stages(query, settings, FolderStore(place), layouts=layouts)
    assert_same(actual, query.collect(), ordered=False)
    return layouts


def told(layouts: list[Layout]) -> str:
    return "; ".join(note for one in layouts for note in one.notes)


def predicates(layouts: list[Layout]) -> int:
    """Return how many scans are filtered."""
    return sum(
        any(isinstance(given, ScanInput) and given.predicate is not None for given in one.shares[0].inputs)
        for one in layouts
    )


def few(parts: pl.LazyFrame) -> pl.LazyFrame:
    return parts.filter(pl.col("kind") != "c")


CASES: dict[str, tuple[Build, str]] = {
    "inner": (lambda f, p: f.join(few(p), on="part"), "part filtered by 3 keys"),
    "inner, the small side left": (lambda f, p: few(p).join(f, on="part"), "part filtered by 3 keys"),
    "semi": (lambda f, p: f.join(few(p), on="name", how="semi"), "name filtered by 3 keys"),
    "right side of left": (lambda f, p: few(p).join(f, on="part", how="left"), "part filtered by 3 keys"),
    "left side of right": (lambda f, p: f.join(few(p), on="part", how="right"), "part filtered by 3 keys"),
    "right side of anti": (lambda f, p: few(p).join(f, on="part", how="anti"), "part filtered by 3 keys"),
    "two keys": (lambda f, p: f.join(few(p), on=["part", "name"]), "name filtered by 3 keys"),
    "days": (lambda f, p: f.join(few(p), on="day"), "day filtered by 3 keys"),
    "moments": (lambda f, p: f.join(few(p), on="at"), "at filtered by 5 keys"),
    "renamed": (lambda f, p: f.select(k="part", m="n").join(few(p), left_on="k", right_on="part"), "part filtered by 3"),
    "no key is left": (lambda f, p: f.join(p.filter(pl.col("kind") == "z"), on="part"), "part filtered by no key"),
    "only null is left": (lambda f, p: f.join(p.filter(pl.col("part").is_null()), on="part"), "part filtered by no key"),
    "then grouped": (
        lambda f, p: f.join(few(p), on="part").group_by("kind").agg(pl.len(), pl.col("n").median()),
        "part filtered by 3 keys",
    ),
    "then summed": (lambda f, p: f.join(p.head(1), on="day").select(pl.col("n").sum(), pl.len()), "tasks left out"),
    "below another join": (
        lambda f, p: f.join(f.select("n", y="x"), on="n").join(few(p), on="part"),
        "part filtered by 3 keys",
    ),
    "where": (lambda f, p: f.join_where(few(p), pl.col("part") == pl.col("part_right"), pl.col("n") > 50), "part filtered"),
}  # fmt: skip


BROADCAST_TOO = ("inner", "inner, the small side left", "semi", "days", "no key is left", "then summed", "where")


@pytest.mark.parametrize(
    ("name", "settings"), [(name, SHUFFLED) for name in CASES] + [(name, BROADCAST) for name in BROADCAST_TOO]
)
def test_the_scan_is_filtered_and_the_answer_that_of_polars(
    name: str, settings: Settings, tables: Path, tmp_path: Path
) -> None:
    build, note = CASES[name]
    layouts = run(build, settings, tables, tmp_path)
    assert note in told(layouts)
    assert predicates(layouts)


NOT: dict[str, Build] = {
    "left side of left": lambda f, p: f.join(few(p), on="part", how="left"),
    "left side of anti": lambda f, p: f.join(few(p), on="part", how="anti"),
    "full": lambda f, p: f.join(few(p), on="part", how="full"),
    "floats": lambda f, p: f.join(few(p), on="x"),
    "nulls that are equal": lambda f, p: f.join(few(p), on="part", nulls_equal=True),
    "a computed key": lambda f, p: f.join(few(p), left_on=pl.col("part") + 1, right_on="part"),
    "other dtypes": lambda f, p: f.with_columns(pl.col("part").cast(pl.Int32)).join(few(p), on="part"),
    "all keys": lambda f, p: f.join(p, on="part"),
    "behind a limit": lambda f, p: f.head(700).join(few(p), on="part"),
    "unique keys are asked for": lambda f, p: f.filter(pl.col("n") < 200).drop_nulls().join(
        few(p).unique("part"), on="part", validate="1:1"
    ),
    "read by two": lambda f, p: pl.concat([g := f.with_columns(z=1), g.join(few(p), on="part", how="semi")]),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT)
def test_no_filter_where_rows_without_a_partner_count(name: str, tables: Path, tmp_path: Path) -> None:
    assert not predicates(run(NOT[name], SHUFFLED, tables, tmp_path))


def test_splits_without_the_keys_are_not_read(tables: Path, tmp_path: Path) -> None:
    layouts = run(lambda f, p: f.join(p.head(3), on="day"), SHUFFLED, tables, tmp_path)
    assert "day filtered by 2 keys of stage" in told(layouts)
    assert "3 of 4 splits left out; 3 of 4 tasks left out" in told(layouts)


def test_more_keys_than_may_be_named_are_a_range(tables: Path, tmp_path: Path) -> None:
    settings = replace(SHUFFLED, runtime_filter_values=1)
    assert "day filtered by the range of keys" in told(
        run(lambda f, p: f.join(p.head(3), on="day"), settings, tables, tmp_path)
    )


@pytest.mark.parametrize(
    ("key", "last", "of_use"),
    [("n", 960, False), ("n", 940, True), ("at", 970, False), ("at", 500, True), ("part", 990, True), ("name", 990, True)],
    ids=["nearly all", "not all", "nearly all moments", "half of the moments", "with nulls", "texts"],
)
def test_a_range_of_keys_that_would_drop_hardly_any_row_is_left_out(
    key: str, last: int, of_use: bool, tables: Path, tmp_path: Path
) -> None:
    settings = replace(SHUFFLED, runtime_filter_values=1)
    some = facts().filter(pl.col("n") % 10 == 0, pl.col("n") <= last).select(key, pl.col("n").alias("other"))
    some.write_parquet(tmp_path / "some.parquet")
    small = pl.scan_parquet(tmp_path / "some.parquet").filter(pl.col("other") >= 0)
    layouts = run(lambda f, _: f.join(small, on=key).select(pl.len(), pl.col("x").count()), settings, tables, tmp_path / "s")
    assert (predicates(layouts) == 1) is of_use
    assert ("nearly all that there is" in told(layouts)) is not of_use


def test_nothing_is_filtered_when_it_is_switched_off(tables: Path, tmp_path: Path) -> None:
    settings = replace(SHUFFLED, runtime_filters=False)
    assert not predicates(run(CASES["inner"][0], settings, tables, tmp_path))
