"""Which scans may be filtered by the keys of a join's other side, once those are known.

A row of one side of an inner join that has no partner is not in the answer, so the side may be filtered by the values that
the other side's keys have: rows are dropped before they are shuffled, and row groups and files before they are read. Here it
is found out where such a filter can go. Which column of which scan it becomes is asked of Polars: a predicate that nobody
else makes is put on the side, and is looked for where Polars' optimizer pushed it. Rules offer filters
(:func:`offer_filter`), :mod:`~frazil_coordinator.plan.stages` keeps those that the finished stages allow
(:func:`choose_filters`), and :mod:`frazil_coordinator.schedule.filters` makes predicates of real values.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.exprs import alias_of, from_expr, kind_of, members, plain_column
from frazil_coordinator.plan.model import InlineSource, RuntimeFilter, ScanSource
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.pushdown import observe
from frazil_coordinator.plan.relation import Exchange, ExchangeLeaf, Relation
from frazil_coordinator.plan.volumes import input_uses
from frazil_functions.arena import Arena
from frazil_functions.ids import StageId

__all__ = ["TIMES_SMALLER", "FilterOffer", "Finished", "StageOrder", "choose_filters", "offer_filter"]

_SEED: Final = 0x_5EED_F11E_4201
"""Of the hash by which our predicate is known again."""

TIMES_SMALLER: Final = 2
"""A scan waits for keys only of a side that reads this many times less."""

_REDUCING: Final = frozenset({"Filter", "Slice", "DataFrameScan"})
"""Nodes without one of which a side is taken to have every key that there is, so that a filter by them is of no use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOffer:
    """A filter that a join would permit."""

    build_leaf: int
    """Placeholder of the side whose keys are taken; nothing but the join reads it."""

    path: tuple[int, ...]
    """Placeholders from the join's other side to the one that is filtered: one in each stage on the way."""

    column: str
    """Column of the last of them."""

    build: Exchange
    key: str
    """Column of `build`."""

    build_bytes: int
    probe_bytes: int
    """Compressed bytes that the two sides read, by estimate."""


def offer_filter(
    probe: Relation, probe_key: RawExpr, build: Relation, build_key: RawExpr, shuffled: Relation | None
) -> list[FilterOffer]:
    """Return the filters of `probe` by the values of a key of `build`; none when it is not certain that they are exact.

    Parameters
    ----------
    probe, probe_key
        The side whose rows without a partner are not in the answer, as it is before a shuffle; and its key.
    build, build_key
        The other side, which reads an exchange and does nothing with it; and its key.
    shuffled
        The probe side behind a shuffle that was made for this join; None when it is joined where it lies.
    """
    probe_name, build_name = plain_column(probe_key), plain_column(build_key)
    if probe_name is None or build_name is None or len(build.leaves) != 1:
        return []
    dtype = probe.schema[probe_name]
    ((build_leaf, leaf),) = build.leaves.items()
    if not isinstance(leaf, ExchangeLeaf) or build.schema[build_name] != dtype or not _is_certain(dtype):
        return []
    before = () if shuffled is None else tuple(shuffled.leaves)
    return [
        FilterOffer(
            build_leaf=build_leaf,
            path=(*before, *path),
            column=column,
            build=leaf.exchange,
            key=build_name,
            build_bytes=leaf.exchange.producer.bytes,
            probe_bytes=size,
        )
        for path, column, size in _places(probe, probe_name, dtype)
    ]


def _is_certain(dtype: pl.DataType) -> bool:
    """Return whether `==`, `<=` and `is_in` tell of two values what a join does: not of NaN, -0.0 and dictionaries."""
    return dtype.is_integer() or isinstance(dtype, (pl.String, pl.Date, pl.Datetime))


def _places(relation: Relation, column: str, dtype: pl.DataType) -> Iterator[tuple[tuple[int, ...], str, int]]:
    """Yield where polars can push a predicate on `column`: placeholders on the way, the last one's column and bytes."""
    marked = relation.lf.filter(pl.col(column).hash(_SEED) == 0)
    arena = Arena.of(marked)
    nodes = {number: found for number, found in arena.placeholders().items() if number in relation.leaves}
    inputs = {number: (found, arena.lazy(found[0]).collect_schema()) for number, found in nodes.items()}
    uses = input_uses(arena)
    for number, demands in (observe(arena, inputs) or {}).items():
        # A predicate beside a limit holds for the limited rows only; one of several uses says nothing of the others.
        if len(demands) != 1 or demands[0].predicate is None or demands[0].rows is not None or uses[number] != 1:
            continue
        name = _marked(demands[0].predicate)
        if name is None or inputs[number][1].get(name) != dtype:
            continue
        leaf = relation.leaves[number]
        if isinstance(leaf, (ScanSource, InlineSource)):
            yield (number,), name, relation.bytes if isinstance(leaf, InlineSource) else leaf.bytes
        elif leaf.read == "partition" and not leaf.exchange.row_tag and name in leaf.exchange.producer.schema:
            for path, inner, size in _places(leaf.exchange.producer, name, dtype):
                yield (number, *path), inner, size


