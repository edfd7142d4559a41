"""Cases of whole plans over tiny splits: what they build, what may fall back, and how they are compared with Polars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages, outcome
from support.parity import assert_same

__all__ = ["Case", "check"]


@dataclass(frozen=True)
class Case:
    """A plan over tables, by name."""

    build: Callable[[Mapping[str, pl.LazyFrame]], pl.LazyFrame]
    ordered: bool = True
    """Whether rows must come in the order of Polars' in-memory engine."""

    order_of: tuple[str, ...] = ()
    """Columns whose values must come in that order although rows may not."""

    fallback: bool = False
    one_task: bool = False
    """Whether one task is all it needs."""


def check(case: Case, tables: Mapping[str, pl.LazyFrame], folder: Path, *, broadcast: bool, rows_per_split: int = 4) -> None:
    """Run a case in stages; its answer, or the class of its error, must be that of Polars."""
    query = case.build(tables)
    settings = Settings(
        start_small=False,
        max_rows_per_split=rows_per_split,
        shuffle_partitions=3,
        broadcast_limit_bytes=1 << 30 if broadcast else 0,
    )
    expected = outcome(lambda: query.collect(engine="in-memory"))
    actual = outcome(lambda: answer_in_stages(query, settings, FolderStore(folder / "store")))
    if isinstance(expected, str) or isinstance(actual, str):
        assert isinstance(actual, str)
        assert actual == expected
        return
    assert_same(actual, expected, ordered=case.ordered)
    if case.order_of:
        assert_same(actual.select(case.order_of), expected.select(case.order_of), ordered=True)
    graph = plan_query(query.serialize(), settings)
    assert bool(graph.fallbacks) is case.fallback, graph.fallbacks
    assert (max(stage.tasks for stage in graph.stages) == 1) is case.one_task
