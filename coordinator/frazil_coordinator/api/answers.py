"""Which route may refuse with which status: what the OpenAPI document says of each (docs/http-api.md, Problems).

One table of all routes: one that is not in it, and a route of it that there is not, is an error when the document is made.
What a status stands for is said by :mod:`frazil_coordinator.api.problems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from frazil_coordinator.api.problems import PROBLEM_JSON

__all__ = ["add_answers"]

_GUARDED: Final = (401, 403, 503)
"""Of every route that asks for a token: without a good one; of a role that may not; when nobody can say whose one is."""

_ENDED: Final = (400, 403, 409, 429, 503, 504, 507)
"""What became of a query that failed: its own error."""

_ROUTES: Final[Mapping[tuple[str, str], tuple[int, ...]]] = {
    ("get", "/healthz"): (),
    ("get", "/readyz"): (503,),
    ("get", "/metrics"): (),
    ("get", "/v1/version"): _GUARDED,
    ("get", "/v1/cluster"): _GUARDED,
    ("post", "/v1/queries"): (*_GUARDED, *_ENDED, 413, 415),
    ("post", "/v1/explain"): (*_GUARDED, *_ENDED, 413, 415),
    ("get", "/v1/queries"): (*_GUARDED, 400),
    ("get", "/v1/queries/{query}"): (*_GUARDED, 400, 404),
    ("delete", "/v1/queries/{query}"): (*_GUARDED, 404),
    ("get", "/v1/queries/{query}/plan"): (*_GUARDED, *_ENDED, 404),
    ("get", "/v1/queries/{query}/profile"): (*_GUARDED, 404),
    ("get", "/v1/queries/{query}/tasks"): (*_GUARDED, 400, 404),
    ("get", "/v1/queries/{query}/events"): (*_GUARDED, 404),
    ("get", "/v1/queries/{query}/result"): (*_GUARDED, *_ENDED, 404, 406, 410),
    ("get", "/v1/queries/{query}/stages/{stage}/tasks/{task}/replay"): (*_GUARDED, *_ENDED, 404, 410),
    ("get", "/v1/tables"): _GUARDED,
    ("get", "/v1/tables/{name}"): (*_GUARDED, 400, 404),
    ("put", "/v1/tables/{name}"): (*_GUARDED, 400, 412, 413, 507),
    ("delete", "/v1/tables/{name}"): (*_GUARDED, 400, 404, 412, 507),
    ("get", "/v1/catalogs"): _GUARDED,
    ("get", "/v1/catalogs/{name}/tables"): (*_GUARDED, 400, 404),
    ("get", "/v1/triggers"): _GUARDED,
    ("get", "/v1/triggers/{name}"): (*_GUARDED, 400, 404),
    ("put", "/v1/triggers/{name}"): (*_GUARDED, 400, 409, 412, 413, 507),
    ("delete", "/v1/triggers/{name}"): (*_GUARDED, 400, 404, 412, 507),
    ("post", "/v1/triggers/{name}/pause"): (*_GUARDED, 400, 404, 412, 507),
    ("post", "/v1/triggers/{name}/resume"): (*_GUARDED, 400, 404, 412, 507),
    ("post", "/v1/triggers/{name}/run"): (*_GUARDED, 404),
    ("post", "/v1/triggers/{name}/replay"): (*_GUARDED, 400, 404, 413, 507),
    ("get", "/v1/triggers/{name}/dead-letters"): (*_GUARDED, 404),
    ("post", "/v1/triggers/{name}/dead-letters/retry"): (*_GUARDED, 400, 404, 413, 507),
    ("post", "/"): (*_GUARDED, 400, 404, 413),
    ("post", "/ingest/s3"): (*_GUARDED, 400, 404, 413),
}
"""By method and template; 500 is of all of them."""

_WHEN: Final[Mapping[int, str]] = {
    400: "A parameter, the body, the plan or the statement is wrong, or a source that it reads",
    401: "No token, or one that is not good",
    403: "The role, the tenant's folders or priority, or a cap don't allow it",
    404: "There is none, or it is another tenant's",
    406: "The result can't be sent as what is accepted",
    409: "The query has not ended, is not planned, or was cancelled; or the plan is of another version",
    410: "The result is deleted",
    412: "The table or trigger is of another version",
    413: "The body is too large",
    415: "The body is of another kind",
    429: "Too many queries run or wait, or the quota of the day is used up: try again after so many seconds",
    500: "A fault of Frazil itself",
    503: "Another coordinator leads, this one ends, or the store, the platform, a catalog or an issuer does not answer",
    504: "The query's time is over",
    507: "The store is full",
}
_HEADERS: Final[Mapping[int, Mapping[str, Any]]] = {
    401: {"WWW-Authenticate": {"description": "What to show", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds", "required": True, "schema": {"type": "integer", "minimum": 0}}},
    503: {"Retry-After": {"description": "Seconds", "required": True, "schema": {"type": "integer", "minimum": 0}}},
}


def add_answers(document: Mapping[str, Any]) -> None:
    """Say in an OpenAPI document, in place, how each route may refuse.

    Raises
    ------
    LookupError
        When a route is not in the table, or one of the table is not in the document.
    """
    there = {(method, path): route for path, methods in document["paths"].items() for method, route in methods.items()}
    if unlisted := there.keys() ^ _ROUTES.keys():
        raise LookupError(f"not both among the routes and in their table of answers: {sorted(unlisted)}")
    for key, route in there.items():
        del route["responses"]["4XX"]
        route["responses"] |= {str(status): _answer(status) for status in sorted({*_ROUTES[key], 500})}


def _answer(status: int) -> dict[str, Any]:
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    headers = {"headers": dict(_HEADERS[status])} if status in _HEADERS else {}
    return {"description": _WHEN[status], "content": content, **headers}
