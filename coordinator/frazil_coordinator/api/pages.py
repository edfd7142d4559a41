"""The web page at ``/ui``: static files of the folder ``ui`` beside this module, with headers that let it load nothing else.

The page needs no token; what it shows it asks of ``/v1`` with the token that it is given. Its files are read once, and only
those that are there by name are served: a path is looked up, never opened.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

__all__ = ["SECURITY_HEADERS", "pages_router"]

_MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

SECURITY_HEADERS: Final = {
    # Trusted Types: even the page's own scripts can't make markup of text, so what strangers wrote stays text.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Sent with every file of the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    body: bytes
    media_type: str
    etag: str


def _read() -> dict[str, _File]:
    found: dict[str, _File] = {}
    for entry in files("frazil_coordinator.api").joinpath("ui").iterdir():
        if (media_type := _MEDIA_TYPES.get(entry.name.rpartition(".")[2])) is not None:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            found[entry.name] = _File(body=body, media_type=media_type, etag=etag)
    return found


def pages_router() -> APIRouter:
    """Return ``/ui`` and its files."""
    router = APIRouter(prefix="/ui", include_in_schema=False)
    known = _read()

    @router.get("")
    async def with_slash() -> Response:
        """Send the browser to where the page's relative addresses begin."""
        return RedirectResponse("ui/", status_code=308)

    @router.get("/")
    @router.get("/{name}")
    async def page(request: Request, name: str = "index.html") -> Response:
        """Send a file of the page."""
        file = known.get(name)
        if file is None:
            raise HTTPException(404)
        headers = {**SECURITY_HEADERS, "ETag": file.etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.body, media_type=file.media_type, headers=headers)

    return router
