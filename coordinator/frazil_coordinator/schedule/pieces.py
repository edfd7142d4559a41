"""Join and cut what tasks read, so that the answers of the pieces, one after the other, are the answer of the whole.

Which cuts are allowed is a matter of the plan: `Stage.divisible` names the sources whose rows may go to several tasks, a
hash partition may always be parted by a finer hash of the same keys, and a range of keys at a key in it.
:mod:`frazil_coordinator.schedule.layout` decides when.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, TypeAlias, cast

import msgspec

from frazil_coordinator.plan.model import ExchangeSource, ExchangeSpec, Source, Stage, StageGraph
from frazil_functions.task import BlockRef, ExchangeInput, HashShare, KeyRange, ScanInput, Split, TaskInput

__all__ = ["Division", "Inputs", "cut_by_hash", "cut_by_rows", "cut_source", "divide", "joined"]

_ALIKE: Final = 1.02
"""Pieces are as large as others that are smaller by less than this."""

_MANY: Final = 8
"""Blocks a piece from which on pieces are even enough."""

Inputs: TypeAlias = tuple[TaskInput, ...]
"""What a task reads in the place of each source of its stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """A task's inputs, divided."""

    pieces: tuple[Inputs, ...]
    how: str
    """For people, e.g. ``by a finer hash``."""


def joined(stage: Stage, group: Sequence[Inputs]) -> Inputs:
    """Return what one task reads in the place of several that read neighbouring hash partitions.

    Blocks stand in the order of the tasks that wrote them, so that rows of equal keys keep their order, and the blocks of
    one object are neighbours, which makes one request of them.
    """
    inputs: list[TaskInput] = []
    for number, source in enumerate(stage.sources):
        if isinstance(source, ExchangeSource) and source.read == "all":
            inputs.append(group[0][number])
            continue
        parts = [given.blocks for one in group if isinstance(given := one[number], ExchangeInput)]
        inputs.append(ExchangeInput(blocks=tuple(heapq.merge(*parts, key=lambda block: block.map_index))))
    return tuple(inputs)


def cut_by_rows(stage: Stage, inputs: Inputs, count: int) -> list[Inputs]:
    """Cut the largest divisible source between blocks into at most `count` pieces of about equal bytes; the others stay."""
    sizes = {
        number: sum(block.length for block in given.blocks)
        for number in stage.divisible
        if isinstance(given := inputs[number], ExchangeInput) and len(given.blocks) > 1
    }
    if not sizes or count < 2:
        return [inputs]
    return cut_source(inputs, max(sizes, key=lambda one: (sizes[one], -one)), count)


def cut_source(inputs: Inputs, number: int, count: int) -> list[Inputs]:
    """Cut one source, an exchange, between blocks into at most `count` pieces of about equal bytes; the others stay."""
    given = cast("ExchangeInput", inputs[number])
    return [
        (*inputs[:number], msgspec.structs.replace(given, blocks=blocks), *inputs[number + 1 :])
        for blocks in _cut_blocks(given.blocks, count)
    ]


