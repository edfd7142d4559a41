"""From a table to the LazyFrame that reads it: polars' own ``scan_*`` functions, with what the table says.

For who has what its files need. A coordinator opens tables of a lake itself: :mod:`~frazil_coordinator.catalog.lake`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import polars as pl

from frazil_coordinator.catalog.model import Table, TableFormat
from frazil_functions.errors import RequestError

__all__ = ["scan_of"]

_SCANS: Final[Mapping[TableFormat, Callable[..., pl.LazyFrame]]] = {
    "parquet": pl.scan_parquet,
    "csv": pl.scan_csv,
    "ndjson": pl.scan_ndjson,
    "ipc": pl.scan_ipc,
    "delta": pl.scan_delta,
}


def scan_of(table: Table, storage_options: Mapping[str, str] | None = None) -> pl.LazyFrame:
    """Return the scan of a table; no file is opened, but for a Delta table its log.

    Parameters
    ----------
    table
        What is scanned.
    storage_options
        Of its store. None: its own.

    Raises
    ------
    RequestError
        When it is read with a storage that only the coordinator knows, and no options are given.
    polars.exceptions.PolarsError
        When polars refuses an option.
    """
    if table.storage and storage_options is None:
        raise RequestError(
            f"the table {table.name!r} is read with the storage {table.storage!r} of the coordinator, whose credentials "
            "nobody else has: ask for it by SQL, as engine.sql(...)"
        )
    options: dict[str, Any] = dict(table.options)  # checked by the model
    stored = (table.storage_options if storage_options is None else dict(storage_options)) or None
    if table.format == "iceberg":
        return pl.scan_iceberg(table.location, storage_options=cast("Any", stored), **options)
    # Functions have credentials of their own; a provider would be a Python object in the plan.
    return _SCANS[table.format](table.location, storage_options=stored, credential_provider=None, **options)
