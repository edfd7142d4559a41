"""Batches of a result: read segment by segment, each worker its own segments, from any point again.

A *segment* is a run of rows, the same for all workers: segment ``i`` of ``segment_rows`` rows begins at row ``i *
segment_rows``. Worker ``n`` of ``m`` reads the segments ``n``, ``n + m``, ``n + 2 m`` …; so every row is read by exactly
one worker, and a worker holds one segment at a time. Where it is, is a segment and a row in it (:class:`BatchesState`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import polars as pl

from frazil._query import Query
from frazil_functions.errors import RequestError

__all__ = ["Batches", "BatchesState"]

_VERSION = 1


class BatchesState(TypedDict):
    """Where a worker is: what a checkpoint holds."""

    version: int
    query: str
    segment_rows: int
    shard: tuple[int, int]
    segment: int
    """The segment that is read next, or goes on."""

    row: int
    """Rows of it that were given out."""


class Batches:
    """An iterable of DataFrames, which begins where its state says.

    Parameters
    ----------
    query
        A query; it is waited for. Its result must be kept as long as it is read (`result_ttl_s`).
    batch_rows
        Rows of a batch; the last one of a segment may have fewer.
    segment_rows
        Rows that one worker reads at a time.
    shard
        Number of this worker, and how many there are.

    Raises
    ------
    RequestError
        When a number is out of its range.
    """

    def __init__(
        self, query: Query, *, batch_rows: int = 1024, segment_rows: int = 65_536, shard: tuple[int, int] = (0, 1)
    ) -> None:
        if batch_rows < 1 or segment_rows < batch_rows:
            raise RequestError("batch_rows must be at least 1, and segment_rows at least batch_rows")
        self._query = query
        self.batch_rows = batch_rows
        self.segment_rows = segment_rows
        self.shard = _checked(shard)
        self._segment = self.shard[0]
        self._row = 0

    def sharded(self, number: int, of: int) -> Batches:
        """Return the batches of one of several workers among which those of this one are shared out."""
        index, count = self.shard
        _checked((number, of))
        return Batches(
            self._query, batch_rows=self.batch_rows, segment_rows=self.segment_rows, shard=(index * of + number, count * of)
        )

    @property
    def schema(self) -> pl.Schema:
        """Columns and dtypes of the batches."""
        return self._query.page(0, 0).schema

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yield batches from where the state is to the end; then begin anew."""
        while True:
            segment = self._query.page(self._segment * self.segment_rows, self.segment_rows)
            if not segment.height:
                break
            while self._row < segment.height:
                batch = segment.slice(self._row, self.batch_rows)
                self._row += batch.height
                yield batch
            last = segment.height < self.segment_rows
            self._segment, self._row = self._segment + self.shard[1], 0
            if last:
                break
        self._segment, self._row = self.shard[0], 0

    def state_dict(self) -> BatchesState:
        """Return where this worker is: behind the batch that was given out last."""
        return BatchesState(
            version=_VERSION,
            query=self._query.id,
            segment_rows=self.segment_rows,
            shard=self.shard,
            segment=self._segment,
            row=self._row,
        )

    def load_state_dict(self, state: BatchesState) -> None:
        """Go on from a state, of the same result and the same sharing out.

        Raises
        ------
        RequestError
            When it is of others: rows would be read twice, or not at all.
        """
        own = self.state_dict()
        for name in ("version", "query", "segment_rows"):
            if state.get(name) != own[name]:
                raise RequestError(f"the state is of {name} {state.get(name)!r}, and these batches are of {own[name]!r}")
        if tuple(state["shard"]) != self.shard:
            raise RequestError(f"the state is of worker {tuple(state['shard'])}, and these batches are of {self.shard}")
        self._segment, self._row = state["segment"], state["row"]


def _checked(shard: tuple[int, int]) -> tuple[int, int]:
    number, of = shard
    if not 0 <= number < of:
        raise RequestError(f"shard must be the number of a worker and how many there are, such as (0, 4), not {shard}")
    return number, of
