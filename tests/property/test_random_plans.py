"""Random plans over random tables: the stages' answer is that of single-node Polars."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from frazil_functions.storage import FolderStore
from support.in_stages import Outcome, answer_in_stages, outcome
from support.parity import assert_same
from support.plans import Example, random_example
from support.random_tables import Choices

PHASES = (Phase.generate, Phase.shrink)
SLOW_EXAMPLES = int(os.environ.get("FRAZIL_PROPERTY_EXAMPLES", "5000"))
CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much)


def difference(actual: Outcome, expected: Outcome, example: Example) -> str | None:
    """Return how two outcomes differ; None when they are the same as far as Polars says what is to come."""
    if isinstance(actual, str) or isinstance(expected, str):
        same = isinstance(actual, str) and isinstance(expected, str) and actual == expected
        return None if same else f"{actual}\ninstead of\n{expected}"
    try:
        assert_same(actual, expected, ordered=example.plan.ordered)
        if keys := example.plan.sorted_by:
            assert_same(actual.select(keys), expected.select(keys), ordered=True)
    except AssertionError as error:
        return f"{error}\n{actual}\ninstead of\n{expected}"
    return None


def check(example: Example, store: FolderStore) -> None:
    """Run an example; its answer must be that of one of Polars' own engines."""
    query = example.plan.lf
    expected = outcome(lambda: query.collect(engine="streaming"))
    # Some tasks do without the first step of a group_by, in plans whose tasks are not divided: each is tried alone too.
    unaggregated = example.divisions == 0
    actual = outcome(
        lambda: answer_in_stages(query, example.settings, store, divisions=example.divisions, unaggregated=unaggregated)
    )
    wrong = difference(actual, expected, example)
    if wrong is not None:
        expected = outcome(lambda: query.collect(engine="in-memory"))
        other = difference(actual, expected, example)
        if other is not None:
            note(example.describe())
            pytest.fail(f"{wrong}\n\nin memory: {other}")


def run(data: st.DataObject, tmp_path: Path) -> None:
    choices = Choices(lambda low, high: data.draw(st.integers(low, high)))
    example = random_example(choices, tmp_path)
    try:
        check(example, FolderStore(example.folder / "store"))
    finally:
        shutil.rmtree(example.folder)


@settings(max_examples=300, derandomize=True, database=None, deadline=None, phases=PHASES, suppress_health_check=CHECKS)
@given(data=st.data())
def test_answer_of_a_random_plan_is_that_of_polars(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    run(data, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_answers_of_thousands_of_random_plans_are_those_of_polars(tmp_path: Path) -> None:
    number = int(os.environ.get("FRAZIL_PROPERTY_SEED", random.SystemRandom().randrange(2**32)))
    print(f"FRAZIL_PROPERTY_SEED={number}")

    @seed(number)
    @settings(
        max_examples=SLOW_EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=CHECKS,
        phases=PHASES,
    )
    @given(data=st.data())
    def thousands(data: st.DataObject) -> None:
        run(data, tmp_path)

    thousands()
