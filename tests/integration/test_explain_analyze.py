"""Estimates against runs: what is exact is met, what is an upper bound is not passed, and requests come as predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import frazil
from support.polling import eventually
from support.seaweed import SeaweedFS

ROWS_A_SPLIT = 64
BUCKET = "explained"


def _settings(**changes: Any) -> frazil.Settings:
    # Without coalescing: it is decided by sizes that only a run knows, and makes requests fewer.
    fixed = {"start_small": False, "max_rows_per_split": ROWS_A_SPLIT, "coalesce_bytes": 0}
    return frazil.Settings(**{**fixed, **changes})


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    rows = 5 * ROWS_A_SPLIT
    frame = pl.DataFrame(
        {
            "key": [n % 32 for n in range(rows)],
            "value": range(rows),
            "price": [n / 7 if n % 9 else None for n in range(rows)],
            "day": [date(2026, 1, 1 + n % 28) for n in range(rows)],
            "text": [f"text number {n % 13}" for n in range(rows)],
        }
    )
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    frame.write_parquet(path, row_group_size=ROWS_A_SPLIT)
    return pl.scan_parquet(path)


QUERIES: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "scan": lambda t: t.select("key", "value"),
    "filter": lambda t: t.filter(pl.col("value") % 3 == 0).select("key", "price", "day"),
    "aggregate": lambda t: t.select(pl.col("value").sum(), pl.col("price").mean()),
    "group_by in two steps": lambda t: t.group_by("key").agg(pl.col("value").sum(), pl.col("price").mean()),
    "group_by of whole groups": lambda t: t.group_by("key").agg(pl.col("value").median()),
    "unique": lambda t: t.select("key", "day").unique(),
    "sort": lambda t: t.select("value", "day").sort("day", "value", descending=True),
    "top k": lambda t: t.sort("price", "value").select("price", "value").head(7),
    "head": lambda t: t.filter(pl.col("value") > 70).select("value").head(90),
    "join": lambda t: t.select("key", "value").join(t.select("key", other="price"), on="key"),
    "semi join": lambda t: t.join(t.filter(pl.col("value") < 9).select("key"), on="key", how="semi").select("key", "value"),
    "window": lambda t: t.select("key", "value", best=pl.col("value").max().over("key")),
    "rows and aggregates": lambda t: t.select("value", gap=pl.col("value") - pl.col("value").mean()),
    "union": lambda t: pl.concat([t.select("key"), t.filter(pl.col("value") > 5).select("key")]),
    "in one task": lambda t: t.select("value", before=pl.col("value").reverse()),
    "strings": lambda t: t.group_by("text").agg(pl.col("value").median()),
}


def _met(predicted: dict[str, Any], measured: int) -> bool:
    match predicted["bound"]:
        case "exact":
            return bool(measured == predicted["value"])
        case "at_most":
            return bool(measured <= predicted["value"])
        case _:
            return True


def _pairs(stage: dict[str, Any]) -> dict[str, tuple[dict[str, Any], int]]:
    """Return by name what was predicted of a stage and what was measured."""
    predicted, measured = stage["predicted"], stage["measured"]
    same = ("rows_in", "rows_out", "bytes_in", "bytes_out", "bytes_scanned")
    requests = {"gets": "get", "puts": "put"}
    return {
        **{name: (predicted[name], measured[name]) for name in same},
        **{name: (predicted[name], measured["requests"].get(operation, 0)) for name, operation in requests.items()},
    }


@pytest.fixture(scope="module", params=["store", "inline"])
def engine(request: pytest.FixtureRequest) -> Iterator[frazil.Engine]:
    inline = {"inline_limit_bytes": 0, "broadcast_limit_bytes": 0} if request.param == "store" else {}
    with frazil.local(2, settings=_settings(shuffle_partitions=3, **inline)) as engine:
        yield engine


@pytest.mark.parametrize("name", QUERIES)
def test_no_bound_of_an_estimate_is_broken_by_a_run(name: str, table: pl.LazyFrame, engine: frazil.Engine) -> None:
    stages: list[Any] = list(engine.explanation(QUERIES[name](table), analyze=True).stages)
    broken = [
        (stage["stage"], what, predicted, measured)
        for stage in stages
        for what, (predicted, measured) in _pairs(stage).items()
        if not _met(predicted, measured)
    ]
    assert broken == []
    assert all(stage["measured"]["attempts"] >= stage["tasks"] or stage["kind"] == "slice" for stage in stages)


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("group_by of whole groups", True),
        ("join", True),
        ("sort", False),  # how many tasks a block of a sorted run is read by is known when it is written
        ("window", True),
    ],
)
def test_requests_to_a_real_store_are_those_that_were_predicted(
    name: str, exact: bool, table: pl.LazyFrame, seaweed: SeaweedFS
) -> None:
    seaweed.make_bucket(BUCKET)
    settings = _settings(shuffle_partitions=3, inline_limit_bytes=0, broadcast_limit_bytes=0)
    store = {"store": f"s3://{BUCKET}/x", "storage_options": seaweed.storage_options}
    lf = QUERIES[name](table)
    with frazil.local(max_functions=2, settings=settings, **store) as engine:  # type: ignore[arg-type]  # by name
        explanation = engine.explanation(lf, analyze=True)
        eventually(lambda: not seaweed.keys(BUCKET), "the result was discarded, and the exchange prefix is empty")
    stages: list[Any] = list(explanation.stages)
    shuffled = [stage for stage in stages if stage["output"]["kind"] == "hash"]
    assert shuffled or not exact
    for stage in stages if exact else shuffled:
        requests = stage["measured"]["requests"]
        assert stage["predicted"]["puts"]["value"] == requests.get("put", 0)
        assert stage["predicted"]["gets"]["value"] == requests.get("get", 0)


def test_remote_tables_cost_requests_too(table: pl.LazyFrame, seaweed: SeaweedFS, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table.collect().write_parquet(path, row_group_size=ROWS_A_SPLIT)
    seaweed.put(BUCKET, "tables/t.parquet", path.read_bytes())
    remote = pl.scan_parquet(f"s3://{BUCKET}/tables/t.parquet", storage_options=seaweed.storage_options)
    with frazil.local(max_functions=1, settings=_settings()) as engine:
        explanation = engine.explanation(remote.select("key", "value"))
        gets: Any = explanation.stages[0]["predicted"]
        assert gets["scan_gets"] == {"value": 5 * (3 + 2), "bound": "about"}
        assert "GET for files of tables" in explanation.text
    seaweed.client().delete_object(Bucket=BUCKET, Key="tables/t.parquet")


def test_analyze_shows_what_was_measured_and_keeps_no_rows(table: pl.LazyFrame, engine: frazil.Engine) -> None:
    text = engine.explain(QUERIES["join"](table), analyze=True)
    assert text.count("planned") == text.count("measured") > 2
    query = engine.last_query
    assert query is not None
    with pytest.raises(frazil.RequestError, match="deleted"):
        query.result()
    assert "measured" not in query.explain()
    assert "measured" in query.explain(analyze=True)


def test_analyze_of_a_query_that_fails_raises_what_polars_raised(table: pl.LazyFrame, engine: frazil.Engine) -> None:
    with pytest.raises(pl.exceptions.InvalidOperationError):
        engine.explain(table.select(pl.col("text").cast(pl.Int64)), analyze=True)


def test_the_profile_has_the_totals_that_the_stages_add_up_to(table: pl.LazyFrame, engine: frazil.Engine) -> None:
    QUERIES["join"](table).collect(engine=engine)
    query = engine.last_query
    assert query is not None
    profile: Any = query.profile()
    explanation: Any = query.explanation(analyze=True)
    assert profile["dollars"] == pytest.approx(sum(stage["dollars"] for stage in profile["stages"]))
    assert profile["dollars"] == pytest.approx(explanation.measured["dollars"])
    assert profile["bytes_scanned"] == explanation.predicted["bytes_scanned"]["value"]
    assert profile["function_gib_seconds"] == pytest.approx(4 * profile["function_seconds"])
    assert profile["requests"].get("get", 0) == sum(stage["requests"].get("get", 0) for stage in profile["stages"])
    assert profile["dollars"] > 0


def test_dry_run_tells_what_would_be_and_runs_nothing(table: pl.LazyFrame) -> None:
    with frazil.local(1, settings=_settings(max_tasks=6)) as engine:
        explanation: Any = engine.submit(table.select("key"), dry_run=True)
        assert explanation.predicted["tasks"] == 5
        assert str(explanation) == explanation.text
        with pytest.raises(frazil.CapError, match=r"would have 6\d* tasks|would have [7-9] tasks"):
            engine.submit(QUERIES["sort"](table), dry_run=True)
        assert engine.last_query is None
        assert engine._session.queries(limit=10) == ()


@pytest.mark.parametrize("cap", [{"max_tasks": 3}, {"max_bytes_scanned": 10}, {"max_cost": 1e-9}])
def test_query_above_a_cap_fails_before_a_task_starts(cap: dict[str, Any], table: pl.LazyFrame) -> None:
    with frazil.local(1, settings=_settings(**cap)) as engine:
        assert "STAGE" in engine.explain(table)  # which says why
        with pytest.raises(frazil.CapError, match=f"{next(iter(cap))}.*Nothing was run"):
            table.collect(engine=engine)
        query = engine.last_query
        assert query is not None
        assert query.status().state is frazil.QueryState.FAILED
        assert query.status().progress == ()
        assert query.profile()["stages"] == []


def test_explain_shows_a_part_in_one_task_that_a_run_would_refuse(table: pl.LazyFrame) -> None:
    query = table.select(pl.col("key").shuffle(seed=1))
    with frazil.local(1, settings=_settings(fallback="raise")) as engine:
        assert "! one task: select looks at more than one row" in engine.explain(query)
        for run in (
            lambda: engine.submit(query, dry_run=True),
            lambda: query.collect(engine=engine),
            lambda: engine.explain(query, analyze=True),
        ):
            with pytest.raises(frazil.FallbackError, match="it looks at the whole column"):
                run()


def test_the_memory_of_functions_bounds_the_splits(table: pl.LazyFrame) -> None:
    settings = frazil.Settings(start_small=False)
    with frazil.local(1, settings=settings, memory_limit="2GiB") as roomy:
        assert roomy.submit(table, dry_run=True).stages[0]["tasks"] == 1
    with frazil.local(1, settings=settings, memory_limit=133_400) as tight:
        explanation = tight.submit(table, dry_run=True)
        assert explanation.stages[0]["tasks"] == 3
        assert "! memory" in explanation.text
