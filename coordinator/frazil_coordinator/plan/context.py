"""What every rule of distribution shares: numbers for placeholders, tables, settings, and the exchanges they may insert.

Next: :mod:`frazil_coordinator.plan.rules`, one module a family of nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from frazil_coordinator.plan.exprs import from_expr, serialised
from frazil_coordinator.plan.model import StageKind
from frazil_coordinator.plan.relation import (
    ANY,
    RANGE_BLOCKS_PER_PARTITION,
    SINGLE,
    Distribution,
    Exchange,
    ExchangeLeaf,
    Read,
    Relation,
    placeholder,
)
from frazil_coordinator.plan.runtime_filters import FilterOffer
from frazil_coordinator.plan.tables import Cuts, Table, cut
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena
from frazil_functions.task import ROW_TAG_COLUMNS, SortKey

__all__ = ["Context"]


class Context:
    """Shared state of planning one query.

    Parameters
    ----------
    arena
        The user's plan.
    settings
        The query's settings.
    tables
        Scan node number → its table, or the reason why it can't be split.
    columns
        Scan node number → columns that the query reads of it; missing or None for all.
    small
        Whether the whole query runs in one task.
    """

    def __init__(
        self,
        arena: Arena,
        settings: Settings,
        *,
        tables: dict[int, Table | str],
        columns: dict[int, tuple[str, ...] | None],
        small: bool = False,
    ) -> None:
        self.arena = arena
        self.settings = settings
        self.tables = tables
        self.columns = columns
        self.small = small
        self.partitions = 1
        """Partitions of every hash and range exchange of the query: joined sides must agree."""
        self.ordered: frozenset[int] = frozenset()
        """Nodes the order of whose rows can be seen (:mod:`~frazil_coordinator.plan.order`)."""
        self.filters: list[FilterOffer] = []
        """Runtime filters that joins permit."""
        self._numbers = 0
        self._cuts: dict[int, Cuts] = {}
        self._exchanges: dict[tuple[object, ...], Exchange] = {}

    def number(self) -> int:
        """Return a placeholder number that is unique in the query."""
        self._numbers += 1
        return self._numbers - 1

    def cuts(self, number: int, table: Table) -> Cuts:
        """Return the splits of the table of scan node `number`; they are packed once."""
        if number not in self._cuts:
            self._cuts[number] = cut(table, self.columns.get(number), self.settings, small=self.small)
        return self._cuts[number]

    def read(self, exchange: Exchange, read: Read, distribution: Distribution, kind: StageKind, operator: str) -> Relation:
        """Return a relation that reads `exchange`."""
        number = self.number()
        schema = dict(exchange.producer.schema)
        if exchange.row_tag:
            schema |= dict(zip(ROW_TAG_COLUMNS, (pl.UInt32(), pl.UInt64()), strict=True))
        return Relation(
            lf=placeholder(number, pl.Schema(schema)),
            leaves={number: ExchangeLeaf(exchange=exchange, read=read)},
            distribution=distribution,
            kind=kind,
            operators=(operator,),
            bytes=exchange.producer.bytes,
            divisible=frozenset({number}) if read in ("partition", "task") else frozenset(),
        )

    def _exchange(self, exchange: Exchange) -> Exchange:
        """Return an equal exchange that was made before, or this one."""
        key = (
            id(exchange.producer),
            exchange.kind,
            exchange.partitions,
            tuple(serialised(from_expr(key)) for key in exchange.hash_keys),
            exchange.sort_keys,
            exchange.stable,
            exchange.row_tag,
        )
        return self._exchanges.setdefault(key, exchange)

    def gather(self, relation: Relation, reason: str | None = None, *, kind: StageKind = "gather") -> Relation:
        """Bring all rows into one task, in order; `reason` makes it a fallback."""
        if relation.is_single:
            return relation
        exchange = self._exchange(Exchange(producer=relation, kind="single"))
        gathered = self.read(exchange, "all", SINGLE, "single" if reason else kind, "GATHER")
        return replace(gathered, fallbacks=(reason,)) if reason else gathered

    def broadcast(self, relation: Relation) -> Relation:
        """Give every task all rows; the result's distribution is that of what it is combined with."""
        exchange = self._exchange(Exchange(producer=relation, kind="broadcast"))
        return self.read(exchange, "all", SINGLE, "map", "BROADCAST")

    def shuffle(
        self,
        relation: Relation,
        keys: Sequence[pl.Expr],
        *,
        delivers: Distribution,
        kind: StageKind,
        row_tag: bool = False,
    ) -> Relation:
        """Bring rows of equal keys into one task; rows keep their order inside a partition."""
        exchange = self._exchange(
            Exchange(producer=relation, kind="hash", partitions=self.partitions, hash_keys=tuple(keys), row_tag=row_tag)
        )
        return self.read(exchange, "partition", delivers, kind, f"SHUFFLE {delivers}")

    def sort(self, relation: Relation, keys: Sequence[SortKey], *, stable: bool) -> Relation:
        """Sort by columns: sampled ranges, one a task, so that the tasks' rows one after the other are in order."""
        by = {
            "by": [key.column for key in keys],
            "descending": [key.descending for key in keys],
            "nulls_last": [key.nulls_last for key in keys],
            "maintain_order": stable,
        }
        text = "SORT " + ", ".join(f"{key.column}{' desc' if key.descending else ''}" for key in keys)
        if relation.is_single:
            return relation.then(relation.lf.sort(**by), text)  # type: ignore[arg-type]  # the arguments of sort
        exchange = self._exchange(
            Exchange(
                producer=relation,
                kind="range",
                partitions=self.partitions * RANGE_BLOCKS_PER_PARTITION,
                sort_keys=tuple(keys),
                stable=stable,
            )
        )
        delivers = Distribution(kind="range", keys=tuple(key.column for key in keys))
        ranges = self.read(exchange, "range", delivers, "sort", f"SHUFFLE {delivers}")
        return ranges.then(ranges.lf.sort(**by), text)  # type: ignore[arg-type]  # the arguments of sort

    def restore_order(self, relation: Relation) -> Relation:
        """Bring rows that carry row tags back into the order in which they were tagged, and drop the tags."""
        keys = [SortKey(column=name, descending=False, nulls_last=False) for name in ROW_TAG_COLUMNS]
        ordered = self.sort(relation, keys, stable=True)
        return ordered.then(
            ordered.lf.drop(ROW_TAG_COLUMNS), "RESTORE ORDER", distribution=_without(ordered, ROW_TAG_COLUMNS)
        )

    def renumbered(self, relation: Relation) -> Relation:
        """Return the relation with placeholders of its own, to stand beside itself in one fragment."""
        numbers = {number: self.number() for number in relation.leaves}
        arena = Arena.of(relation.lf)
        arena.renumber_placeholders(numbers)
        leaves = {numbers[number]: leaf for number, leaf in relation.leaves.items()}
        divisible = frozenset(numbers[number] for number in relation.divisible)
        return replace(relation, lf=arena.lazy(), leaves=leaves, divisible=divisible)

    def alone(self, relation: Relation) -> Relation:
        """Compute a relation in a stage of its own; its tasks read one partition each, also when there is but one."""
        exchange = self._exchange(Exchange(producer=relation, kind="single"))
        distribution = ANY if relation.is_single else relation.distribution
        return self.read(exchange, "task", distribution, "map", "READ")

    def tagged(self, relation: Relation) -> Relation:
        """Compute a relation in a stage of its own, with row tags; its tasks read what they wrote, in order."""
        exchange = self._exchange(Exchange(producer=relation, kind="single", row_tag=True))
        return self.read(exchange, "task", ANY, "map", "TAGGED")

    def once(self, relation: Relation) -> Relation:
        """Compute a relation in a stage of its own, so that several consumers share it; its distribution is kept."""
        exchange = self._exchange(Exchange(producer=relation, kind="single"))
        read: Read = "all" if relation.is_single else "task"
        return self.read(exchange, read, relation.distribution, "map", "SHARED")


def _without(relation: Relation, columns: Sequence[str]) -> Distribution:
    if relation.is_single:
        return SINGLE
    return ANY if set(columns) & set(relation.distribution.keys) else relation.distribution
