"""What tasks really needed: the factors of the memory bound, corrected by the peaks that a coordinator's tasks report.

:mod:`frazil_coordinator.plan.memory` says how many times its input a task holds, by class of operator, as it was measured
beforehand. Here the same is measured of each task that read enough to tell; the largest of the latest is what the next
stages are laid out with (:mod:`frazil_coordinator.schedule.layout`) and the next queries planned with. Nothing is kept
beyond the life of the coordinator. No clock, no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

from frazil_coordinator.plan.memory import EXPANSION, FACTORS, PROCESS_BYTES, ROW_BY_ROW, Factors, usable_bytes
from frazil_coordinator.plan.model import ScanSource, Stage, StageKind
from frazil_coordinator.schedule.pieces import Inputs
from frazil_coordinator.settings import MIB, Settings
from frazil_functions.task import BlockInfo, BlockRef, Codec, ExchangeInput, ScanInput

__all__ = ["Need", "Peaks", "Rows", "operator_of", "scan_rows", "task_bytes"]

Rows: TypeAlias = tuple[int | None, ...]
"""Rows of each of a stage's sources, where they are known."""

_EXPANSION: Final[dict[Codec, int]] = {
    "ipc": 1, "ipc_lz4": 2, "ipc_stream": 1, "ipc_stream_zstd": 3, "ipc_zstd": 3, "parquet_snappy": 3, "parquet_zstd": 3,
}  # fmt: skip
"""In-memory bytes for each encoded byte, about."""

_OPERATORS: Final[dict[StageKind, str]] = {"group_by": "GroupBy", "aggregate": "GroupBy", "sort": "Sort", "join": "Join"}
"""The class of operator that decides what a stage needs."""

_LEAST_BYTES: Final = 8 * MIB
_LEAST_SHARE: Final = 0.25
"""What a task must have read to be believed: so many bytes in memory, and such a share of what it was allowed to. What every
task needs, however little it reads, would hide it else; and a factor that has become four times as large is measured yet."""

_LATEST: Final = 64
"""Tasks of a class that are remembered."""

_ENOUGH: Final = 8
"""Tasks of a class from which a factor may become smaller. It becomes larger from the first on."""

_LOWEST: Final = 0.5
"""What a factor may become at least, by what it is beforehand: functions look at their memory 30 times a second, and miss
what is shorter."""

_HIGHEST: Final = 4.0
"""What a factor may become at most: one odd task must not cut all that comes after into crumbs."""


def operator_of(kind: StageKind) -> str:
    """Return the class of operator that decides what a stage needs."""
    return _OPERATORS.get(kind, ROW_BY_ROW)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What tasks of a stage need for what they read, and what they have."""

    factor: float
    allowed: float
    """Bytes of a function's memory that a task is planned to use; infinite when nobody said."""

    @classmethod
    def of(cls, operator: str, settings: Settings, factors: Factors) -> Need:
        """Return the need of a class of operator."""
        limit = settings.function_memory_bytes
        return cls(factor=factors[operator], allowed=float("inf") if limit is None else usable_bytes(limit))

    def bytes(self, blocks: Iterable[BlockRef | BlockInfo]) -> float:
        """Return the memory for `blocks`, about; 0 where nobody said how much there is, and so nobody asks."""
        return 0.0 if self.allowed == float("inf") else _in_memory_bytes(blocks) * self.factor

    def tasks(self, size: float) -> int:
        """Return among how many tasks so many bytes must be parted, at least 1."""
        return max(1, -int(-size // self.allowed))


def _in_memory_bytes(blocks: Iterable[BlockRef | BlockInfo]) -> int:
    return sum(block.length * _EXPANSION[block.codec] for block in blocks)


def scan_rows(stage: Stage) -> Rows:
    """Return the rows of each of a stage's tables, all of its splits together; None where not all are counted, or none."""
    return tuple(_rows(source) if isinstance(source, ScanSource) else None for source in stage.sources)


def _rows(source: ScanSource) -> int | None:
    rows = [split.rows for group in source.splits for split in group]
    return sum(rows) if all(rows) else None


def task_bytes(stage: Stage, inputs: Inputs, rows: Rows) -> int | None:
    """Return the in-memory bytes that a task reads, about; None when that is not known.

    Parameters
    ----------
    stage, inputs
        The task.
    rows
        :func:`scan_rows` of the stage. It looks at the splits of all tasks, so it is not done again for each.
    """
    if stage.kind == "combine":  # a combiner has blocks of one of the stage's sources, as its only input
        return sum(_in_memory_bytes(given.blocks) for given in inputs if isinstance(given, ExchangeInput))
    total = 0
    for source, given, counted in zip(stage.sources, inputs, rows, strict=True):
        if isinstance(given, ExchangeInput):
            share = 1 if given.hash_share is None else given.hash_share.count
            total += _in_memory_bytes(given.blocks) // share
        elif isinstance(source, ScanSource) and isinstance(given, ScanInput):
            if counted is None:
                return None
            total += EXPANSION * source.bytes * sum(split.rows for split in given.splits) // max(1, counted)
    return total


class Peaks:
    """The factors of one coordinator; the latest measurements of each class of operator."""

    def __init__(self) -> None:
        self._latest = {operator: deque[float](maxlen=_LATEST) for operator in FACTORS}
        self._factors: Factors = FACTORS

    @property
    def factors(self) -> Factors:
        """What to plan with now. An immutable value: it may be asked for in any thread."""
        return self._factors

    def note(self, stage: Stage, inputs: Inputs, rows: Rows, peak_bytes: int, limit_bytes: int | None) -> float | None:
        """Take what a task needed, and return how many times its input that is; None when it can't be told.

        Parameters
        ----------
        stage, inputs, rows
            See :func:`task_bytes`.
        peak_bytes
            Peak resident memory of its process. Of a task that ran out of memory, it is the least that it needs.
        limit_bytes
            What it was allowed to use; None when nobody said, and then nothing depends on it.
        """
        size = None if stage.kind == "combine" or limit_bytes is None else task_bytes(stage, inputs, rows)
        if size is None or limit_bytes is None:
            return None
        operator = operator_of(stage.kind)
        if size < max(_LEAST_BYTES, _LEAST_SHARE * usable_bytes(limit_bytes) / FACTORS[operator]):
            return None
        factor = max(0.0, peak_bytes - PROCESS_BYTES) / size
        self._latest[operator].append(factor)
        self._factors = MappingProxyType({**self._factors, operator: self._corrected(operator)})
        return factor

    def _corrected(self, operator: str) -> float:
        before, latest = FACTORS[operator], self._latest[operator]
        most = max(latest)
        if len(latest) < _ENOUGH:
            most = max(before, most)
        return min(max(most, before * _LOWEST), before * _HIGHEST)
