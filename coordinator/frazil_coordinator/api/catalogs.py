"""The routes of catalogs that others keep: ``/v1/catalogs`` (docs/tables.md). Every coordinator answers.

They are named in the coordinator's configuration: no request makes one, so no credential of one is ever sent here.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from frazil_coordinator.api.auth import Asker
from frazil_coordinator.api.schemas import json_of
from frazil_coordinator.coordinator import Coordinator

__all__ = ["catalogs_router"]

_Name = Annotated[str, Path(examples=["lake"])]
_Namespace = Annotated[str, Query(max_length=1000, examples=["sales"], description="Only those below it: a.b")]


def catalogs_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes that list catalogs and their tables."""
    router = APIRouter(prefix="/v1/catalogs", tags=["tables"])

    @router.get("", responses=json_of(200, "CatalogInfo", array=True))
    async def catalogs(caller: Asker) -> Response:
        """List the catalogs that the tenant may use, by name; none is asked."""
        return _json(coordinator.catalog.sources.catalogs(caller.tenant))

    @router.get("/{name}/tables", responses=json_of(200, "CatalogTable", array=True))
    async def tables(name: _Name, caller: Asker, namespace: _Namespace = "") -> Response:
        """List the tables of a catalog, by name; `GET /v1/tables/{catalog.namespace.table}` shows one."""
        return _json(await asyncio.to_thread(coordinator.catalog.sources.listed, caller.tenant, name, namespace))

    return router


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
