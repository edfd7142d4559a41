"""CloudEvents 1.0 over HTTP: read in binary, structured and batch mode, written in structured mode.

Pure. What an event means is for :mod:`frazil_coordinator.events.formats`; events of tasks have a codec of their own, on the
hot path (:mod:`frazil_functions.cloudevent`).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

import msgspec

from frazil_functions.errors import RequestError

__all__ = ["BATCH", "STRUCTURED", "CloudEvent", "decode", "encode", "is_cloudevent"]

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"

_REQUIRED: Final = ("specversion", "id", "source", "type")
_MOST: Final = 10_000
"""Events of a batch, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """One event."""

    id: str
    source: str
    type: str
    subject: str = ""
    data: object = None
    """JSON values; of other content, bytes."""

    attributes: Mapping[str, object] = field(default_factory=dict)
    """All others."""


def is_cloudevent(headers: Mapping[str, str]) -> bool:
    """Return whether a request carries CloudEvents; names of headers are in lower case."""
    return "ce-specversion" in headers or _media_type(headers).startswith("application/cloudevents")


def decode(headers: Mapping[str, str], body: bytes) -> tuple[CloudEvent, ...]:
    """Return the events of a request.

    Parameters
    ----------
    headers
        Names in lower case.
    body
        All of it.

    Raises
    ------
    RequestError
        When it carries none, or one of them is not of version 1.0 or lacks an attribute.
    """
    kind = _media_type(headers)
    if kind == STRUCTURED:
        return (_structured(_json(body)),)
    if kind == BATCH:
        events = _json(body)
        if not isinstance(events, list) or len(events) > _MOST:
            raise RequestError(f"a batch of CloudEvents is a JSON array of at most {_MOST:,} events")
        return tuple(map(_structured, events))
    if kind.startswith("application/cloudevents"):
        raise RequestError(f"CloudEvents as {kind} are not read: send {STRUCTURED}, {BATCH}, or binary mode (headers ce-…)")
    if "ce-specversion" not in headers:
        raise RequestError(
            f"not a CloudEvent: send content-type {STRUCTURED} or {BATCH}, or the headers ce-specversion, ce-id, ce-source "
            "and ce-type; notifications of object stores go to /ingest/s3"
        )
    attributes: dict[str, object] = {name[3:]: unquote(text) for name, text in headers.items() if name.startswith("ce-")}
    content = headers.get("content-type", "")
    attributes["datacontenttype"] = content
    return (_event(attributes, _data(body, content)),)


def _structured(document: object) -> CloudEvent:
    if not isinstance(document, dict):
        raise RequestError("a CloudEvent is a JSON object")
    attributes = {str(name): value for name, value in document.items() if name not in ("data", "data_base64")}
    data: object = document.get("data")
    if "data_base64" in document:
        try:
            raw = base64.b64decode(str(document["data_base64"]), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(f"data_base64 of a CloudEvent is no base64: {error}") from error
        data = _data(raw, str(attributes.get("datacontenttype", "application/json")))
    return _event(attributes, data)


def _event(attributes: dict[str, object], data: object) -> CloudEvent:
    for name in _REQUIRED:
        value = attributes.get(name)
        if not isinstance(value, str) or not value:
            raise RequestError(f"a CloudEvent needs the attribute {name}, a text that is not empty")
    if attributes["specversion"] != "1.0":
        raise RequestError(f"CloudEvents of version {attributes['specversion']} are not read: send version 1.0")
    known = {name: str(attributes.pop(name, "") or "") for name in ("id", "source", "type", "subject")}
    return CloudEvent(**known, data=data, attributes=attributes)


def _data(body: bytes, content: str) -> object:
    kind = content.partition(";")[0].strip().lower()
    if not body:
        return None
    if kind in ("", "application/json", "text/json") or kind.endswith("+json"):
        return _json(body)
    return body


def _json(body: bytes) -> object:
    try:
        found: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is no JSON: {error}") from error
    return found


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def encode(event: CloudEvent, now_unix_s: float) -> bytes:
    """Return an event in structured mode (content type :data:`STRUCTURED`); its data are JSON values."""
    document = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": datetime.fromtimestamp(now_unix_s, UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        **({"subject": event.subject} if event.subject else {}),
        **event.attributes,
        "data": event.data,
    }
    return msgspec.json.encode(document)
