"""Two levels of an exchange: copy the blocks that a stage will read into fewer objects first, if it would ask for too many.

The stage that reads is laid out as if there were no combiners; what its tasks would read is then taken together in a grid:
about √P objects that were written, by about √R tasks that read. A combiner copies the blocks of one cell into one object, in
the order in which they are read, so that a reader gets what it needs of a cell with one request. Blocks are named by their
places all along: the reader's layout stays, with the new places in it. Pure functions over values, asked by
:mod:`frazil_coordinator.schedule.barrier`; which stages have combiners is decided by
:mod:`frazil_coordinator.plan.combining`, and :mod:`frazil_functions.exchange.combine` does the copying.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final, TypeAlias

import msgspec

from frazil_coordinator.plan.combining import LEAST_REQUESTS, grid_side
from frazil_coordinator.plan.memory import FACTORS, Factors, usable_bytes
from frazil_coordinator.plan.model import Stage, StageGraph
from frazil_coordinator.schedule.bind import Descriptors, Units
from frazil_coordinator.schedule.layout import Layout, Share, lay_out
from frazil_coordinator.settings import MIB, Settings
from frazil_functions.errors import InternalError
from frazil_functions.exchange.reader import requests_for
from frazil_functions.task import BlockRef, Descriptor, ExchangeInput, TaskInput

__all__ = ["Places", "lay_out_combiners", "moved_places", "with_places"]

Places: TypeAlias = Mapping[tuple[str, int], tuple[str, int]]
"""Where blocks are now: object key and offset, before and after."""

_CELL_BYTES: Final = 64 * MIB
"""Bytes that one combiner copies at most, unless one block has more."""

_COPIES_IN_MEMORY: Final = 3
"""How often a combiner holds its bytes: as they were fetched, as blocks, and as they are sent."""

_WORTH: Final = 2
"""Times that combining must make the requests fewer, all of its own counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """What one source of the readers becomes."""

    now: int
    """Requests of the readers as it is."""

    bytes: int
    cells: tuple[tuple[BlockRef, ...], ...] = ()
    """What each combiner copies, in this order."""

    copying: int = 0
    """Requests of the combiners, their PUTs included."""

    then: int = 0
    """Requests of the readers afterwards, about."""

    @property
    def pays(self) -> bool:
        return bool(self.cells) and (self.copying + self.then) * _WORTH <= self.now


def lay_out_combiners(
    stage: Stage,
    descriptors: Descriptors,
    graph: StageGraph,
    settings: Settings,
    units: Units,
    factors: Factors = FACTORS,
) -> Layout:
    """Return the tasks of a stage of combiners; none if they are not needed.

    Parameters
    ----------
    stage
        The combiners. Their reader is the stage of `graph` that names them.
    descriptors, units
        Of the producers of the reader; see :func:`~frazil_coordinator.schedule.bind.bind_stage`.
    graph
        The plan, as changed so far.
    settings
        `two_level_requests`, `two_level_block_bytes`, `function_memory_bytes`, and those of
        :func:`~frazil_coordinator.schedule.layout.lay_out`.
    factors
        As for that.
    """
    reader = next(one for one in graph.stages if one.combiner == stage.id)
    foreseen = lay_out(replace(reader, filters=()), descriptors, graph, settings, units, factors)
    grids = [_grid(lists, settings) for lists in _lists(foreseen)]
    now, size = sum(grid.now for grid in grids), sum(grid.bytes for grid in grids)
    wanted = [grid for grid in grids if grid.pays] if _too_many(now, size, settings) else []
    cells = tuple(dict.fromkeys(cell for grid in wanted for cell in grid.cells))
    shares = tuple(Share(unit=number, inputs=(ExchangeInput(blocks=cell),)) for number, cell in enumerate(cells))
    asked = f"stage {reader.id} would ask for {now:,} ranges of {size // max(1, now):,} bytes"
    if cells:
        copying, then = sum(grid.copying for grid in wanted), sum(grid.then for grid in wanted)
        left = now - sum(grid.now for grid in wanted)
        note = f"{asked}: copied with {copying:,} requests, so that it asks for about {then + left:,}"
    else:
        note = f"not needed: {asked}"
    return Layout(stage=stage, graph=graph, shares=shares, notes=(note,), order=tuple(range(len(shares))))


def _too_many(requests: int, size: int, settings: Settings) -> bool:
    most = settings.two_level_requests
    if most is None:
        return False
    small = size < requests * settings.two_level_block_bytes
    return requests > most or (small and requests >= LEAST_REQUESTS)


