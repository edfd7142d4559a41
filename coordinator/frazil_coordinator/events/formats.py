"""What producers say, as events of objects: S3's notifications and their kin, CloudEvents, schedules.

Pure. Every form is told by its own marks, so that one URL takes them all. What comes out is a hint: the trigger asks the
store what the object is (:mod:`frazil_coordinator.events.sources`). Fixtures of the real forms are in
``tests/golden/notifications``.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, cast
from urllib.parse import unquote_plus

import msgspec

from frazil_coordinator.events.cloudevents import CloudEvent
from frazil_functions.errors import RequestError

__all__ = ["CREATED_TYPE", "PING_TYPE", "ObjectEvent", "Told", "told_by_cloudevent", "told_by_notification"]

CREATED_TYPE: Final = "dev.frazil.object.created.v1"
"""CloudEvents type for producers of one's own."""

PING_TYPE: Final = "dev.knative.sources.ping"

_GCS_TYPES: Final = "google.cloud.storage.object.v1."
_FILER_BUCKETS: Final = "/buckets/"
_GCS_BUCKETS: Final = "/buckets/"

Json: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEvent:
    """Something happened to an object."""

    bucket: str = ""
    key: str = ""
    """As the store has it: percent signs of URLs are decoded."""

    url: str = ""
    """Path or URL, from producers that say this instead."""

    removed: bool = False
    etag: str = ""
    size: int | None = None
    time: str = ""
    version: str = ""
    """Of a bucket with versions."""

    sequencer: str = ""
    """What orders events of one object, where the store tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one message says."""

    form: str
    """Which form it has: a label of metrics."""

    events: tuple[ObjectEvent, ...] = ()
    run: tuple[str, ...] = ()
    """Names of triggers that a schedule wants to run now."""


def told_by_cloudevent(event: CloudEvent) -> Told:
    """Return what a CloudEvent says; of one that is none of ours, nothing.

    Raises
    ------
    RequestError
        When it is one of ours, and its data are not what they must be.
    """
    if event.type == PING_TYPE:
        return Told(form="ping", run=_names(event.data))
    if event.type == CREATED_TYPE:
        return Told(form="cloudevent", events=tuple(_own(event.data)))
    if event.type.startswith(_GCS_TYPES):
        bucket = event.source.partition(_GCS_BUCKETS)[2]
        key = event.subject.removeprefix("objects/")
        found = _map(event.data)
        removed = not event.type.endswith((".finalized", ".metadataUpdated"))
        one = ObjectEvent(bucket=bucket or _text(found, "bucket"), key=key or _text(found, "name"), removed=removed)
        return Told(form="gcs", events=(one,) if one.bucket and one.key else ())
    return _told(event.data) or Told(form="unknown")


def told_by_notification(body: bytes) -> Told:
    """Return what a notification says.

    Raises
    ------
    RequestError
        When it is of no form that is known.
    """
    try:
        document: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"a notification must be JSON: {error}") from error
    if (found := _told(document)) is None:
        raise RequestError(
            "this is no notification of S3, MinIO, SeaweedFS, Ceph or GCS; other producers send CloudEvents of type "
            f'{CREATED_TYPE} to /, with the data {{"url": "s3://bucket/key"}} (docs/triggers.md)'
        )
    return found


def _told(document: object, depth: int = 0) -> Told | None:
    if isinstance(document, (str, bytes)) and depth < 3:  # a message in a message: SNS, SQS
        try:
            return _told(msgspec.json.decode(document), depth + 1)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
    if isinstance(document, list):
        parts = [found for one in document if (found := _told(one, depth + 1)) is not None] if depth < 3 else []
        return Told(form=parts[0].form, events=tuple(e for part in parts for e in part.events)) if parts else None
    if not isinstance(document, dict):
        return None
    for form, is_it, read in _FORMS:
        if is_it(document):
            return Told(form=form, events=tuple(read(document)))
    for member in ("Message", "body", "Body"):  # SNS; SQS, as a source passes it on
        if isinstance(document.get(member), str) and depth < 3:
            return _told(document[member], depth + 1)
    if document.get("Type") == "SubscriptionConfirmation":
        raise RequestError(f"confirm this subscription of SNS by opening its SubscribeURL: {document.get('SubscribeURL')}")
    return None


def _records(document: Json) -> Iterator[ObjectEvent]:
    """Read S3's notifications, and those of MinIO and Ceph, which take after them."""
    for record in _list(document.get("Records")):
        s3, name = _map(record.get("s3")), _text(record, "eventName").removeprefix("s3:")
        found, bucket = _map(s3.get("object")), _text(_map(s3.get("bucket")), "name")
        written = _text(found, "key")
        if not bucket or not written:
            continue
        keys = {unquote_plus(written)}
        if _text(record, "eventSource").startswith("ceph"):
            keys.add(written)  # releases of Ceph differ in whether they escape; the store knows which of them it has
        for key in sorted(keys):
            yield ObjectEvent(
                bucket=bucket,
                key=key,
                removed=not name.startswith(("ObjectCreated", "ObjectRestore:Completed")),
                etag=_text(found, "eTag"),
                size=_size(found.get("size")),
                time=_text(record, "eventTime"),
                version=_text(found, "versionId"),
                sequencer=_text(found, "sequencer"),
            )


