"""The coordinator's real parts in virtual time: what they do for a task does not grow with the number of tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from benchmarks.lines import lines_run
from benchmarks.simulated.durations import read_durations
from benchmarks.simulation import Figures, plan_of, simulate
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.schedule.slots import Claim, Slots


class Plans(Protocol):
    """Makes plans of about so many tasks."""

    def __call__(self, tasks: int, partitions: int = 2) -> StageGraph: ...


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Plans:
    def plan(tasks: int, partitions: int = 2) -> StageGraph:
        folder: Path = tmp_path_factory.mktemp("simulation")
        return plan_of(folder, tasks, partitions)

    return plan


def run(graph: StageGraph, *, functions: int = 40, queries: int = 1) -> Figures:
    return simulate(graph, functions=functions, queries=queries, stretch=4.0)


def test_a_task_costs_as_many_lines_in_a_query_of_1000_as_in_one_of_250(plans: Plans) -> None:
    small, large = plans(250), plans(1000)
    run(plans(20))  # what is made once
    costs = []
    for graph in (small, large):
        tasks = 0

        def act(graph: StageGraph = graph) -> None:
            nonlocal tasks
            tasks = run(graph).tasks

        costs.append(lines_run(act) / tasks)
    assert costs[1] <= 1.1 * costs[0], costs


def test_a_slot_costs_as_many_lines_among_1000_queries_as_among_50() -> None:
    def grants(queries: int) -> Callable[[], None]:
        slots = Slots(20, clock=lambda: 0.0)
        holders = []
        for number in range(queries):
            share = slots.share(lambda number=number: holders.append(number), Claim(tenant=f"t{number % 3}"))  # type: ignore[misc]
            share.want(1000)
            shares.setdefault(queries, []).append(share)

        def act() -> None:
            for _ in range(500):
                share = shares[queries][holders.pop(0)]
                share.use()
                share.release()

        return act

    shares: dict[int, list[Any]] = {}
    few, many = lines_run(grants(50)), lines_run(grants(1000))
    assert many <= 1.2 * few


def test_the_journal_takes_a_tenth_of_a_request_for_a_task(plans: Plans) -> None:
    seen = run(plans(2000), functions=500)
    assert seen.tasks >= 2000
    assert seen.requests_per_task <= 0.1, seen


def test_slots_never_idle_while_a_task_waits_when_the_coordinator_takes_no_time(plans: Plans) -> None:
    seen = run(plans(300), functions=20, queries=3)
    assert seen.idle_share < 1e-9
    assert seen.busy_s > 0.5 * seen.functions * seen.virtual_s


def test_a_join_of_two_shuffles_in_two_levels_runs_to_its_end(plans: Plans) -> None:
    graph = plans(1000, 32)
    seen = run(graph, functions=200)
    assert seen.tasks > sum(stage.tasks for stage in graph.stages if stage.kind != "combine")


def test_durations_are_drawn_as_they_were_recorded() -> None:
    durations = read_durations()
    for kind, quantiles in durations.quantiles_s.items():
        assert list(quantiles) == sorted(quantiles)
        assert durations.tasks[kind] > 5
    assert "benchmarks.simulated.record" in durations.origin
