"""The order in which files of tests are shared out to workers, so that none is left alone with a long one at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

__all__ = ["LONGEST_FIRST", "TESTS", "longest_first"]

TESTS = Path(__file__).parents[1]

LONGEST_FIRST = (
    "integration/test_cli.py",
    "property/test_random_joins.py",
    "parity/test_ordered.py",
    "faults/test_coordinator_crashes.py",
    "e2e/test_demo.py",
    "property/test_random_plans.py",
    "property/test_random_orders.py",
    "property/test_random_groups.py",
    "faults/test_leadership.py",
    "integration/test_polars_suite.py",
    "parity/test_operators.py",
    "parity/test_adaptive.py",
    "parity/test_pdsh.py",
    "faults/test_function_processes.py",
    "parity/test_places.py",
)
"""The files that take longest, below `TESTS`: a worker that began one of them last would keep all others waiting."""


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests with those of the longest files first, and else in their order."""
    ranks = {TESTS / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    return sorted(items, key=lambda item: ranks.get(item.path, len(ranks)))
