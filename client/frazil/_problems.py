"""Answers of a coordinator that are errors, as the classes that it raised (docs/http-api.md, Problems).

Read by :mod:`frazil._remote`.
"""

from __future__ import annotations

from typing import Final

import httpx
import msgspec

from frazil_functions.errors import FrazilError, RequestError, WireError, from_wire

__all__ = ["NotHereError", "raise_for_problem", "raise_if_elsewhere"]

_OF_THE_COORDINATOR: Final = frozenset({"standby", "deposed", "journal", "request"})
"""Kinds of errors that answer 503 because of the coordinator: another one leads, or it ends."""


class NotHereError(httpx.TransportError):
    """The coordinator says that another one should be asked, or this one later."""


class _Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457) with the members that make the error's class again."""

    title: str = ""
    detail: str = ""
    kind: str = "request"
    message: str = ""
    where: dict[str, str] = {}
    exception: str = ""


def raise_if_elsewhere(response: httpx.Response) -> None:
    """Raise when the request should be sent again, for another coordinator will answer it.

    Raises
    ------
    NotHereError
        With the coordinator's words.
    """
    if response.status_code != httpx.codes.SERVICE_UNAVAILABLE or "Retry-After" not in response.headers:
        return
    error = _error_of(response)
    if error.kind in _OF_THE_COORDINATOR:  # else it is what became of a query, which does not change
        raise NotHereError(error.message, request=response.request)


def raise_for_problem(response: httpx.Response) -> None:
    """Raise the error that an answer stands for.

    Raises
    ------
    FrazilError
        As the class that the coordinator raised; `RequestError` when the answer is not a coordinator's.
    """
    if response.is_success:
        return
    raise _error_of(response)


def _error_of(response: httpx.Response) -> FrazilError:
    says = f"{response.request.method} {response.request.url.path} → {response.status_code}"
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.MsgspecError:
        return RequestError(f"{says} {response.reason_phrase}: {response.text[:200]}")
    message = problem.message or problem.detail or problem.title or says
    return from_wire(WireError(kind=problem.kind, message=message, where=problem.where, exception=problem.exception))
