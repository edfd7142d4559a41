"""Events that a function has run already: a copy of one, by whoever kept it or by an ingress, is not run again.

A process knows its own events only. Another function would run a copy, which is harmless and costs its time: what an
execution writes goes to a key of its own, which only its answer names (docs/protocol.md, "Replays").
:mod:`frazil_functions.app` asks.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Copies"]


class Copies:
    """The events of one process, for as long as a copy of one would be accepted.

    Parameters
    ----------
    max_age_s
        Seconds after which an event is refused for its age.
    """

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self._run_at: OrderedDict[str, float] = OrderedDict()
        """When each was run, by signature, oldest first."""

    def note(self, signature: str, now_s: float) -> bool:
        """Note that an event is run now; return False when it was already.

        Parameters
        ----------
        signature
            That of the event: over its time too, so that no two events have the same.
        now_s
            Seconds of any clock that does not go back.
        """
        while self._run_at and next(iter(self._run_at.values())) < now_s - self._max_age_s:
            self._run_at.popitem(last=False)
        if signature in self._run_at:
            return False
        self._run_at[signature] = now_s
        return True
