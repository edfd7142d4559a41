"""Groups that must be whole, of a key with half of the rows: the partition is divided, the answer is that of Polars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from typing import Literal

import polars as pl
import pytest

import frazil
from frazil_coordinator.plan.explain import explain_text
from frazil_coordinator.plan.model import ExchangeSource
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.report import planned_report
from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from frazil_functions.task import ExchangeInput
from support.in_stages import answer_in_stages
from support.parity import assert_same

ROWS = 1_500
SKEWED = Settings(
    start_small=False,
    max_rows_per_split=100,
    shuffle_partitions=5,
    broadcast_limit_bytes=0,
    inline_limit_bytes=0,
    skew_bytes=1,
    skew_factor=1.5,
)
METHODS: tuple[Literal["nearest", "lower", "higher", "midpoint", "linear", "equiprobable"], ...] = (
    "nearest",
    "lower",
    "higher",
    "midpoint",
    "linear",
    "equiprobable",
)
X, F, N, S = pl.col("x"), pl.col("f"), pl.col("i"), pl.col("s")


def table() -> pl.DataFrame:
    """Half of the rows have one key; values come often or once, and are null, NaN, infinite and -0.0 among others."""
    numbers = range(ROWS)
    special = {3: None, 5: float("nan"), 7: float("inf"), 11: -0.0, 12: 0.0, 13: float("-inf")}
    x = [special.get(n % 37, (n * 7919 % 1009) / 8) for n in numbers]
    return pl.DataFrame(
        {
            "id": numbers,
            "k": [7 if n % 2 else (None if n % 10 == 0 else n % 23) for n in numbers],
            "k2": [f"g{n % 3}" if n % 4 else None for n in numbers],
            "day": [date(2026, 1, 1) + timedelta(days=0 if n % 2 else n % 9) for n in numbers],
            "x": x,
            "i": [None if n % 41 == 0 else n * 31 % 257 - 100 for n in numbers],
            "s": [f"s{n * 17 % 301}" if n % 5 else None for n in numbers],
            "flag": [None if n % 9 == 0 else n % 4 == 0 for n in numbers],
            "none": [n if n % 23 > 20 and n % 2 == 0 else None for n in numbers],
            "list": [[n % 3] for n in numbers],
        }
    ).with_columns(
        f=pl.col("x").cast(pl.Float32),
        money=pl.col("i").cast(pl.Decimal(12, 2)),
        kind=pl.format("e{}", pl.col("id") % 4).cast(pl.Enum(["e0", "e1", "e2", "e3"])),
        at=pl.col("day").cast(pl.Datetime("us", "Europe/Berlin")),
    )


DIVIDED: dict[str, list[pl.Expr]] = {
    "median": [X.median(), N.median().alias("im"), F.median().alias("fm")],
    "quantiles": [X.quantile(0.3, method).alias(method) for method in METHODS],
    "quantiles of integers": [N.quantile(0.77, method).alias(method) for method in METHODS],
    "quantiles of Float32": [F.quantile(0.61, method).alias(method) for method in METHODS],
    "ends": [N.quantile(0.0).alias("least"), N.quantile(1.0).alias("most")],
    "values of few groups": [pl.col("none").median(), pl.col("none").n_unique().alias("n")],
    "distinct": [pl.col("s", "x", "f", "i", "flag", "money", "kind", "day", "at").n_unique()],
    "distinct and median": [S.n_unique(), X.median(), pl.len(), N.sum(), X.mean().alias("mean")],
    "inside expressions": [(N.median() - N.mean()).alias("off"), (S.n_unique() / pl.len()).alias("share")],
    "of expressions": [(N * 2 + 1).median(), (S + "!").str.to_uppercase().n_unique()],
    "filtered": [N.filter(X > 60).median(), S.filter(X > 120).n_unique(), S.drop_nulls().n_unique().alias("present")],
    "the same twice": [S.n_unique(), S.n_unique().alias("again"), N.median(), N.quantile(0.5, "linear").alias("half")],
    "with what is first and last": [S.n_unique(), N.min().alias("least"), X.max().alias("most"), N.first(), F.last()],
}
KEYS: dict[str, list[pl.Expr]] = {
    "one": [pl.col("k")],
    "two": [pl.col("k"), pl.col("k2")],
    "a day": [pl.col("day")],
    "an expression": [(pl.col("k") % 5).alias("rest")],
    "an instant and an enum": [pl.col("at"), pl.col("kind").alias("which")],
}
WHOLE: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "mode": lambda t: t.group_by("k").agg(S.n_unique(), N.mode().sort()),
    "list": lambda t: t.group_by("k").agg(N.sort()),
    "float keys": lambda t: t.group_by("x").agg(S.n_unique()),
    "nested keys": lambda t: t.group_by("list").agg(S.n_unique()),
    "nested values": lambda t: t.group_by("k").agg(pl.col("list").n_unique()),
    "median of days": lambda t: t.group_by("k").agg(pl.col("day").median()),
    "having": lambda t: t.group_by("k").having(pl.len() > 20).agg(N.median()),
    "order": lambda t: t.group_by("k", maintain_order=True).agg(N.median()),
    "only sums": lambda t: t.group_by("k").agg(N.sum()),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    path = tmp_path_factory.mktemp("skewed") / "table.parquet"
    table().write_parquet(path, row_group_size=100)
    return pl.scan_parquet(path)


def run(query: pl.LazyFrame, place: Path, settings: Settings = SKEWED, divisions: int = 0) -> list[Layout]:
    """Run a query, check its answer, and return the layouts of its stages."""
    layouts: list[Layout] = []
    actual = answer_in_stages(query, settings, FolderStore(place), divisions=divisions, layouts=layouts)
    assert_same(actual, query.collect(), ordered=False)
    return layouts


def in_reserve(layouts: list[Layout]) -> list[Layout]:
    return [one for one in layouts if one.stage.reserve]


def exchanges(layout: Layout) -> list[ExchangeSource]:
    return [source for source in layout.stage.sources if isinstance(source, ExchangeSource)]


@pytest.mark.parametrize("name", DIVIDED)
def test_a_divided_group_has_the_answer_of_polars(name: str, files: pl.LazyFrame, tmp_path: Path) -> None:
    layouts = run(files.group_by("k").agg(DIVIDED[name]), tmp_path)
    assert any(len(one.order) > 1 for one in in_reserve(layouts))
    assert any("left to the stages in reserve" in note for note in layouts[-1].notes)


@pytest.mark.parametrize("values", [[X.median()], [S.n_unique()], [pl.col("none").median(), S.n_unique()]])
def test_a_skewed_partition_is_not_read_for_its_keys_alone(
    values: list[pl.Expr], files: pl.LazyFrame, tmp_path: Path
) -> None:
    """Each pair of key and value has its key, null values among them; without filtered values no key is missing."""
    layouts = in_reserve(run(files.group_by("k").agg(values), tmp_path))
    readers = [one for one in layouts if any(source.partitions == "skewed" for source in exchanges(one))]
    assert len(readers) == len(values)


def test_keys_whose_values_are_all_filtered_out_are_read_for_their_own_sake(files: pl.LazyFrame, tmp_path: Path) -> None:
    layouts = in_reserve(run(files.group_by("k").agg(S.filter(X > 120).n_unique(), N.filter(X > 120).median()), tmp_path))
    assert len([one for one in layouts if any(source.partitions == "skewed" for source in exchanges(one))]) == 3


@pytest.mark.parametrize("keys", KEYS)
def test_groups_are_divided_by_any_key_with_an_order(keys: str, files: pl.LazyFrame, tmp_path: Path) -> None:
    query = files.group_by(KEYS[keys]).agg(N.median(), S.n_unique(), pl.len().alias("rows"))
    layouts = run(query, tmp_path, replace(SKEWED, skew_factor=0.5))
    assert any(len(one.order) > 1 for one in in_reserve(layouts))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param((replace(SKEWED, coalesce_bytes=1 << 30), 0), id="joined"),
        pytest.param((SKEWED, 1), id="divided again"),
        pytest.param((replace(SKEWED, two_level_requests=1), 0), id="combined"),
        pytest.param((replace(SKEWED, skew_factor=0.01), 0), id="all of them skewed"),
        pytest.param((replace(SKEWED, shuffle_partitions=2, skew_factor=1.01, codec="ipc_zstd"), 0), id="two partitions"),
    ],
)
def test_the_answer_stays_however_the_tasks_are_laid_out(
    changed: tuple[Settings, int], files: pl.LazyFrame, tmp_path: Path
) -> None:
    query = files.group_by("k").agg(DIVIDED["distinct and median"])
    assert any(one.shares for one in in_reserve(run(query, tmp_path, *changed)))


def test_no_task_has_much_more_rows_than_the_others(files: pl.LazyFrame, tmp_path: Path) -> None:
    """Without the stages in reserve, one task reads more than three times what the median task does."""
    query = files.group_by("k").agg(N.median(), S.n_unique())
    before, after = [
        [
            sum(block.rows for given in share.inputs if isinstance(given, ExchangeInput) for block in given.blocks)
            for one in run(query, tmp_path / str(settings.skew_bytes), settings)[1:]
            if one.stage.kind != "map"
            for share in one.shares
        ]
        for settings in (replace(SKEWED, skew_bytes=1 << 40), SKEWED)
    ]
    assert max(before) > 3 * median(before)
    assert max(after) < max(before) / 2


def test_even_partitions_leave_the_reserve_without_a_task(files: pl.LazyFrame, tmp_path: Path) -> None:
    layouts = run(
        files.group_by(pl.col("id") % 50).agg(N.median(), S.n_unique()), tmp_path, replace(SKEWED, skew_factor=5.0)
    )
    assert in_reserve(layouts)
    assert not any(one.shares for one in in_reserve(layouts))


def test_nothing_is_in_reserve_for_a_table_that_is_smaller_than_a_skewed_partition(files: pl.LazyFrame) -> None:
    graph = plan_query(files.group_by("k").agg(N.median()).serialize(), replace(SKEWED, skew_bytes=1 << 28))
    assert not any(stage.reserve for stage in graph.stages)


@pytest.mark.parametrize("name", WHOLE)
def test_groups_that_cannot_be_divided_stay_whole(name: str, files: pl.LazyFrame, tmp_path: Path) -> None:
    assert not in_reserve(run(WHOLE[name](files), tmp_path))


@pytest.mark.parametrize("small", [0, 1 << 30])
def test_divided_groups_are_joined_by_their_key_without_another_shuffle(
    small: int, files: pl.LazyFrame, tmp_path: Path
) -> None:
    groups = files.group_by("k").agg(N.median(), n=S.n_unique())
    named = files.select("k", "s").filter(pl.col("s") == "s17")
    for how in ("inner", "left", "full"):
        layouts = run(groups.join(named, on="k", how=how), tmp_path / how, replace(SKEWED, broadcast_limit_bytes=small))
        assert any(one.shares for one in in_reserve(layouts))


def test_groups_of_divided_groups_are_those_of_polars(files: pl.LazyFrame, tmp_path: Path) -> None:
    inner = files.group_by("k", "k2").agg(n=S.n_unique(), m=N.median())
    run(inner.filter(pl.col("n") > 3).group_by("k").agg(pl.col("m").median(), pl.col("n").sum()), tmp_path)
    run(pl.concat([inner, inner.head(0)]).select(pl.col("n").sum()), tmp_path)


def test_functions_divide_a_skewed_partition_and_explain_says_so(files: pl.LazyFrame) -> None:
    query = files.group_by("k").agg(N.median(), S.n_unique())
    graph = plan_query(query.serialize(), SKEWED)
    text = explain_text(planned_report(graph))
    assert "in reserve, without a task unless a partition turns out skewed: stages 1, 2" in text
    assert "PICK BY POSITION" not in text
    with frazil.local(max_functions=2, settings=replace(SKEWED, max_tasks=20)) as engine:
        assert_same(engine.submit(query).result(), query.collect(), ordered=False)
        analyzed = engine.explain(query, analyze=True)
    assert "PICK BY POSITION" in str(analyzed)
    assert "skewed partitions of stage 0 left to the stages in reserve" in str(analyzed)


def test_a_filter_on_keys_goes_down_to_the_scan_past_the_stages_in_reserve(files: pl.LazyFrame, tmp_path: Path) -> None:
    groups = files.group_by("k").agg(N.median(), S.n_unique())
    layouts = run(groups.filter(pl.col("k").is_in([7, 8, 9])), tmp_path)
    assert any(one.shares for one in in_reserve(layouts))
    assert layouts[0].stage.details["filter added"].startswith('col("k").is_in')


def test_keys_of_the_other_side_of_a_join_filter_the_scan_past_the_stages_in_reserve(
    files: pl.LazyFrame, tmp_path: Path
) -> None:
    few = files.select("k", "id").filter(pl.col("id").is_in([1, 3, 8]))
    groups = files.group_by("k").agg(N.median(), S.n_unique())
    layouts = run(groups.join(few, on="k"), tmp_path, replace(SKEWED, broadcast_limit_bytes=1 << 30))
    assert any("filtered by" in note for one in layouts for note in one.notes), [one.notes for one in layouts]
