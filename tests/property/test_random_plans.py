"""Random plans over random tables: the stages' answer is that of single-node Polars.

The neighbours draw plans of one kind more often. Each draws 250 examples from a seed of its own, 1,000 in all; by hand,
thousands are drawn from a seed that is printed.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from support.random_runs import hold

EXAMPLES_BY_HAND = int(os.environ.get("FRAZIL_PROPERTY_EXAMPLES", "5000"))


# To make a plan that fails as small as may be takes longer than to find it.
@pytest.mark.timeout(600)
def test_answer_of_a_random_plan_is_that_of_polars(tmp_path: Path) -> None:
    hold(1, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_answers_of_thousands_of_random_plans_are_those_of_polars(tmp_path: Path) -> None:
    number = int(os.environ.get("FRAZIL_PROPERTY_SEED", random.SystemRandom().randrange(2**32)))
    print(f"FRAZIL_PROPERTY_SEED={number}")
    hold(number, tmp_path, examples=EXAMPLES_BY_HAND)
