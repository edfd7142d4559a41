"""Reading what clients send: the plan as a bounded stream, and settings as a JSON header."""

from __future__ import annotations

from dataclasses import fields
from typing import Final, get_type_hints

import msgspec
from fastapi import Request

from frazil_coordinator.api.problems import MediaTypeError
from frazil_coordinator.api.versions import require_versions
from frazil_coordinator.query_settings import for_query
from frazil_coordinator.refusals import PlanTooLargeError
from frazil_coordinator.settings import Settings
from frazil_functions.arena import require_version
from frazil_functions.errors import PlanError, PlanVersionError, RequestError

__all__ = ["PLAN_MEDIA_TYPES", "SETTINGS_HEADER", "media_type_of", "read_body", "read_plan", "read_settings"]

PLAN_MEDIA_TYPES: Final = ("application/vnd.frazil.plan", "application/octet-stream")
SETTINGS_HEADER: Final = "Frazil-Settings"

_TYPES: Final = get_type_hints(Settings)
_KNOBS: Final = frozenset(knob.name for knob in fields(Settings))


async def read_plan(request: Request, limit: int) -> bytes:
    """Return the body, of at most `limit` bytes; no more than that is ever held.

    Raises
    ------
    PlanTooLargeError
        When it is larger; with a ``Content-Length``, before any of it is read.
    PlanError
        When it is empty.
    MediaTypeError
        When it is of another media type.
    PlanVersionError
        When its header, or the plan itself, is of another version; by the header, before any of it is kept.
    """
    media_type = media_type_of(request)
    if media_type not in PLAN_MEDIA_TYPES:
        raise MediaTypeError(f"the body must be a plan: content-type {' or '.join(PLAN_MEDIA_TYPES)}, not {media_type}")
    try:
        require_versions(request)
    except PlanVersionError:
        if "expect" not in request.headers:  # a client that asks first has sent nothing yet
            await _discard(request, limit)
        raise
    body = await read_body(request, limit)
    if not body:
        raise PlanError("the body is empty: send the bytes of LazyFrame.serialize()")
    require_version(body)
    return body


def media_type_of(request: Request) -> str:
    """Return the media type of the body, in lower case and without parameters."""
    return request.headers.get("content-type", PLAN_MEDIA_TYPES[1]).partition(";")[0].strip().lower()


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body, of at most `limit` bytes; no more than that is ever held.

    Raises
    ------
    PlanTooLargeError
        When it is larger; with a ``Content-Length``, before any of it is read.
    """
    too_large = PlanTooLargeError(f"the body has more than the {limit:,} bytes allowed")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        if "expect" not in request.headers:  # a client that asks first has sent nothing yet
            await _discard(request, limit)
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            del body
            await _discard(request, limit)
            raise too_large
        body += chunk
    return bytes(body)


async def _discard(request: Request, limit: int) -> None:
    """Read on for a while and keep nothing: a client that can't finish sending may never read the answer."""
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > 2 * limit:
            return


def read_settings(request: Request, base: Settings) -> Settings:
    """Return `base` with the overrides of the ``Frazil-Settings`` header, a JSON object.

    Raises
    ------
    RequestError
        When the header is not a JSON object, names an unknown setting, gives one a bad value, or lifts a limit of `base`.
    """
    text = request.headers.get(SETTINGS_HEADER)
    if text is None:
        return base
    try:
        given = msgspec.json.decode(text.encode("latin-1"), type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise RequestError(f"the header {SETTINGS_HEADER} must be a JSON object: {error}") from error
    unknown = sorted(given.keys() - _KNOBS)
    if unknown:
        raise RequestError(f"settings: unknown: {', '.join(unknown)}; known are {', '.join(sorted(_KNOBS))}")
    values: dict[str, object] = {}
    for name, raw in given.items():
        try:
            values[name] = msgspec.json.decode(raw, type=_TYPES[name])
        except msgspec.DecodeError as error:
            raise RequestError(f"settings: {name}: {error}") from error
    return for_query(base, values)
