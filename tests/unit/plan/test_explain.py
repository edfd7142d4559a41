"""The text of EXPLAIN: one golden plan, and what is shown when it is there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import polars as pl
import pytest

from frazil_coordinator.plan.estimate import estimate
from frazil_coordinator.plan.explain import explain_text
from frazil_coordinator.plan.model import ExchangeSource, ExchangeSpec, ScanSource, Stage, StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.relation import placeholder
from frazil_coordinator.plan.report import Report, measured_report, planned_report
from frazil_coordinator.settings import MIB, Settings
from frazil_functions.ids import StageId
from frazil_functions.task import Split

GOLDEN = Path(__file__).parents[2] / "golden" / "explain.txt"


@pytest.fixture
def query(tmp_path: Path) -> pl.LazyFrame:
    for part in range(2):
        values = range(part * 12, part * 12 + 12)
        frame = pl.DataFrame({"k": [value % 3 for value in values], "x": list(values), "other": list(values)})
        frame.write_parquet(tmp_path / f"{part}.parquet", row_group_size=6)
    t = pl.scan_parquet(tmp_path / "*.parquet")
    sums = t.filter(pl.col("x") > 3).group_by("k").agg(pl.col("x").sum())
    return t.join(sums, on="k").with_columns(gap=pl.col("x").shift()).sort("x").head(5)


def _report(lf: pl.LazyFrame, **changes: object) -> Report:
    settings = Settings(start_small=False, max_rows_per_split=6, broadcast_limit_bytes=0, **changes)  # type: ignore[arg-type]
    return planned_report(plan_query(lf.serialize(), settings))


def _golden_graph() -> StageGraph:
    """Return a plan with all that EXPLAIN shows, made by hand so that it is the same whatever the planner learns."""
    schema = pl.Schema({"k": pl.Int64(), "x": pl.Int64()})
    rows = placeholder(0, schema)
    splits = tuple(
        (Split(path="s3://b/t/1.parquet", offset=n * 1_000_000, rows=1_000_000, size=90_000_000),) for n in range(3)
    )
    table = ScanSource(
        splits=splits, path="s3://b/t/*.parquet", files=1, bytes=48_000_000, row_groups=6, columns=2, table_columns=9
    )
    keys = (pl.col("k").meta.serialize(),)
    scan = Stage(
        id=StageId(0),
        kind="group_by",
        fragment=rows.filter(pl.col("x") > 3).group_by("k").agg(pl.col("x").sum()).serialize(),
        sources=(table,),
        tasks=3,
        output=ExchangeSpec(kind="hash", partitions=4, hash_keys=keys),
        operators=("SCAN s3://b/t/*.parquet", "FILTER x > 3", "GROUP BY k (partial)"),
        details={"columns sent": "2/9", "filter added": "x > 3"},
    )
    groups = Stage(
        id=StageId(1),
        kind="group_by",
        fragment=rows.group_by("k").agg(pl.col("x").sum()).serialize(),
        sources=(ExchangeSource(stage=StageId(0), read="partition"),),
        tasks=4,
        output=ExchangeSpec(kind="single"),
        operators=("SHUFFLE hash(k)", "GROUP BY k (final)"),
        distribution="hash(k)",
    )
    joined = rows.join(placeholder(1, schema), on="k").with_columns(gap=pl.col("x").shift())
    root = Stage(
        id=StageId(2),
        kind="single",
        fragment=joined.serialize(),
        sources=(ExchangeSource(stage=StageId(1), read="all"), ExchangeSource(stage=StageId(1), read="all")),
        tasks=1,
        output=ExchangeSpec(kind="single"),
        operators=("GATHER", "GATHER", "INNER JOIN", "WITH COLUMNS gap"),
        distribution="single",
        fallbacks=("with_columns looks at more than one row: shift",),
    )
    graph = StageGraph(stages=(scan, groups, root), schema=joined.collect_schema())
    return replace(graph, estimates=estimate(graph, Settings(function_memory_bytes=256 * MIB)))


def test_a_plan_is_written_as_it_always_was() -> None:
    """After a change on purpose: write what is shown here into the golden file, and look at it."""
    assert explain_text(planned_report(_golden_graph())) == GOLDEN.read_text().rstrip("\n")


def test_every_stage_has_its_figures_and_the_columns_are_aligned(query: pl.LazyFrame) -> None:
    report = _report(query)
    head, *rows = explain_text(report).split("\n\n")[1].splitlines()
    shown = [row for row in rows if not row.startswith("─")]
    assert [row.split()[0] for row in shown] == [*(str(n) for n in reversed(range(len(report.stages)))), "total"]
    ends = [found.end() for found in re.finditer(r"tasks|GET|PUT", head)]
    assert all(row[end - 1].isdigit() and row[end : end + 1] in (" ", "") for row in shown for end in ends)


def test_task_that_may_not_fit_its_function_is_marked(query: pl.LazyFrame) -> None:
    assert "! memory" not in explain_text(_report(query))
    assert "! memory: a task may need " in explain_text(_report(query, function_memory_bytes=50_000_000))


def _profile(**changes: object) -> dict[str, object]:
    stage = {
        "stage": 0, "kind": "scan", "tasks": 3, "attempts": 5, "rows_in": 24, "rows_out": 20, "bytes_in": 0,
        "bytes_out": 100, "requests": {"put": 3}, "seconds": 2.0, "function_seconds": 6.0, "peak_memory_bytes": 10**8,
        "cold_starts": 2, "bytes_scanned": 50, "dollars": 0.5,
        "task_list": [{"seconds": 1.0}, {"seconds": 1.0}, {"seconds": 4.0}], **changes,
    }  # fmt: skip
    return {"query": "q", "seconds": 2.5, "dollars": 0.5, "stages": [stage]}


def test_what_was_measured_stands_below_what_was_planned(query: pl.LazyFrame) -> None:
    text = explain_text(measured_report(_report(query), _profile()))
    (line,) = [line for line in text.splitlines() if "measured" in line and "3+2" in line and "2.0" in line]
    expected = "measured 3+2 24 20 50 B 0 B 100 B 100.0 MB 0 3 6.0 0.500000 2.0 4.0 2"
    assert " ".join(line.split()) == expected


def test_what_was_adapted_is_said_at_its_stage(query: pl.LazyFrame) -> None:
    text = explain_text(measured_report(_report(query), _profile(adaptations=["joined 200 partitions to 3 tasks"])))
    assert "* joined 200 partitions to 3 tasks" in text


def test_profile_of_an_older_form_is_read_too(query: pl.LazyFrame) -> None:
    profile = _profile()
    (stage,) = cast("list[dict[str, object]]", profile["stages"])
    del stage["bytes_scanned"], stage["dollars"], stage["task_list"]
    assert measured_report(_report(query), profile).stages[0].measured is not None
