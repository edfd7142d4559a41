"""Seeded values for the columns of small tables."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

import polars as pl

__all__ = ["MONEY", "Draw"]

MONEY = pl.Decimal(7, 2)
"""The type of prices."""

_V = TypeVar("_V")
_NULL_KEYS = 0.04


class Draw:
    """Draws columns; the same seed draws the same ones.

    Parameters
    ----------
    seed
        Of the values.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def of(self, values: Sequence[_V], count: int, *, nulls: float = 0.0) -> list[_V | None]:
        """Return `count` of some values, a share of them null."""
        return [None if nulls and self._random.random() < nulls else self._random.choice(values) for _ in range(count)]

    def key(self, count: int, size: int, *, nulls: float = _NULL_KEYS) -> list[int | None]:
        """Return keys of a table of `size` rows."""
        return self.of(range(1, size + 1), count, nulls=nulls)

    def below(self, size: int) -> int:
        """Return a number from 0 on."""
        return self._random.randrange(size)

    def cents(self, count: int, *bounds: int) -> pl.Series:
        """Return prices of one of the ranges that the bounds, in cents, tell two by two."""
        ranges = list(zip(bounds[::2], bounds[1::2], strict=True))
        return money([self._random.randint(*self._random.choice(ranges)) for _ in range(count)])


def money(cents: Sequence[int]) -> pl.Series:
    """Return amounts of cents as prices."""
    return pl.Series([Decimal(value).scaleb(-2) for value in cents], dtype=MONEY)
