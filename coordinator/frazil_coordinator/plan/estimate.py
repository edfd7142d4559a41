"""What a planned query will read, move, need and cost: the figures of EXPLAIN, and what caps are compared with.

Pure: from the stages, their footers' figures and the settings. How many rows a fragment yields comes from
:mod:`frazil_coordinator.plan.volumes`; requests follow docs/exchange.md (P PUT and P·R GET a shuffle). Every amount says
whether it is exact, an upper bound or a guess. Next: :mod:`frazil_coordinator.plan.caps` and
:mod:`frazil_coordinator.plan.report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from frazil_coordinator.plan.combining import grid_side
from frazil_coordinator.plan.figures import NOTHING, UNKNOWN, Amount, Bound, StageEstimate, total
from frazil_coordinator.plan.memory import EXPANSION, FACTORS, PROCESS_BYTES, Factors, factor_of
from frazil_coordinator.plan.model import (
    INLINE_FRAGMENT_BYTES,
    ExchangeSource,
    ExchangeSpec,
    InlineSource,
    ScanSource,
    Source,
    Stage,
    StageGraph,
)
from frazil_coordinator.plan.volumes import row_bytes, volume
from frazil_coordinator.prices import Prices
from frazil_coordinator.settings import Settings
from frazil_functions.exchange.reader import MAX_REQUEST_BYTES
from frazil_functions.ids import StageId
from frazil_functions.scan_files import is_remote
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["WholeScans", "estimate"]

WholeScans = Mapping[tuple[str, ...], int]
"""Paths of a scan that is not cut into splits → bytes of its files."""

_BLOCK_BYTES, _COLUMN_BYTES = 512, 320
"""What a block takes besides its values, and each of its columns (measured with all codecs)."""

_NONE_LIKELY: Final = Amount(value=0, bound="about")
_TAG_BYTES: Final = 12
_SPLIT_GETS: Final = 3
"""HEAD and footer of a split's file, besides its column chunks."""

# Of the order that two threads reach on a local store (PDS-H, docs/pdsh.md); a guess everywhere else.
_TASK_S: Final = 0.03
_SCAN_BYTES_A_SECOND: Final = 60e6
_EXCHANGE_BYTES_A_SECOND: Final = 150e6


@dataclass(frozen=True, slots=True, kw_only=True)
class _Output:
    """What a stage hands on."""

    rows: Amount
    bytes: Amount
    objects: int
    """Tasks whose output is an object; 0 when it travels inline."""

    certain: bool
    """Whether it can't be otherwise that it travels inline."""

    tasks: int


def estimate(
    graph: StageGraph, settings: Settings, whole: WholeScans | None = None, factors: Factors = FACTORS
) -> tuple[StageEstimate, ...]:
    """Return the figures of each stage.

    Parameters
    ----------
    graph
        The plan.
    settings
        Prices and limits of inline output.
    whole
        Sizes of the scans that are not cut; those that it does not have are unknown.
    factors
        How many times their input tasks hold.
    """
    outputs: dict[StageId, _Output] = {}
    found: list[StageEstimate] = []
    readers = {stage.combiner: stage for stage in graph.stages}
    for stage in graph.stages:
        if stage.kind == "combine":
            found.append(_combiners(stage, readers[stage.id], outputs, settings))
            continue
        if stage.reserve:
            found.append(_of_reserve(settings))
            outputs[stage.id] = _Output(rows=_NONE_LIKELY, bytes=_NONE_LIKELY, objects=0, certain=False, tasks=stage.tasks)
            continue
        figures, outputs[stage.id] = _stage(stage, outputs, settings, whole or {}, factors)
        found.append(figures)
    return tuple(found)


def _stage(
    stage: Stage, outputs: Mapping[StageId, _Output], settings: Settings, whole: WholeScans, factors: Factors
) -> tuple[StageEstimate, _Output]:
    once = [_rows_once(source, outputs) for source in stage.sources]
    flow = volume(stage.fragment, once, stage.tasks)
    reads = [_read(stage, source, outputs, flow.uses.get(number, 1)) for number, source in enumerate(stage.sources)]
    of_files = [_scanned(source) for source in stage.sources]
    scanned = total([*of_files, *(_whole(paths, whole, stage) for paths in flow.whole)])
    bytes_in = total(read.bytes for read in reads)
    rows_in = total([*(read.rows for read in reads), *(UNKNOWN for _ in flow.whole)])
    if stage.first_rows is not None:  # tasks that come after enough rows never start
        scanned, bytes_in, rows_in = scanned.at_most(), bytes_in.at_most(), rows_in.at_most()
    output = _output(stage, flow.rows, flow.schema, settings)
    of_exchange = total(read.gets for read in reads)
    if stage.combiner is not None:
        of_exchange = _combined_gets(stage, outputs, settings) or of_exchange.about()
    gets = total([of_exchange, _fragment_gets(stage)])
    scan_gets = total(_scan_gets(source) for source in stage.sources)
    puts = _puts(output)
    seconds = (
        stage.tasks * _TASK_S
        + scanned.value / _SCAN_BYTES_A_SECOND
        + (bytes_in.value + output.bytes.value) / _EXCHANGE_BYTES_A_SECOND
    )
    dollars = Prices.of(settings).dollars(
        function_seconds=seconds,
        requests={"get": gets.value + scan_gets.value, "put": puts.value},
        bytes_read=scanned.value + bytes_in.value,
    )
    figures = StageEstimate(
        rows_in=rows_in,
        rows_out=flow.rows,
        bytes_scanned=scanned,
        bytes_in=bytes_in,
        bytes_out=output.bytes,
        memory_bytes=PROCESS_BYTES + int(factor_of(flow.kinds, factors) * _task_bytes(stage, reads, scanned)),
        memory_limit_bytes=settings.function_memory_bytes,
        scan_gets=scan_gets,
        gets=gets,
        puts=puts,
        function_seconds=seconds,
        dollars=dollars,
    )
    return figures, output


