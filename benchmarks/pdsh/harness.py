"""Running one PDS-H query through an engine of Frazil and through Polars, and comparing the answers."""

from __future__ import annotations

import time
from dataclasses import dataclass

import polars as pl

import frazil
from benchmarks.figures import QueryFigures, figures
from benchmarks.pdsh.compare import difference
from benchmarks.pdsh.queries import ORDERED, QUERIES
from benchmarks.pdsh.tables import Tables

__all__ = ["Outcome", "many_tasks", "run_polars", "run_query"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a query."""

    number: int
    figures: QueryFigures
    seconds: float
    """Wall seconds of Frazil, from the plan to the answer."""

    polars_seconds: float
    """Wall seconds of single-node Polars."""

    difference: str | None
    """How the answers differ; None when they are equal."""


def many_tasks(*, split_bytes: int = 64 * 1024, split_rows: int | None = 40_000, broadcast: bool) -> frazil.Settings:
    """Return settings that cut small data into many tasks, and send everything through the exchange store.

    Parameters
    ----------
    split_bytes
        Compressed bytes that a scan task reads. With 64 KiB each file of a large table of scale factor 0.1 is a task of its
        own.
    split_rows
        Rows above which a file is cut; None: it is not.
    broadcast
        Whether small sides of joins are sent whole (the default of Frazil); otherwise every join shuffles.
    """
    limit = frazil.Settings().broadcast_limit_bytes if broadcast else 0
    return frazil.Settings(
        start_small=False,
        split_target_bytes=split_bytes,
        max_rows_per_split=split_rows,
        shuffle_partitions=4,
        broadcast_limit_bytes=limit,
        inline_limit_bytes=0,
    )


def run_polars(number: int, tables: Tables) -> tuple[pl.DataFrame, float]:
    """Return Polars's answer to a query and the wall seconds that it took."""
    began = time.perf_counter()
    answer = QUERIES[number](tables).collect(engine="streaming")
    return answer, time.perf_counter() - began


def run_query(engine: frazil.Engine, number: int, tables: Tables, expected: tuple[pl.DataFrame, float]) -> Outcome:
    """Run a query through `engine` and compare its answer.

    Parameters
    ----------
    engine
        An engine of Frazil.
    number
        The query's number in the specification.
    tables
        The tables, where the engine's functions can read them.
    expected
        What :func:`run_polars` returned.
    """
    began = time.perf_counter()
    query = engine.submit(QUERIES[number](tables), labels=[f"pdsh-q{number}"])
    answer = query.result()
    seconds = time.perf_counter() - began
    return Outcome(
        number=number,
        figures=figures(query.profile()),
        seconds=seconds,
        polars_seconds=expected[1],
        difference=difference(answer, expected[0], order=ORDERED.get(number, {})),
    )
