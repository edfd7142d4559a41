"""Records what the planner made of each test's plans, for the page of coverage (`benchmarks.coverage_page`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.stages import build_stages

COVERAGE_FILE = os.environ.get("FRAZIL_COVERAGE_FILE")
"""File to which one JSON line a test is appended: its id, and the tasks and fallbacks of each of its plans."""


@pytest.fixture(autouse=True)
def plans(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StageGraph]]:
    """Yield the list of the stage graphs that are planned in this process while the test runs."""
    graphs: list[StageGraph] = []

    def recorded(*arguments: object, **options: object) -> StageGraph:
        graph = build_stages(*arguments, **options)  # type: ignore[arg-type]  # passed on as they come
        graphs.append(graph)
        return graph

    monkeypatch.setattr("frazil_coordinator.plan.planner.build_stages", recorded)
    yield graphs
    if COVERAGE_FILE is not None and graphs:
        told = [
            {"tasks": max(stage.tasks for stage in graph.stages), "fallbacks": list(graph.fallbacks)} for graph in graphs
        ]
        with Path(COVERAGE_FILE).open("a") as file:
            file.write(json.dumps({"test": request.node.nodeid, "plans": told}) + "\n")
