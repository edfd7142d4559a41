"""Which stages may read so many objects that their blocks had better be combined first: two levels of an exchange.

A stage that reads P objects with R tasks asks for P·R ranges. Where that may be too many, a stage of combiners is planned
before it, and decided on when the sizes are known (:mod:`frazil_coordinator.schedule.combine`): it has no task then, or
about √(P·R), which copy the blocks into objects for groups of readers. Called by :mod:`frazil_coordinator.plan.stages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isqrt
from typing import Final

from frazil_coordinator.plan.model import ExchangeSource, ExchangeSpec, Source, Stage
from frazil_coordinator.settings import Settings
from frazil_functions.ids import StageId

__all__ = ["LEAST_REQUESTS", "combined_above", "grid_side", "with_combiners"]

LEAST_REQUESTS: Final = 4_096
"""Requests of a stage below which small blocks are no reason to combine them: another stage takes longer than they do."""


def combined_above(settings: Settings) -> int | None:
    """Return the requests of a stage above which its blocks may be combined, whatever their size; None is never."""
    most = settings.two_level_requests
    if most is None:
        return None
    return min(most, LEAST_REQUESTS) if settings.two_level_block_bytes else most


def grid_side(count: int) -> int:
    """Return into how many groups so many objects, or tasks, are taken together: the root, rounded up."""
    return isqrt(max(0, count - 1)) + 1 if count else 0


def with_combiners(stages: Sequence[Stage], above: int | None) -> tuple[Stage, ...]:
    """Return the stages with one of combiners before each that may ask for more than `above` ranges.

    Parameters
    ----------
    stages
        Producers before consumers, numbered.
    above
        None: none needs one.
    """
    if above is None:
        return tuple(stages)
    wanted = [
        stage.id for stage in stages if _requests(stage, stages) > above and stage.first_rows is None and not stage.reserve
    ]
    before = {old: StageId(old + sum(one <= old for one in wanted)) for old in range(len(stages))}
    numbers = {StageId(old): new for old, new in before.items()}
    made: list[Stage] = []
    for stage in stages:
        moved = _renumbered(stage, numbers)
        if stage.id in wanted:
            combiner = _combiner(moved, made)
            made.append(combiner)
            moved = replace(moved, combiner=combiner.id)
        made.append(moved)
    return tuple(made)


def _parts(stage: Stage) -> list[ExchangeSource]:
    return [source for source in stage.sources if isinstance(source, ExchangeSource)]


def _requests(stage: Stage, stages: Sequence[Stage]) -> int:
    """Return the ranges that the tasks ask for, if everything is written to objects."""
    parts = [part for part in _parts(stage) if not stages[part.stage].reserve]
    return sum(stages[part.stage].tasks * _readers(stage, part) for part in parts)


def _readers(stage: Stage, part: ExchangeSource) -> int:
    """Return how many tasks read something of each object."""
    return 1 if part.read == "task" else part.tasks or stage.tasks


def _combiner(stage: Stage, before: Sequence[Stage]) -> Stage:
    """Return the stage of combiners of a stage, with the number before it."""
    tasks = sum(grid_side(before[part.stage].tasks) * grid_side(_readers(stage, part)) for part in _parts(stage))
    producers = dict.fromkeys(part.stage for part in _parts(stage))
    return Stage(
        id=StageId(stage.id - 1),
        kind="combine",
        fragment=b"",
        sources=tuple(ExchangeSource(stage=producer, read="all") for producer in producers),
        tasks=tasks,
        output=ExchangeSpec(kind="combined", inline=False),
        operators=(f"COMBINE blocks for stage {stage.id}",),
        divisible=frozenset({0}),
        details={"only if": f"stage {stage.id} would ask for too many"},
    )


def _renumbered(stage: Stage, numbers: dict[StageId, StageId]) -> Stage:
    def source(one: Source) -> Source:
        return replace(one, stage=numbers[one.stage]) if isinstance(one, ExchangeSource) else one

    switch = stage.switch
    if switch is not None:
        switch = replace(switch, join=numbers[switch.join], small=tuple(numbers[one] for one in switch.small))
    return replace(
        stage,
        id=numbers[stage.id],
        sources=tuple(map(source, stage.sources)),
        filters=tuple(replace(one, build=numbers[one.build]) for one in stage.filters),
        switch=switch,
    )
