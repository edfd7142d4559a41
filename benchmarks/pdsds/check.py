"""Checking the queries of PDS-DS themselves with another engine, DuckDB, on the same files.

DuckDB runs our text, and its own text of the query; both must give what Polars gives for ours. Frazil has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import polars as pl
import polars.selectors as cs
from polars.testing import assert_frame_equal

from benchmarks.pdsds.data import DuckDB
from benchmarks.pdsds.queries import QUERIES, build
from benchmarks.pdsds.tables import scan

__all__ = ["OURS", "check"]

OURS: Final = {
    8: "a shorter list of zip codes",
    9: "other bounds, so that both branches are taken at a small scale",
    39: "without the columns that are the same on both sides",
    59: "each week once, not once for each of its days",
    66: "sales a square foot of three months",
}
"""Queries whose answer is not that of the specification's text, and how they differ."""

_TOLERANCE: Final = 0.02
"""Of money and of ratios: Polars and DuckDB keep other numbers of digits of what they divide."""


def check(folder: Path, numbers: Sequence[int], tell: Callable[[str], object]) -> int:
    """Compare Polars' answers with DuckDB's; return how many queries differ.

    Parameters
    ----------
    folder
        Where :func:`benchmarks.pdsds.data.generate` put the data.
    numbers
        The queries.
    tell
        Called with one line for each difference.

    Raises
    ------
    benchmarks.pdsds.data.DataError
        When DuckDB or its extension is not installed.
    """
    duckdb, tables = DuckDB(), scan(folder)
    duckdb.view(folder)
    wrong = 0
    for number in numbers:
        answer = build(number, tables).collect()
        texts = {"our text": QUERIES[number]} if number in OURS else {
            "our text": QUERIES[number],
            "its own text": f"PRAGMA tpcds({number})",
        }  # fmt: skip
        found = {name: _difference(answer, duckdb.run(text)) for name, text in texts.items()}
        wrong += any(found.values())
        for name, reason in found.items():
            if reason is not None:
                tell(f"Q{number}: DuckDB's answer to {name} differs: {reason}")
    return wrong


def _difference(ours: pl.DataFrame, theirs: pl.DataFrame) -> str | None:
    if ours.shape != theirs.shape:
        return f"{theirs.shape} instead of {ours.shape}"
    one, other = _plain(ours), _plain(theirs).rename(dict(zip(theirs.columns, ours.columns, strict=True)))
    try:
        assert_frame_equal(one.sort(one.columns), other.sort(other.columns), abs_tol=_TOLERANCE, rel_tol=1e-6)
    except AssertionError as error:
        return " ".join(str(error).split())
    return None


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame whose numbers are of one dtype, rounded so that it can be sorted: sums are wider in DuckDB."""
    return frame.with_columns(cs.numeric().cast(pl.Float64).round(2))
