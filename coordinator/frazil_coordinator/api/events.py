"""Where producers tell of objects: ``POST /`` takes CloudEvents, ``POST /ingest/s3`` notifications of object stores.

Both are answered as soon as it is clear whom the events concern. What is lost then is found by the triggers' own listings.
An answer to a CloudEvent has no body: a Broker would take one for an event. Next: :mod:`frazil_coordinator.events.formats`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from frazil_coordinator.api.auth import Asker, Caller
from frazil_coordinator.api.inputs import read_body
from frazil_coordinator.api.leader import leader_only
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.cloudevents import BATCH, STRUCTURED, decode, is_cloudevent
from frazil_coordinator.events.formats import Told, told_by_cloudevent, told_by_notification
from frazil_coordinator.events.triggers import Triggers
from frazil_coordinator.tenancy import Role

__all__ = ["events_router"]

_MAX_BYTES: Final = 4 * 1024 * 1024
_ANY: Final[dict[str, Any]] = {"type": "object"}
_EXAMPLE: Final = {
    "specversion": "1.0",
    "id": "1",
    "source": "/loader",
    "type": "dev.frazil.object.created.v1",
    "data": {"url": "s3://lake/in/part-0.parquet"},
}


def _body(*media_types: str) -> dict[str, Any]:
    content = {one: {"schema": {"type": "array", "items": _ANY} if one == BATCH else _ANY} for one in media_types}
    return {"requestBody": {"required": True, "content": content}}


def events_router(coordinator: Coordinator, triggers: Triggers) -> APIRouter:
    """Return the routes for producers."""
    router = APIRouter(tags=["events"], dependencies=[Depends(leader_only(coordinator))])
    tell = _teller(coordinator, triggers)
    accepted: dict[int | str, dict[str, Any]] = {202: {"description": "Taken note of"}}

    @router.post("/", status_code=202, response_class=Response, responses=accepted, openapi_extra=_body(STRUCTURED, BATCH))
    async def cloudevents(request: Request, caller: Asker) -> Response:
        """Take CloudEvents 1.0 in binary, structured or batch mode; those that concern nobody are taken too."""
        body = await read_body(request, _MAX_BYTES)
        told = [told_by_cloudevent(event) for event in decode(_headers(request), body)]
        for one in told:
            tell(one, caller)
        return Response(status_code=202)

    @router.post("/ingest/s3", status_code=202, responses=accepted, openapi_extra=_body("application/json"))
    async def notifications(request: Request, caller: Asker) -> Response:
        """Take notifications of AWS S3, MinIO, SeaweedFS, Ceph RGW and GCS, also inside of CloudEvents."""
        body, headers = await read_body(request, _MAX_BYTES), _headers(request)
        if is_cloudevent(headers):
            found = [told_by_cloudevent(event) for event in decode(headers, body)]
        else:
            found = [told_by_notification(body)]
        concerned = sum(tell(one, caller) for one in found)
        answer = {"events": sum(len(one.events) for one in found), "concerned": concerned}
        return Response(msgspec.json.encode(answer), status_code=202, media_type="application/json")

    return router


def _headers(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _teller(coordinator: Coordinator, triggers: Triggers) -> Callable[[Told, Caller], int]:
    counter = coordinator.metrics.triggers.notifications

    def tell(told: Told, caller: Caller) -> int:
        concerned = triggers.notify(told.events, None if caller.role is Role.ADMIN else caller.tenant)
        for name in told.run:
            triggers.force(caller.tenant, name)
        counter.labels(told.form, "yes" if concerned or told.run else "no").inc()
        return concerned

    return tell