def _marked(predicate: bytes) -> str | None:
    """Return the column of our own predicate among those of a conjunction."""
    conjunction = [from_expr(pl.Expr.deserialize(io.BytesIO(predicate)))]
    while conjunction:
        part = conjunction.pop()
        inner = members(part)
        if kind_of(part) != "BinaryExpr" or not isinstance(inner, dict):
            continue
        if inner["op"] in ("And", "LogicalAnd"):
            conjunction += [inner["left"], inner["right"]]
            continue
        hashed = members(inner["left"])
        if inner["op"] == "Eq" and isinstance(hashed, dict) and hashed.get("function") == {"Hash": _SEED}:
            (value,) = cast("list[RawExpr]", hashed["input"])
            while (aliased := alias_of(value)) is not None:
                value = aliased[0]
            return plain_column(value)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What is known of a stage when all fragments are finished."""

    leaves: tuple[int, ...]
    """Its placeholders, by the numbers that they had; their order is that of its sources."""

    uses: Mapping[int, int]
    """How many ways lead from the root of the fragment to each."""

    kinds: frozenset[str]
    """Kinds of its nodes."""

    relation: Relation
    exchange: Exchange | None
    """What it writes; None for the root."""


@dataclass(slots=True)
class StageOrder:
    """The finished stages, and which waits for which."""

    stages: Sequence[Finished]
    number: dict[Exchange | None, int] = field(default_factory=dict)
    """Exchange → the stage that writes it."""

    before: list[set[int]] = field(default_factory=list)
    """Stages that each reads, or awaits."""

    readers: Counter[Exchange | None] = field(default_factory=Counter)
    """Number of placeholders that read each exchange; its skewed partitions alone do not count."""

    def __post_init__(self) -> None:
        self.number = {stage.exchange: place for place, stage in enumerate(self.stages)}
        for stage in self.stages:
            leaves = (stage.relation.leaves[leaf] for leaf in stage.leaves)
            read = [leaf for leaf in leaves if isinstance(leaf, ExchangeLeaf)]
            # Who reads skewed partitions does so for the one who reads the others: what that one needs not, nobody does.
            self.readers.update(leaf.exchange for leaf in read if leaf.partitions != "skewed")
            self.before.append({self.number[leaf.exchange] for leaf in read})

    def uses(self, stage: int, source: int) -> int:
        """Return how many ways lead from the root of a stage's fragment to one of its sources."""
        return self.stages[stage].uses.get(self.stages[stage].leaves[source], 0)

    def bytes(self, stage: int) -> int:
        """Return the compressed bytes that a stage, and those before it, read of tables, about."""
        return self.stages[stage].relation.bytes

    def end_of(self, offer: FilterOffer) -> int | None:
        """Return the stage that an offer would filter; None when its join is not there, or rows are read by others too."""
        joins = [place for place, stage in enumerate(self.stages) if offer.build_leaf in stage.leaves]
        if len(joins) != 1:
            return None
        (place,) = joins
        *way, last = offer.path
        for leaf in way:
            stage = self.stages[place]
            source = stage.relation.leaves.get(leaf)
            if stage.uses.get(leaf) != 1 or not isinstance(source, ExchangeLeaf) or self.readers[source.exchange] != 1:
                return None
            place = self.number[source.exchange]
        return place if self.stages[place].uses.get(last) == 1 else None

    def until(self, stage: int) -> set[int]:
        """Return `stage`, and all that come before it."""
        found, ahead = {stage}, [stage]
        while ahead:
            new = self.before[ahead.pop()] - found
            found |= new
            ahead += new
        return found

    def reduces(self, stage: int) -> bool:
        """Return whether a stage may lack keys of its tables."""
        return any(map(self._reduces, self.until(stage)))

    def _reduces(self, number: int) -> bool:
        stage = self.stages[number]
        return bool(stage.kinds & _REDUCING) or any(
            isinstance(stage.relation.leaves[leaf], InlineSource) for leaf in stage.leaves
        )


def choose_filters(offers: Sequence[FilterOffer], order: StageOrder) -> dict[StageId, tuple[RuntimeFilter, ...]]:
    """Return the filters of each stage that has any.

    Parameters
    ----------
    offers
        What the joins permit.
    order
        The stages; what waits for what is added.

    Notes
    -----
    An offer holds when its join is in the plan, when nothing else reads what would be filtered, and when no stage would wait
    for itself. It is taken when the keys may be fewer than there are, and, where a scan has to wait for them, when the
    side that they come from reads less.
    """
    chosen: dict[StageId, list[RuntimeFilter]] = {}
    for offer in offers:
        target = order.end_of(offer)
        if target is None:  # also where the rule that offered it was given up, and its exchange is no part of the plan
            continue
        build = order.number[offer.build]
        if target in order.until(build) or not order.reduces(build):
            continue
        waits = build not in order.before[target]
        if waits:
            if offer.build_bytes * TIMES_SMALLER > offer.probe_bytes:
                continue
            order.before[target].add(build)
        leaf = offer.path[-1]
        source = order.stages[target].relation.leaves[leaf]
        chosen.setdefault(StageId(target), []).append(
            RuntimeFilter(
                source=order.stages[target].leaves.index(leaf),
                column=offer.column,
                build=StageId(build),
                key=offer.key,
                waits=waits,
                table=source.table if isinstance(source, ScanSource) else None,
            )
        )
    return {stage: tuple(filters) for stage, filters in chosen.items()}
