"""Errors as ``application/problem+json`` (RFC 9457), from which a client rebuilds the same class.

The extension members ``kind``, ``where`` and ``exception`` are those of :class:`frazil_functions.errors.WireError`; of a
plan of another version there is ``served``, which names the versions that would do (:mod:`frazil_coordinator.api.versions`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from frazil_coordinator.api.versions import served
from frazil_coordinator.catalog import TableConflictError, UnknownTableError
from frazil_coordinator.events.model import TriggerConflictError, UnknownTriggerError
from frazil_coordinator.formats import NotAcceptableError
from frazil_coordinator.refusals import (
    AuthorityError,
    ForbiddenError,
    InvalidTokenError,
    NotPlannedError,
    PlanTooLargeError,
    QueueFullError,
    ShuttingDownError,
    TaskGoneError,
    TaskNotReadyError,
    UnauthorizedError,
    UnknownTaskError,
)
from frazil_coordinator.registry import TooManyQueriesError, UnknownQueryError
from frazil_coordinator.retention import ResultGoneError
from frazil_functions.errors import (
    CancelledQueryError,
    CapError,
    DeadlineError,
    FrazilError,
    InternalError,
    JournalError,
    PlanVersionError,
    PlatformError,
    ProtocolError,
    QuotaError,
    RequestError,
    StorageError,
    StorageFullError,
    UserError,
    to_wire,
)

__all__ = ["PROBLEM_JSON", "MediaTypeError", "NotEndedError", "add_handlers", "problem", "status_of"]

PROBLEM_JSON: Final = "application/problem+json"

_LOGGER = logging.getLogger(__name__)


class MediaTypeError(RequestError):
    """The body is of a kind that is not taken here."""


class NotEndedError(RequestError):
    """The result was asked for before the query has ended."""


_STATUS: Final[Mapping[type[FrazilError], int]] = {
    UnauthorizedError: 401,
    AuthorityError: 503,
    UnknownQueryError: 404,
    UnknownTableError: 404,
    UnknownTriggerError: 404,
    TableConflictError: 412,
    TriggerConflictError: 412,
    CancelledQueryError: 409,
    NotEndedError: 409,
    NotPlannedError: 409,
    TaskNotReadyError: 409,
    UnknownTaskError: 404,
    PlanVersionError: 409,
    CapError: 403,
    ForbiddenError: 403,
    NotAcceptableError: 406,
    ResultGoneError: 410,
    TaskGoneError: 410,
    PlanTooLargeError: 413,
    MediaTypeError: 415,
    TooManyQueriesError: 429,
    QueueFullError: 429,
    QuotaError: 429,
    ShuttingDownError: 503,
    DeadlineError: 504,
    UserError: 400,
    StorageFullError: 507,
    StorageError: 503,
    ProtocolError: 500,
    PlatformError: 503,
    JournalError: 503,
    FrazilError: 500,
}
"""HTTP status by class; the nearest class in the order of resolution counts."""

_HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"WWW-Authenticate": 'Bearer realm="frazil"'},
    429: {"Retry-After": "1"},
    503: {"Retry-After": "1"},
}


def status_of(error: FrazilError) -> int:
    """Return the HTTP status that `error` is answered with."""
    return next(_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)


def problem(request: Request, error: FrazilError, *, status: int | None = None, **members: object) -> Response:
    """Return the problem document of `error`.

    Parameters
    ----------
    request
        What it answers.
    error
        What happened.
    status
        HTTP status; by default that of the error's class.
    **members
        More extension members.
    """
    status = status_of(error) if status is None else status
    wire = to_wire(error)
    document = {
        "type": f"urn:frazil:problem:{wire.kind}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": wire.message,
        "instance": request.url.path,
        "kind": wire.kind,
        "where": wire.where,
        "exception": wire.exception,
        **({"served": served().model_dump()} if isinstance(error, PlanVersionError) else {}),
        **members,
    }
    headers = dict(_HEADERS.get(status, {}))
    if isinstance(error, InvalidTokenError):
        headers["WWW-Authenticate"] += ', error="invalid_token"'  # RFC 6750, 3.1
    if isinstance(error, (QuotaError, AuthorityError)) and "retry_after_s" in error.where:
        headers["Retry-After"] = error.where["retry_after_s"]
    return Response(msgspec.json.encode(document), status_code=status, media_type=PROBLEM_JSON, headers=headers)


def add_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    app.add_exception_handler(FrazilError, _frazil_error)
    app.add_exception_handler(RequestValidationError, _bad_parameter)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unforeseen)


async def _frazil_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, FrazilError):
        return await _unforeseen(request, error)
    return problem(request, error)


async def _bad_parameter(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else ()
    texts = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in found]
    return problem(request, RequestError("; ".join(texts) or "bad request"))


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    answer = problem(
        request, RequestError(f"{request.method} {request.url.path}: {HTTPStatus(status).phrase}"), status=status
    )
    answer.headers.update((isinstance(error, HTTPException) and error.headers) or {})
    return answer


async def _unforeseen(request: Request, error: Exception) -> Response:
    """Say nothing of the error's text: it may hold anything. The server logs its traceback."""
    _LOGGER.error("unforeseen error", extra={"path": request.url.path, "error": type(error).__name__})
    return problem(request, InternalError("unforeseen error in the coordinator; its log tells more"))
