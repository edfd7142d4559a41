"""Bind a stage's inputs at its barrier: from the descriptors of finished producers to what each planned task reads.

Pure functions over values. The reader needs no LIST and no footer read: every block is named with its place, size and
checksum. Where a stage's output goes is decided here too, so that the layout of object keys stands in one place. Next on
the main path: :mod:`frazil_coordinator.schedule.layout`, which joins and cuts the planned tasks by their real sizes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TypeAlias, assert_never

from frazil_coordinator.plan.model import ExchangeSource, InlineSource, ScanSource, Source, Stage, StageGraph
from frazil_coordinator.settings import Settings
from frazil_functions.errors import InternalError
from frazil_functions.ids import QueryId, StageId
from frazil_functions.task import BlockInfo, BlockRef, Descriptor, ExchangeInput, KeyRange, Output, ScanInput, TaskInput

__all__ = [
    "Descriptors",
    "Skewed",
    "Units",
    "bind_stage",
    "choose_splitters",
    "output_for",
    "query_prefixes",
    "result_blocks",
]

Descriptors: TypeAlias = Mapping[StageId, Sequence[Descriptor]]
"""What finished stages wrote: their tasks' descriptors, in the order of their rows."""

Units: TypeAlias = Mapping[StageId, Sequence[int]]
"""For each of those descriptors, the planned task that its task stands for; a stage that is missing ran as planned."""


Skewed: TypeAlias = Mapping[StageId, frozenset[int]]
"""Numbers of the skewed partitions that a stage wrote."""


def bind_stage(
    stage: Stage,
    descriptors: Descriptors,
    graph: StageGraph,
    *,
    units: Units | None = None,
    ranges: int | None = None,
    skewed: Skewed | None = None,
) -> tuple[tuple[TaskInput, ...], ...]:
    """Return what each planned task of `stage` reads.

    Parameters
    ----------
    stage
        The stage to bind.
    descriptors
        Descriptors of all its producers.
    graph
        The plan that `stage` belongs to.
    units
        How the producers' tasks were joined or cut.
    ranges
        Number of key ranges, when the stage reads ranges only and another number than planned is wanted.
    skewed
        The skewed partitions of the producers of which some stages read only those, or only the others.

    Returns
    -------
    tuple[tuple[TaskInput, ...], ...]
        ``[t][n]`` is what task `t` reads in the place of ``stage.sources[n]``. A task may have nothing to read; it runs
        all the same, because an aggregate of nothing has an answer.

    Raises
    ------
    InternalError
        When `stage` has another number of tasks than a source has groups of splits.
    """
    stage = stage if ranges is None else _with_ranges(stage, ranges)
    columns = [
        _only(source, _bind_source(stage, source, descriptors, graph, units or {}), skewed or {}) for source in stage.sources
    ]
    return tuple(tuple(column[task] for column in columns) for task in range(stage.tasks))


def _only(source: Source, inputs: Sequence[TaskInput], skewed: Skewed) -> Sequence[TaskInput]:
    """Return what tasks read of the partitions that they are to read, and nothing of the others."""
    if not isinstance(source, ExchangeSource) or source.partitions == "all":
        return inputs
    wanted, found = source.partitions == "skewed", skewed.get(source.stage, frozenset())
    nothing = ExchangeInput(blocks=())
    return [given if (task - source.first_task in found) == wanted else nothing for task, given in enumerate(inputs)]


def _with_ranges(stage: Stage, ranges: int) -> Stage:
    sources = tuple(
        replace(source, tasks=ranges) if isinstance(source, ExchangeSource) and source.read == "range" else source
        for source in stage.sources
    )
    return replace(stage, tasks=ranges, sources=sources)


