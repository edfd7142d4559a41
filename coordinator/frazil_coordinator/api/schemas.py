"""OpenAPI for the values of :mod:`frazil_coordinator.status`, which are msgspec types, not pydantic's."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from frazil_coordinator.api.answers import add_answers
from frazil_coordinator.api.cluster import ClusterView
from frazil_coordinator.api.inputs import PLAN_MEDIA_TYPES, SETTINGS_HEADER
from frazil_coordinator.api.sql import SqlBody
from frazil_coordinator.api.trigger_bodies import Replay, Revive
from frazil_coordinator.api.versions import POLARS_HEADER, PROTOCOL_HEADER, served
from frazil_coordinator.catalog.model import CatalogInfo, CatalogTable, Table, TableSource
from frazil_coordinator.events.model import DeadLetter, Trigger, TriggerSource, TriggerView
from frazil_coordinator.schedule.timeline import TaskPage
from frazil_coordinator.status import Explanation, QueryEvent, QueryStatus

__all__ = ["add_schemas", "json_of", "plan_body", "stream_of"]

Responses: TypeAlias = dict[int | str, dict[str, Any]]  # FastAPI's own type

_TRIGGERS: Final = (Trigger, TriggerSource, TriggerView, DeadLetter, Replay, Revive)
_REF: Final = "#/components/schemas/{name}"
_DATE: Final = {"type": "date", "value": "2026-11-01"}
_CATALOGS: Final = (CatalogInfo, CatalogTable)
_BINARY: Final = {"type": "string", "format": "binary"}


def json_of(status: int, name: str, *, array: bool = False) -> Responses:
    """Return the ``responses`` of a route that answers `status` with JSON of the type `name`."""
    one: dict[str, Any] = {"$ref": _REF.format(name=name)}
    schema = {"type": "array", "items": one} if array else one
    return {status: {"description": name, "content": {"application/json": {"schema": schema}}}}


def stream_of(*media_types: str) -> Responses:
    """Return the ``responses`` of a route that streams one of `media_types`; as JSON, the rows are an array of objects."""
    rows = {"type": "array", "items": {"type": "object"}}
    content = {one: {"schema": rows if one == "application/json" else _BINARY} for one in media_types}
    return {200: {"description": "A stream", "content": content}}


def plan_body() -> dict[str, Any]:
    """Return the ``openapi_extra`` of a route that takes a plan."""
    headers = [
        _header(SETTINGS_HEADER, "JSON object of settings that this query has of its own"),
        _header(POLARS_HEADER, "Version of polars that wrote the plan", served().polars),
        _header(PROTOCOL_HEADER, "Version of the task protocol of who sends it", str(served().protocol)),
    ]
    content: dict[str, Any] = {media_type: {"schema": _BINARY} for media_type in PLAN_MEDIA_TYPES}
    statement = {"sql": "SELECT k, SUM(v) AS v FROM orders WHERE d >= $1 GROUP BY k", "parameters": [_DATE]}
    content["application/json"] = {"schema": {"$ref": _REF.format(name="SqlBody")}, "example": statement}
    return {"requestBody": {"required": True, "content": content}, "parameters": headers}


def _header(name: str, description: str, *values: str) -> dict[str, Any]:
    """Return the description of a header; only `values` are taken, if there are any."""
    schema = {"type": "string", **({"enum": list(values)} if values else {})}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def add_schemas(app: FastAPI) -> None:
    """Make ``/openapi.json`` name the types that :func:`json_of` refers to."""
    shown = (QueryStatus, QueryEvent, Explanation, TaskPage, ClusterView, SqlBody, Table, TableSource)
    named = (*shown, *_TRIGGERS, *_CATALOGS)
    _, components = msgspec.json.schema_components(named, schema_hook=_schema_of, ref_template=_REF)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schema.setdefault("components", {}).setdefault("schemas", {}).update(components)
            add_answers(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend OpenAPI


def _schema_of(kind: type) -> dict[str, Any]:
    """Return the schema of what msgspec has none for: ``object`` is any JSON value."""
    if kind is not object:
        raise NotImplementedError(f"no JSON schema for {kind!r}")
    return {"description": "Any JSON value"}
