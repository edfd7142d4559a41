"""Which values the key columns of a task's output have: all different ones while they are few, else their range.

The coordinator makes filters of them for the other side of a join, so what is told must hold of every row that is written.
Used by :mod:`frazil_functions.exchange.writer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from frazil_functions.exchange.codec import encode_block
from frazil_functions.task import KeySummary

__all__ = ["KeyCollector"]

_MOST_BYTES: Final = 64 * 1024
"""In-memory bytes of the values of one column that are told."""


class KeyCollector:
    """Collects the values of some columns, batch after batch.

    Parameters
    ----------
    columns
        The columns; their dtypes must have an order.
    most
        Different values of a column that are kept; of more, the least and the greatest.
    """

    def __init__(self, columns: Sequence[str], most: int) -> None:
        self._columns = [_Values(name, most) for name in columns]

    def add(self, frame: pl.DataFrame) -> None:
        """Take the values of the next rows."""
        for column in self._columns:
            column.add(frame[column.name])

    def summaries(self) -> tuple[KeySummary, ...]:
        """Return what is known of each column, in their order."""
        return tuple(column.summary() for column in self._columns)


class _Values:
    """Values of one column."""

    def __init__(self, name: str, most: int) -> None:
        self.name = name
        self._most = most
        self._complete = True
        self._kept: pl.Series | None = None

    def add(self, values: pl.Series) -> None:
        if self._complete:
            values = values.unique()
        found = _ends(values) if not self._complete else values.drop_nulls()
        joined = found if self._kept is None else pl.concat([self._kept, found])
        if self._complete:
            joined = joined.unique()
            self._complete = len(joined) <= self._most and joined.estimated_size() <= _MOST_BYTES
        self._kept = joined if self._complete else _ends(joined)

    def summary(self) -> KeySummary:
        if self._kept is None or not len(self._kept):
            return KeySummary(column=self.name, values=b"", complete=True)
        if self._kept.estimated_size() > _MOST_BYTES:
            return KeySummary(column=self.name, values=None, complete=False)
        return KeySummary(column=self.name, values=encode_block(self._kept.to_frame(), "ipc"), complete=self._complete)


def _ends(values: pl.Series) -> pl.Series:
    """Return the least and the greatest value; none when all are null."""
    column = values.to_frame()
    return pl.concat([column.select(pl.all().min()), column.select(pl.all().max())]).to_series().drop_nulls()
