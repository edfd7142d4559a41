"""The data of PDS-DS at a scale factor: made by DuckDB's TPC-DS extension, kept in a folder.

The extension comes as a wheel (dependency group ``pdsds``), so nothing is fetched when it is loaded. Tests use the tables
of :mod:`benchmarks.pdsds.tiny` instead. Next: :mod:`benchmarks.pdsds.tables`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.pdsds.tables import TABLES

__all__ = ["DataError", "DuckDB", "generate", "is_generated"]

_EXTENSION: Final = "duckdb-ext-tpcds"
_ROWS_A_GROUP: Final = 20_000


class DataError(Exception):
    """The data can't be made; the message says why and what to do."""


class DuckDB:
    """A DuckDB in memory that knows TPC-DS.

    Raises
    ------
    DataError
        When DuckDB or its extension is not installed.
    """

    def __init__(self) -> None:
        try:
            found = [file for file in files(_EXTENSION) or () if file.name.endswith(".duckdb_extension")]
            self._connection = importlib.import_module("duckdb").connect()
        except (PackageNotFoundError, ModuleNotFoundError) as error:
            raise DataError("DuckDB with its TPC-DS extension is needed: `uv sync --all-extras --group pdsds`") from error
        for file in found:
            self._connection.execute(f"LOAD '{file.locate()}'")

    def run(self, statement: str) -> pl.DataFrame:
        """Run a statement and return its rows."""
        rows: pl.DataFrame = self._connection.execute(statement).pl()
        return rows

    def view(self, folder: Path) -> None:
        """Name the tables of a folder."""
        for name in TABLES:
            self._connection.execute(f"CREATE VIEW {name} AS FROM '{folder / name}.parquet'")


def is_generated(folder: Path) -> bool:
    """Return whether `folder` holds complete data, made by :func:`generate`."""
    return _mark(folder).exists()


def generate(folder: Path, *, scale_factor: float) -> None:
    """Generate all tables, unless `folder` already holds them.

    Parameters
    ----------
    folder
        Where the data goes; one folder for each scale factor.
    scale_factor
        1 is about 1 GB as text and 300 MB as Parquet.

    Raises
    ------
    DataError
        When DuckDB or its extension is not installed.
    """
    if is_generated(folder):
        return
    duckdb = DuckDB()
    folder.mkdir(parents=True, exist_ok=True)
    duckdb.run(f"CALL dsdgen(sf = {scale_factor})")
    for name in TABLES:
        duckdb.run(f"COPY {name} TO '{folder / name}.parquet' (FORMAT parquet, ROW_GROUP_SIZE {_ROWS_A_GROUP})")
    _mark(folder).touch()


def _mark(folder: Path) -> Path:
    return folder / ".complete"
