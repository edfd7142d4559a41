"""How each family of nodes is distributed: relations of the inputs in, the relation of the node out.

:func:`~frazil_coordinator.plan.rules.base.distribute` dispatches on the type of the node; a type without a rule falls
back to one task.
"""

from __future__ import annotations

from frazil_coordinator.plan.rules import asof, beside, groups, joins, order, reshape, rows, sources, unions
from frazil_coordinator.plan.rules.base import distribute

__all__ = ["asof", "beside", "distribute", "groups", "joins", "order", "reshape", "rows", "sources", "unions"]
