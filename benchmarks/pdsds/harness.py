"""Running one PDS-DS query through an engine of Frazil and through Polars, and comparing the answers."""

from __future__ import annotations

import time
from collections.abc import Mapping

import polars as pl
from polars.testing import assert_frame_equal

import frazil
from benchmarks.figures import figures
from benchmarks.pdsds.queries import build, ordered_by
from benchmarks.pdsh.compare import difference
from benchmarks.pdsh.harness import Outcome

__all__ = ["compare", "run_query"]

_RELATIVE_TOLERANCE = 1e-9


def compare(number: int, actual: pl.DataFrame, expected: pl.DataFrame) -> str | None:
    """Say how two answers to a query differ; None when they are equal.

    Equal are answers with the same columns, dtypes and rows (floats within 1e-9 of each other), whose columns that the query
    orders by are the same from the first row to the last.
    """
    found = difference(actual, expected, order={})
    keys = ordered_by(number)
    if found is None and keys:
        try:
            assert_frame_equal(actual.select(keys), expected.select(keys), rel_tol=_RELATIVE_TOLERANCE, abs_tol=0.0)
        except AssertionError as error:
            return "in another order: " + " ".join(str(error).split())
    return found


def run_query(engine: frazil.Engine, number: int, tables: Mapping[str, pl.LazyFrame]) -> Outcome:
    """Run a query through `engine` and through Polars, and compare the answers.

    Parameters
    ----------
    engine
        An engine of Frazil.
    number
        The query's number in the specification.
    tables
        The tables, by name.
    """
    began = time.perf_counter()
    expected = build(number, tables).collect()
    polars_seconds = time.perf_counter() - began
    began = time.perf_counter()
    query = engine.submit(build(number, tables), labels=[f"pdsds-q{number}"])
    answer = query.result()
    seconds = time.perf_counter() - began
    return Outcome(
        number=number,
        figures=figures(query.profile()),
        seconds=seconds,
        polars_seconds=polars_seconds,
        difference=compare(number, answer, expected),
    )