def _bind_source(
    stage: Stage, source: Source, descriptors: Descriptors, graph: StageGraph, units: Units
) -> Sequence[TaskInput]:
    """Return what each task of `stage` reads of `source`."""
    if isinstance(source, ScanSource):
        if len(source.splits) != stage.tasks:
            raise InternalError(
                f"stage {stage.id} has {stage.tasks} tasks, but {source.path} has {len(source.splits)} splits"
            )
        return [ScanInput(splits=splits, scan_type=source.scan_type) for splits in source.splits]
    if isinstance(source, InlineSource):
        if len(source.blocks) != stage.tasks:
            raise InternalError(f"stage {stage.id} has {stage.tasks} tasks, but a frame has {len(source.blocks)} parts")
        return [ExchangeInput(blocks=blocks) for blocks in source.blocks]
    maps = [_Map.of(descriptor, index) for index, descriptor in enumerate(descriptors[source.stage])]
    if source.read == "all":
        return [ExchangeInput(blocks=tuple(ref for one in maps for ref in one.refs))] * stage.tasks
    own = _bind_partitions(stage, source, maps, descriptors, graph, units)
    behind = stage.tasks - source.first_task - len(own)
    if behind < 0:
        raise InternalError(f"stage {stage.id} has {stage.tasks} tasks, fewer than the partitions of stage {source.stage}")
    nothing = ExchangeInput(blocks=())
    return [*[nothing] * source.first_task, *own, *[nothing] * behind]


def _bind_partitions(
    stage: Stage, source: ExchangeSource, maps: Sequence[_Map], descriptors: Descriptors, graph: StageGraph, units: Units
) -> Sequence[ExchangeInput]:
    """Return what each task that reads a part of `source` reads of it."""
    tasks = source.tasks or stage.tasks
    match source.read:
        case "task":
            return [ExchangeInput(blocks=tuple(refs)) for refs in _by_unit(maps, units.get(source.stage), tasks)]
        case "partition":
            return [ExchangeInput(blocks=tuple(refs)) for refs in _by_partition(maps, tasks)]
        case "range":
            ranges = _key_ranges(stage, source, tasks, descriptors)
            sort_keys = graph.stages[source.stage].output.sort_keys
            return [
                ExchangeInput(
                    blocks=() if part is None else tuple(ref for one in maps for ref in one.overlapping(part)),
                    key_range=None if part is None or part == KeyRange(low=None, high=None) else part,
                    sort_keys=sort_keys,
                )
                for part in ranges
            ]
        case "all":
            raise InternalError(f"stage {stage.id} reads all of stage {source.stage}, not a part of it")
        case _:
            assert_never(source.read)


@dataclass(frozen=True, slots=True)
class _Map:
    """The output of one task of a producer."""

    infos: Sequence[BlockInfo]
    refs: Sequence[BlockRef]

    @classmethod
    def of(cls, descriptor: Descriptor, index: int) -> _Map:
        return cls(descriptor.blocks, tuple(_block_ref(descriptor, info, index) for info in descriptor.blocks))

    def overlapping(self, part: KeyRange) -> Sequence[BlockRef]:
        """Return the blocks that may hold a key of `part`.

        Block `k` of a sorted run spans ``[low_k, low_k+1]``: equal keys may lie in both. The last one has no upper end.
        """
        lows = [_low(info) for info in self.infos]
        first = 0 if part.low is None else max(0, bisect_left(lows, part.low) - 1)
        behind = len(lows) if part.high is None else bisect_left(lows, part.high)
        return self.refs[first:behind]


def _by_unit(maps: Sequence[_Map], units: Sequence[int] | None, tasks: int) -> Sequence[Sequence[BlockRef]]:
    """Return the blocks of each planned task of a producer, whichever of its real tasks wrote them."""
    if units is None:
        return [one.refs for one in maps]
    found: list[list[BlockRef]] = [[] for _ in range(tasks)]
    for one, unit in zip(maps, units, strict=True):
        found[unit].extend(one.refs)
    return found


def _by_partition(maps: Sequence[_Map], partitions: int) -> list[list[BlockRef]]:
    found: list[list[BlockRef]] = [[] for _ in range(partitions)]
    for one in maps:
        for info, ref in zip(one.infos, one.refs, strict=True):
            found[info.partition].append(ref)
    return found


def _block_ref(descriptor: Descriptor, info: BlockInfo, index: int) -> BlockRef:
    inline = descriptor.inline
    return BlockRef(
        key=descriptor.key or "",
        offset=info.offset,
        length=info.length,
        rows=info.rows,
        crc32c=info.crc32c,
        codec=info.codec,
        map_index=index,
        data=None if inline is None else inline[info.offset : info.offset + info.length],
    )


