"""Row groups and files that a predicate can't match are left out, and never a row that it matches."""

from __future__ import annotations

import datetime as dt
import random
import warnings
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.explain import explain_text
from frazil_coordinator.plan.model import ScanSource
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.report import planned_report
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages, outcome
from support.parity import assert_same

SETTINGS = Settings(start_small=False, max_rows_per_split=4)
NAN, INF = float("nan"), float("inf")


def _at(*parts: int) -> dt.datetime:
    return dt.datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001  # polars' naive times


POOLS: dict[str, tuple[pl.DataType, list[object]]] = {
    "i": (pl.Int64(), [-(2**63), -3, 0, 1, 2, 5, 2**53 + 1, 2**63 - 1]),
    "u": (pl.UInt64(), [0, 1, 7, 2**63 + 5, 2**64 - 1]),
    "y": (pl.Int8(), [-128, -1, 0, 3, 127]),
    "f": (pl.Float64(), [-INF, -1.5, -0.0, 0.0, 0.1, 3.0, INF, NAN]),
    "g": (pl.Float32(), [-1.5, -0.0, 0.1, 16777217.0, NAN]),
    "s": (pl.String(), ["", "a", "ab", "b", "é", "☃", "x" * 100, "x" * 100 + "y", "\U0010ffff" * 30]),
    "b": (pl.Boolean(), [True, False]),
    "d": (pl.Date(), [dt.date(1969, 12, 31), dt.date(2024, 1, 1), dt.date(2024, 1, 2)]),
    "t": (pl.Datetime("us"), [_at(1969, 12, 31, 23, 59, 59, 999_999), _at(2024, 1, 1, 0, 0, 0, 1)]),
    "n": (pl.Datetime("ns"), [_at(2024, 1, 1, 0, 0, 0, 1), _at(2024, 1, 2)]),
    "z": (pl.Datetime("ms", "Europe/Berlin"), [_at(2024, 1, 1, 12), _at(2024, 7, 1, 12)]),
    "m": (pl.Decimal(12, 2), [Decimal("-1.50"), Decimal("0.00"), Decimal("2.25"), Decimal("100000.01")]),
    "c": (pl.Categorical(), ["q", "r", "a"]),
    "l": (pl.Duration("us"), [dt.timedelta(0), dt.timedelta(days=2)]),
}


def _column(source: random.Random, name: str, rows: int) -> pl.Series:
    """Return values that lie close together in each run of rows, so that there is something to leave out."""
    dtype, pool = POOLS[name]
    values: list[object] = []
    while len(values) < rows:
        run = source.sample(pool, min(len(pool), source.randint(1, 2))) + ([None] if source.random() < 0.4 else [])
        run = [None] if source.random() < 0.1 else run
        values.extend(source.choice(run) for _ in range(5))
    return pl.Series(name, values[:rows], dtype=dtype)


def _predicate(source: random.Random, depth: int = 0) -> pl.Expr:
    if depth < 2 and source.random() < 0.5:
        left, right = _predicate(source, depth + 1), _predicate(source, depth + 1)
        return left & right if source.random() < 0.6 else left | right
    name = source.choice([*POOLS, "k", "day"])
    dtype, pool = POOLS.get(name, (pl.Int64(), [1, 2, 3]) if name == "k" else (pl.Date(), [dt.date(2024, 1, 2)]))
    column = pl.col(name)

    def literal() -> pl.Expr:
        value = source.choice(pool)
        return pl.lit(value, dtype=dtype) if source.random() < 0.5 else pl.lit(value)

    choices: list[Callable[[], pl.Expr]] = [
        lambda: column > literal(),
        lambda: column >= literal(),
        lambda: column < literal(),
        lambda: column <= literal(),
        lambda: column == literal(),
        lambda: column != literal(),
        lambda: literal() < column,
        lambda: column.eq_missing(literal()),
        lambda: column.is_null(),
        lambda: column.is_not_null(),
        lambda: column.is_between(literal(), literal(), closed=source.choice(["both", "left", "none"])),
        lambda: column.is_in(pl.Series(source.sample(pool, min(2, len(pool))), dtype=dtype).implode()),
        lambda: column.is_in([source.choice(pool), None]),
        lambda: ~(column == literal()),
        lambda: column > literal().cast(dtype),
        lambda: (column.cast(pl.String) > "1") if dtype != pl.Boolean else column,
        lambda: pl.lit(None, dtype=dtype) == column,
    ]
    return source.choice(choices)()


def _write(source: random.Random, root: Path) -> None:
    for day in (1, 2):
        for key in ("1", "__HIVE_DEFAULT_PARTITION__"):
            folder = root / f"day=2024-01-0{day}" / f"k={key}"
            folder.mkdir(parents=True)
            rows = source.choice([0, 3, 20])
            frame = pl.DataFrame([_column(source, name, rows) for name in POOLS])
            frame.write_parquet(folder / "0.parquet", row_group_size=5, statistics=source.random() < 0.9)


