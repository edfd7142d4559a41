"""Several queries as one, where they share work: what :func:`polars.collect_all` is for.

Queries with an equal sub-plan that is worth it (a join, an aggregate, a sort …) are sent as one: the rows of each become
structs, one column a query, one query's rows after the other's. The coordinator computes an equal sub-plan once, and the
answer is taken apart here. Used by :mod:`frazil._engine`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from frazil_functions.arena import Arena
from frazil_functions.errors import FrazilError

__all__ = ["Together", "in_order", "together"]

_WORTH_SHARING: Final = frozenset({"Distinct", "GroupBy", "HConcat", "Join", "MergeSorted", "Pivot", "SQL", "Sort"})
_NOT_COMBINED: Final = frozenset({"Sink", "SinkMultiple"})
_NUMBER: Final = "__frazil_number"
_ROWS: Final = "__frazil_rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """Queries that are sent as one."""

    numbers: tuple[int, ...]
    """Which of the user's queries they are."""

    lf: pl.LazyFrame
    """The query that is sent: of one query, the query itself."""

    def split(self, frame: pl.DataFrame) -> list[pl.DataFrame]:
        """Return the answers of the queries, in the order of `numbers`."""
        if len(self.numbers) == 1:
            return [frame]
        return [
            frame.filter(pl.col(_NUMBER) == number).select(f"{_ROWS}{number}").unnest(f"{_ROWS}{number}")
            for number in self.numbers
        ]


def together(lfs: Sequence[pl.LazyFrame]) -> list[Together]:
    """Return the queries in groups that share work; a query that shares none is a group of its own."""
    shared = [_shareable(lf) for lf in lfs] if len(lfs) > 1 else [frozenset[str]()] * len(lfs)
    groups: list[tuple[set[int], set[str]]] = []
    for number, digests in enumerate(shared):
        mine: tuple[set[int], set[str]] = ({number}, set(digests))
        for group in [group for group in groups if group[1] & digests]:
            groups.remove(group)
            mine = (mine[0] | group[0], mine[1] | group[1])
        groups.append(mine)
    return [_together(lfs, numbers) for numbers in sorted(tuple(sorted(group)) for group, _ in groups)]


def in_order(groups: Sequence[Together], frames: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Return the answers of the user's queries in their order, given those of the groups."""
    answers = {
        number: answer
        for group, frame in zip(groups, frames, strict=True)
        for number, answer in zip(group.numbers, group.split(frame), strict=True)
    }
    return [answers[number] for number in sorted(answers)]


def _together(lfs: Sequence[pl.LazyFrame], numbers: tuple[int, ...]) -> Together:
    if len(numbers) == 1:
        return Together(numbers=numbers, lf=lfs[numbers[0]])
    parts = [
        lfs[number].select(pl.lit(number, dtype=pl.UInt32).alias(_NUMBER), pl.struct(pl.all()).alias(f"{_ROWS}{number}"))
        for number in numbers
    ]
    return Together(numbers=numbers, lf=pl.concat(parts, how="diagonal"))


def _shareable(lf: pl.LazyFrame) -> frozenset[str]:
    """Return the digests of the sub-plans of a query that are worth computing once for several."""
    try:
        arena = Arena.of(lf)
    except FrazilError:  # said better when the query is sent
        return frozenset()
    if arena.kind(arena.root) in _NOT_COMBINED or arena.payload(arena.root).get("expr") == []:  # no rows, or no columns
        return frozenset()
    return frozenset(digest for number, digest in arena.digests().items() if arena.kind(number) in _WORTH_SHARING)
