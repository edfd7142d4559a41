"""A task that scans too much is divided, and its halves scan as the whole would have."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import polars as pl

from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.schedule.bind import bind_stage
from frazil_coordinator.schedule.pieces import divide
from frazil_coordinator.settings import Settings
from frazil_functions.task import ScanInput


def _halves(lf: pl.LazyFrame, settings: Settings) -> list[ScanInput]:
    graph = plan_query(lf.serialize(), settings)
    inputs = bind_stage(graph.stages[0], {}, graph)[0]
    division = divide(graph.stages[0], graph, inputs)
    return [] if division is None else [cast("ScanInput", piece[0]) for piece in division.pieces]


def test_halves_of_an_ipc_scan_are_ipc_scans(tmp_path: Path) -> None:
    pl.DataFrame({"a": range(10)}).write_ipc(tmp_path / "0.arrow")
    halves = _halves(pl.scan_ipc(tmp_path / "0.arrow"), Settings(start_small=False))
    assert [(half.splits[0].offset, half.splits[0].rows) for half in halves] == [(0, 5), (5, 5)]
    assert all(half.scan_type is not None for half in halves)


def test_range_of_lines_is_not_divided(tmp_path: Path) -> None:
    pl.DataFrame({"a": range(100)}).write_csv(tmp_path / "0.csv")
    assert _halves(pl.scan_csv(tmp_path / "0.csv"), Settings(start_small=False, split_target_bytes=50)) == []