def _bridge(document: Json) -> Iterator[ObjectEvent]:
    """Read S3's events as EventBridge has them: keys are not escaped."""
    detail = _map(document.get("detail"))
    found = _map(detail.get("object"))
    yield ObjectEvent(
        bucket=_text(_map(detail.get("bucket")), "name"),
        key=_text(found, "key"),
        removed=document.get("detail-type") != "Object Created",
        etag=_text(found, "etag"),
        size=_size(found.get("size")),
        time=_text(document, "time"),
        version=_text(found, "version-id"),
        sequencer=_text(found, "sequencer"),
    )


def _filer(document: Json) -> Iterator[ObjectEvent]:
    """Read what SeaweedFS' filer posts (notification.webhook): of all its files; buckets are folders below /buckets/."""
    message, kind = _map(document.get("message")), _text(document, "event_type")
    entry = _map(message.get("new_entry")) or _map(message.get("old_entry"))
    path = _text(document, "key")
    if kind == "rename":
        path = f"{_text(message, 'new_parent_path').rstrip('/')}/{_text(entry, 'name')}"
    bucket, _, key = path.removeprefix(_FILER_BUCKETS).partition("/")
    if not path.startswith(_FILER_BUCKETS) or not key or entry.get("is_directory") or bucket.startswith("."):
        return
    if key.startswith(".uploads/"):
        return  # parts of an upload that is not complete
    attributes, extended = _map(entry.get("attributes")), _map(entry.get("extended"))
    yield ObjectEvent(
        bucket=bucket,
        key=key,
        removed=kind == "delete",
        etag=_base64(extended.get("Seaweed-X-Amz-ETag")).decode("utf-8", "replace"),
        size=_size(attributes.get("file_size")),
        time=str(attributes.get("mtime", "")),
    )


def _pubsub(document: Json) -> Iterator[ObjectEvent]:
    """Read what GCS sends by a push subscription of Pub/Sub."""
    message = _map(document.get("message"))
    attributes = _map(message.get("attributes"))
    found = _map(_decoded(_base64(message.get("data"))))
    yield ObjectEvent(
        bucket=_text(attributes, "bucketId"),
        key=_text(attributes, "objectId"),
        removed=_text(attributes, "eventType") not in ("OBJECT_FINALIZE", "OBJECT_METADATA_UPDATE"),
        etag=_text(found, "etag"),
        size=_size(found.get("size")),
        time=_text(attributes, "eventTime"),
        version=_text(attributes, "objectGeneration"),
        sequencer=_text(attributes, "objectGeneration"),
    )


def _storage_object(document: Json) -> Iterator[ObjectEvent]:
    """Read an object of GCS as its API has it."""
    yield ObjectEvent(
        bucket=_text(document, "bucket"),
        key=_text(document, "name"),
        etag=_text(document, "etag"),
        size=_size(document.get("size")),
        time=_text(document, "updated"),
        version=_text(document, "generation"),
        sequencer=_text(document, "generation"),
    )


_Form: TypeAlias = tuple[str, Callable[[Json], bool], Callable[[Json], Iterator[ObjectEvent]]]


def _is_pubsub(document: Json) -> bool:
    attributes = _map(_map(document.get("message")).get("attributes"))
    return "bucketId" in attributes and "objectId" in attributes


_FORMS: Final[tuple[_Form, ...]] = (
    ("s3", lambda one: isinstance(one.get("Records"), list), _records),
    ("s3", lambda one: one.get("Event") == "s3:TestEvent", lambda _: iter(())),
    ("eventbridge", lambda one: one.get("source") == "aws.s3" and "detail" in one, _bridge),
    ("seaweedfs", lambda one: "event_type" in one and "message" in one and "key" in one, _filer),
    ("gcs", _is_pubsub, _pubsub),
    ("gcs", lambda one: one.get("kind") == "storage#object", _storage_object),
)


def _own(data: object) -> Iterator[ObjectEvent]:
    given = _map(data)
    objects = given.get("objects")
    for one in _list(objects) if isinstance(objects, list) else [given]:
        event = ObjectEvent(url=_text(one, "url"), bucket=_text(one, "bucket"), key=_text(one, "key"))
        if not event.url and not (event.bucket and event.key):
            raise RequestError(
                f'the data of {CREATED_TYPE} must be {{"url": …}}, {{"bucket": …, "key": …}} or {{"objects": […]}}'
            )
        yield event


def _names(data: object) -> tuple[str, ...]:
    if isinstance(data, (str, bytes)):
        data = _decoded(data)
    given = _map(data)
    many = given.get("triggers")
    names = [str(one) for one in many] if isinstance(many, list) else [_text(given, "trigger")]
    if not all(names) or not names:
        raise RequestError('the data of a schedule must name a trigger: {"trigger": "orders"}')
    return tuple(names)


def _decoded(data: str | bytes) -> object:
    try:
        found: object = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found


def _base64(value: object) -> bytes:
    try:
        return base64.b64decode(str(value or ""))
    except (binascii.Error, ValueError):
        return b""


def _map(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Json]:
    return [_map(one) for one in value] if isinstance(value, list) else []


def _text(document: Json, member: str) -> str:
    value = document.get(member)
    return value if isinstance(value, str) else ""


def _size(value: object) -> int | None:
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 20 else None
