"""Runs a random example through the stages and holds its answer against that of Polars' own engines."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from frazil_functions.exchange.dtypes import lacks
from support.in_stages import Outcome, answer_in_stages, outcome
from support.memory_store import MemoryStore
from support.parity import assert_same
from support.plans import Example, Step, random_example
from support.random_tables import Choices

__all__ = ["hold", "mismatch"]

_PANIC: Final = "PanicException"
_PHASES: Final = (Phase.generate, Phase.shrink)
_HEALTH: Final = (
    HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much,
)  # fmt: skip


def difference(actual: Outcome, expected: Outcome, example: Example) -> str | None:
    """Return how two outcomes differ; None when they are the same as far as Polars says what is to come."""
    if isinstance(actual, str) or isinstance(expected, str):
        same = isinstance(actual, str) and isinstance(expected, str) and actual == expected
        return None if same else f"{actual}\ninstead of\n{expected}"
    # Polars forgets what the nulls of a list column of nulls are of when it reverses it, and Frazil does not.
    forgotten = {name: dtype for name, dtype in actual.schema.items() if dtype.is_nested() and name in expected.columns}
    expected = expected.cast({name: dtype for name, dtype in forgotten.items() if lacks(expected.schema[name], dtype)})
    try:
        assert_same(actual, expected, ordered=example.plan.ordered)
        if keys := example.plan.sorted_by:
            assert_same(actual.select(keys), expected.select(keys), ordered=True)
    except AssertionError as error:
        return f"{error}\n{actual}\ninstead of\n{expected}"
    return None


def mismatch(example: Example) -> str | None:
    """Run an example; return how its answer differs from those of both of Polars' engines, None when it is one of them."""
    query = example.plan.lf
    expected = outcome(lambda: query.collect(engine="streaming"))
    # Some tasks do without the first step of a group_by, in plans whose tasks are not divided: each is tried alone too.
    unaggregated = example.divisions == 0
    actual = outcome(
        lambda: answer_in_stages(
            query, example.settings, MemoryStore(), divisions=example.divisions, unaggregated=unaggregated
        )
    )
    wrong = difference(actual, expected, example)
    if wrong is None:
        return None
    again = outcome(lambda: query.collect(engine="in-memory"))
    if isinstance(expected, str) and isinstance(again, str) and expected == again == _PANIC:
        return None  # a bug of Polars ("not yet implemented"), which says nothing of the answer
    other = difference(actual, again, example)
    return None if other is None else f"{wrong}\n\nin memory: {other}"


def hold(number: int, folder: Path, *, examples: int = 250, often: Sequence[Step] = ()) -> None:
    """Draw examples from a seed, and fail when the answer of one is not Polars' own; it is made as small as may be.

    Parameters
    ----------
    number
        The seed: the same examples each time, as long as they are made alike.
    folder
        Where their tables are written.
    examples
        How many.
    often
        The steps of plans that come more often than others.
    """

    @seed(number)
    @settings(max_examples=examples, database=None, deadline=None, phases=_PHASES, suppress_health_check=_HEALTH)
    @given(example=_examples(folder, often))
    def every_answer_is_that_of_polars(example: Example) -> None:
        try:
            wrong = mismatch(example)
        finally:
            shutil.rmtree(example.folder)
        if wrong is not None:
            pytest.fail(wrong)

    every_answer_is_that_of_polars()


@st.composite
def _examples(draw: st.DrawFn, folder: Path, often: Sequence[Step]) -> Example:
    return random_example(Choices(lambda low, high: draw(st.integers(low, high))), folder, often=often)
