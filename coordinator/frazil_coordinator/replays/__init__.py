"""Tasks to be run again somewhere else: bundles of running queries, and of ended ones as far as something was kept of them.

While a query runs, everything that its tasks read lies in the exchange. At its end that is deleted, so what is kept is
written before: the task that the query failed with, as a bundle with its blocks; or, when the query asked for it, what all
of its tasks were sent, and then the exchange is left as it is. All of it goes with the query's result. What is written is
sealed, for fragments may hold credentials.

:mod:`~frazil_coordinator.replays.kept` has the forms, :mod:`~frazil_coordinator.replays.bundles` makes and writes them, and
:mod:`~frazil_coordinator.replays.replays` decides. Layout and format are in docs/replay.md.
"""

from __future__ import annotations

from frazil_coordinator.replays.kept import NOTHING_KEPT, Kept, kept_of
from frazil_coordinator.replays.replays import REPLAY_PREFIX, Replays

__all__ = ["NOTHING_KEPT", "REPLAY_PREFIX", "Kept", "Replays", "kept_of"]
