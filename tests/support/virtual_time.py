"""Virtual time for tests: that of the simulation of the coordinator."""

from __future__ import annotations

from benchmarks.simulated.virtual_time import Deadlock, VirtualTimeLoop, run_virtually

__all__ = ["Deadlock", "VirtualTimeLoop", "run_virtually"]
