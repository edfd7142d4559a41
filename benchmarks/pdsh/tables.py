"""The eight tables of TPC-H as LazyFrames over Parquet files.

The next module is :mod:`benchmarks.pdsh.queries`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import polars as pl
import polars.selectors as cs

__all__ = ["TABLES", "Tables"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables that a query reads.

    Notes
    -----
    Money is DECIMAL(15, 2) in the files and Float64 here, as in Polars' own PDS-H: Polars rounds a product of two decimals
    to the scale of its factors, so that ``price * (1 - discount) * (1 + tax)`` would lose up to half a cent a row. Floats
    are also the harder case for a distributed engine, since their sums depend on the order of the rows.
    """

    customer: pl.LazyFrame
    lineitem: pl.LazyFrame
    nation: pl.LazyFrame
    orders: pl.LazyFrame
    part: pl.LazyFrame
    partsupp: pl.LazyFrame
    region: pl.LazyFrame
    supplier: pl.LazyFrame
    scale_factor: float
    """Scale factor of the data, which query 11 depends on."""

    @classmethod
    def scan(cls, root: str, *, scale_factor: float, storage_options: Mapping[str, str] | None = None) -> Tables:
        """Scan ``<root>/<table>/*.parquet``.

        Parameters
        ----------
        root
            A folder or a URL such as ``s3://bucket/prefix``.
        scale_factor
            Scale factor of the data.
        storage_options
            Passed to `pl.scan_parquet`.
        """
        options = dict(storage_options) if storage_options else None

        def table(name: str) -> pl.LazyFrame:
            frame = pl.scan_parquet(f"{root}/{name}/*.parquet", storage_options=options)
            return frame.with_columns(cs.decimal().cast(pl.Float64))

        return cls(**{name: table(name) for name in TABLES}, scale_factor=scale_factor)


TABLES = tuple(field.name for field in fields(Tables) if field.name != "scale_factor")
"""Names of the tables."""
