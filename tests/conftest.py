"""Fixtures that every test may ask for, and the order in which files are shared out to workers."""

from __future__ import annotations

import gc

import pytest

from support.seaweed import seaweed
from support.sharing import longest_first

__all__ = ["pytest_collection_finish", "pytest_collection_modifyitems", "seaweed"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first where several workers share the tests; one alone keeps the order of the folders."""
    if hasattr(config, "workerinput"):
        items[:] = longest_first(items)


def pytest_collection_finish() -> None:
    """Leave thousands of tests and their modules out of garbage collections: they stay, and each one walked over them."""
    gc.collect()
    gc.freeze()
