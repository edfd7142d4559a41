"""Who asks: bearer tokens, and what the role of one gives a right to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias, cast

from fastapi import Depends, Request
from prometheus_client import Counter

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.identity import Identities
from frazil_coordinator.refusals import (
    AuthorityError,
    ExpiredTokenError,
    ForbiddenError,
    InvalidTokenError,
    RoleError,
    UnauthorizedError,
    UnknownTokenError,
)
from frazil_coordinator.registry import UnknownQueryError
from frazil_coordinator.tenancy import DEFAULT_TENANT, Role, Token
from frazil_coordinator.tenancy.model import digest_of
from frazil_functions.errors import RequestError
from frazil_functions.ids import QueryId

__all__ = ["INGEST_PATHS", "Asker", "Caller", "require_token", "visible"]

INGEST_PATHS: Final = ("/", "/ingest/s3")
"""Where producers send events. There a token may also be the parameter ``token`` of the URL: not all can set headers."""

_READING: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request."""

    tenant: str
    role: Role

    def tenant_shown(self, wanted: str | None) -> str | None:
        """Return whose queries a list shows when those of `wanted` are asked for (None: all); None is everybody's.

        A name of another tenant is like one that nobody has: nothing is shown.
        """
        if self.role is Role.ADMIN:
            return wanted
        return self.tenant if wanted in (None, self.tenant) else ""


_ANYBODY: Final = Caller(tenant=DEFAULT_TENANT, role=Role.ADMIN)


def require_token(
    tokens: Sequence[str | Token], identities: Identities | None = None, *, refused: Counter | None = None
) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that lets in who sends ``Authorization: Bearer`` with a token that is known.

    Parameters
    ----------
    tokens
        What is known of static ones, or the secrets of administrators of the one tenant. They are looked at first.
    identities
        Who can tell whose another one is. With none, and no tokens, everybody is let in as an administrator.
    refused
        Counts those who are not, by reason. None: nobody does.

    Notes
    -----
    Digests of equal length are compared, each of them always and in constant time, so that the time of the answer tells
    nothing of a token, its length or its place.
    """
    known = tuple(Token.of(token) if isinstance(token, str) else token for token in tokens)

    async def check(request: Request) -> None:
        guarded = known or identities is not None
        try:
            request.state.caller = await _caller(request, known, identities) if guarded else _ANYBODY
        except RequestError as error:
            if refused is not None:
                refused.labels(_reason(request, error)).inc()
            raise

    return check


def _ingests(request: Request) -> bool:
    """Return whether a request sends events."""
    return request.url.path in INGEST_PATHS and request.method == "POST"


def _given(request: Request) -> str:
    """Return the bearer token of a request; empty when it has none."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if not scheme and _ingests(request):
        return request.query_params.get("token", "")
    return rest.strip() if scheme.lower() == "bearer" else ""


def _reason(request: Request, error: RequestError) -> str:
    """Return which of `frazil_coordinator.metrics.REFUSED_TOKENS` an error is."""
    match error:
        case RoleError():
            return "role"
        case ForbiddenError():
            return "no_right"
        case AuthorityError():
            return "unanswered"
        case ExpiredTokenError():
            return "expired"
        case UnknownTokenError():
            return "unknown"
        case InvalidTokenError():
            return "invalid"
    return "unknown" if _given(request) else "missing"


async def _caller(request: Request, known: Sequence[Token], identities: Identities | None) -> Caller:
    given = _given(request)
    digest = digest_of(given)
    matches = [token for token in known if token.is_of(digest)]
    if not given or not (matches or identities is not None):
        raise UnauthorizedError("a bearer token is required: send the header 'Authorization: Bearer <token>'")
    if matches or identities is None:
        caller = Caller(tenant=matches[0].tenant, role=matches[0].role)
    else:
        identity = await identities.identity_of(given)
        caller = Caller(tenant=identity.tenant, role=identity.role)
    if caller.role is Role.NOTIFY and not _ingests(request):
        raise RoleError(f"a token of role {caller.role} may only POST events to {' and '.join(INGEST_PATHS)}")
    if caller.role is Role.READ and request.method not in _READING:
        raise RoleError(f"a token of role {caller.role} may only GET: {request.method} needs the role submit")
    return caller


async def _asker(request: Request) -> Caller:
    """Return who was let in by :func:`require_token`, which all routes with a caller depend on."""
    return cast("Caller", request.state.caller)


Asker: TypeAlias = Annotated[Caller, Depends(_asker)]


def visible(coordinator: Coordinator) -> Callable[[str, Caller], QueryId]:
    """Return what gives the id of the query in a route's path, when the caller may see it.

    Called by the routes, and no dependency of theirs: a bad parameter is told of before it is looked for the query.

    Raises
    ------
    UnknownQueryError
        From each call, when there is no such query, or it is another tenant's: the answer is the same, and so is the way to
        it, so that nobody learns which.
    """

    def check(query: str, caller: Caller) -> QueryId:
        status = coordinator.status(QueryId(query))
        if caller.role is not Role.ADMIN and status.tenant != caller.tenant:
            raise UnknownQueryError.of(QueryId(query))
        return status.id

    return check
