"""The route that gives a task to be run again somewhere else (docs/replay.md)."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query
from fastapi.responses import Response

from frazil_coordinator.api.auth import Asker, visible
from frazil_coordinator.api.schemas import stream_of
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.refusals import ForbiddenError
from frazil_coordinator.tenancy import Role
from frazil_functions.bundle import BUNDLE_MEDIA_TYPE, decode_bundle, encode_bundle

__all__ = ["add_replay"]

_Number = Annotated[int, Path(ge=0, le=2**31)]


def add_replay(router: APIRouter, coordinator: Coordinator) -> None:
    """Add the route."""
    seen = visible(coordinator)

    @router.get("/queries/{query}/stages/{stage}/tasks/{task}/replay", responses=stream_of(BUNDLE_MEDIA_TYPE))
    async def replay(
        query: str,
        stage: _Number,
        task: _Number,
        caller: Asker,
        attempt: Annotated[int | None, Query(ge=0, le=2**31)] = None,
    ) -> Response:
        """Send a task with its fragment and the blocks that it reads, to be run again somewhere else.

        Of a running query any task whose inputs are there; of an ended one what was kept: the task that it failed with, or
        all of a query with `keep_inputs` set to `all`. It may hold credentials of the query's plan, so it needs the role
        submit; those of the coordinator's storages are taken out.
        """
        if caller.role is Role.READ:
            raise ForbiddenError(
                "a token of role read may not see what a task was sent, which may hold credentials: it needs the role submit"
            )
        known = seen(query, caller)
        data = await asyncio.to_thread(_public, coordinator, await coordinator.replay(known, stage, task, attempt))
        name = f"{known}-{stage}-{task}.frztask"
        headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
        return Response(data, media_type=BUNDLE_MEDIA_TYPE, headers=headers)


def _public(coordinator: Coordinator, data: bytes) -> bytes:
    """Return a bundle without what is the coordinator's own, and not the query's: the secrets of storages."""
    sources = coordinator.catalog.sources
    if not sources.has_secrets:
        return data
    bundle = decode_bundle(data)
    request = msgspec.structs.replace(bundle.request, fragment=sources.without_secrets(bundle.request.fragment))
    return encode_bundle(msgspec.structs.replace(bundle, request=request))
