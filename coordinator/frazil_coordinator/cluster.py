"""What a coordinator is busy with: functions by state, slots, and each tenant's queue beside its quotas.

It looks and changes nothing. :mod:`frazil_coordinator.coordinator` has one; ``GET /v1/cluster`` shows what it says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

import msgspec

from frazil_coordinator.platform.base import Platform, PlatformStatus
from frazil_coordinator.registry import QueryRecord, Registry
from frazil_coordinator.schedule.slots import Slots
from frazil_coordinator.status import QueryState
from frazil_coordinator.tenancy import Tenant, Tenants

__all__ = ["Cluster", "ClusterStatus", "FunctionsStatus", "SlotsStatus", "TenantStatus"]

_NOT_A_QUOTA = "name"


class FunctionsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The functions."""

    running: int
    """Function processes (pods) that exist; 0 where the platform does not tell."""

    busy: int
    idle: int
    started_total: int
    """Functions started since the coordinator was."""

    died_total: int
    """Functions that ended without being told to."""


class SlotsStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks that may be in flight at once."""

    limit: int
    taken: int
    wanted: int
    """More that queries could use now."""


class TenantStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant."""

    name: str
    queries: dict[str, int]
    """Queries that have not ended, by state."""

    waiting: int
    """Queries that wait for their turn."""

    oldest_waiting_s: float
    """Age of the query that waits longest, in seconds."""

    tasks: int
    """Slots that it has."""

    wanted: int
    """Slots that it could use besides."""

    quotas: dict[str, object]
    """What its file of tenants says (docs/tenants.md); null is no limit."""


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All of it at one moment."""

    functions: FunctionsStatus
    slots: SlotsStatus
    tenants: tuple[TenantStatus, ...]
    """By name; only those that may be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Looks at the parts of a coordinator."""

    registry: Registry
    slots: Slots
    platform: Platform
    tenants: Tenants

    def functions(self) -> PlatformStatus:
        """Return how many functions there are."""
        return self.platform.status()

    def status(self, tenant: str | None = None) -> ClusterStatus:
        """Return what the coordinator is busy with.

        Parameters
        ----------
        tenant
            Whose queue and quotas are told; None: everybody's.
        """
        functions = self.functions()
        records = [record for record in self.registry if not record.status.state.ended and not record.abandoned]
        busy = {record.status.tenant for record in records}
        names = sorted(busy | set(self.tenants.by_name)) if tenant is None else [tenant]
        held, wanted = self.slots.by_tenant()
        return ClusterStatus(
            functions=FunctionsStatus(
                running=functions.functions,
                busy=functions.busy,
                idle=max(0, functions.functions - functions.busy),
                started_total=functions.started_total,
                died_total=functions.died_total,
            ),
            slots=SlotsStatus(limit=self.slots.limit, taken=self.slots.taken, wanted=self.slots.wanted),
            tenants=tuple(
                _tenant_status(
                    self.tenants.get(name),
                    [record for record in records if record.status.tenant == name],
                    held[name],
                    wanted[name],
                )
                for name in names
            ),
        )


def _tenant_status(tenant: Tenant, records: Iterable[QueryRecord], held: int, wanted: int) -> TenantStatus:
    statuses = [record.status for record in records]
    waiting = [one.submitted_unix_s for one in statuses if one.state is QueryState.QUEUED and one.waits_for]
    now = time.time()
    return TenantStatus(
        name=tenant.name,
        queries=dict(Counter(one.state.value for one in statuses)),
        waiting=len(waiting),
        oldest_waiting_s=max(0.0, now - min(waiting, default=now)),
        tasks=held,
        wanted=wanted,
        quotas={knob.name: getattr(tenant, knob.name) for knob in fields(tenant) if knob.name != _NOT_A_QUOTA},
    )
