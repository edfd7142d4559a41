"""The routes of a tenant's tables: ``/v1/tables`` (docs/tables.md). Every coordinator answers, one that stands by too."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Header, Path, Request
from fastapi.responses import Response

from frazil_coordinator.api.auth import Asker
from frazil_coordinator.api.inputs import read_body
from frazil_coordinator.api.schemas import json_of
from frazil_coordinator.api.tags import version_of
from frazil_coordinator.catalog.model import NAME_PATTERN, Table, TableSource
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.statements import put_table, show_table
from frazil_functions.errors import RequestError

__all__ = ["tables_router"]

_MAX_BYTES: Final = 256 * 1024
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/TableSource"},
                "example": {"location": "s3://lake/orders/*.parquet", "format": "parquet", "comment": "one file a day"},
            }
        },
    }
}

_Match = Annotated[str, Header(max_length=40)]
_Name = Annotated[str, Path(examples=["orders"], json_schema_extra={"pattern": NAME_PATTERN})]
"""Told of here, and refused by the catalog, which says what a name may be."""


_Shown = Annotated[str, Path(examples=["orders", "lake.sales.orders"], max_length=2000)]


def tables_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes that list, show, make and drop the tables of the caller's tenant."""
    router = APIRouter(prefix="/v1/tables", tags=["tables"])

    @router.get("", responses=json_of(200, "Table", array=True))
    async def tables(caller: Asker) -> Response:
        """List the tenant's tables, by name."""
        found = await asyncio.to_thread(coordinator.catalog.list, caller.tenant)
        return Response(msgspec.json.encode(found), media_type="application/json")

    @router.get("/{name}", responses=json_of(200, "Table"))
    async def table(name: _Shown, caller: Asker) -> Response:
        """Show a table: one of the tenant's, or `catalog.namespace.table` as it is now."""
        return _answer(await show_table(coordinator, name, tenant=caller.tenant))

    @router.put("/{name}", responses={**json_of(200, "Table"), **json_of(201, "Table")}, openapi_extra=_BODY)
    async def put(
        request: Request, name: _Name, caller: Asker, if_match: _Match = "", if_none_match: _Match = ""
    ) -> Response:
        """Make or replace a table, after a look at its files.

        With `If-None-Match: *` it must be new; with `If-Match`, of that version.
        """
        data = await read_body(request, _MAX_BYTES)
        try:
            source = msgspec.json.decode(data, type=TableSource)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            raise RequestError(f"the body must say what the table is, as location and format: {error}") from error
        expected = 0 if if_none_match.strip() == "*" else version_of(if_match)
        made = await put_table(coordinator, name, source, expected=expected, tenant=caller.tenant)
        return _answer(made, 201 if made.version == 1 else 200)

    @router.delete("/{name}", status_code=204, response_class=Response)
    async def drop(name: _Name, caller: Asker, if_match: _Match = "") -> Response:
        """Drop a table; its files stay."""
        await asyncio.to_thread(coordinator.catalog.drop, caller.tenant, name, version_of(if_match))
        return Response(status_code=204)

    return router


def _answer(table: Table, status: int = 200) -> Response:
    headers = {"ETag": f'"{table.version}"'}
    return Response(msgspec.json.encode(table), status_code=status, media_type="application/json", headers=headers)
