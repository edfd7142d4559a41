"""``/v1/cluster``: what the coordinator is busy with, and who asks. Answered by one that stands by too."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response

from frazil_coordinator.api.auth import Asker
from frazil_coordinator.api.leader import standing_of
from frazil_coordinator.api.versions import served
from frazil_coordinator.cluster import ClusterStatus
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.tenancy import Role

__all__ = ["ClusterView", "cluster_router"]

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "ClusterView",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ClusterView"}}},
    }
}


class CallerView(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks."""

    tenant: str
    role: str
    """``admin``, ``submit`` or ``read``."""


class LeaderView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this coordinator leads (docs/leadership.md)."""

    leader: bool
    journal: str
    detail: str


class ClusterView(ClusterStatus, frozen=True, kw_only=True):
    """What `ClusterStatus` tells, and who asks whom."""

    caller: CallerView
    leadership: LeaderView
    versions: dict[str, str]
    """Of ``frazil`` and ``polars``."""


def cluster_router(coordinator: Coordinator) -> APIRouter:
    """Return ``/v1/cluster``."""
    router = APIRouter(prefix="/v1", tags=["cluster"])

    @router.get("/cluster", responses=_ANSWER)
    async def cluster(caller: Asker) -> Response:
        """Show functions, slots and queues: an administrator those of all tenants, everybody else their own."""
        status = coordinator.cluster.status(None if caller.role is Role.ADMIN else caller.tenant)
        standing = standing_of(coordinator)
        view = ClusterView(
            functions=status.functions,
            slots=status.slots,
            tenants=status.tenants,
            caller=CallerView(tenant=caller.tenant, role=caller.role.value),
            leadership=LeaderView(leader=standing.leader, journal=standing.journal, detail=standing.detail),
            versions={"frazil": served().frazil, "polars": served().polars},
        )
        return Response(msgspec.json.encode(view), media_type="application/json")

    return router
