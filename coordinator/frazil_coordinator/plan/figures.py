"""The figures of an estimate: amounts that know how far they can be trusted.

:mod:`frazil_coordinator.plan.estimate` makes them, :mod:`frazil_coordinator.plan.explain` shows them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["NOTHING", "UNKNOWN", "Amount", "Bound", "StageEstimate", "total"]

Bound: TypeAlias = Literal["exact", "at_most", "about", "unknown"]

_ORDER: Final[tuple[Bound, ...]] = ("exact", "at_most", "about", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """A number, and what is known of it."""

    value: int
    bound: Bound = "exact"
    """``exact``; ``at_most``: an upper bound; ``about``: a guess, which may be off either way; ``unknown``: what the number
    does not hold can't be known before the query runs."""

    @property
    def is_upper(self) -> bool:
        """Whether it can't be more."""
        return self.bound in ("exact", "at_most")

    def at_most(self) -> Amount:
        """Return the same number as an upper bound, if it was as good as one."""
        return Amount(value=self.value, bound=_worst(self.bound, "at_most"))

    def about(self) -> Amount:
        """Return the same number as a guess."""
        return Amount(value=self.value, bound=_worst(self.bound, "about"))

    def times(self, factor: int) -> Amount:
        """Return a multiple."""
        return Amount(value=self.value * factor, bound=self.bound)


NOTHING: Final = Amount(value=0)
UNKNOWN: Final = Amount(value=0, bound="unknown")


def total(amounts: Iterable[Amount]) -> Amount:
    """Return the sum, which is as good as the worst of its parts."""
    parts = list(amounts)
    bounds: list[Bound] = [part.bound for part in parts]
    return Amount(value=sum(part.value for part in parts), bound=_worst(*bounds))


def _worst(*bounds: Bound) -> Bound:
    return _ORDER[max(map(_ORDER.index, bounds), default=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEstimate:
    """What a stage will read, write, need and cost, as far as it is known when it is planned."""

    rows_in: Amount
    """Rows that its tasks read, all together: a broadcast side counts once a task."""

    rows_out: Amount
    bytes_scanned: Amount
    """Compressed bytes of the columns that are read of files."""

    bytes_in: Amount
    """Encoded exchange bytes that its tasks read, all together."""

    bytes_out: Amount
    """Encoded exchange bytes that its tasks write."""

    memory_bytes: int
    """Resident memory that its largest task needs, the process itself included."""

    memory_limit_bytes: int | None
    """What a function has; None when nobody said."""

    scan_gets: Amount
    """GET and HEAD requests for files of remote tables."""

    gets: Amount
    """GET requests to the exchange store."""

    puts: Amount
    """PUT requests to the exchange store."""

    function_seconds: float
    """Seconds that functions need for it, all tasks together: a guess of the order of magnitude."""

    dollars: float
    """Price of the functions and requests above."""