def _lists(layout: Layout) -> Iterator[list[tuple[BlockRef, ...]]]:
    """Yield, for each source, the blocks in objects that each task reads, in order; tasks without any are left out."""
    for number in range(len(layout.stage.sources)):
        inputs = [layout.shares[task].inputs[number] for task in layout.order]
        lists = [given.blocks for given in inputs if isinstance(given, ExchangeInput)]
        in_objects = [tuple(block for block in blocks if block.data is None) for blocks in lists]
        yield [blocks for blocks in in_objects if blocks]


def _grid(lists: Sequence[Sequence[BlockRef]], settings: Settings) -> _Grid:
    """Return how what tasks read of one source is taken together.

    A block goes to the group of the first task that reads it. What later tasks read as well (the border of two ranges, a
    broadcast, a partition that is cut by a finer hash) comes last in that task's part, next to the part of the later ones.
    """
    now = sum(map(requests_for, lists))
    found: dict[tuple[str, int], list[int]] = {}
    maps: dict[str, int] = {}
    placed: list[tuple[BlockRef, list[int]]] = []
    for task, blocks in enumerate(lists):
        for block in blocks:
            place = (block.key, block.offset)
            if (readers := found.get(place)) is not None:
                readers[1] = task
                continue
            found[place] = readers = [task, task]
            placed.append((block, readers))
            maps[block.key] = block.map_index
    objects = {key: number for number, key in enumerate(sorted(maps, key=lambda key: (maps[key], key)))}
    of_objects, of_tasks = grid_side(len(objects)), grid_side(len({first for first, _ in found.values()}))
    size = sum(block.length for blocks in lists for block in blocks)
    grid = _Grid(now=now, bytes=size, copying=len(objects) * of_tasks + of_objects * of_tasks, then=of_objects * len(lists))
    if (grid.copying + grid.then) * _WORTH > now:
        return grid
    rows = {key: number * of_objects // len(objects) for key, number in objects.items()}
    cells: dict[tuple[int, int], list[tuple[BlockRef, list[int]]]] = defaultdict(list)
    for one in placed:
        block, readers = one
        cells[rows[block.key], readers[0] * of_tasks // len(lists)].append(one)
    # The sort is stable: blocks with the same readers stay in the order in which they are read.
    ordered = [[block for block, _ in sorted(cells[cell], key=itemgetter(1))] for cell in sorted(cells)]
    most = _most_bytes(settings)
    return replace(grid, cells=tuple(run for blocks in ordered for run in _runs(blocks, most)))


def _most_bytes(settings: Settings) -> int:
    limit = settings.function_memory_bytes
    return _CELL_BYTES if limit is None else min(_CELL_BYTES, int(usable_bytes(limit) / _COPIES_IN_MEMORY))


def _runs(blocks: Sequence[BlockRef], most: int) -> Iterator[tuple[BlockRef, ...]]:
    """Cut into runs of at most so many bytes, none empty."""
    run: list[BlockRef] = []
    size = 0
    for block in blocks:
        if run and size + block.length > most:
            yield tuple(run)
            run, size = [], 0
        run.append(block)
        size += block.length
    yield tuple(run)


def moved_places(layout: Layout, descriptors: Sequence[Descriptor]) -> dict[tuple[str, int], tuple[str, int]]:
    """Return where the blocks are that the tasks of a stage of combiners copied.

    Raises
    ------
    InternalError
        When a task says that it wrote something else than it was told to.
    """
    places: dict[tuple[str, int], tuple[str, int]] = {}
    for task, written in zip(layout.order, descriptors, strict=True):
        blocks = [
            block for given in layout.shares[task].inputs if isinstance(given, ExchangeInput) for block in given.blocks
        ]
        if written.key is None or [info.crc32c for info in written.blocks] != [block.crc32c for block in blocks]:
            raise InternalError(f"task {task} of stage {layout.stage.id} did not copy the blocks that it was given")
        for block, info in zip(blocks, written.blocks, strict=True):
            places[block.key, block.offset] = (written.key, info.offset)
    return places


def with_places(layout: Layout, places: Places, note: str) -> Layout:
    """Return the layout with blocks read from where they are now, and with a note of it if there are any."""
    shares = tuple(
        replace(share, inputs=tuple(_at_places(given, places) for given in share.inputs)) for share in layout.shares
    )
    if shares == layout.shares:
        return layout
    return replace(layout, shares=shares, notes=(*layout.notes, note))


def _at_places(given: TaskInput, places: Places) -> TaskInput:
    if not isinstance(given, ExchangeInput) or not any((block.key, block.offset) in places for block in given.blocks):
        return given
    return msgspec.structs.replace(given, blocks=tuple(_at_place(block, places) for block in given.blocks))


def _at_place(block: BlockRef, places: Places) -> BlockRef:
    place = places.get((block.key, block.offset)) if block.data is None else None
    return block if place is None else msgspec.structs.replace(block, key=place[0], offset=place[1])
