"""Counting and timing of HTTP requests, by the template of their route: never by their path, which holds ids."""

from __future__ import annotations

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frazil_coordinator.metrics import Metrics

__all__ = ["Measured"]

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_ROUTE: Final = "none"
_HUNG_UP: Final = "499"
"""What nginx calls it: the client was gone before there was an answer."""


class Measured:
    """ASGI middleware that tells the metrics of each request.

    Parameters
    ----------
    app
        What answers.
    metrics
        What is told.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and tell of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _HUNG_UP

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        began = time.perf_counter()
        self._metrics.http.in_flight.inc()
        try:
            await self._app(scope, receive, watched)
        except Exception:
            status = "500"  # the server's own handler, outside of this one, answers
            raise
        finally:
            self._metrics.http.in_flight.dec()
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.http.seconds.labels(_template(scope), method, status).observe(time.perf_counter() - began)


def _template(scope: Scope) -> str:
    """Return the template of the route that answers.

    A route of a router inside of another one knows only its own part. What comes before is a prefix without parameters, so
    it is what the request has there.
    """
    template: str | None = getattr(scope.get("route"), "path", None)
    if template is None:
        return _NO_ROUTE
    own, asked = template.split("/"), scope["path"].split("/")
    return "/".join([*asked[: len(asked) - len(own) + 1], *own[1:]])
