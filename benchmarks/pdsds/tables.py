"""The 24 tables of TPC-DS as LazyFrames over Parquet files.

The next module is :mod:`benchmarks.pdsds.queries`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

__all__ = ["TABLES", "scan"]

TABLES: Final = (
    "call_center", "catalog_page", "catalog_returns", "catalog_sales", "customer", "customer_address",
    "customer_demographics", "date_dim", "household_demographics", "income_band", "inventory", "item", "promotion", "reason",
    "ship_mode", "store", "store_returns", "store_sales", "time_dim", "warehouse", "web_page", "web_returns", "web_sales",
    "web_site",
)  # fmt: skip
"""Names of the tables."""


def scan(folder: Path) -> dict[str, pl.LazyFrame]:
    """Return the tables of a folder, ``<folder>/<table>.parquet``, by name."""
    return {name: pl.scan_parquet(folder / f"{name}.parquet") for name in TABLES}
