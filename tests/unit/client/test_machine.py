"""What this machine has: its memory, or that of the container, and what follows for the settings of local functions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from frazil import _machine
from frazil._machine import memory_bytes, of_this_machine, safe_limit_bytes
from frazil_coordinator.settings import Settings

GIB = 1024**3


def test_the_limit_of_a_container_counts_where_it_is_the_smaller_one(tmp_path: Path) -> None:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit, none, missing = tmp_path / "limit", tmp_path / "none", tmp_path / "missing"
    limit.write_text("123456789\n")
    none.write_text("max\n")
    assert memory_bytes((missing, none, limit)) == 123456789
    assert memory_bytes((missing, none)) == physical
    limit.write_text(str(2**63))
    assert memory_bytes((limit,)) == physical


@pytest.mark.parametrize(("memory", "small"), [(4 * GIB, GIB), (24 * GIB, 2 * GIB), (None, None)])
def test_on_a_large_machine_larger_queries_start_small(
    monkeypatch: pytest.MonkeyPatch, memory: int | None, small: int | None
) -> None:
    monkeypatch.setattr(_machine, "memory_bytes", lambda: memory)
    assert of_this_machine(Settings()).start_small_bytes == small
    assert of_this_machine(Settings(start_small_bytes=5)).start_small_bytes == 5
    assert safe_limit_bytes() == (None if memory is None else int(0.8 * memory))
