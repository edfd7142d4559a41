"""The journals of all queries: beginning, reading, taking over and forgetting them.

Layout, below the prefix (docs/journal.md)::

    <query>/<segment number>     records, oldest first
    <query>/plan                 the user's plan, when it is large
    <query>/stages-<name>        what it was cut into, when that is large

All methods but :meth:`Journal.log` block. Next: :mod:`frazil_coordinator.journal.log` appends.
"""

from __future__ import annotations

import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from frazil_coordinator.journal.history import Remembered, fold
from frazil_coordinator.journal.log import GROUP_S, QueryLog, create_once, segment_key
from frazil_coordinator.journal.plan_codec import PlannedQuery, decode_plan, encode_plan
from frazil_coordinator.journal.records import Accepted, Planned, Record, TakenOver, decode_segment, encode_segment
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.metered import MeteredStore
from frazil_coordinator.metrics import Metrics
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.report import Report
from frazil_functions.errors import JournalError, StorageError
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store

__all__ = ["Journal"]

_INLINE_BYTES: Final = 64 * 1024
"""Sealed plans above have an object of their own, which need not be read to see what a query is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The journals in one store, as one coordinator writes them."""

    store: Store = field(repr=False)
    sealer: Sealer = field(repr=False)
    prefix: str = "journal"
    coordinator: str = field(default_factory=lambda: secrets.token_hex(8))
    """Random name of this process."""

    group_s: float = GROUP_S
    on_append: Callable[[float], None] | None = field(default=None, repr=False)
    """Called with the seconds until a segment was durable."""

    def told(self, metrics: Metrics) -> Journal:
        """Return the same journal, which tells `metrics` what it does."""
        store = MeteredStore(self.store, metrics, "journal")
        return replace(self, store=store, on_append=metrics.store.journal_seconds.observe)

    def log(self, query: QueryId, next_segment: int = 0) -> QueryLog:
        """Return what appends to the journal of `query`."""
        folder = self._folder(query)
        return QueryLog(
            self.store,
            folder,
            query,
            writer=self.coordinator,
            next_segment=next_segment,
            group_s=self.group_s,
            on_append=self.on_append,
        )

    def sealed_plan(self, query: QueryId, plan: bytes) -> bytes:
        """Return a user's plan for its `Accepted`; what is large is stored, and empty here: 1 PUT."""
        return self._sealed_or_stored(query, "plan", plan)

    def plan(self, accepted: Accepted) -> bytes:
        """Return the user's plan: no request, or 1 GET.

        Raises
        ------
        JournalError
            When it was sealed with another key, or damaged.
        """
        return self._unsealed_or_read(accepted.query, "plan", accepted.plan)

    def planned(
        self, query: QueryId, graph: StageGraph, report: Report, *, sink_folder: str, sink_stamp: str, release: str = ""
    ) -> Planned:
        """Return the record of what a query was cut into; what is large is stored: 1 PUT."""
        # Not a number: a coordinator that was replaced must not write over what the new one has planned.
        name = f"stages-{secrets.token_hex(8)}"
        stages = self._sealed_or_stored(query, name, encode_plan(graph, report))
        return Planned(name=name, stages=stages, sink_folder=sink_folder, sink_stamp=sink_stamp, release=release)

    def stages(self, query: QueryId, planned: Planned) -> PlannedQuery:
        """Return what a query was cut into: no request, or 1 GET. Raises as :meth:`plan`."""
        return decode_plan(self._unsealed_or_read(query, planned.name, planned.stages))

    def queries(self) -> dict[QueryId, int]:
        """Return the queries that have a journal, with the number of their segments: 1 LIST per 1,000 objects."""
        found: dict[QueryId, int] = defaultdict(int)
        start = len(self.prefix) + 1
        for info in self.store.list(self.prefix):
            query, _, name = info.key[start:].partition("/")
            found[QueryId(query)] += name.isdecimal()
        return dict(found)

    def has(self, query: QueryId) -> bool:
        """Return whether anything is kept of a query: 1 LIST; also True when the store can't tell."""
        try:
            return bool(self.store.list(self._folder(query)))
        except StorageError:
            return True

    def read(self, query: QueryId, segments: int) -> Remembered:
        """Return what the first `segments` segments of a query say, 1 GET each.

        Raises
        ------
        JournalError
            When it can't be understood.
        """
        folder, records = self._folder(query), list[Record]()
        number = 0
        while number < segments:
            key = segment_key(folder, number)
            records += decode_segment(self.store.get(key), f"{self.store.url}/{key}")
            number += 1
        return fold(records, segments=number)

    def take_over(self, query: QueryId, segments: int) -> tuple[Remembered, QueryLog]:
        """Go on with a query: from here on, what another coordinator appends is refused. 1 PUT, beside reading.

        Raises
        ------
        JournalError
            When the journal can't be understood; nothing is written then.
        """
        while True:
            remembered = self.read(query, segments)
            record = TakenOver(coordinator=self.coordinator, unix_s=time.time())
            key = segment_key(self._folder(query), segments)
            if create_once(self.store, key, encode_segment(self.coordinator, [record])):
                return remembered, self.log(query, segments + 1)
            segments += 1  # whoever else writes it has appended one meanwhile

    def forget(self, query: QueryId) -> None:
        """Delete all that is kept of a query: LIST, then DELETE."""
        self.store.delete_prefix(self._folder(query))

    def _folder(self, query: QueryId) -> str:
        return f"{self.prefix}/{query}"

    def _sealed_or_stored(self, query: QueryId, name: str, data: bytes) -> bytes:
        sealed = self.sealer.seal(data, context=f"{query}/{name}")
        if len(sealed) <= _INLINE_BYTES:
            return sealed
        self.store.put(f"{self._folder(query)}/{name}", [sealed])
        return b""

    def _unsealed_or_read(self, query: QueryId, name: str, sealed: bytes) -> bytes:
        try:
            data = sealed or self.store.get(f"{self._folder(query)}/{name}")
            return self.sealer.unseal(data, context=f"{query}/{name}")
        except JournalError as error:
            raise JournalError(f"{name} of query {query}: {error.message}") from error
