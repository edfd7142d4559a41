"""GROUPING SETS, ROLLUP and CUBE: one GROUP BY a set over one shared input, as polars lowers them.

Next: :mod:`~frazil_coordinator.plan.sql.groups`, which says what the aggregates are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.sql.dialect import Unclear

__all__ = ["GroupingSets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupingSets:
    """The keys of a GROUP BY, and by which of them each of its parts is grouped."""

    keys: tuple[exp.Expr, ...]
    sets: tuple[tuple[int, ...], ...]
    """The places of the keys of each set."""

    @classmethod
    def of(cls, items: Sequence[exp.Expr]) -> GroupingSets | None:
        """Return the sets of a GROUP BY; None when it is an ordinary one."""
        alternatives = [_alternatives(item) for item in items]
        if all(one is None for one in alternatives):
            return None
        keys: list[exp.Expr] = []
        for parts in (one or [[item]] for item, one in zip(items, alternatives, strict=True)):
            for key in (key for part in parts for key in part):
                if key not in keys:
                    keys.append(key)
        sets = [
            tuple(dict.fromkeys(keys.index(key) for part in chosen for key in part))
            for chosen in product(*(one or [[item]] for item, one in zip(items, alternatives, strict=True)))
        ]
        return cls(keys=tuple(keys), sets=tuple(sets))

    def aggregate(
        self,
        lf: pl.LazyFrame,
        names: Sequence[str],
        aggregates: Sequence[pl.Expr],
        groupings: Mapping[str, Sequence[int]],
    ) -> pl.LazyFrame:
        """Return the rows of all sets: the keys (null where a set is not grouped by one), the aggregates, the GROUPINGs.

        Parameters
        ----------
        lf
            The rows.
        names
            The keys' columns.
        aggregates
            The aggregates, named.
        groupings
            Name → the places of the keys that a call of GROUPING asks for.

        Raises
        ------
        Unclear
            When there is nothing to aggregate.
        """
        if not aggregates:
            raise Unclear("grouping sets without aggregates")
        schema = lf.collect_schema()
        shared = lf.cache() if len(self.sets) > 1 else lf
        branches = []
        for chosen in self.sets:
            groups = (
                shared.group_by([names[place] for place in chosen]).agg(aggregates) if chosen else shared.select(aggregates)
            )
            keys = [
                pl.col(name) if place in chosen else pl.lit(None, dtype=schema[name]).alias(name)
                for place, name in enumerate(names)
            ]
            values = [
                pl.lit(_grouping_value(chosen, asked), dtype=pl.Int64).alias(name) for name, asked in groupings.items()
            ]
            branches.append(groups.select(*keys, *(pl.col(one.meta.output_name()) for one in aggregates), *values))
        return branches[0] if len(branches) == 1 else pl.union(branches, how="vertical")


def _alternatives(item: exp.Expr) -> list[list[exp.Expr]] | None:
    """Return the lists of keys that an item of a GROUP BY stands for; None when it is a key itself."""
    if isinstance(item, exp.Tuple) and not item.expressions:
        return [[]]
    if isinstance(item, exp.GroupingSets):
        if any(isinstance(one, (exp.Rollup, exp.Cube, exp.GroupingSets)) for one in item.expressions):
            raise Unclear("grouping sets inside grouping sets")
        return [_members(one) for one in item.expressions]
    if isinstance(item, exp.Rollup):
        groups = [_members(one) for one in item.expressions]
        return [_flat(groups[:count]) for count in range(len(groups), -1, -1)]
    if isinstance(item, exp.Cube):
        groups = [_members(one) for one in item.expressions]
        count = len(groups)
        masks = range((1 << count) - 1, -1, -1)
        return [_flat([group for place, group in enumerate(groups) if mask >> place & 1]) for mask in masks]
    return None


def _members(item: exp.Expr) -> list[exp.Expr]:
    return list(item.expressions) if isinstance(item, exp.Tuple) else [item.unnest()]


def _flat(groups: Sequence[Sequence[exp.Expr]]) -> list[exp.Expr]:
    return [key for group in groups for key in group]


def _grouping_value(chosen: Sequence[int], asked: Sequence[int]) -> int:
    """Return the bits of a call of GROUPING: one for each argument that the set leaves out, the last argument's lowest."""
    value = 0
    for place in asked:
        value = value << 1 | (place not in chosen)
    return value
