"""Hard caps: what a query may read, cost and need at most, compared with its estimate before a task starts."""

from __future__ import annotations

from collections.abc import Iterator

from frazil_coordinator.plan.figures import UNKNOWN, Amount, total
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.settings import Settings
from frazil_functions.errors import CapError

__all__ = ["bytes_to_scan", "check_caps", "check_task_times", "over_caps"]


def check_caps(graph: StageGraph, settings: Settings) -> None:
    """Refuse a query whose estimate is above a cap.

    Parameters
    ----------
    graph
        The plan, with its estimates.
    settings
        `max_bytes_scanned`, `max_cost`, `max_tasks`.

    Raises
    ------
    CapError
        With the estimate, the cap and what to do; also when an estimate that a cap needs can't be made.
    """
    found = list(over_caps(graph, settings))
    if found:
        raise CapError("; ".join(found) + ". Nothing was run.")


def over_caps(graph: StageGraph, settings: Settings) -> Iterator[str]:
    """Yield what is wrong with each cap that the query is above."""
    scanned = bytes_to_scan(graph)
    if settings.max_bytes_scanned is not None:
        advice = "select fewer columns or files, filter on what files are parted by, or have the cap raised"
        if scanned.bound == "unknown":
            yield (
                f"the bytes that the query would scan are not known beforehand (at least {scanned.value:,}), and "
                f"max_bytes_scanned={settings.max_bytes_scanned:,} is set: scan files that are split, or have the cap lifted"
            )
        elif scanned.value > settings.max_bytes_scanned:
            yield (
                f"the query would scan {scanned.value:,} bytes, more than max_bytes_scanned="
                f"{settings.max_bytes_scanned:,} allows: {advice}"
            )
    dollars = sum(stage.dollars for stage in graph.estimates)
    if settings.max_cost is not None and scanned.bound == "unknown":
        yield (
            f"what the query would cost is not known beforehand (at least {_dollars(dollars)}), and "
            f"max_cost={_dollars(settings.max_cost)} is set: scan files that are split, or have the cap lifted"
        )
    elif settings.max_cost is not None and dollars > settings.max_cost:
        yield (
            f"the query would cost about {_dollars(dollars)}, more than max_cost={_dollars(settings.max_cost)} allows: "
            "read less, or have the cap raised"
        )
    tasks = sum(stage.tasks for stage in graph.stages if not stage.reserve)
    if settings.max_tasks is not None and tasks > settings.max_tasks:
        yield (
            f"the query would have {tasks:,} tasks, more than max_tasks={settings.max_tasks:,} allows: raise "
            "split_target_bytes or shuffle_target_bytes, or have the cap raised"
        )


def check_task_times(graph: StageGraph, settings: Settings, longest_s: float | None) -> None:
    """Refuse a query with tasks that the platform would end before they are done, and then again and again.

    Parameters
    ----------
    graph
        The plan, with its estimates.
    settings
        `max_task_s`, which comes before what the platform says.
    longest_s
        Seconds after which the platform ends a task; None: never, or nobody knows.

    Raises
    ------
    CapError
        With the stage, its estimate, the limit and what to do.
    """
    limit_s = longest_s if settings.max_task_s is None else settings.max_task_s
    if limit_s is None:
        return
    for stage, estimate in zip(graph.stages, graph.estimates, strict=False):
        each_s = estimate.function_seconds / max(1, stage.tasks)
        if each_s > limit_s:
            where = "max_task_s" if settings.max_task_s is not None else "the functions' timeoutSeconds"
            advice = "lower split_target_bytes or shuffle_target_bytes" if stage.tasks > 1 else "; ".join(stage.fallbacks)
            raise CapError(
                f"a task of stage {stage.id} ({stage.kind}) would take about {each_s:,.0f} s, and is ended after "
                f"{limit_s:g} s ({where}): {advice or 'let the stage have more tasks'}; or raise timeoutSeconds of the "
                "function services (and max-revision-timeout-seconds of config-defaults first), or set max_task_s to try "
                "all the same. Nothing was run."
            )


def bytes_to_scan(graph: StageGraph) -> Amount:
    """Return the compressed bytes that the scans of a query will read."""
    return total(stage.bytes_scanned for stage in graph.estimates) if graph.estimates else UNKNOWN


def _dollars(amount: float) -> str:
    """Return an amount with a digit that is not 0, if there is one."""
    return f"${amount:.6f}" if amount == 0 or amount >= 0.000_001 else f"${amount:.1g}"
