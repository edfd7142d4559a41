"""Who may ask: bearer tokens."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence

from fastapi import Request

from frazil_coordinator.api.problems import UnauthorizedError

__all__ = ["require_token"]


def require_token(tokens: Sequence[str]) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that lets in who sends ``Authorization: Bearer`` with one of `tokens`.

    Parameters
    ----------
    tokens
        Secrets; with none, everybody is let in.

    Notes
    -----
    Digests of equal length are compared, each of them always and in constant time, so that the time of the answer tells
    nothing of a token, its length or its place.
    """
    known = tuple(_digest(token) for token in tokens)

    async def check(request: Request) -> None:
        if not known:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        digest = _digest(given.strip())
        matches = [hmac.compare_digest(digest, one) for one in known]
        if scheme.lower() != "bearer" or not any(matches):
            raise UnauthorizedError("a bearer token is required: send the header 'Authorization: Bearer <token>'")

    return check


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
