"""Random plans with many groups; a file of its own, so that tests in several processes share the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.plans import GROUPS
from support.random_runs import hold


# To make a plan that fails as small as may be takes longer than to find it.
@pytest.mark.timeout(600)
def test_answer_of_a_plan_with_many_groups_is_that_of_polars(tmp_path: Path) -> None:
    hold(3, tmp_path, often=GROUPS)
