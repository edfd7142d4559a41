"""Our codec for CloudEvents 1.0 over HTTP: signed task requests in binary mode, event lines in structured mode.

Both sides use it: the coordinator makes requests and reads lines, :mod:`frazil_functions.app` reads requests and makes
lines. It knows no socket. The wire is specified in docs/protocol.md. The `cloudevents` SDK costs 10 to 70 microseconds an
event and mutates what it is given; tests hold that it reads what we write, and we what it writes.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote

import msgspec

from frazil_functions.errors import DeadlineError, ProtocolError
from frazil_functions.task import (
    Failed,
    Heartbeat,
    Started,
    Succeeded,
    TaskEvent,
    TaskRequest,
    decode_event,
    decode_request,
    encode_event,
    encode_request,
)

__all__ = [
    "EVENT_LINES_TYPE",
    "MARKER_HEADER",
    "MAX_AGE_S",
    "MAX_SKEW_S",
    "SIGNATURE_HEADER",
    "TASK_TYPE",
    "attributes_of",
    "check_fresh",
    "decode_task",
    "encode_line",
    "encode_task",
    "parse_line",
    "sign",
    "verify",
]

TASK_TYPE: Final = "dev.frazil.task.v1"
"""CloudEvents type of a task request."""

EVENT_LINES_TYPE: Final = "application/x-ndjson"
"""Content type of the answer: one structured CloudEvent a line."""

MARKER_HEADER: Final = "frazil-function"
"""Header of every answer of a function, with value ``1``. An answer without it comes from the platform in between."""

SIGNATURE_HEADER: Final = "ce-frazilsignature"
"""Header that carries the signature, as ``v1=<hex>``."""

MAX_AGE_S: Final = 900.0
"""Seconds after ``ce-time`` when an event is refused as a replay. Above the longest wait for a cold start."""

MAX_SKEW_S: Final = 120.0
"""Seconds by which ``ce-time`` may lie in the future: clocks differ."""

_BODY_TYPE: Final = "application/msgpack"
_SIGNED_HEADERS: Final = (
    "ce-specversion",
    "ce-type",
    "ce-id",
    "ce-source",
    "ce-time",
    "ce-frazildeadline",
    "traceparent",
    "content-type",
)
"""What is signed, in this order; a header that is not sent counts as empty."""

_SIGNATURE_VERSION: Final = "v1="
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""Characters of an attribute that need no percent-encoding in a header (CloudEvents HTTP binding 3.1.3.2)."""

_LINE_TYPES: Final = {
    Started: "dev.frazil.task.started.v1",
    Heartbeat: "dev.frazil.task.heartbeat.v1",
    Succeeded: "dev.frazil.task.succeeded.v1",
    Failed: "dev.frazil.task.failed.v1",
}


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """A structured CloudEvent as JSON."""

    specversion: str
    type: str
    id: str
    source: str
    subject: str = ""
    time: str = ""
    datacontenttype: str = "application/json"
    data: msgspec.Raw


_LINE_ENCODER: Final = msgspec.json.Encoder()
_LINE_DECODER: Final = msgspec.json.Decoder(_Line)


def sign(key: str, headers: Mapping[str, str], body: bytes) -> str:
    r"""Return the value of the signature header.

    Parameters
    ----------
    key
        The shared secret.
    headers
        Lower-case names; values as they are sent (percent-encoded).
    body
        The body as it is sent.

    Returns
    -------
    str
        ``v1=`` and the hex digits of the HMAC-SHA256 over every signed header as ``<name>:<length>:<value>\n``, in a
        fixed order, then the body. The lengths keep two different requests from signing the same bytes.
    """
    digest = hmac.new(key.encode(), digestmod=hashlib.sha256)
    for name in _SIGNED_HEADERS:
        value = headers.get(name, "").encode("latin-1")
        digest.update(b"%s:%d:%s\n" % (name.encode(), len(value), value))
    digest.update(body)
    return _SIGNATURE_VERSION + digest.hexdigest()


def verify(keys: Sequence[str], headers: Mapping[str, str], body: bytes) -> None:
    """Check the signature of a request in constant time.

    Parameters
    ----------
    keys
        Every secret that is accepted: old and new ones while they are rotated.
    headers, body
        See :func:`sign`.

    Raises
    ------
    ProtocolError
        When the signature is missing or no key made it.
    """
    given = headers.get(SIGNATURE_HEADER, "").encode("latin-1")
    # Every key is tried, so that the time taken does not tell which one matched.
    matches = [hmac.compare_digest(sign(key, headers, body).encode(), given) for key in keys]
    if not any(matches):
        raise ProtocolError("the event is not signed with a key of this function")


