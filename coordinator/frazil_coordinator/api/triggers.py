"""The routes of a tenant's triggers: ``/v1/triggers`` (docs/triggers.md). Only the coordinator that leads answers."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import Response

from frazil_coordinator.api.auth import Asker
from frazil_coordinator.api.inputs import read_body
from frazil_coordinator.api.leader import leader_only
from frazil_coordinator.api.schemas import json_of
from frazil_coordinator.api.tags import version_of
from frazil_coordinator.api.trigger_bodies import Replay, Revive
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.model import Trigger, TriggerSource, TriggerView
from frazil_coordinator.events.triggers import Triggers
from frazil_functions.errors import RequestError

__all__ = ["triggers_router"]

_EXAMPLE: Final = {
    "source": "s3://lake/orders/",
    "suffix": ".parquet",
    "sql": "SELECT * FROM orders WHERE price > 0",
    "sink": "s3://lake/clean-orders/",
}

_T = TypeVar("_T")
_Match = Annotated[str, Header(max_length=40)]
_Name = Annotated[str, Path(examples=["orders"])]


def _given(name: str, example: dict[str, Any] | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def triggers_router(coordinator: Coordinator, triggers: Triggers) -> APIRouter:
    """Return the routes that list, show, make, change and drop the triggers of the caller's tenant."""
    router = APIRouter(prefix="/v1/triggers", tags=["triggers"], dependencies=[Depends(leader_only(coordinator))])
    _add_definitions(router, coordinator, triggers)
    _add_changes(router, triggers)
    return router


def _add_definitions(router: APIRouter, coordinator: Coordinator, triggers: Triggers) -> None:
    def view(trigger: Trigger, tenant: str) -> TriggerView:
        return TriggerView(trigger=trigger, status=triggers.status(tenant, trigger.name))

    @router.get("", responses=json_of(200, "TriggerView", array=True))
    async def list_triggers(caller: Asker) -> Response:
        """List the tenant's triggers, by name."""
        found = await triggers.list(caller.tenant)
        return _json([view(one, caller.tenant) for one in found])

    @router.get("/{name}", responses=json_of(200, "TriggerView"))
    async def show(name: _Name, caller: Asker) -> Response:
        """Show a trigger, and how far its output is behind."""
        trigger = await triggers.get(caller.tenant, name)
        return _json(view(trigger, caller.tenant), ETag=f'"{trigger.version}"')

    @router.put(
        "/{name}",
        responses={**json_of(200, "Trigger"), **json_of(201, "Trigger")},
        openapi_extra=_given("TriggerSource", _EXAMPLE),
    )
    async def put(
        request: Request, name: _Name, caller: Asker, if_match: _Match = "", if_none_match: _Match = ""
    ) -> Response:
        """Make or replace a trigger, after a look at its query and an object of its source.

        With `If-None-Match: *` it must be new; with `If-Match`, of that version.
        """
        # A plan travels as base64.
        source = await _read(request, TriggerSource, 2 * coordinator.settings.max_plan_bytes)
        expected = 0 if if_none_match.strip() == "*" else version_of(if_match)
        made = await triggers.put(name, source, expected=expected, tenant=caller.tenant)
        return _json(made, 201 if made.version == 1 else 200, ETag=f'"{made.version}"')

    @router.delete("/{name}", status_code=204, response_class=Response)
    async def drop(name: _Name, caller: Asker, if_match: _Match = "") -> Response:
        """Drop a trigger and what it remembers; its output stays."""
        await triggers.drop(caller.tenant, name, version_of(if_match))
        return Response(status_code=204)


def _add_changes(router: APIRouter, triggers: Triggers) -> None:
    @router.post("/{name}/pause", responses=json_of(200, "Trigger"))
    async def pause(name: _Name, caller: Asker) -> Response:
        """Start no more windows; one that runs comes to its end."""
        return _json(await triggers.pause(caller.tenant, name, paused=True))

    @router.post("/{name}/resume", responses=json_of(200, "Trigger"))
    async def resume(name: _Name, caller: Asker) -> Response:
        """Go on after a pause, or after whatever halted the trigger was mended."""
        return _json(await triggers.pause(caller.tenant, name, paused=False))

    @router.post("/{name}/run", status_code=202, responses={202: {"description": "The source is listed, a window runs"}})
    async def run(name: _Name, caller: Asker) -> Response:
        """List the source now, and take up what is new, whatever the window says."""
        triggers.force(caller.tenant, name)
        return Response(status_code=202)

    @router.post("/{name}/replay", responses={200: {"content": {"application/json": {}}}}, openapi_extra=_given("Replay"))
    async def replay(request: Request, name: _Name, caller: Asker) -> Response:
        """Let all objects modified since a time be new again; files of the output stay."""
        wanted = await _read(request, Replay, 4096)
        return _json({"commit": await triggers.replay(caller.tenant, name, wanted.since_unix_s)})

    @router.get("/{name}/dead-letters", responses=json_of(200, "DeadLetter", array=True))
    async def dead(name: _Name, caller: Asker) -> Response:
        """Show the objects that were given up, and why; oldest first."""
        return _json(triggers.dead(caller.tenant, name))

    @router.post(
        "/{name}/dead-letters/retry", responses={200: {"content": {"application/json": {}}}}, openapi_extra=_given("Revive")
    )
    async def revive(request: Request, name: _Name, caller: Asker) -> Response:
        """Try dead letters again, all or some."""
        wanted = await _read(request, Revive, 1024 * 1024)
        return _json({"objects": await triggers.revive(caller.tenant, name, wanted.urls)})


def _json(value: object, status: int = 200, **headers: str) -> Response:
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json", headers=headers)


async def _read(request: Request, kind: type[_T], limit: int) -> _T:
    data = await read_body(request, limit)
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RequestError(f"the body must be JSON: {error}") from error
