"""What the profile of an engine's last query says: for tests of how a query ran."""

from __future__ import annotations

import warnings
from typing import Any, cast

import polars as pl

import frazil
from support.parity import assert_same

__all__ = ["collect_same", "fallbacks", "most_tasks", "stages_of"]


def stages_of(engine: frazil.Engine) -> list[dict[str, Any]]:
    """Return the stages of the profile of the query that ran last."""
    assert engine.last_query is not None
    return cast("list[dict[str, Any]]", engine.last_query.profile()["stages"])


def collect_same(engine: frazil.Engine, lf: pl.LazyFrame) -> list[dict[str, Any]]:
    """Hold the engine to the answer of polars, row by row, and return the stages of the query."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", frazil.FallbackWarning)
        actual = lf.collect(engine=engine)
    assert_same(actual, lf.collect(), ordered=True)
    return stages_of(engine)


def most_tasks(stages: list[dict[str, Any]]) -> int:
    """Return the number of tasks of the widest stage."""
    return max(cast("int", stage["tasks"]) for stage in stages)


def fallbacks(stages: list[dict[str, Any]]) -> list[str]:
    """Return why steps ran in one task."""
    return [reason for stage in stages for reason in stage["fallbacks"]]