def check_fresh(headers: Mapping[str, str], *, now_unix_s: float, max_age_s: float = MAX_AGE_S) -> None:
    """Refuse an event that is too old, from the future, or past its deadline.

    Raises
    ------
    DeadlineError
        When its deadline has passed.
    ProtocolError
        When it is too old, or its times can't be read.
    """
    age_s = now_unix_s - _parse_time("ce-time", headers.get("ce-time", ""))
    if age_s > max_age_s:
        raise ProtocolError(f"the event expired: it is {age_s:.0f} s old, and {max_age_s:.0f} s are allowed")
    if age_s < -MAX_SKEW_S:
        raise ProtocolError(f"the event is {-age_s:.0f} s in the future: compare the clocks of coordinator and function")
    deadline = headers.get("ce-frazildeadline")
    if deadline and _parse_time("ce-frazildeadline", deadline) <= now_unix_s:
        raise DeadlineError("the event came too late: its deadline has passed")


def encode_task(
    request: TaskRequest,
    *,
    keys: Sequence[str],
    source: str,
    now_unix_s: float | None = None,
    traceparent: str | None = None,
) -> tuple[dict[str, str], bytes]:
    """Return headers and body of the POST that sends one attempt.

    Parameters
    ----------
    request
        The attempt.
    keys
        Secrets of the functions; the first one signs.
    source
        CloudEvents source: who sends, e.g. ``/frazil/coordinator``.
    now_unix_s
        Time of the event; by default the time now.
    traceparent
        W3C trace context, passed on as it is.
    """
    body = encode_request(request)
    headers = {
        "content-type": _BODY_TYPE,
        "ce-specversion": "1.0",
        "ce-type": TASK_TYPE,
        "ce-id": quote(request.id, safe=_SAFE),
        "ce-source": quote(source, safe=_SAFE),
        "ce-time": _format_time(time.time() if now_unix_s is None else now_unix_s),
    }
    if request.deadline_unix_s is not None:
        headers["ce-frazildeadline"] = _format_time(request.deadline_unix_s)
    if traceparent is not None:
        headers["traceparent"] = traceparent
    headers[SIGNATURE_HEADER] = sign(keys[0], headers, body)
    return headers, body


def attributes_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the CloudEvents attributes of a binary-mode request: ``ce-`` headers without the prefix, decoded."""
    found = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    if "content-type" in headers:
        found["datacontenttype"] = headers["content-type"]
    return found


def decode_task(headers: Mapping[str, str], body: bytes) -> TaskRequest:
    """Return the attempt that a request carries. Verify it first.

    Raises
    ------
    ProtocolError
        When it is not a task event, or attributes and body name different attempts.
    """
    attributes = attributes_of(headers)
    if attributes.get("specversion") != "1.0":
        raise ProtocolError("not a CloudEvent 1.0 in binary mode: the header ce-specversion must be 1.0")
    if attributes.get("type") != TASK_TYPE:
        raise ProtocolError(f"unknown event type {attributes.get('type')!r}: this function runs {TASK_TYPE}")
    if attributes.get("datacontenttype") != _BODY_TYPE:
        raise ProtocolError(f"unknown content type {attributes.get('datacontenttype')!r}: a task is {_BODY_TYPE}")
    request = decode_request(body)
    if request.id != attributes.get("id"):
        raise ProtocolError(f"the event's id {attributes.get('id')!r} is not that of its body, {request.id!r}")
    return request


def encode_line(event: TaskEvent, *, attempt: str, sequence: int, source: str, now_unix_s: float) -> bytes:
    """Return `event` as one line of an answer, newline included.

    Parameters
    ----------
    event
        What the function says.
    attempt
        CloudEvents id of the attempt; it becomes the subject.
    sequence
        Number of the line in its answer; the event's id is ``<attempt>/<sequence>``.
    source
        The function process; source and id together are unique.
    now_unix_s
        The time now.
    """
    line = _Line(
        specversion="1.0",
        type=_LINE_TYPES[type(event)],
        id=f"{attempt}/{sequence}",
        source=source,
        subject=attempt,
        time=_format_time(now_unix_s),
        data=msgspec.Raw(encode_event(event)),
    )
    return _LINE_ENCODER.encode(line) + b"\n"


def parse_line(line: bytes, *, attempt: str | None = None) -> TaskEvent:
    """Return the event in one line of an answer.

    Parameters
    ----------
    line
        The line, with or without its end.
    attempt
        CloudEvents id of the attempt that was sent; checked against the line's subject when given.

    Raises
    ------
    ProtocolError
        When the line is not an event of this protocol version, or belongs to another attempt.
    """
    try:
        found = _LINE_DECODER.decode(line)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ProtocolError(f"not an event line: {error}") from error
    event = decode_event(found.data)
    if found.specversion != "1.0" or found.type != _LINE_TYPES[type(event)]:
        raise ProtocolError(f"an event line of type {found.type!r} holds another event")
    if attempt is not None and found.subject != attempt:
        raise ProtocolError(f"an event line of {found.subject!r} came in answer to {attempt!r}")
    return event


def _format_time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")


def _parse_time(name: str, text: str) -> float:
    try:
        return datetime.fromisoformat(unquote(text)).timestamp()
    except ValueError as error:
        raise ProtocolError(f"the header {name} is not an RFC 3339 time: {text!r}") from error
