"""Rows whose order counts, over tiny splits, and the comparison of what looks at it with single-node Polars."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Final

import polars as pl

from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.in_stages import answer_in_stages, outcome
from support.parity import assert_same

__all__ = ["SPLIT", "TABLES", "check", "named", "settings", "write"]

ROWS: Final = 43
SPLIT: Final = 6
TABLES: Final[dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]]] = {
    "every row": lambda t: t,
    # Tasks without rows, with one, and with all of theirs, one after the other.
    "rows with gaps": lambda t: t.filter((pl.col("i") % 17 < 5) | (pl.col("i") == 30)),
    "no rows": lambda t: t.filter(pl.col("i") * 2 < 0),  # statistics of files do not tell
}

N, J, K, X, F, S, D, B = (pl.col(name) for name in ("i", "j", "k", "x", "f", "s", "d", "b"))


def frame() -> pl.DataFrame:
    """Nulls at both ends and in long runs, NaN, both zeros, and a column of every family of dtypes."""
    numbers = range(ROWS)
    return pl.DataFrame(
        {
            "i": numbers,
            "j": [n * 7 % 5 - 2 for n in numbers],
            "k": [n // 3 % 4 if n % 7 and not 10 < n < 22 else None for n in numbers],
            "x": [float(n * n % 23) / 4 if n % 11 else None for n in numbers],
            "f": [float("nan") if n % 9 < 2 else (-0.0 if n % 4 else 0.0) + n * 5 % 3 for n in numbers],
            "s": [f"s{n * n % 5}" if n % 6 else None for n in numbers],
            "d": [dt.date(2024, 2, 27) + dt.timedelta(days=n * 5 % 11) if n % 8 else None for n in numbers],
            "b": [n % 3 == 0 if n % 5 else None for n in numbers],
            "du": [dt.timedelta(minutes=n * 11 % 7) for n in numbers],
        }
    ).with_columns(
        i8=(pl.col("i") % 3 + 1).cast(pl.Int8),
        c=pl.col("s").cast(pl.Categorical),
        dec=(pl.col("j") * 3).cast(pl.Decimal(12, 2)),
        t=pl.col("d").cast(pl.Datetime("us", "Europe/Zurich")),
        l=pl.when(pl.col("i") % 5 > 1).then(pl.concat_list("i", "k")),
        st=pl.when(pl.col("i") % 5 > 1).then(pl.struct("k", "s")),
        g=pl.col("f").cast(pl.Float32),
    )


def write(folder: Path) -> str:
    """Write the rows to two files, and return the pattern that finds them."""
    rows = frame()
    rows.slice(0, 21).write_parquet(folder / "a.parquet", row_group_size=6)
    rows.slice(21).write_parquet(folder / "b.parquet")
    return str(folder / "*.parquet")


def settings(split: int = SPLIT) -> Settings:
    """Return settings that make many tiny tasks."""
    return Settings(start_small=False, max_rows_per_split=split, broadcast_limit_bytes=0)


def check(query: pl.LazyFrame, folder: Path, *, ordered: bool = True, falls_back: bool = False, split: int = SPLIT) -> None:
    """Check the answer of a query, and whether a part of it runs in one task."""
    expected = outcome(lambda: query.collect(engine="in-memory"))
    graph = plan_query(query.serialize(), settings(split))
    assert max(stage.tasks for stage in graph.stages) > 1
    assert bool(graph.fallbacks) is falls_back, graph.fallbacks
    actual = outcome(lambda: answer_in_stages(graph, settings(split), FolderStore(folder)))
    if isinstance(expected, str) or isinstance(actual, str):
        assert isinstance(actual, str)
        assert actual == expected
    else:
        assert_same(actual, expected, ordered=ordered)


def named(exprs: list[pl.Expr]) -> list[pl.Expr]:
    """Give every expression but those of several columns a name of its own."""
    return [expr if expr.meta.has_multiple_outputs() else expr.alias(f"v{number}") for number, expr in enumerate(exprs)]
