"""Routes for probes, for Prometheus and for version checks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from frazil_coordinator.api.leader import standing_of
from frazil_coordinator.api.models import Health, Ready, Version
from frazil_coordinator.api.problems import problem
from frazil_coordinator.api.versions import served
from frazil_coordinator.coordinator import Coordinator
from frazil_functions.errors import FrazilError, StandbyError, StorageError

__all__ = ["probes_router", "version_router"]


def probes_router(coordinator: Coordinator) -> APIRouter:
    """Return ``/healthz``, ``/readyz`` and ``/metrics``, which need no token: who probes and scrapes has none."""
    router = APIRouter(tags=["probes"])

    @router.get("/healthz")
    async def healthz() -> Health:
        """Say that the process answers."""
        return Health()

    @router.get("/readyz", response_model=Ready)
    async def readyz(request: Request) -> Ready | Response:
        """Say whether this coordinator leads, queries are accepted and the store answers; 503 if not."""
        standing = standing_of(coordinator)
        if not standing.leader:
            error = StandbyError(standing.detail)
            return problem(request, error, leader=False, term=standing.term, journal=standing.journal)
        try:
            await coordinator.probe()
        except FrazilError as error:
            return problem(request, error, status=503)
        except TimeoutError:
            return problem(request, StorageError("the exchange store does not answer"), status=503)
        platform = coordinator.cluster.functions()
        return Ready(
            functions=platform.functions,
            busy=platform.busy,
            leader=standing.leader,
            term=standing.term,
            journal=standing.journal,
            detail=standing.detail,
        )

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics(request: Request) -> Response:
        """Show what is counted, for Prometheus; of a coordinator that stands by too."""
        body, media_type = coordinator.metrics.render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type})

    return router


def version_router() -> APIRouter:
    """Return ``/v1/version``."""
    router = APIRouter(prefix="/v1", tags=["version"])

    @router.get("/version")
    async def version() -> Version:
        """Name the versions that must match, and how to get them."""
        return served()

    return router
