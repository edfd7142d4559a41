"""What all random plans run with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def combine_anything() -> Iterator[None]:
    """Combine blocks however few requests that saves, where the settings of a plan permit it at all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frazil_coordinator.schedule.combine._WORTH", 0)
        yield
