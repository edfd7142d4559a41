"""What polars pushes down, and that asking it costs next to nothing."""

from __future__ import annotations

import polars as pl
import pytest

from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.pushdown import Demand, observe
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena

SCHEMA = pl.Schema({"a": pl.Int64, "b": pl.String, "c": pl.Float64})


def _demands(lf: pl.LazyFrame) -> list[Demand] | None:
    plan = Arena.of(lf)
    frames = [number for number in plan.reachable() if plan.kind(number) == "DataFrameScan"]
    found = observe(plan, {0: (frames, SCHEMA)})
    return None if found is None else found[0]


def test_columns_predicate_and_limit_are_told() -> None:
    table = pl.LazyFrame(schema=SCHEMA)
    assert _demands(table.select("b")) == [Demand(columns=("b",), predicate=None, rows=None)]
    assert _demands(table.head(3)) == [Demand(columns=None, predicate=None, rows=3)]
    (filtered,) = _demands(table.filter(pl.col("a") > 1).select("c")) or []
    assert filtered.columns == ("a", "c")
    assert filtered.predicate is not None


def test_plan_that_fails_on_empty_data_pushes_nothing() -> None:
    assert _demands(pl.LazyFrame(schema=SCHEMA).select(pl.col("a").item())) is None


@pytest.mark.parametrize(
    "made",
    [pl.int_range(0, 10**12), pl.repeat(1, 10**12), pl.lit(1).repeat_by(10**12), pl.int_range(0, 10**12).sqrt().sort()],
    ids=str,
)
def test_rows_made_out_of_nothing_are_not_made_while_planning(made: pl.Expr) -> None:
    table = pl.LazyFrame({"a": range(20)})
    tiny = Settings(start_small=False, max_rows_per_split=4)
    assert plan_query(table.select(made).serialize(), tiny).stages
    assert plan_query(table.filter(pl.col("a") > made.max()).sort("a").serialize(), tiny).stages
