"""The routes under ``/v1``: queries, their events, results and plans (docs/http-api.md)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from frazil_coordinator.api.auth import Asker, visible
from frazil_coordinator.api.hanging_up import while_connected
from frazil_coordinator.api.inputs import read_plan, read_settings
from frazil_coordinator.api.leader import leader_only
from frazil_coordinator.api.replays import add_replay
from frazil_coordinator.api.results import add_result
from frazil_coordinator.api.schemas import json_of, plan_body, stream_of
from frazil_coordinator.api.sql import Asked, answer_statement, is_statement
from frazil_coordinator.api.sse import EVENT_STREAM, event_stream
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.query_settings import ReuseChoice, Reusing
from frazil_coordinator.schedule.timeline import task_page
from frazil_coordinator.status import Explanation, QueryState, QueryStatus, Wanted, encode

__all__ = ["MAX_ATTEMPTS", "MAX_WAIT_S", "queries_router"]

MAX_WAIT_S = 60.0
"""Longest long-poll, in seconds."""

MAX_ATTEMPTS = 5000
"""Attempts in one answer, at most."""

Label = Annotated[str, Query(max_length=200)]
Key = Annotated[str, Header(max_length=255)]
Age = Annotated[float | None, Query(ge=0)]
Labels = Annotated[list[Label], Query(max_length=20, default_factory=list)]


def queries_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes that submit, show and cancel queries of `coordinator`."""
    router = APIRouter(prefix="/v1", tags=["queries"])
    known = APIRouter(dependencies=[Depends(leader_only(coordinator))])
    _add_submit(router, coordinator)
    _add_show(known, coordinator)
    _add_results(known, coordinator)
    router.include_router(known)
    return router


def _json(value: QueryStatus | Explanation | tuple[QueryStatus, ...], status: int = 200, **headers: str) -> Response:
    return Response(encode(value), status_code=status, media_type="application/json", headers=headers)


def _add_submit(router: APIRouter, coordinator: Coordinator) -> None:
    lead = leader_only(coordinator)
    answers = {**json_of(202, "QueryStatus"), **json_of(200, "Explanation")}

    @router.post("/queries", status_code=202, responses=answers, openapi_extra=plan_body())
    async def submit(
        request: Request,
        caller: Asker,
        label: Labels,
        priority: int = 0,
        dry_run: bool = False,
        discard_result: bool = False,
        reuse: ReuseChoice | None = None,
        max_age_s: Age = None,
        idempotency_key: Key = "",
    ) -> Response:
        """Accept a query and answer at once. Its status is at `Location`.

        With `dry_run`, plan it, check caps, run nothing, and answer with the explanation. Sent again with the same
        `Idempotency-Key`, it is the same query. `reuse` and `max_age_s` stand above the settings of the same names.
        """
        if not dry_run:
            lead()
        settings = Reusing(reuse=reuse, max_age_s=max_age_s).within(read_settings(request, coordinator.settings))
        if is_statement(request):
            asked = Asked(
                settings=settings,
                labels=tuple(label),
                priority=priority,
                dry_run=dry_run,
                discard_result=discard_result,
                idempotency_key=idempotency_key,
            )
            return await answer_statement(request, coordinator, caller, asked)
        plan = await read_plan(request, coordinator.settings.max_plan_bytes)
        if dry_run:
            return _json(await coordinator.explain(plan, settings, dry_run=True, tenant=caller.tenant))
        status = await coordinator.submit(
            plan,
            settings=settings,
            labels=label,
            discard_result=discard_result,
            idempotency_key=idempotency_key,
            tenant=caller.tenant,
            priority=priority,
        )
        return _json(status, 202, Location=f"/v1/queries/{status.id}")

    @router.post("/explain", responses=json_of(200, "Explanation"), openapi_extra=plan_body())
    async def explain(request: Request, caller: Asker, label: Labels, priority: int = 0, analyze: bool = False) -> Response:
        """Say how a plan would be cut into stages, and what it would read and cost; nothing runs.

        With `analyze`, run it, discard its result, and answer at its end with what it did beside.
        """
        if analyze:
            lead()
        settings = read_settings(request, coordinator.settings)
        if is_statement(request):
            return await answer_statement(
                request, coordinator, caller, Asked(settings=settings, shown="analysis" if analyze else "plan")
            )
        plan = await read_plan(request, coordinator.settings.max_plan_bytes)
        if analyze:
            work = coordinator.analyze(plan, settings, labels=label, tenant=caller.tenant, priority=priority)
            return _json(await while_connected(request, work))
        return _json(await coordinator.explain(plan, settings, tenant=caller.tenant))


