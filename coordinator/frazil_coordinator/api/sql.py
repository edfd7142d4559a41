"""Statements in place of plans: ``POST /v1/queries`` and ``POST /v1/explain`` with a JSON body (docs/tables.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from fastapi import Request
from fastapi.responses import Response

from frazil_coordinator.api.auth import Caller
from frazil_coordinator.api.hanging_up import while_connected
from frazil_coordinator.api.inputs import media_type_of, read_body
from frazil_coordinator.catalog.plans import Shown, Statement
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_coordinator.statements import explain_sql, submit_sql
from frazil_coordinator.status import encode
from frazil_functions.errors import RequestError

__all__ = ["Asked", "SqlBody", "answer_statement", "is_statement"]

_JSON: Final = "application/json"
_MAX_BYTES: Final = 4 * 1024 * 1024


class SqlBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends."""

    sql: str
    """One statement: SELECT, WITH or VALUES, or EXPLAIN or EXPLAIN ANALYZE before one."""

    parameters: list[object] | dict[str, object] = []
    """For ``?`` and ``$1``, or for ``:name``: JSON values, or ``{"type": "date", "value": "2026-11-30"}`` and such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request says beside its body."""

    settings: Settings
    labels: tuple[str, ...] = ()
    priority: int = 0
    dry_run: bool = False
    discard_result: bool = False
    idempotency_key: str = ""
    shown: Shown = "result"


def is_statement(request: Request) -> bool:
    """Return whether the body is a statement rather than a plan."""
    return media_type_of(request) == _JSON


async def answer_statement(request: Request, coordinator: Coordinator, caller: Caller, asked: Asked) -> Response:
    """Run or explain the statement of a body; EXPLAIN in the statement goes before what the route is for.

    Raises
    ------
    FrazilError
        As :mod:`frazil_coordinator.statements` does.
    """
    statement = await _statement(request, coordinator)
    shown = asked.shown if statement.shown == "result" else statement.shown
    wanted = Statement(text=statement.text, shown=shown, parameters=statement.parameters)
    if shown == "result" and not asked.dry_run:
        status = await submit_sql(
            coordinator,
            wanted,
            labels=asked.labels,
            discard_result=asked.discard_result,
            idempotency_key=asked.idempotency_key,
            priority=asked.priority,
            settings=asked.settings,
            tenant=caller.tenant,
        )
        headers = {"Location": f"/v1/queries/{status.id}"}
        return Response(encode(status), status_code=202, media_type=_JSON, headers=headers)
    explained = partial(explain_sql, coordinator, wanted, settings=asked.settings, tenant=caller.tenant)
    if shown == "analysis" and not asked.dry_run:
        return Response(encode(await while_connected(request, explained())), media_type=_JSON)
    return Response(encode(await explained(dry_run=asked.dry_run)), media_type=_JSON)


async def _statement(request: Request, coordinator: Coordinator) -> Statement:
    data = await read_body(request, min(_MAX_BYTES, coordinator.settings.max_plan_bytes))
    try:
        body = msgspec.json.decode(data, type=SqlBody)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RequestError(f'the body must be {{"sql": "SELECT …", "parameters": […]}}: {error}') from error
    return Statement.of(body.sql, body.parameters)
