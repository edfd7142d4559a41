"""Which hash partitions are skewed: far larger than the others of the same exchange. Pure functions over values.

Two stages that read an exchange, one its skewed partitions and one the others, must agree on which those are: they are told
from what the producer wrote and from the query's settings, and from nothing else. What is done with them is planned by
:mod:`frazil_coordinator.plan.rules.skewed`.
"""

from __future__ import annotations

from statistics import median

from frazil_coordinator.plan.memory import least_skewed_bytes
from frazil_coordinator.plan.model import ExchangeSource, Stage
from frazil_coordinator.schedule.bind import Descriptors, Skewed
from frazil_coordinator.settings import Settings
from frazil_functions.ids import StageId

__all__ = ["even_size", "most_even_bytes", "skewed_partitions"]


def most_even_bytes(middle: float, settings: Settings) -> int:
    """Return the size above which a partition is skewed; `middle` is the median size of all."""
    return max(least_skewed_bytes(settings), int(settings.skew_factor * middle))


def even_size(stage: Stage, descriptors: Descriptors) -> int | None:
    """Return the median size of all partitions of the exchange whose skewed ones the stage reads; None if it does not."""
    sizes = [
        _sizes(source.stage, source.tasks or stage.tasks, descriptors)
        for source in stage.sources
        if isinstance(source, ExchangeSource) and source.partitions == "skewed"
    ]
    return int(median(sizes[0])) if sizes else None


def skewed_partitions(stage: Stage, descriptors: Descriptors, settings: Settings) -> Skewed:
    """Return the skewed partitions of those exchanges of which the stage reads them alone, or leaves them out."""
    found: dict[StageId, frozenset[int]] = {}
    for source in stage.sources:
        if not isinstance(source, ExchangeSource) or source.partitions == "all":
            continue
        sizes = _sizes(source.stage, source.tasks or stage.tasks, descriptors)
        most = most_even_bytes(median(sizes), settings)
        found[source.stage] = frozenset(number for number, size in enumerate(sizes) if size > most)
    return found


def _sizes(producer: StageId, partitions: int, descriptors: Descriptors) -> list[int]:
    sizes = [0] * partitions
    for descriptor in descriptors[producer]:
        for info in descriptor.blocks:
            sizes[info.partition] += info.length
    return sizes
