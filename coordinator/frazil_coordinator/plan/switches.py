"""Which joins by hash may become broadcasts while the query runs, when one side turns out small.

The planner shuffles both sides of a join when it can't know that one is small: behind a filter, an aggregate, another join.
When that side has finished and is small, the other side's tasks may as well read it whole and join at once: then the other
side is not shuffled at all. Here the stages are found of which that would be exact; whether it is done is decided by
:mod:`frazil_coordinator.schedule.broadcast` with real sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from frazil_coordinator.plan.model import ExchangeSource, Stage, Switch
from frazil_coordinator.plan.runtime_filters import TIMES_SMALLER, StageOrder
from frazil_functions.ids import StageId

__all__ = ["choose_switches"]

_SHRINKING: Final = frozenset({"Filter", "Slice", "DataFrameScan", "GroupBy", "Distinct"})
"""Nodes behind one of which rows may be far fewer than was foreseen."""


def choose_switches(stages: Sequence[Stage], order: StageOrder) -> dict[StageId, Switch]:
    """Return how stages may become a part of the join that reads them: the stage that is shuffled → its switch.

    Parameters
    ----------
    stages
        All stages of the plan.
    order
        What is known of them, and which waits for which; what is chosen is added.

    Notes
    -----
    The join must allow the rows of that side to be divided among tasks, each with all of the other side
    (`Stage.divisible`); nobody else may read the shuffle, and nothing may count with the join's partitions.
    """
    chosen: dict[StageId, Switch] = {}
    for join in stages:
        for number in sorted(join.divisible):
            source = join.sources[number]
            if not isinstance(source, ExchangeSource) or not _may_switch(join, number, stages, order):
                continue
            small = tuple(
                dict.fromkeys(
                    other.stage
                    for place, other in enumerate(join.sources)
                    if place != number and isinstance(other, ExchangeSource) and other.read == "partition"
                )
            )
            if source.stage in chosen or not _is_worth_waiting(source.stage, small, order):
                continue
            order.before[source.stage].update(small)
            chosen[source.stage] = Switch(join=join.id, source=number, small=small)
    return chosen


def _may_switch(join: Stage, number: int, stages: Sequence[Stage], order: StageOrder) -> bool:
    """Return whether the tasks of the stage that source `number` reads could do the join instead of it."""
    source = join.sources[number]
    if not isinstance(source, ExchangeSource) or join.output.row_tag or join.first_rows is not None:
        return False
    if any(not _is_of_partitions_or_all(other, join) for other in join.sources) or source.read != "partition":
        return False
    large = stages[source.stage]
    alone = order.readers[order.stages[large.id].exchange] == 1 and order.uses(join.id, number) == 1
    plain = not (large.output.row_tag or large.output.key_columns or large.first_rows is not None)
    return alone and plain and large.tasks >= 2 and not _is_aligned(join.id, stages)


def _is_of_partitions_or_all(source: object, join: Stage) -> bool:
    if not isinstance(source, ExchangeSource):
        return False
    whole = source.first_task == 0 and source.tasks in (None, join.tasks) and source.partitions == "all"
    return source.read == "all" or (source.read == "partition" and whole)


def _is_aligned(stage: StageId, stages: Sequence[Stage]) -> bool:
    """Return whether a consumer reads what single tasks of the stage wrote: it counts with as many as there are."""
    sources = (source for one in stages for source in one.sources if isinstance(source, ExchangeSource))
    return any(source.stage == stage and source.read == "task" for source in sources)


def _is_worth_waiting(large: StageId, small: Sequence[StageId], order: StageOrder) -> bool:
    """Return whether the other sides read less, may turn out smaller yet, and do not come after the large one."""
    if not small or any(large in order.until(one) for one in small):
        return False
    of_small = sum(order.bytes(one) for one in small)
    shrinks = all(any(order.stages[one].kinds & _SHRINKING for one in order.until(side)) for side in small)
    return shrinks and of_small * TIMES_SMALLER <= order.bytes(large)