def _add_show(router: APIRouter, coordinator: Coordinator) -> None:
    seen = visible(coordinator)

    @router.get("/queries", responses=json_of(200, "QueryStatus", array=True))
    async def list_queries(
        caller: Asker,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        state: QueryState | None = None,
        label: Label | None = None,
        tenant: str | None = None,
        text: Annotated[str | None, Query(max_length=200)] = None,
        since: Annotated[float | None, Query(ge=0)] = None,
    ) -> Response:
        """List queries, newest first: those of the caller's tenant; an administrator's list is of all, or of `tenant`.

        `text` is looked for in ids, labels, tenants and errors; `since` is in seconds since 1970.
        """
        wanted = Wanted(
            limit=limit, state=state, label=label, tenant=caller.tenant_shown(tenant), text=text or None, since_unix_s=since
        )
        return _json(coordinator.list(wanted))

    @router.get("/queries/{query}", responses=json_of(200, "QueryStatus"))
    async def status(query: str, caller: Asker, wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0.0) -> Response:
        """Show a query, at once, or when it has ended or `wait_s` seconds are over."""
        known = seen(query, caller)
        return _json(await coordinator.wait(known, wait_s) if wait_s else coordinator.status(known))

    @router.get("/queries/{query}/plan", responses=json_of(200, "Explanation"))
    async def plan(query: str, caller: Asker, analyze: bool = False) -> Response:
        """Show how a query was cut into stages; with `analyze`, also what they did until now."""
        return _json(coordinator.explanation(seen(query, caller), analyze=analyze))

    @router.get("/queries/{query}/profile", responses={200: {"content": {"application/json": {}}}})
    async def profile(query: str, caller: Asker) -> Response:
        """Show what a query used until now, by stage."""
        return Response(msgspec.json.encode(coordinator.profile(seen(query, caller))), media_type="application/json")

    @router.get("/queries/{query}/tasks", responses=json_of(200, "TaskPage"))
    async def tasks(
        query: str,
        caller: Asker,
        stage: Annotated[int | None, Query(ge=0)] = None,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=0, le=MAX_ATTEMPTS)] = 1000,
    ) -> Response:
        """Show a page of the attempts of a query, in the order in which they were sent, and how even its stages are."""
        page = task_page(coordinator.profile(seen(query, caller)), stage=stage, offset=offset, limit=limit)
        return Response(msgspec.json.encode(page), media_type="application/json")

    @router.delete("/queries/{query}", responses=json_of(200, "QueryStatus"))
    async def cancel(query: str, caller: Asker) -> Response:
        """Stop a query. The answer comes when it has stopped and its objects are deleted; no effect after its end."""
        return _json(await coordinator.cancel(seen(query, caller)))


def _add_results(router: APIRouter, coordinator: Coordinator) -> None:
    seen = visible(coordinator)

    @router.get("/queries/{query}/events", responses=stream_of(EVENT_STREAM))
    async def events(query: str, caller: Asker) -> Response:
        """Stream the state of a query now, then its changes until it has ended."""
        stream = event_stream(coordinator.events(seen(query, caller)))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type=EVENT_STREAM, headers=headers)

    add_result(router, coordinator)
    add_replay(router, coordinator)
