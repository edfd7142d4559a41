"""What a query used in all, and what that costs: the totals of a profile.

:mod:`frazil_coordinator.schedule.profile` collects the stages, :mod:`frazil_coordinator.prices` knows the prices.
"""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

from frazil_coordinator.plan.report import Report, StageReport
from frazil_coordinator.prices import Prices
from frazil_coordinator.schedule.profile import Profile, StageProfile

__all__ = ["QueryCost", "StageCost", "priced"]


class StageCost(TypedDict):
    """What is added to the profile of a stage."""

    bytes_scanned: int
    """Compressed bytes of the columns that the finished tasks read of files, by the files' footers: functions don't measure
    it."""

    scan_gets: int
    """Guess of their requests for files of remote tables."""

    dollars: float
    """Price of the functions, requests and bytes of all attempts, as far as they told."""


class QueryCost(TypedDict):
    """What is added to the profile of a query: sums over its stages."""

    bytes_scanned: int
    scan_gets: int
    requests: dict[str, int]
    """Exchange-store requests by operation, those of failed attempts included."""

    function_gib_seconds: float
    """Memory that functions are billed for, times the seconds in which they ran tasks."""

    dollars: float


def priced(profile: Profile, report: Report | None, prices: Prices) -> dict[str, object]:
    """Return a profile with its totals (:class:`QueryCost`), and each stage with its price (:class:`StageCost`).

    Parameters
    ----------
    profile
        Of a query that runs or has ended.
    report
        The query's plan, whose estimates say what its scans read; None when it has none.
    prices
        The price table.
    """
    planned = {} if report is None else {stage.stage: stage for stage in report.stages}
    requests = {stage["stage"]: _requests(stage) for stage in profile["stages"]}
    costs = {
        stage["stage"]: _stage_cost(stage, requests[stage["stage"]], planned.get(stage["stage"]), prices)
        for stage in profile["stages"]
    }
    totals = QueryCost(
        bytes_scanned=sum(cost["bytes_scanned"] for cost in costs.values()),
        scan_gets=sum(cost["scan_gets"] for cost in costs.values()),
        requests=dict(sum(requests.values(), Counter[str]())),
        function_gib_seconds=profile["function_seconds"] * prices.function_gib,
        dollars=sum(cost["dollars"] for cost in costs.values()),
    )
    return {**profile, **totals, "stages": [{**stage, **costs[stage["stage"]]} for stage in profile["stages"]]}


def _requests(stage: StageProfile) -> Counter[str]:
    found = Counter(stage["requests"])
    for attempt in stage["failed_attempts"]:
        found.update(attempt["requests"])
    return found


def _stage_cost(stage: StageProfile, requests: Counter[str], planned: StageReport | None, prices: Prices) -> StageCost:
    expected = None if planned is None else planned.predicted
    # Of the planned tasks: a head may need only some of them, and a divided task is several.
    done = min(1.0, len(stage["task_list"]) / planned.tasks) if planned is not None else 0.0
    scanned = 0 if expected is None else max(0, round(expected.bytes_scanned.value * done) - stage["bytes_not_scanned"])
    ran = 1.0 - stage["reused"] / max(1, len(stage["task_list"]))
    scan_gets = 0 if expected is None else round(expected.scan_gets.value * done * ran)
    dollars = prices.dollars(
        function_seconds=stage["function_seconds"],
        requests=requests + Counter(get=scan_gets),
        bytes_read=scanned + stage["bytes_in"],
    )
    return StageCost(bytes_scanned=scanned, scan_gets=scan_gets, dollars=dollars)
