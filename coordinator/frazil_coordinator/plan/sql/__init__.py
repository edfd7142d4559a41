"""Turn SQL nodes into the nodes of an equal LazyFrame, so that they are planned like any other query.

Polars keeps ``lf.sql()`` and ``SQLContext.execute()`` as text until it makes its own, internal plan. Here the text is
lowered as polars lowers it, and the result is used only when polars explains both alike. Main path:
:mod:`~frazil_coordinator.plan.sql.expand` → :mod:`~frazil_coordinator.plan.sql.query`.
"""

from __future__ import annotations

from frazil_functions.arena import Arena

__all__ = ["expand_sql"]


def expand_sql(arena: Arena) -> Arena:
    """Replace each SQL node by the nodes of an equal LazyFrame; one that is not surely understood stays.

    Parameters
    ----------
    arena
        The user's plan, free of Python objects; it is changed in place.

    Returns
    -------
    Arena
        The same arena.
    """
    if all(arena.kind(number) != "SQL" for number in arena.reachable()):
        return arena
    # The parser takes a good part of a second to import, which most coordinators never need.
    from frazil_coordinator.plan.sql import expand

    return expand.expand_sql(arena)
