"""A store in memory for tests: that of the simulation of the coordinator."""

from __future__ import annotations

from benchmarks.simulated.memory_store import MemoryStore

__all__ = ["MemoryStore"]
