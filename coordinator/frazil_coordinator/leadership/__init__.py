"""Which of several coordinators leads: one writer, fenced by a lease in the object store (docs/leadership.md).

:mod:`~frazil_coordinator.leadership.probe` finds out whether the store can decide races;
:mod:`~frazil_coordinator.leadership.terms` is the pure part, :mod:`~frazil_coordinator.leadership.objects` what is read and
written, and :mod:`~frazil_coordinator.leadership.lease` waits, renews and says when leadership is lost. The package knows
nothing of queries: whoever writes for them asks it for its term.
"""

from frazil_coordinator.leadership.lease import Leadership, Standing
from frazil_coordinator.leadership.probe import ProbeResult, probe_conditional_puts

__all__ = ["Leadership", "ProbeResult", "Standing", "probe_conditional_puts"]
