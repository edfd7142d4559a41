"""The memory bound of a task: how many compressed bytes it may be given, so that it fits its function.

``compressed bytes × 3 × factor of the heaviest operator ≤ 0.6 × memory that the process itself leaves``: the three stands
for what Parquet saves, the factor for all that a task holds for each byte of its input (the input, what the operator makes
of it, its encoded output), measured by benchmarks/larger_than_memory.py, and corrected by what a coordinator's own tasks
needed (:mod:`frazil_coordinator.schedule.peaks`). Row groups are not cut, so a split can't be smaller
than one. :mod:`frazil_coordinator.schedule.layout` uses the same figures with the real sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeAlias

from frazil_coordinator.settings import MIB, Settings

__all__ = [
    "EXPANSION",
    "FACTORS",
    "PROCESS_BYTES",
    "ROW_BY_ROW",
    "Factors",
    "factor_of",
    "largest_input_bytes",
    "least_skewed_bytes",
    "small_bytes",
    "usable_bytes",
    "within_memory",
]

EXPANSION: Final = 3
"""In-memory bytes of a compressed byte."""

PROCESS_BYTES: Final = 128 * MIB
"""Resident memory of a function that only fetches its input: the interpreter, Polars, and what is fetched ahead."""

_USABLE: Final = 0.6
"""Share of the rest that a task is planned to use."""

_SMALL_BYTES: Final = 1024 * MIB
"""Compressed bytes up to which a query starts small, where nobody says so."""

Factors: TypeAlias = Mapping[str, float]
"""How many times its input a task holds, by class of operator."""

ROW_BY_ROW: Final = "rows"
"""The class of all operators that have none of their own."""

FACTORS: Final[Factors] = MappingProxyType({"Join": 3.0, "Sort": 3.5, "GroupBy": 3.0, ROW_BY_ROW: 2.5})
"""As measured beforehand."""

_CLASSES: Final = {
    "Join": "Join",
    "Sort": "Sort",
    "MergeSorted": "Sort",
    "GroupBy": "GroupBy",
    "Distinct": "GroupBy",
    "Pivot": "GroupBy",
}


def factor_of(kinds: Iterable[str], factors: Factors = FACTORS) -> float:
    """Return how many times its input a task holds, by the kinds of its nodes."""
    return max((factors[_CLASSES.get(kind, ROW_BY_ROW)] for kind in kinds), default=factors[ROW_BY_ROW])


def largest_input_bytes(settings: Settings, factor: float) -> int | None:
    """Return the compressed bytes that one task may read; None when the memory of functions is not known."""
    if settings.function_memory_bytes is None:
        return None
    return max(1, int(usable_bytes(settings.function_memory_bytes) / (EXPANSION * factor)))


def least_skewed_bytes(settings: Settings) -> int:
    """Return the bytes that a skewed partition has more than: `skew_bytes`, or less if a task has memory for less."""
    largest = largest_input_bytes(settings, FACTORS["GroupBy"])
    return settings.skew_bytes if largest is None else min(settings.skew_bytes, largest)


def usable_bytes(limit: int) -> float:
    """Return how many bytes of the memory of a function a task is planned to use; a quarter counts however small it is."""
    return _USABLE * max(limit - PROCESS_BYTES, limit / 4)


def small_bytes(settings: Settings) -> int:
    """Return the compressed bytes up to which a query starts small."""
    return _SMALL_BYTES if settings.start_small_bytes is None else settings.start_small_bytes


def within_memory(settings: Settings, kinds: Iterable[str], factors: Factors = FACTORS) -> Settings:
    """Return `settings` with the sizes of splits, partitions, broadcasts and whole queries lowered to the memory bound.

    Parameters
    ----------
    settings
        The query's; nothing changes while `function_memory_bytes` is not known.
    kinds
        Kinds of the plan's nodes: where the query is cut is not known yet, so its heaviest operator counts everywhere.
    factors
        What operators need.
    """
    largest = largest_input_bytes(settings, factor_of(kinds, factors))
    if largest is None:
        return settings
    return replace(
        settings,
        split_target_bytes=min(settings.split_target_bytes, largest),
        shuffle_target_bytes=min(settings.shuffle_target_bytes, largest),
        broadcast_limit_bytes=min(settings.broadcast_limit_bytes, largest),
        start_small_bytes=min(small_bytes(settings), largest),
    )
