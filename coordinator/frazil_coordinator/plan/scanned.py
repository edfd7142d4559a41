"""How many bytes of files each task of a stage reads: those of the columns that are needed, by the files' footers.

Pure functions over values. :mod:`frazil_coordinator.schedule.elsewhere` asks, to tell what was not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polars.exceptions import PanicException, PolarsError

from frazil_coordinator.plan.footers import Footer
from frazil_coordinator.plan.model import ScanSource, Stage
from frazil_coordinator.plan.pushdown import observe
from frazil_functions.arena import Arena
from frazil_functions.errors import PlanError
from frazil_functions.task import ScanInput, Split, TaskInput

__all__ = ["scanned_bytes"]


def scanned_bytes(stage: Stage, tasks: Sequence[Sequence[TaskInput]]) -> tuple[int, ...]:
    """Return the bytes of files that each task reads; together they are `ScanSource.bytes`, when they read all of it.

    Parameters
    ----------
    stage
        The stage.
    tasks
        The inputs of each task.
    """
    numbers = [number for number, source in enumerate(stage.sources) if isinstance(source, ScanSource)]
    total = [0] * len(tasks)
    columns = _columns(stage, numbers) if numbers else {}
    for number in numbers:
        source = stage.sources[number]
        if not isinstance(source, ScanSource):
            continue
        footers = _footers(source)
        own = [_of_task(footers, inputs[number], columns.get(number)) for inputs in tasks]
        planned = sum(_bytes(footers, split, columns.get(number)) for group in source.splits for split in group)
        # Where the columns are not known exactly, the bytes are those of the plan, by the sizes of all columns.
        scale = source.bytes / planned if planned else 0.0
        total = [before + round(size * scale) for before, size in zip(total, own, strict=True)]
    return tuple(total)


def _of_task(footers: Mapping[str, Footer], given: TaskInput, columns: Sequence[str] | None) -> int:
    return sum(_bytes(footers, split, columns) for split in given.splits) if isinstance(given, ScanInput) else 0


def _bytes(footers: Mapping[str, Footer], split: Split, columns: Sequence[str] | None) -> int:
    if split.length is not None:
        return split.length
    footer = footers.get(split.path)
    if footer is None or footer.file_bytes is not None:
        return split.size or 0
    end = split.offset + split.rows
    size = 0
    for group in footer.row_groups:
        rows = min(end, group.first + group.rows) - max(split.offset, group.first)
        if rows > 0:
            size += group.size(columns) * rows // max(1, group.rows)
    return size


def _footers(source: ScanSource) -> dict[str, Footer]:
    table = source.table
    return {} if table is None else {file.path: footer for file, footer in zip(table.files, table.footers, strict=True)}


def _columns(stage: Stage, numbers: Sequence[int]) -> dict[int, tuple[str, ...] | None]:
    """Return the columns that the fragment reads of its scans, as Polars' optimizer says; None for all."""
    try:
        arena = Arena.decode(stage.fragment)
        places = {number: nodes for number, nodes in arena.placeholders().items() if number in numbers}
        schemas = {number: arena.lazy(nodes[0]).collect_schema() for number, nodes in places.items()}
        found = observe(arena, {number: (nodes, schemas[number]) for number, nodes in places.items()})
    except (PlanError, PolarsError, PanicException, OSError):
        return {}  # then the sizes of all columns stand for those that are read
    if found is None:
        return {}
    columns: dict[int, tuple[str, ...] | None] = {}
    for number, uses in found.items():
        if uses and all(use.columns is not None for use in uses):
            wanted = {name for use in uses for name in use.columns or ()}
            columns[number] = tuple(name for name in schemas[number].names() if name in wanted)
    return columns
