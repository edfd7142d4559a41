"""OpenLineage: which query read which datasets and wrote which, told to a service that collects that (docs/lineage.md).

:mod:`~frazil_coordinator.lineage.datasets` says what a dataset is called, :mod:`~frazil_coordinator.lineage.events` has the
events of a query, and :mod:`~frazil_coordinator.lineage.sending` sends them. The forms are those of the specification
2-0-2 (https://openlineage.io/spec); its own client is not used, for it brings four packages for what is a POST.
"""

from __future__ import annotations

from frazil_coordinator.lineage.sending import Lineage, lineage_from

__all__ = ["Lineage", "lineage_from"]
