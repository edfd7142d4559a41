"""Join where the large side lies, when the other one turned out small: a stage becomes a part of its only consumer.

Decided when the large side's stage is about to start and the others have finished: its fragment takes the place of the
shuffle in the join's fragment, its tasks become the join's tasks, and each of them reads the small side whole. Pure
functions over values; asked by :mod:`frazil_coordinator.schedule.driver` before it binds a stage. Which stages may is
decided by :mod:`frazil_coordinator.plan.switches`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from frazil_coordinator.plan.model import ExchangeSource, RuntimeFilter, ScanSource, Source, Stage, StageGraph, Switch
from frazil_coordinator.schedule.bind import Descriptors
from frazil_coordinator.settings import MIB, Settings
from frazil_functions.arena import Arena
from frazil_functions.ids import StageId

__all__ = ["joined_in_place"]

_CHEAP_BYTES: Final = 8 * MIB
"""Bytes that all tasks together may read of the small side, however little a shuffle would move."""


def joined_in_place(graph: StageGraph, stage: StageId, descriptors: Descriptors, settings: Settings) -> StageGraph | None:
    """Return the plan with `stage` made a part of the join that reads it; None when it had better be shuffled.

    Parameters
    ----------
    graph
        The plan, as changed so far.
    stage
        The stage that is about to start.
    descriptors
        Descriptors of finished stages.
    settings
        `broadcast_limit_bytes`, which a query's memory has lowered.

    Notes
    -----
    In the plan that is returned the stage has no task.
    """
    large = graph.stages[stage]
    switch = large.switch
    if switch is None or any(small not in descriptors for small in switch.small):
        return None
    size = sum(block.length for small in switch.small for one in descriptors[small] for block in one.blocks)
    moved = sum(source.bytes for source in large.sources if isinstance(source, ScanSource))
    allowed = max(_CHEAP_BYTES, moved // 2)
    if not 0 < settings.broadcast_limit_bytes >= size or size * large.tasks > allowed:
        return None
    join = _fused(graph.stages[switch.join], large, switch, size)
    stages = list(graph.stages)
    stages[join.id] = join
    note = f"not shuffled: joined by stage {join.id} where it lies"
    stages[stage] = replace(large, sources=(), tasks=0, filters=(), switch=None, divisible=frozenset(), notes=(note,))
    return replace(graph, stages=tuple(stages))


def _fused(join: Stage, large: Stage, switch: Switch, size: int) -> Stage:
    """Return the join with the large side's fragment in the place of the shuffle."""
    kept = [number for number in range(len(join.sources)) if number != switch.source]
    first = len(kept)
    whole: list[Source] = [_read_whole(join.sources[number]) for number in kept]
    sides = " and ".join(map(str, switch.small))
    note = f"broadcast instead of shuffled: stage {sides} wrote {size:,} bytes; joined in stage {large.id}'s tasks"
    return replace(
        join,
        fragment=_fragment(join, large, switch.source),
        unaggregated=b"",
        sources=(*whole, *large.sources),
        tasks=large.tasks,
        units=join.units or join.tasks,
        divisible=frozenset(first + number for number in large.divisible),
        filters=(
            *(replace(one, source=kept.index(one.source)) for one in join.filters),
            *_moved(large.filters, first),
        ),
        notes=(*join.notes, note),
    )


def _read_whole(source: Source) -> Source:
    return replace(source, read="all", tasks=None) if isinstance(source, ExchangeSource) else source


def _moved(filters: Sequence[RuntimeFilter], first: int) -> list[RuntimeFilter]:
    return [replace(one, source=first + one.source) for one in filters]


def _fragment(join: Stage, large: Stage, number: int) -> bytes:
    """Return the join's fragment with the large side's in the place of input `number`; that side's inputs come last."""
    arena, inner = Arena.decode(join.fragment), Arena.decode(large.fragment)
    places = arena.placeholders()[number]
    expected = arena.lazy(places[0]).collect_schema()
    inner.renumber_placeholders({own: len(join.sources) + own for own in inner.placeholders()})
    rows = inner.lazy()
    written = rows.collect_schema()
    # What no consumer looks at was not sent; the join's own fragment may name it all the same.
    rows = rows.select(
        pl.col(name) if name in written else pl.lit(None, dtype=dtype).alias(name) for name, dtype in expected.items()
    )
    root = arena.append(Arena.of(rows))
    arena.redirect(dict.fromkeys(places, root))
    everything = range(len(join.sources) + len(large.sources))
    arena.renumber_placeholders({own: position for position, own in enumerate(one for one in everything if one != number)})
    return arena.encode()