def _of_reserve(settings: Settings) -> StageEstimate:
    """Return the figures of a stage that has no task unless a partition turns out skewed, which is not expected."""
    return StageEstimate(
        rows_in=_NONE_LIKELY,
        rows_out=_NONE_LIKELY,
        bytes_scanned=NOTHING,
        bytes_in=_NONE_LIKELY,
        bytes_out=_NONE_LIKELY,
        memory_bytes=0,
        memory_limit_bytes=settings.function_memory_bytes,
        scan_gets=NOTHING,
        gets=_NONE_LIKELY,
        puts=_NONE_LIKELY,
        function_seconds=0.0,
        dollars=0.0,
    )


# What is read


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What the tasks of a stage read of one source, all together."""

    rows: Amount
    bytes: Amount = NOTHING
    gets: Amount = NOTHING
    largest_bytes: int = 0
    """In-memory bytes that one task holds of it."""


def _rows_once(source: Source, outputs: Mapping[StageId, _Output]) -> Amount:
    """Return the rows of a source, each once."""
    if isinstance(source, ExchangeSource):
        return outputs[source.stage].rows
    if isinstance(source, InlineSource):
        return Amount(value=source.rows)
    splits = [split for group in source.splits for split in group]
    rows = sum(split.rows for split in splits)
    return Amount(value=rows, bound="exact" if all(split.rows > 0 for split in splits) else "unknown")


def _read(stage: Stage, source: Source, outputs: Mapping[StageId, _Output], uses: int) -> _Read:
    """Return what the tasks read of a source that the fragment uses so often.

    Of an exchange it is at most that: polars may read it once, or not to its end when nothing can come of the rest.
    """
    rows = _rows_once(source, outputs)
    if isinstance(source, ScanSource):
        groups = sum(bool(group) for group in source.splits)
        return _Read(rows=rows, largest_bytes=EXPANSION * source.bytes // max(1, groups))
    if isinstance(source, InlineSource):
        size = max((sum(block.length for block in blocks) for blocks in source.blocks), default=0)
        bytes_in = sum(block.length for blocks in source.blocks for block in blocks)
        moved = Amount(value=bytes_in * uses, bound="at_most")
        return _Read(rows=rows.times(uses).at_most(), bytes=moved, largest_bytes=EXPANSION * size * uses)
    output = outputs[source.stage]
    readers = source.tasks or stage.tasks
    object_bytes = output.bytes.value // max(1, output.tasks)
    if source.read == "all":
        readers, own = stage.tasks, output.bytes.value
        rows, moved = rows.times(readers), output.bytes.times(readers)
        gets = readers * output.objects * _requests(object_bytes)
    elif source.read == "task":
        own, moved = object_bytes, output.bytes
        gets = output.objects * _requests(object_bytes)
    else:
        own, moved = output.bytes.value // max(1, readers), output.bytes
        gets = readers * output.objects * _requests(object_bytes // max(1, readers))
    if source.read == "range":
        rows = rows.about()  # blocks that overlap two ranges are read by both tasks
        moved = moved.about()
    # None is certain only where everything travels inline; many are not more than that if the size is not.
    bound: Bound = "about"
    if output.certain:
        bound = "exact"
    elif gets and output.bytes.is_upper:
        bound = "at_most"
    return _Read(
        rows=rows.times(uses).at_most(),
        bytes=moved.times(uses).at_most(),
        gets=Amount(value=gets * uses, bound=bound),
        largest_bytes=own * uses,
    )


def _requests(size: int) -> int:
    """Return the GETs for a range of an object."""
    return max(1, -(-size // MAX_REQUEST_BYTES))


def _scanned(source: Source) -> Amount:
    return Amount(value=source.bytes) if isinstance(source, ScanSource) else NOTHING


def _whole(paths: tuple[str, ...], whole: WholeScans, stage: Stage) -> Amount:
    """Return the bytes of a scan that every task reads whole: at most, because columns that nobody reads are left out."""
    size = whole.get(paths)
    return UNKNOWN if size is None else Amount(value=size * stage.tasks, bound="at_most")


def _scan_gets(source: Source) -> Amount:
    """Return a guess of the requests for files: one a column chunk, and those for the file's end."""
    if not isinstance(source, ScanSource):
        return NOTHING
    splits = [split for group in source.splits for split in group if is_remote(split.path)]
    if not splits:
        return NOTHING
    return Amount(value=_SPLIT_GETS * len(splits) + source.chunks, bound="about")


