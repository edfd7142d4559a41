"""What a tenant's query may be: its size, its priority, what it reads and writes, whether it may hold Python functions.

Looked at before a query is planned or written down. Next: :mod:`frazil_coordinator.admission` says when it has its turn.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from frazil_coordinator.plan.places import places_of
from frazil_coordinator.refusals import ForbiddenError, PlanTooLargeError
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import PRIORITIES, Tenant, Tenants
from frazil_coordinator.tenancy.prefixes import lies_below
from frazil_functions.arena import Arena
from frazil_functions.errors import PlanError, RequestError

__all__ = ["Rights", "check_places"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What the queries of all tenants may be."""

    tenants: Tenants
    settings: Settings
    """The coordinator's."""

    async def check(self, plan: bytes, tenant: str, priority: int = 0) -> None:
        """Refuse a query that is not its tenant's to run; a store is not asked.

        Raises
        ------
        PlanTooLargeError
            When `plan` is larger than ``settings.max_plan_bytes``.
        RequestError
            When `priority` is none; `ForbiddenError` when it is above the tenant's highest.
        ForbiddenError, PlanError
            As :func:`check_places`.
        """
        if len(plan) > self.settings.max_plan_bytes:
            raise PlanTooLargeError(
                f"the plan has {len(plan):,} bytes, more than the {self.settings.max_plan_bytes:,} allowed"
            )
        whose = self.tenants.get(tenant)
        if priority not in PRIORITIES:
            raise RequestError(f"priority must be from {PRIORITIES[0]} to {PRIORITIES[-1]}, not {priority}")
        if priority > whose.highest_priority:
            raise ForbiddenError(
                f"priority {priority} is above the {whose.highest_priority} that tenant {tenant!r} may ask for"
            )
        if whose.allowed_prefixes is not None:
            await asyncio.to_thread(check_places, plan, whose)

    def bounded(self, settings: Settings | None, tenant: str) -> Settings:
        """Return a query's settings, without the rights that its tenant's or the coordinator's own don't give."""
        settings = settings or self.settings
        allow_udfs = settings.allow_udfs and self.settings.allow_udfs and self.tenants.get(tenant).allow_udfs
        return settings if allow_udfs is settings.allow_udfs else replace(settings, allow_udfs=allow_udfs)


def check_places(plan: bytes, tenant: Tenant) -> None:
    """Refuse a plan that reads or writes outside of the tenant's folders. It takes CPU for a large plan.

    Raises
    ------
    ForbiddenError
        Naming the path and the folders.
    PlanError
        When the bytes are not a plan, or what they read can't be told.
    """
    prefixes = tenant.allowed_prefixes
    if prefixes is None:
        return
    try:
        places = places_of(Arena.decode(plan))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise PlanError(f"the plan is corrupt, and what it reads can't be told: {error!r}") from error
    for path in places:
        if not lies_below(path, prefixes):
            folders = ", ".join(prefixes) or "no folder at all"
            raise ForbiddenError(f"{path!r} is not allowed: tenant {tenant.name!r} may read and write below {folders}")