def _low(info: BlockInfo) -> bytes:
    return b"" if info.low is None else info.low  # the empty key is below all others


def _key_ranges(stage: Stage, source: ExchangeSource, tasks: int, descriptors: Descriptors) -> list[KeyRange | None]:
    """Return the range of keys of each task that reads `source`, ascending; None for a task that gets none.

    Sources that the same tasks read are cut at the same keys.
    """
    infos = [
        info
        for other in stage.sources
        if isinstance(other, ExchangeSource) and other.read == "range" and other.first_task == source.first_task
        for descriptor in descriptors[other.stage]
        for info in descriptor.blocks
    ]
    splitters = choose_splitters(infos, tasks)
    ends: list[bytes | None] = [None, *splitters, None]
    ranges = [KeyRange(low=low, high=high) for low, high in pairwise(ends)]
    return [*ranges, *[None] * (tasks - len(ranges))]


def choose_splitters(blocks: Sequence[BlockInfo], parts: int) -> list[bytes]:
    """Return at most ``parts - 1`` ascending, different keys that cut the rows of `blocks` into about equal parts.

    Parameters
    ----------
    blocks
        Blocks of sorted runs. The encoded key of the first row stands for all rows of a block, so that a block bounds the
        error. Keys ascend in the order asked for, descending and nulls_last included.
    parts
        Number of ranges wanted, > 0.

    Notes
    -----
    Many equal keys, or few blocks, give fewer ranges. The lowest key is never a splitter: nothing lies below it.
    """
    ordered = sorted((_low(block), block.rows) for block in blocks)
    if not ordered:
        return []
    lows = [low for low, _ in ordered]
    before = [0, *accumulate(rows for _, rows in ordered)]
    total = before[-1]
    chosen = (lows[min(bisect_left(before, total * part / parts), len(lows) - 1)] for part in range(1, parts))
    return sorted({low for low in chosen if low > lows[0]})


def output_for(
    stage: Stage, task: int, *, query: QueryId, settings: Settings, exchange_prefix: str, tasks: int | None = None
) -> Output:
    """Return how `task` of `stage` writes its output.

    Parameters
    ----------
    stage, task, query
        The task.
    settings
        Codec and limits of inline output. The limit of one task is lowered to its share of the stage's.
    exchange_prefix
        Key prefix of all exchange objects.
    tasks
        Number of tasks of the stage, when it isn't what was planned.
    """
    spec = stage.output
    share = settings.inline_stage_limit_bytes // max(1, stage.tasks if tasks is None else tasks)
    (prefix,) = query_prefixes(exchange_prefix, query)
    return Output(
        kind=spec.kind,
        partitions=spec.partitions,
        hash_keys=spec.hash_keys,
        sort_keys=spec.sort_keys,
        row_tag=spec.row_tag,
        codec=settings.codec,
        prefix=f"{prefix}{stage.id}/{task}",
        inline_limit_bytes=min(settings.inline_limit_bytes, share) if spec.inline else 0,
        key_columns=spec.key_columns,
        key_values=settings.runtime_filter_values if spec.key_columns else 0,
        final=spec.final,
    )


def query_prefixes(exchange_prefix: str, query: QueryId) -> tuple[str, ...]:
    """Return the key prefixes under which all exchange objects of `query` lie: list and delete these when it has ended.

    The two hexadecimal digits that spread load over the store come from the query's id, so there is one prefix a query:
    ``<exchange prefix>/<2 hex>/<query>/``.
    """
    digits = hashlib.sha256(query.encode()).hexdigest()[:2]
    root = exchange_prefix.strip("/")
    return (f"{root}/{digits}/{query}/" if root else f"{digits}/{query}/",)


def result_blocks(descriptors: Sequence[Descriptor]) -> tuple[BlockRef, ...]:
    """Return the blocks that a stage wrote, by task, in block order."""
    return tuple(ref for index, descriptor in enumerate(descriptors) for ref in _Map.of(descriptor, index).refs)
