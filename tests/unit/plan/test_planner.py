"""Which stages a query becomes."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.explain import explain_text
from frazil_coordinator.plan.model import ExchangeSource, Stage, StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.report import planned_report
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena
from frazil_functions.errors import FallbackError, PlanError, QueryError

TINY = Settings(start_small=False, max_rows_per_split=4, broadcast_limit_bytes=0)


@pytest.fixture
def t(tmp_path: Path) -> pl.LazyFrame:
    texts = [sha256(bytes([n])).hexdigest() for n in range(20)]
    pl.DataFrame({"k": [n % 3 for n in range(20)], "x": range(20), "unused": texts}).write_parquet(tmp_path / "t.parquet")
    return pl.scan_parquet(tmp_path / "t.parquet")


@pytest.fixture
def u(tmp_path: Path) -> pl.LazyFrame:
    pl.DataFrame({"k": [0, 1, 2] * 3, "name": list("abcdefghi"), "more": range(9)}).write_parquet(tmp_path / "u.parquet")
    return pl.scan_parquet(tmp_path / "u.parquet")


def _plan(lf: pl.LazyFrame, settings: Settings = TINY) -> StageGraph:
    return plan_query(lf.serialize(), settings)


def _shuffles(graph: StageGraph) -> list[Stage]:
    return [stage for stage in graph.stages if stage.output.kind == "hash"]


def test_row_wise_steps_stay_in_the_stage_of_the_scan(t: pl.LazyFrame) -> None:
    graph = _plan(t.filter(pl.col("x") > 3).with_columns(y=pl.col("x") * 2).select("y", z="k"))
    assert [(stage.kind, stage.tasks) for stage in graph.stages] == [("scan", 5)]


def test_join_followed_by_a_group_by_on_the_same_key_shuffles_once_a_side(t: pl.LazyFrame, u: pl.LazyFrame) -> None:
    graph = _plan(t.join(u, on="k").group_by("k").agg(pl.col("x").median(), pl.col("name").n_unique()))
    assert len(_shuffles(graph)) == 2
    assert graph.root.kind == "group_by"


def test_group_by_on_more_keys_than_the_rows_are_hashed_by_does_not_shuffle_again(t: pl.LazyFrame, u: pl.LazyFrame) -> None:
    graph = _plan(t.join(u, on="k").group_by("k", "name").agg(pl.col("x").sum()))
    assert len(_shuffles(graph)) == 2


def test_key_keeps_its_distribution_under_a_new_name(t: pl.LazyFrame, u: pl.LazyFrame) -> None:
    graph = _plan(t.join(u, on="k").rename({"k": "key"}).select("key", "x").group_by("key").agg(pl.col("x").median()))
    assert len(_shuffles(graph)) == 2


def test_changed_key_loses_its_distribution(t: pl.LazyFrame, u: pl.LazyFrame) -> None:
    graph = _plan(t.join(u, on="k").with_columns(k=pl.col("k") // 2).group_by("k").agg(pl.col("x").median()))
    assert len(_shuffles(graph)) == 3


def test_small_side_is_broadcast_and_the_large_one_stays_where_it_is(t: pl.LazyFrame, u: pl.LazyFrame) -> None:
    graph = _plan(t.join(u, on="k"), Settings(start_small=False, max_rows_per_split=4))
    assert [stage.output.kind for stage in graph.stages] == ["broadcast", "single"]
    assert graph.root.tasks == 5


@pytest.mark.parametrize("how", ["left", "anti", "semi"])
def test_side_whose_rows_are_kept_is_never_broadcast(t: pl.LazyFrame, u: pl.LazyFrame, how: str) -> None:
    graph = _plan(u.join(t, on="k", how=how), Settings(start_small=False, max_rows_per_split=4))  # type: ignore[arg-type]
    (broadcast,) = [stage for stage in graph.stages if stage.output.kind == "broadcast"]
    assert "t.parquet" in broadcast.operators[0]


def test_columns_and_predicates_are_pushed_over_a_join_into_both_scans(t: pl.LazyFrame, u: pl.LazyFrame) -> None:
    graph = _plan(t.join(u, on="k").filter(pl.col("x") > 3, pl.col("name") != "a").select("x", "name"))
    left, right = graph.stages[0], graph.stages[1]
    assert "x" in left.details["filter added"]
    assert "name" in right.details["filter added"]
    assert left.details["columns sent"] == "2/3"
    assert right.details["columns sent"] == "2/3"


def test_limit_is_pushed_over_a_gather(t: pl.LazyFrame) -> None:
    graph = _plan(t.with_columns(c=pl.col("x").ewm_std(alpha=0.5)).select("x").head(2))
    assert graph.root.fallbacks
    assert graph.stages[0].details["columns sent"] == "1/3"


def test_shared_aggregate_is_one_stage_with_two_readers(t: pl.LazyFrame) -> None:
    sums = t.group_by("k").agg(pl.col("x").sum())
    graph = _plan(sums.join(sums.select(pl.col("x").max()), on="x"))
    readers = [
        (stage.id, source.stage) for stage in graph.stages for source in stage.sources if isinstance(source, ExchangeSource)
    ]
    shared = {producer for _, producer in readers if [other for _, other in readers].count(producer) > 1}
    assert len(shared) == 1
    assert sum("partial" in operator for stage in graph.stages for operator in stage.operators) == 2  # group_by and max


@pytest.mark.parametrize(
    ("build", "tasks"),
    [
        (lambda t: t.head(3), [1]),
        (lambda t: t.select("x").slice(9, 2), [1]),
        (lambda t: t.slice(7, 4), [2, 1]),
        (lambda t: t.with_columns(y=pl.col("x") * 2).tail(5), [2, 1]),
        (lambda t: t.slice(30), [1]),
        (lambda t: t.filter(pl.col("x") > 0).head(3), [5, 1]),
    ],
)
def test_slice_of_a_scan_reads_only_the_splits_that_it_touches(
    t: pl.LazyFrame, build: Callable[[pl.LazyFrame], pl.LazyFrame], tasks: list[int]
) -> None:
    assert [stage.tasks for stage in _plan(build(t)).stages] == tasks


def test_top_k_sends_k_rows_a_task(t: pl.LazyFrame) -> None:
    graph = _plan(t.sort("x", descending=True).head(3))
    assert [(stage.kind, stage.tasks) for stage in graph.stages] == [("top_k", 5), ("top_k", 1)]


def test_query_that_fits_one_function_is_one_task(t: pl.LazyFrame, u: pl.LazyFrame) -> None:
    graph = _plan(t.join(u, on="k").group_by("k").agg(pl.len()).sort("k"), Settings())
    assert [(stage.tasks, stage.fallbacks) for stage in graph.stages] == [(1, ())]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda t: t.with_columns(c=pl.col("x").ewm_std(alpha=0.5)), "ewm_std"),
        (lambda t: t.select(pl.col("x").sum(), pl.col("x").approx_n_unique().alias("n")), "n_unique"),
        (lambda t: t.filter(pl.col("x") > pl.col("x").ewm_std(alpha=0.5)), "ewm_std"),
        (lambda t: t.select("k", "x").pivot("k", on_columns=[1], values="x", aggregate_function="sum"), "pivot"),
        (lambda t: t.select("k", pl.col("x").interpolate_by("k")), "interpolate_by"),
    ],
)
def test_fallback_names_what_has_no_distributed_form(
    t: pl.LazyFrame, build: Callable[[pl.LazyFrame], pl.LazyFrame], reason: str
) -> None:
    (found,) = _plan(build(t)).fallbacks
    assert reason in found
    with pytest.raises(FallbackError, match="one task"):
        _plan(build(t), Settings(start_small=False, max_rows_per_split=4, fallback="raise"))


def test_placeholders_are_numbered_like_the_sources(t: pl.LazyFrame, u: pl.LazyFrame) -> None:
    graph = _plan(t.join(u, on="k").join(u.rename({"name": "other"}), on="k", how="left").sort("x"))
    for stage in graph.stages:
        assert sorted(Arena.decode(stage.fragment).placeholders()) == list(range(len(stage.sources)))


def test_missing_column_is_the_error_that_polars_raises(t: pl.LazyFrame) -> None:
    with pytest.raises(QueryError, match="nope") as caught:
        _plan(t.select("nope"))
    assert caught.value.exception == "ColumnNotFoundError"


def test_missing_file_is_the_error_that_polars_raises(tmp_path: Path) -> None:
    with pytest.raises(QueryError) as caught:
        _plan(pl.scan_parquet(tmp_path / "none.parquet"))
    assert caught.value.exception == "FileNotFoundError"


def test_plan_above_the_limit_is_refused(t: pl.LazyFrame) -> None:
    with pytest.raises(PlanError, match="max_plan_bytes"):
        _plan(t, Settings(max_plan_bytes=10))


def test_explain_shows_each_stage_once_with_its_reasons(t: pl.LazyFrame) -> None:
    sums = t.group_by("k").agg(pl.col("x").sum())
    graph = _plan(sums.join(sums.select(pl.col("x").max()), on="x").with_columns(c=pl.col("x").ewm_std(alpha=0.5)))
    report = planned_report(graph)
    text = explain_text(report)
    assert text.count("(above)") >= 1
    assert "! one task" in text
    assert [text.count(f"STAGE {stage.id} {stage.kind}") for stage in graph.stages] == [1] * len(graph.stages)
    assert len(report.stages) == len(graph.stages)


def _range_exchanges(graph: StageGraph) -> int:
    return sum(stage.output.kind == "range" for stage in graph.stages)


ORDER_KEPT: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "group_by": lambda t: t.group_by("k", maintain_order=True).agg(pl.col("x").sum()),
    "unique": lambda t: t.select("k").unique(maintain_order=True),
    "join": lambda t: t.join(t, on="k", maintain_order="left"),
    "window": lambda t: t.with_columns(m=pl.col("x").mean().over("k")),
}


@pytest.mark.parametrize("name", ORDER_KEPT)
def test_order_is_restored_where_the_user_sees_it(t: pl.LazyFrame, name: str) -> None:
    assert _range_exchanges(_plan(ORDER_KEPT[name](t))) == 1


@pytest.mark.parametrize("name", ORDER_KEPT)
def test_order_is_restored_where_a_later_step_sees_it(t: pl.LazyFrame, name: str) -> None:
    assert _range_exchanges(_plan(ORDER_KEPT[name](t).group_by("k").first())) == 1


@pytest.mark.parametrize("name", ORDER_KEPT)
def test_order_that_nobody_looks_at_is_not_restored(t: pl.LazyFrame, name: str) -> None:
    assert _range_exchanges(_plan(ORDER_KEPT[name](t).group_by("k").agg(pl.len()))) == 0


def test_side_that_many_tasks_would_read_again_and_again_is_shuffled(tmp_path: Path) -> None:
    texts = [sha256(str(n).encode()).hexdigest() for n in range(40_000)]
    pl.DataFrame({"k": range(20_000), "name": texts[:20_000]}).write_parquet(tmp_path / "small.parquet")
    pl.DataFrame({"k": [n % 20_000 for n in range(40_000)], "x": texts}).write_parquet(tmp_path / "large.parquet")
    query = pl.scan_parquet(tmp_path / "large.parquet").join(pl.scan_parquet(tmp_path / "small.parquet"), on="k")
    few = _plan(query, Settings(start_small=False, max_rows_per_split=20_000))
    many = _plan(query, Settings(start_small=False, max_rows_per_split=500))
    assert [stage.output.kind for stage in few.stages] == ["broadcast", "single"]
    assert [stage.output.kind for stage in many.stages] == ["hash", "hash", "single"]
