"""The figures of a query's profile that the benchmarks show, as typed values."""

from __future__ import annotations

import msgspec

__all__ = ["QueryFigures", "StageFigures", "figures"]


class StageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage did; the fields are those of ``query.profile()``."""

    stage: int
    kind: str
    tasks: int
    attempts: int
    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    bytes_scanned: int = 0
    """Of files; the profile tells it of stages that scan."""

    requests: dict[str, int]
    seconds: float
    function_seconds: float
    peak_memory_bytes: int
    cold_starts: int
    fallbacks: tuple[str, ...]


class QueryFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a query did."""

    query: str
    seconds: float
    """Wall seconds from the first stage's start to the end."""

    function_seconds: float
    """Sum of the seconds in functions."""

    requests: dict[str, int]
    """Exchange-store requests by operation."""

    bytes_scanned: int
    dollars: float
    """By the price table of the coordinator."""

    stages: tuple[StageFigures, ...]

    @property
    def tasks(self) -> int:
        """Tasks of all stages."""
        return sum(stage.tasks for stage in self.stages)

    @property
    def attempts(self) -> int:
        """Attempts of all stages."""
        return sum(stage.attempts for stage in self.stages)

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Reasons why parts of the query ran in one task."""
        return tuple(reason for stage in self.stages for reason in stage.fallbacks)

    @property
    def early_fallbacks(self) -> tuple[str, ...]:
        """Those of them before the final stage, where they hold up real work."""
        return tuple(reason for stage in self.stages[:-1] for reason in stage.fallbacks)


def figures(profile: dict[str, object]) -> QueryFigures:
    """Read what ``query.profile()`` returned."""
    return msgspec.convert(profile, QueryFigures)
