"""What a task tells of the keys that it wrote."""

from __future__ import annotations

import io

import polars as pl
import pytest

from frazil_functions.exchange.keys import KeyCollector
from frazil_functions.task import KeySummary


def summary(*batches: list[int | None], most: int = 3) -> KeySummary:
    collector = KeyCollector(["k"], most)
    for batch in batches:
        collector.add(pl.DataFrame({"k": pl.Series(batch, dtype=pl.Int64), "x": 1}))
    (found,) = collector.summaries()
    return found


def values(found: KeySummary) -> list[object]:
    assert found.values is not None
    return sorted(pl.read_ipc(io.BytesIO(found.values)).to_series().to_list()) if found.values else []


@pytest.mark.parametrize(
    ("batches", "expected", "complete"),
    [
        ([[1, 2, 2, None], [2, 3]], [1, 2, 3], True),
        ([[1, 2], [4, 3, 9, None], [-5, 6]], [-5, 9], False),
        ([[None, None]], [], True),
        ([], [], True),
        ([[1, 2, 3, 4], [None]], [1, 4], False),
    ],
)
def test_all_different_keys_while_they_are_few_else_their_range(
    batches: list[list[int | None]], expected: list[int], complete: bool
) -> None:
    found = summary(*batches)
    assert values(found) == expected
    assert found.complete is complete


def test_keys_that_are_too_long_are_not_told() -> None:
    collector = KeyCollector(["k"], 3)
    collector.add(pl.DataFrame({"k": ["a" * 100_000, "b"]}))
    assert collector.summaries() == (KeySummary(column="k", values=None, complete=False),)
