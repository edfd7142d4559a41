"""From a table to the LazyFrame that reads it: polars' own ``scan_*`` functions, with what the table says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import polars as pl

from frazil_coordinator.catalog.model import Table, TableFormat

__all__ = ["scan_of"]

_SCANS: Final[Mapping[TableFormat, Callable[..., pl.LazyFrame]]] = {
    "parquet": pl.scan_parquet,
    "csv": pl.scan_csv,
    "ndjson": pl.scan_ndjson,
    "ipc": pl.scan_ipc,
}


def scan_of(table: Table) -> pl.LazyFrame:
    """Return the scan of a table; no file is opened.

    Raises
    ------
    polars.exceptions.PolarsError
        When polars refuses an option.
    """
    options: dict[str, Any] = dict(table.options)  # checked by the model
    # Functions have credentials of their own; a provider would be a Python object in the plan.
    return _SCANS[table.format](
        table.location, storage_options=table.storage_options or None, credential_provider=None, **options
    )
