"""The route of a result: in the format that the client wants, all of it or a page (docs/http-api.md)."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from frazil_coordinator.api.accept import choose_format
from frazil_coordinator.api.auth import Asker, visible
from frazil_coordinator.api.problems import NotEndedError, problem
from frazil_coordinator.api.schemas import stream_of
from frazil_coordinator.api.streams import BreakingResponse
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.formats import MEDIA_TYPES, NotAcceptableError, ResultFormat, encoded
from frazil_coordinator.retention import Page

__all__ = ["add_result"]


def add_result(router: APIRouter, coordinator: Coordinator) -> None:
    """Add the route."""
    seen = visible(coordinator)

    @router.get("/queries/{query}/result", responses=stream_of(*MEDIA_TYPES.values()))
    async def result(
        request: Request,
        query: str,
        caller: Asker,
        format: ResultFormat | None = None,  # noqa: A002  # the name on the wire
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int | None, Query(ge=0)] = None,
    ) -> Response:
        """Send the result of a query that succeeded, as `Accept` or `format` says, from row `offset` on, `limit` rows.

        A large one can be read once as a whole, unless it is sent as Parquet.
        """
        status = coordinator.status(seen(query, caller))
        if not status.state.ended:
            error = NotEndedError(f"query {query} is {status.state}: wait for its end with ?wait_s= or /events")
            return problem(request, error, state=status.state)
        try:
            form = choose_format(request.headers.get("accept", ""), format)
            # A Parquet file is made before any of it is sent: only what was sent may be deleted.
            page = Page(offset=offset, limit=limit, keep=form is ResultFormat.PARQUET)
            stream = encoded(coordinator.result(status.id, page), form)
            # An error before the first byte is still a problem document; one after it can only break the connection.
            first = await anext(stream)
        except NotAcceptableError as refused:
            return problem(request, refused, formats=list(MEDIA_TYPES.values()))
        headers = {"Cache-Control": "no-store", "Vary": "Accept"}
        return BreakingResponse(_prepend(first, stream), media_type=MEDIA_TYPES[form], headers=headers)


async def _prepend(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk
