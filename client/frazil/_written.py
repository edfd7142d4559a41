"""The data files of a table that functions wrote: what :mod:`frazil._iceberg` and :mod:`frazil._delta` commit."""

from __future__ import annotations

import msgspec

__all__ = ["WrittenFile"]


class WrittenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A data file."""

    path: str
    """Relative to the sink's target."""

    rows: int
    bytes: int
