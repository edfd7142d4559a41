"""From a serialised LazyFrame to a graph of stages. Pure planning: nothing runs here but empty data.

Main path: :mod:`~frazil_coordinator.plan.decode` → :mod:`~frazil_coordinator.plan.distribute` →
:mod:`~frazil_coordinator.plan.model`.
"""
