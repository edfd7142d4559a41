"""How long tasks took in real runs: what is recorded, and drawing from it.

:mod:`benchmarks.simulated.record` writes it; next is :mod:`benchmarks.simulated.world`.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["FILE", "QUANTILES", "Durations", "read_durations"]

FILE: Final = Path(__file__).parent / "durations.json"
QUANTILES: Final = 51


class Durations(msgspec.Struct, frozen=True, kw_only=True):
    """The seconds that tasks took, by kind of stage."""

    origin: str
    """The run that they are of."""

    tasks: dict[str, int]
    """How many there were."""

    quantiles_s: dict[str, tuple[float, ...]]
    """The least, …, the greatest, evenly spaced."""

    def draw(self, kind: str, source: random.Random) -> float:
        """Return the seconds of a task, as frequent here as there."""
        quantiles = self.quantiles_s[kind]
        place = source.random() * (len(quantiles) - 1)
        below = int(place)
        return quantiles[below] + (place - below) * (quantiles[below + 1] - quantiles[below])


def read_durations() -> Durations:
    """Return what was recorded."""
    return msgspec.json.decode(FILE.read_bytes(), type=Durations)