def _fragment_gets(stage: Stage) -> Amount:
    """Return the requests for a fragment that is too large to travel with each task."""
    return Amount(value=stage.tasks) if len(stage.fragment) > INLINE_FRAGMENT_BYTES else NOTHING


def _task_bytes(stage: Stage, reads: Sequence[_Read], scanned: Amount) -> int:
    """Return the in-memory bytes that the largest task reads."""
    of_sources = sum(source.bytes for source in stage.sources if isinstance(source, ScanSource))
    whole = EXPANSION * (scanned.value - of_sources) // stage.tasks
    return sum(read.largest_bytes for read in reads) + whole


# What is combined before it is read


def _asked(reader: Stage, outputs: Mapping[StageId, _Output]) -> list[tuple[_Output, int]]:
    """Return what a stage reads of others that is in objects, and how many tasks read of each object."""
    parts = [source for source in reader.sources if isinstance(source, ExchangeSource)]
    asked = [(outputs[part.stage], 1 if part.read == "task" else part.tasks or reader.tasks) for part in parts]
    most = sum(output.objects * readers for output, readers in asked)
    return asked if most else []


def _goes_first(asked: Sequence[tuple[_Output, int]], settings: Settings) -> bool:
    """Return whether combiners are to be expected; small blocks, whose sizes nobody knows yet, may call for them too."""
    most = settings.two_level_requests
    return most is not None and sum(output.objects * readers for output, readers in asked) > most


def _combined_gets(reader: Stage, outputs: Mapping[StageId, _Output], settings: Settings) -> Amount | None:
    """Return the requests of a stage that reads what was combined; None when that is not to be expected."""
    asked = _asked(reader, outputs)
    if not _goes_first(asked, settings):
        return None
    return Amount(value=sum(grid_side(output.objects) * readers for output, readers in asked), bound="about")


def _combiners(stage: Stage, reader: Stage, outputs: Mapping[StageId, _Output], settings: Settings) -> StageEstimate:
    """Return the figures of a stage of combiners: nothing unless it is to be expected that they are needed."""
    asked = _asked(reader, outputs)
    expected = asked if _goes_first(asked, settings) else []
    rows = total(output.rows for output, _ in expected).about()
    size = total(output.bytes for output, _ in expected).about()
    gets = Amount(value=sum(output.objects * grid_side(readers) for output, readers in expected), bound="about")
    puts = Amount(value=stage.tasks if expected else 0, bound="about")
    seconds = stage.tasks * _TASK_S + 2 * size.value / _EXCHANGE_BYTES_A_SECOND if expected else 0.0
    return StageEstimate(
        rows_in=rows,
        rows_out=rows,
        bytes_scanned=NOTHING,
        bytes_in=size,
        bytes_out=size,
        memory_bytes=PROCESS_BYTES + size.value // stage.tasks,
        memory_limit_bytes=settings.function_memory_bytes,
        scan_gets=NOTHING,
        gets=gets,
        puts=puts,
        function_seconds=seconds,
        dollars=Prices.of(settings).dollars(
            function_seconds=seconds, requests={"get": gets.value, "put": puts.value}, bytes_read=size.value
        ),
    )


# What is written


def _output(stage: Stage, rows: Amount, schema: pl.Schema, settings: Settings) -> _Output:
    """Return what a stage hands on: its values uncompressed, which is an upper bound of what any codec makes of them."""
    spec = stage.output
    width = row_bytes(schema)
    tags = _TAG_BYTES if spec.row_tag else 0
    columns = len(schema) + (len(ROW_TAG_COLUMNS) if spec.row_tag else 0)
    # A validity bit a value, rounded up to a byte: an upper bound of what nulls take.
    values = rows.value * (width.value + tags + -(-columns // 8))
    blocks = stage.tasks * min(_blocks(spec), max(1, rows.value))
    size = values + blocks * (_BLOCK_BYTES + _COLUMN_BYTES * columns)
    bound = total([rows, width]).at_most().bound
    limit = min(settings.inline_limit_bytes, settings.inline_stage_limit_bytes // stage.tasks) if spec.inline else 0
    moved = Amount(value=size, bound=bound)
    inline = size // stage.tasks <= limit
    # However unevenly the rows lie: all of them fit, or there is one a task.
    certain = inline and moved.is_upper and (size <= limit or rows.value <= stage.tasks)
    return _Output(rows=rows, bytes=moved, objects=0 if inline else stage.tasks, certain=certain, tasks=stage.tasks)


def _blocks(spec: ExchangeSpec) -> int:
    return spec.partitions if spec.kind in ("hash", "range") else 1


def _puts(output: _Output) -> Amount:
    """Return the PUTs: one a task, but for tasks without output or with little."""
    if not output.objects:
        return Amount(value=0, bound="exact" if output.certain else "about")
    return Amount(value=output.objects, bound="at_most")
