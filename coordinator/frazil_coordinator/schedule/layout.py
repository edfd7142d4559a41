"""Lay a bound stage out over its tasks: from what the planner foresaw to what the sizes ask for.

The planner counts *units*: hash partitions, key ranges, groups of splits. When the producers are finished the real sizes
are known, and units are joined (small partitions), cut (a skewed partition of a join by the tasks that wrote it, one that
would not fit into memory by a finer hash), and divided again when a task ran out of memory after all. Pure functions over
values; :mod:`frazil_coordinator.schedule.driver` asks for a layout at each stage barrier, and
:mod:`frazil_coordinator.schedule.pieces` makes the pieces of a unit.

The idea is that of Spark's adaptive execution (SPARK-31412: coalesced and skewed shuffle partitions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from frazil_coordinator.plan.memory import FACTORS, Factors, least_skewed_bytes
from frazil_coordinator.plan.model import ExchangeSource, Source, Stage, StageGraph
from frazil_coordinator.schedule.bind import Descriptors, Skewed, Units, bind_stage
from frazil_coordinator.schedule.filters import filtered, tasks_left
from frazil_coordinator.schedule.peaks import Need, operator_of
from frazil_coordinator.schedule.pieces import Inputs, cut_by_hash, cut_by_rows, cut_source, divide, joined
from frazil_coordinator.schedule.skew import even_size, most_even_bytes, skewed_partitions
from frazil_coordinator.settings import MIB, Settings
from frazil_functions.ids import StageId
from frazil_functions.task import BlockRef, ExchangeInput

__all__ = ["Layout", "Share", "lay_out"]

_COALESCE_BYTES: Final = 64 * MIB
_MOST_PIECES: Final = 256
"""Pieces that one unit is cut into at a barrier, at most."""

_MOST_DIVISIONS: Final = 8
"""Times that a share is divided in two after running out of memory, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one task of a stage does."""

    unit: int
    """The planned task that it stands for: the first of those that it does, or the one that it is a part of."""

    inputs: Inputs
    divisions: int = 0
    """How often it was divided after running out of memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The tasks of a stage. ``shares[i]`` is what task `i` does; tasks of a division are appended."""

    stage: Stage
    graph: StageGraph
    shares: tuple[Share, ...]
    notes: tuple[str, ...] = ()
    """What was changed and why, for the profile."""

    as_planned: bool = True
    """Whether task `i` is unit `i`, for all of them."""

    order: tuple[int, ...]
    """Tasks that count, in the order of their rows; a task that was divided is left out."""

    keys: tuple[bytes, ...] = ()
    """Keys at which a range may be cut, ascending."""

    memory_factor: float = 0.0
    """How many times its input a task is expected to hold; 0 when nobody asked."""

    @property
    def units(self) -> tuple[int, ...]:
        """The unit of each task that counts, in order."""
        return tuple(self.shares[task].unit for task in self.order)

    def filtered(self, build: StageId, descriptors: Descriptors, settings: Settings) -> Layout:
        """Return the layout with the filters by keys of a stage that finished after this one was laid out."""
        stage = replace(self.stage, filters=tuple(one for one in self.stage.filters if one.build == build))
        inputs, notes = filtered(stage, [share.inputs for share in self.shares], descriptors, settings.runtime_filter_values)
        shares = tuple(replace(share, inputs=own) for share, own in zip(self.shares, inputs, strict=True))
        return replace(self, shares=shares, notes=(*self.notes, *(f"from then on, {note}" for note in notes)))

    def divided(self, task: int) -> Layout | None:
        """Return the layout with two tasks in the place of `task`; None when it can't be divided.

        The new tasks are the last two of `shares`.
        """
        share = self.shares[task]
        if share.divisions >= _MOST_DIVISIONS or self.stage.output.row_tag:
            return None  # a row tag names the task: its rows would not be in order any more
        by_hash_first = share.divisions % 2 == 0
        parts = divide(self.stage, self.graph, share.inputs, keys=self.keys, by_hash_first=by_hash_first)
        if parts is None:
            return None
        first = len(self.shares)
        shares = [Share(unit=share.unit, inputs=inputs, divisions=share.divisions + 1) for inputs in parts.pieces]
        place = self.order.index(task)
        new = tuple(range(first, first + len(shares)))
        return replace(
            self,
            shares=(*self.shares, *shares),
            notes=(*self.notes, f"task {task} ran out of memory: divided {parts.how} into tasks {new[0]} and {new[-1]}"),
            as_planned=False,
            order=(*self.order[:place], *new, *self.order[place + 1 :]),
        )


def lay_out(
    stage: Stage,
    descriptors: Descriptors,
    graph: StageGraph,
    settings: Settings,
    units: Units,
    factors: Factors = FACTORS,
) -> Layout:
    """Return the tasks of a stage whose producers are finished.

    Parameters
    ----------
    stage, descriptors, graph, units
        See :func:`~frazil_coordinator.schedule.bind.bind_stage`. `descriptors` may have those of stages in `Stage.awaits`
        as well; those that it doesn't have are taken not to be finished.
    settings
        `coalesce_bytes`, `skew_bytes`, `skew_factor`, `function_memory_bytes`, `runtime_filter_values`.
    factors
        How many times their input tasks hold (:mod:`frazil_coordinator.schedule.peaks`).

    Raises
    ------
    InternalError
        As :func:`~frazil_coordinator.schedule.bind.bind_stage` does.
    """
    small = _coalesce_bytes(settings)
    need = Need.of(operator_of(stage.kind), settings, factors)
    of_ranges = Need.of("Sort", settings, factors)
    wanted = None if _must_align(stage.id, graph) else _ranges(stage, descriptors, small, of_ranges)
    skewed = skewed_partitions(stage, descriptors, settings)
    bound = bind_stage(stage, descriptors, graph, units=units, ranges=wanted, skewed=skewed)
    shares = [Share(unit=_unit(number, len(bound), stage), inputs=inputs) for number, inputs in enumerate(bound)]
    notes = [*stage.notes, *_told_factor(need, operator_of(stage.kind)), *_told_skew(stage, skewed)]
    if stage.reserve:
        shares = [share for share in shares if _reads(share.inputs)]
    if wanted is not None and wanted != stage.tasks:
        notes.append(f"{wanted} ranges instead of {stage.tasks}")
    if not stage.output.row_tag:  # row tags name the task: parts of one would not be in order
        middle = even_size(stage, descriptors)
        shares, cuts = _cut(stage, graph, *_cut_whole(stage, shares, need), settings, need, middle)
        notes += cuts
    if small and _reads_partitions(stage) and not _must_align(stage.id, graph):
        tasks = _coalesced(stage, shares, small, need)
        if len(tasks) < len(shares):
            notes.append(f"{len(shares)} partitions joined into {len(tasks)}")
        shares = tasks
    if small:
        left = _without_empty(stage, shares)
        if len(left) < len(shares):
            notes.append(f"{len(shares) - len(left)} of {len(shares)} tasks left out: nothing to read")
        shares = left
    if stage.filters:
        shares, told = _filtered(stage, shares, descriptors, settings)
        notes += told
    counted = stage.tasks if stage.units is None else stage.units
    as_planned = [share.unit for share in shares] == list(range(counted))
    return Layout(
        stage=stage,
        graph=graph,
        shares=tuple(shares),
        notes=tuple(notes),
        as_planned=as_planned,
        order=tuple(range(len(shares))),
        keys=_range_keys(stage, descriptors),
        memory_factor=need.factor,
    )


def _filtered(
    stage: Stage, shares: Sequence[Share], descriptors: Descriptors, settings: Settings
) -> tuple[list[Share], list[str]]:
    """Filter what the tasks read by the keys of other stages that have finished, and leave out tasks that read nothing."""
    inputs, notes = filtered(stage, [share.inputs for share in shares], descriptors, settings.runtime_filter_values)
    left = tasks_left(stage, inputs)
    if len(left) < len(shares):
        notes.append(f"{len(shares) - len(left)} of {len(shares)} tasks left out")
    return [replace(shares[task], inputs=inputs[task]) for task in left], notes


def _told_factor(need: Need, operator: str) -> list[str]:
    if need.allowed == float("inf") or need.factor == FACTORS[operator]:
        return []
    return [f"memory of {need.factor:.1f} times the input foreseen instead of {FACTORS[operator]:.1f}: what tasks needed"]


def _told_skew(stage: Stage, skewed: Skewed) -> list[str]:
    """Return what to tell of the skewed partitions that a stage leaves to others."""
    left = [source.stage for source in stage.sources if isinstance(source, ExchangeSource) and source.partitions == "even"]
    found = [(producer, sorted(skewed[producer])) for producer in left if skewed[producer]]
    return [
        f"skewed partitions of stage {producer} left to the stages in reserve: {', '.join(map(str, numbers))}"
        for producer, numbers in found
    ]


def _reads(inputs: Inputs) -> bool:
    """Return whether there are any rows in the exchanges that a task reads."""
    return any(given.blocks for given in inputs if isinstance(given, ExchangeInput))


def _coalesce_bytes(settings: Settings) -> int:
    if settings.coalesce_bytes is not None:
        return settings.coalesce_bytes
    return 0 if settings.max_rows_per_split is not None else _COALESCE_BYTES


def _unit(number: int, count: int, stage: Stage) -> int:
    units = stage.tasks if stage.units is None else stage.units
    return number if count == units else number * units // count


# What a stage reads


def _parts(stage: Stage) -> list[ExchangeSource]:
    """Return the exchanges of which each task reads a part."""
    return [source for source in stage.sources if isinstance(source, ExchangeSource) and source.read != "all"]


def _reads_only(stage: Stage, read: str) -> bool:
    """Return whether the stage reads parts of one kind from its first task to its last, or everything."""
    parts = _parts(stage)
    return (
        bool(parts)
        and all(isinstance(source, ExchangeSource) for source in stage.sources)
        and all(part.read == read and part.first_task == 0 and part.tasks in (None, stage.tasks) for part in parts)
    )


def _reads_partitions(stage: Stage) -> bool:
    return _reads_only(stage, "partition")


def _must_align(stage: StageId, graph: StageGraph) -> bool:
    """Return whether a consumer reads the tasks of `stage` side by side with parts of something else."""
    for consumer in graph.stages:
        parts = [source for source in consumer.sources if not (isinstance(source, ExchangeSource) and source.read == "all")]
        own = [part for part in parts if isinstance(part, ExchangeSource) and part.stage == stage and part.read == "task"]
        if own and len(own) < len(parts):
            return True
    return False


def _blocks(stage: Stage, inputs: Inputs) -> list[BlockRef]:
    """Return the blocks of the parts that a task reads; not those that every task reads."""
    return [
        block
        for source, given in zip(stage.sources, inputs, strict=True)
        if isinstance(source, ExchangeSource) and source.read != "all" and isinstance(given, ExchangeInput)
        for block in given.blocks
    ]


def _size(stage: Stage, share: Share) -> int:
    return sum(block.length for block in _blocks(stage, share.inputs))


def _range_keys(stage: Stage, descriptors: Descriptors) -> tuple[bytes, ...]:
    ranged = [part.stage for part in _parts(stage) if part.read == "range"]
    infos = (info for producer in ranged for one in descriptors[producer] for info in one.blocks)
    return tuple(sorted({info.low for info in infos if info.low is not None}))


# Joining


def _ranges(stage: Stage, descriptors: Descriptors, small: int, of_sort: Need) -> int | None:
    """Return how many key ranges the stage should read; None when it reads something else, or they name its rows."""
    if not _reads_only(stage, "range") or stage.output.row_tag:
        return None
    infos = [info for part in _parts(stage) for one in descriptors[part.stage] for info in one.blocks]
    size = sum(info.length for info in infos)
    least = of_sort.tasks(of_sort.bytes(infos))
    wanted = max(least, min(stage.tasks, -(-size // small))) if small else max(least, stage.tasks)
    return min(wanted, max(1, len(infos)))


def _coalesced(stage: Stage, shares: Sequence[Share], small: int, need: Need) -> list[Share]:
    """Join neighbours while together they are at most `small` bytes, and fit into memory."""
    groups: list[list[Share]] = []
    size, needed = 0, 0.0
    for share in shares:
        blocks = _blocks(stage, share.inputs)
        own, own_need = sum(block.length for block in blocks), need.bytes(blocks)
        fits = size + own <= small and needed + own_need <= need.allowed
        if groups and fits and not _is_part(share) and not _is_part(groups[-1][-1]):
            groups[-1].append(share)
            size, needed = size + own, needed + own_need
        else:
            groups.append([share])
            size, needed = own, own_need
    return [
        group[0] if len(group) == 1 else Share(unit=group[0].unit, inputs=joined(stage, [share.inputs for share in group]))
        for group in groups
    ]


def _without_empty(stage: Stage, shares: Sequence[Share]) -> list[Share]:
    """Leave out the tasks that have nothing to read, but for one.

    A hash partition or a range without rows may be joined with any neighbour, which it adds nothing to; so may what one
    task wrote, where its rows may be divided.
    """
    parts = [number for number, source in enumerate(stage.sources) if not _is_whole(source)]
    of_one = len(parts) == 1 and parts[0] in stage.divisible and isinstance(stage.sources[parts[0]], ExchangeSource)
    if not (of_one or _reads_only(stage, "partition") or _reads_only(stage, "range")):
        return list(shares)
    return [share for share in shares if _blocks(stage, share.inputs)] or list(shares[:1])


def _is_whole(source: Source) -> bool:
    return isinstance(source, ExchangeSource) and source.read == "all"


def _is_part(share: Share) -> bool:
    """Return whether the share is but a part of its unit."""
    return share.divisions > 0


# Cutting


def _cut_whole(stage: Stage, shares: Sequence[Share], need: Need) -> tuple[list[Share], list[str]]:
    """Part what every task reads of a join that pairs any two rows, where it would not fit into memory."""
    cut, notes = list(shares), list[str]()
    for number in sorted(stage.divisible) if shares else ():
        given = shares[0].inputs[number]
        if not _is_whole(stage.sources[number]) or not isinstance(given, ExchangeInput):
            continue
        needed = need.bytes(given.blocks)
        pieces = cut_source(shares[0].inputs, number, min(_MOST_PIECES, need.tasks(needed)))
        if len(pieces) < 2:
            continue
        notes.append(f"what every task reads of a join cut into {len(pieces)}: whole, it would need {needed:,.0f} bytes")
        cut = [
            replace(share, inputs=(*share.inputs[:number], piece[number], *share.inputs[number + 1 :]), divisions=1)
            for share in cut
            for piece in pieces
        ]
    return cut, notes


def _cut(
    stage: Stage,
    graph: StageGraph,
    shares: Sequence[Share],
    notes: list[str],
    settings: Settings,
    need: Need,
    middle: int | None,
) -> tuple[list[Share], list[str]]:
    """Cut the shares that are far larger than `middle` or the median, and those that would not fit into memory."""
    if not _parts(stage) or not shares:
        return list(shares), notes
    sizes = [_size(stage, share) for share in shares]
    middle = int(median(sizes)) if middle is None else middle
    skewed = most_even_bytes(middle, settings)
    cut: list[Share] = []
    for share, size in zip(shares, sizes, strict=True):
        pieces = [share.inputs]
        if size > skewed:
            target = max(middle, least_skewed_bytes(settings) // 4, 1)
            pieces = cut_by_rows(stage, share.inputs, min(_MOST_PIECES, -(-size // target)))
            if len(pieces) > 1:
                notes.append(f"partition {share.unit} of {size:,} bytes cut into {len(pieces)} by the tasks that wrote it")
        needed = max(need.bytes(_blocks(stage, inputs)) for inputs in pieces)
        if needed > need.allowed:
            count = min(_MOST_PIECES, need.tasks(needed))
            finer = [piece for inputs in pieces for piece in cut_by_hash(stage, graph, inputs, count)]
            if len(finer) > len(pieces):
                notes.append(
                    f"partition {share.unit} cut into {len(finer)} by a finer hash: it would need {needed:,.0f} bytes"
                )
            pieces = finer
        # A piece counts as divided, so that it is not joined with its neighbours again.
        divisions = share.divisions + (len(pieces) > 1)
        cut += [replace(share, inputs=inputs, divisions=divisions) for inputs in pieces]
    return cut, notes
