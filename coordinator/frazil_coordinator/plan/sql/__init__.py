"""Turn SQL nodes into the nodes of an equal LazyFrame, so that they are planned like any other query.

Polars keeps ``lf.sql()`` and ``SQLContext.execute()`` as text until it makes its own, internal plan. Here the text is
lowered as polars lowers it, and the result is used only when polars explains both alike. Main path:
:mod:`~frazil_coordinator.plan.sql.expand` → :mod:`~frazil_coordinator.plan.sql.query`.
"""

from __future__ import annotations

from frazil_coordinator.plan.sql.expand import expand_sql

__all__ = ["expand_sql"]
