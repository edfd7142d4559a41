"""The codec against the CloudEvents SDK: it reads what we write, and we read what it writes."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import polars as pl
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured, to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from frazil_functions.cloudevent import (
    SIGNATURE_HEADER,
    attributes_of,
    check_fresh,
    decode_task,
    encode_line,
    encode_task,
    parse_line,
    sign,
    verify,
)
from frazil_functions.errors import WireError
from frazil_functions.task import Descriptor, Failed, Heartbeat, Started, Succeeded, TaskEvent, encode_event, encode_request
from support.functions import KEY, task

NOW = 1_800_000_000.25
REQUEST = task(pl.LazyFrame({"a": [1]}), deadline_unix_s=NOW + 60)
EVENTS: list[TaskEvent] = [
    Started(cold_start=True),
    Heartbeat(rows=1, bytes=2, memory_bytes=3),
    Succeeded(descriptor=Descriptor(key="a/b", blocks=(), inline=b"\x00\xff")),
    Failed(error=WireError(kind="query", message="ünïcode", exception="ComputeError")),
]


def test_the_sdk_reads_the_task_that_we_write() -> None:
    headers, body = encode_task(REQUEST, keys=[KEY], source='/a "b" %ü', now_unix_s=NOW)
    event: BaseCloudEvent = from_binary(HTTPMessage(headers=headers, body=body), JSONFormat(), CloudEvent)
    assert event.get_id() == REQUEST.id
    assert event.get_type() == "dev.frazil.task.v1"
    assert event.get_source() == '/a "b" %ü'
    assert event.get_time() == datetime.fromtimestamp(NOW, UTC)
    assert event.get_datacontenttype() == "application/msgpack"
    assert event.get_extension("frazildeadline") == "2027-01-15T08:01:00.250000Z"
    assert event.get_data() == body


def test_we_read_the_task_that_the_sdk_writes() -> None:
    body = encode_request(REQUEST)
    event = CloudEvent(
        attributes={
            "id": REQUEST.id,
            "source": '/a "b" %ü',
            "type": "dev.frazil.task.v1",
            "time": datetime.fromtimestamp(NOW, UTC),
            "datacontenttype": "application/msgpack",
            "frazildeadline": "2027-01-15T08:01:00.25Z",
        },
        data=body,
    )
    message = to_binary(event, JSONFormat())
    headers = {name.lower(): value for name, value in message.headers.items()}
    headers[SIGNATURE_HEADER] = sign(KEY, headers, message.body)
    verify([KEY], headers, message.body)
    check_fresh(headers, now_unix_s=NOW)
    assert decode_task(headers, message.body) == REQUEST
    assert attributes_of(headers)["source"] == '/a "b" %ü'


@pytest.mark.parametrize("said", EVENTS, ids=lambda event: type(event).__name__)
def test_the_sdk_reads_the_lines_that_we_write(said: TaskEvent) -> None:
    line = encode_line(said, attempt="q/2/5/0", sequence=7, source="/f", now_unix_s=NOW)
    message = HTTPMessage(headers={"content-type": "application/cloudevents+json"}, body=line)
    event: BaseCloudEvent = from_structured(message, JSONFormat(), CloudEvent)
    assert (event.get_id(), event.get_source(), event.get_subject()) == ("q/2/5/0/7", "/f", "q/2/5/0")
    assert event.get_time() == datetime.fromtimestamp(NOW, UTC)
    assert event.get_data() == msgspec.json.decode(encode_event(said))


@pytest.mark.parametrize("said", EVENTS, ids=lambda event: type(event).__name__)
def test_we_read_the_lines_that_the_sdk_writes(said: TaskEvent) -> None:
    name = type(said).__name__.lower()
    event = CloudEvent(
        attributes={
            "id": "q/2/5/0/7",
            "source": "/f",
            "subject": "q/2/5/0",
            "type": f"dev.frazil.task.{name}.v1",
            "time": datetime.fromtimestamp(NOW, UTC),
            "datacontenttype": "application/json",
        },
        data=msgspec.json.decode(encode_event(said)),
    )
    assert parse_line(to_structured(event, JSONFormat()).body, attempt="q/2/5/0") == said