@pytest.mark.parametrize("seed", range(12))
def test_pruned_answers_are_those_of_polars(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    _write(source, tmp_path / "table")
    lf = pl.scan_parquet(tmp_path / "table")
    pruned = 0
    for number in range(25):
        query = lf.filter(_predicate(source))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = outcome(query.collect)
            actual = outcome(lambda: answer_in_stages(query, SETTINGS, FolderStore(tmp_path / f"store{number}")))  # noqa: B023
        if isinstance(expected, str) or isinstance(actual, str):
            assert isinstance(actual, str), query.explain()
            assert isinstance(expected, str), (actual, query.explain())
            continue
        try:
            assert_same(actual, expected, ordered=True)
        except AssertionError as error:
            raise AssertionError(query.explain()) from error
        pruned += sum(_source(query).pruned.values()) > 0
    assert pruned > 2


def _source(query: pl.LazyFrame) -> ScanSource:
    graph = plan_query(query.serialize(), SETTINGS)
    return next(source for stage in graph.stages for source in stage.sources if isinstance(source, ScanSource))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten files of 100 rows, ten row groups each, in two folders a file's half."""
    root = tmp_path_factory.mktemp("pruning")
    frame = pl.DataFrame({"a": range(1000)}).with_columns(f=pl.col("a") / 10, s=pl.col("a").cast(pl.String).str.zfill(4))
    for number in range(10):
        folder = root / f"part={number // 5}"
        folder.mkdir(exist_ok=True)
        frame.slice(number * 100, 100).write_parquet(folder / f"{number}.parquet", row_group_size=10)
    return f"{root}/"


@pytest.mark.parametrize(
    ("predicate", "files", "row_groups"),
    [
        (pl.col("a") >= 985, 1, 2),
        (pl.col("a").is_between(95, 104), 2, 2),
        (pl.col("a").is_in([5, 505]), 2, 2),
        (pl.col("s") < "0020", 1, 2),
        ((pl.col("a") < 10) | (pl.col("a") > 989), 2, 2),
        ((pl.col("a") < 500) & (pl.col("a").cast(pl.String).str.len_chars() > 1), 5, 50),
        (pl.col("f") < 5, 1, 5),
        (pl.col("f") > 5, 10, 100),  # NaN, which is in no statistic, is greater
        (pl.col("part") == 1, 5, 50),
        ((pl.col("part") * 2 + 1 != 3) & (pl.col("a") > 400), 1, 10),
        (pl.col("a").is_null(), 0, 0),
        (pl.col("a") + 1 > 2000, 10, 100),
    ],
)
def test_only_what_may_match_is_read(table: str, tmp_path: Path, predicate: pl.Expr, files: int, row_groups: int) -> None:
    query = pl.scan_parquet(table).filter(predicate)
    source = _source(query)
    assert (source.files, source.row_groups) == (files, row_groups)
    assert source.pruned == {"files": 10 - files, "row_groups": 100 - row_groups}
    assert sum(split.rows for group in source.splits for split in group) == 10 * row_groups
    assert_same(answer_in_stages(query, SETTINGS, FolderStore(tmp_path)), query.collect(), ordered=True)


def test_bytes_and_tasks_are_those_of_what_is_left(table: str) -> None:
    all_of_it, some = _source(pl.scan_parquet(table)), _source(pl.scan_parquet(table).filter(pl.col("a") < 40))
    assert some.bytes < all_of_it.bytes / 20
    assert len(some.splits) < len(all_of_it.splits) / 20


def test_row_index_and_n_rows_count_the_rows_that_are_left_out(table: str, tmp_path: Path) -> None:
    for query in (
        pl.scan_parquet(table, row_index_name="i", row_index_offset=3).filter(pl.col("a") > 333),
        pl.scan_parquet(table, n_rows=345).filter(pl.col("a") > 333),
        pl.scan_parquet(table).filter(pl.col("a") > 333).slice(5, 10),
        pl.scan_parquet(table).head(340).filter(pl.col("a") > 333),
        pl.scan_parquet(table).with_row_index().filter(pl.col("a") > 333),
    ):
        assert_same(answer_in_stages(query, SETTINGS, FolderStore(tmp_path)), query.collect(), ordered=True)


def test_each_use_of_a_table_keeps_its_rows(table: str, tmp_path: Path) -> None:
    low, high = pl.scan_parquet(table).filter(pl.col("a") < 20), pl.scan_parquet(table).filter(pl.col("a") > 980)
    both = pl.concat([low, high])
    assert_same(answer_in_stages(both, SETTINGS, FolderStore(tmp_path)), both.collect(), ordered=True)
    joined = low.join(pl.scan_parquet(table).filter(pl.col("a") > 10), on="a", how="left").sort("a")
    assert_same(answer_in_stages(joined, SETTINGS, FolderStore(tmp_path)), joined.collect(), ordered=True)


def test_explain_tells_what_is_left_out(table: str) -> None:
    query = pl.scan_parquet(table).filter(pl.col("a") < 20)

    text = explain_text(planned_report(plan_query(query.serialize(), SETTINGS)))
    assert "files 1 of 10, row groups 2 of 100" in text


def test_folders_of_equal_signs_and_percents_are_told_apart_as_polars_does(tmp_path: Path) -> None:
    for number, key in enumerate(("x%3Dy", "x%2Fy", "é", "%41", "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / "t" / f"k={key}"
        folder.mkdir(parents=True)
        pl.DataFrame({"a": [number]}).write_parquet(folder / "0.parquet")
    lf = pl.scan_parquet(f"{tmp_path}/t/")
    for value in ("x=y", "x/y", "é", "A", "%41", "x%3Dy"):
        for query in (lf.filter(pl.col("k") == value), lf.filter(pl.col("k") != value), lf.filter(pl.col("k") > value)):
            assert_same(answer_in_stages(query, SETTINGS, FolderStore(tmp_path / "store")), query.collect(), ordered=True)
    assert _source(lf.filter(pl.col("k") == "A")).files == 1