def _cut_blocks(blocks: Sequence[BlockRef], count: int) -> list[tuple[BlockRef, ...]]:
    """Cut into at most `count` runs of about equal bytes, none empty.

    Sixteen blocks in ten runs are six of two and four of one: eight of two are done as soon, by fewer tasks.
    """
    finest = _runs(blocks, count)
    if len(blocks) > _MANY * count:
        return finest  # a block more or less is no matter
    most = max(map(_bytes, finest), default=0)
    fewest = max(1, -(-sum(map(_bytes, finest)) // max(1, most)))
    fewer = (_runs(blocks, one) for one in range(fewest, len(finest)))
    return next((runs for runs in fewer if max(map(_bytes, runs)) <= most * _ALIKE), finest)


def _bytes(run: Sequence[BlockRef]) -> int:
    return sum(block.length for block in run)


def _runs(blocks: Sequence[BlockRef], count: int) -> list[tuple[BlockRef, ...]]:
    total = sum(block.length for block in blocks)
    runs: dict[int, list[BlockRef]] = {}
    for block, end in zip(blocks, accumulate(block.length for block in blocks), strict=True):
        middle = end - block.length / 2
        runs.setdefault(min(count - 1, int(middle * count / max(1, total))), []).append(block)
    return [tuple(run) for run in runs.values()]


def cut_by_hash(stage: Stage, graph: StageGraph, inputs: Inputs, count: int) -> list[Inputs]:
    """Part what a task reads of hash partitions by a finer hash of the keys into `count` pieces; else leave it whole.

    Each piece reads all blocks of the partition, and keeps its own rows: it costs requests and time, and bounds memory.
    """
    parts = [number for number, source in enumerate(stage.sources) if not _is_whole(source)]
    specs = [_hash_spec(stage.sources[number], graph) for number in parts]
    if count < 2 or not parts or None in specs:
        return [inputs]
    pieces = []
    for index in range(count):
        piece = list(inputs)
        for number, spec in zip(parts, specs, strict=True):
            piece[number] = _shared(piece[number], cast("ExchangeSpec", spec), index, count)
        pieces.append(tuple(piece))
    return pieces


def _is_whole(source: Source) -> bool:
    return isinstance(source, ExchangeSource) and source.read == "all"


def _hash_spec(source: Source, graph: StageGraph) -> ExchangeSpec | None:
    """Return how the hash exchange was written of which each task reads a partition; None when it is something else."""
    if not isinstance(source, ExchangeSource) or source.read != "partition":
        return None
    spec = graph.stages[source.stage].output
    return spec if spec.hash_keys else None


def _shared(given: TaskInput, spec: ExchangeSpec, index: int, count: int) -> ExchangeInput:
    before = cast("ExchangeInput", given).hash_share
    if before is not None:  # rows of part i of n are in the parts i, i + n, i + 2n … of m·n
        index, count = before.index + before.count * index, before.count * count
    share = HashShare(hash_keys=spec.hash_keys, partitions=spec.partitions, index=index, count=count)
    return msgspec.structs.replace(cast("ExchangeInput", given), hash_share=share)


def divide(
    stage: Stage, graph: StageGraph, inputs: Inputs, *, keys: Sequence[bytes] = (), by_hash_first: bool = True
) -> Division | None:
    """Divide what a task reads in two; None when that can't be done.

    Parameters
    ----------
    stage, graph, inputs
        The task.
    keys
        Keys at which a range may be cut, ascending.
    by_hash_first
        Whether to part by a finer hash before cutting between blocks. Many keys call for the first, one heavy key for the
        second, and nobody knows which it is: who divides again should try the other.
    """
    by_hash = Division(pieces=tuple(cut_by_hash(stage, graph, inputs, 2)), how="by a finer hash")
    by_rows = Division(pieces=tuple(cut_by_rows(stage, inputs, 2)), how="between blocks of its input")
    ways = [by_hash, by_rows] if by_hash_first else [by_rows, by_hash]
    ways += [_by_range(inputs, keys), _by_splits(stage, inputs)]
    return next((way for way in ways if len(way.pieces) > 1), None)


def _by_range(inputs: Inputs, keys: Sequence[bytes]) -> Division:
    """Cut the range of keys at the one in its middle; all parts of ranges that a task reads have the same bounds."""
    whole = KeyRange(low=None, high=None)
    ranged = {number: given for number, given in enumerate(inputs) if isinstance(given, ExchangeInput) and given.sort_keys}
    bounds = {(given.key_range or whole).low: (given.key_range or whole).high for given in ranged.values()}
    if len(bounds) == 1:
        ((low, high),) = bounds.items()
        inside = [key for key in keys if (low is None or key > low) and (high is None or key < high)]
        inside = inside if low is not None else inside[1:]  # below the lowest key there is nothing
        if inside:
            middle = inside[len(inside) // 2]
            halves = (KeyRange(low=low, high=middle), KeyRange(low=middle, high=high))
            pieces = [
                tuple(
                    msgspec.structs.replace(given, key_range=half) if number in ranged else given
                    for number, given in enumerate(inputs)
                )
                for half in halves
            ]
            return Division(pieces=tuple(pieces), how="by a key in the middle of its range")
    return Division(pieces=(inputs,), how="")


def _by_splits(stage: Stage, inputs: Inputs) -> Division:
    """Cut the only scan that the task reads something of, by rows."""
    scans = [number for number, given in enumerate(inputs) if isinstance(given, ScanInput) and given.splits]
    if len(scans) != 1 or scans[0] not in stage.divisible:
        return Division(pieces=(inputs,), how="")
    (number,) = scans
    scan = cast("ScanInput", inputs[number])
    pieces = tuple(
        (*inputs[:number], msgspec.structs.replace(scan, splits=half), *inputs[number + 1 :])
        for half in _half_splits(scan.splits)
    )
    return Division(pieces=pieces, how="by rows of its files")


def _half_splits(splits: tuple[Split, ...]) -> list[tuple[Split, ...]]:
    if len(splits) > 1:
        middle = len(splits) // 2
        return [splits[:middle], splits[middle:]]
    split = next(iter(splits))
    if split.rows < 2 or split.length is not None:  # lines of text are cut where they were planned to be
        return [splits]
    first = split.rows // 2
    return [
        (msgspec.structs.replace(split, rows=first, whole=False),),
        (msgspec.structs.replace(split, offset=split.offset + first, rows=split.rows - first, whole=False),),
    ]
