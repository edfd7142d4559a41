"""The codec: what is signed, what is refused, and that both directions agree."""

from __future__ import annotations

import json

import polars as pl
import pytest

from frazil_functions.cloudevent import (
    SIGNATURE_HEADER,
    check_fresh,
    decode_task,
    encode_line,
    encode_task,
    parse_line,
    sign,
    verify,
)
from frazil_functions.errors import DeadlineError, ProtocolError, WireError
from frazil_functions.task import Descriptor, Failed, Heartbeat, Started, Succeeded, TaskEvent
from support.functions import KEY, task

NOW = 1_800_000_000.25
REQUEST = task(pl.LazyFrame({"a": [1]}), deadline_unix_s=NOW + 60)
EVENTS: list[TaskEvent] = [
    Started(cold_start=True),
    Heartbeat(rows=1, bytes=2, memory_bytes=3),
    Succeeded(descriptor=Descriptor(key=None, blocks=(), inline=b"\x00\xff")),
    Failed(error=WireError(kind="query", message='a "quoted"\nline', exception="ComputeError")),
]


def encoded() -> tuple[dict[str, str], bytes]:
    return encode_task(REQUEST, keys=[KEY, "older"], source="/frazil/coordinator", now_unix_s=NOW)


def test_a_task_comes_back_as_it_was_sent() -> None:
    headers, body = encoded()
    verify([KEY], headers, body)
    check_fresh(headers, now_unix_s=NOW)
    assert decode_task(headers, body) == REQUEST


def test_the_attributes_are_those_of_the_protocol() -> None:
    headers, _ = encode_task(REQUEST, keys=[KEY], source="/a b", now_unix_s=NOW, traceparent="00-1-2-01")
    del headers[SIGNATURE_HEADER]
    assert headers == {
        "content-type": "application/msgpack",
        "ce-specversion": "1.0",
        "ce-type": "dev.frazil.task.v1",
        "ce-id": "q/2/5/0",
        "ce-source": "/a%20b",
        "ce-time": "2027-01-15T08:00:00.250000Z",
        "ce-frazildeadline": "2027-01-15T08:01:00.250000Z",
        "traceparent": "00-1-2-01",
    }


def test_a_task_without_a_deadline_has_no_deadline_attribute() -> None:
    headers, body = encode_task(task(pl.LazyFrame({"a": [1]})), keys=[KEY], source="/s", now_unix_s=NOW)
    assert "ce-frazildeadline" not in headers
    verify([KEY], headers, body)
    check_fresh(headers, now_unix_s=NOW)


def test_the_signature_is_the_one_that_the_protocol_page_shows() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "t",
        "ce-id": "q/0/0/0",
        "ce-source": "/s",
        "ce-time": "2027-01-15T08:00:00Z",
    }
    # made with: openssl dgst -sha256 -hmac secret
    assert sign("secret", headers, b"body") == "v1=01edfbc526346e73683ee19c050c5f8d11a973519b254e4852093aa71c0f5091"


@pytest.mark.parametrize(
    "header",
    ["ce-specversion", "ce-type", "ce-id", "ce-source", "ce-time", "ce-frazildeadline", "content-type", "traceparent"],
)
def test_every_attribute_is_covered_by_the_signature(header: str) -> None:
    headers, body = encoded()
    headers[header] = headers.get(header, "") + "0"
    with pytest.raises(ProtocolError, match="not signed"):
        verify([KEY], headers, body)


def test_the_body_is_covered_by_the_signature() -> None:
    headers, body = encoded()
    with pytest.raises(ProtocolError, match="not signed"):
        verify([KEY], headers, body + b"\0")


def test_moving_bytes_between_attributes_breaks_the_signature() -> None:
    one = sign(KEY, {"ce-id": "a\nce-source:1:b", "ce-source": "c"}, b"")
    other = sign(KEY, {"ce-id": "a", "ce-source": "b\nce-source:1:c"}, b"")
    assert one != other


def test_any_key_of_the_function_is_accepted_and_no_other() -> None:
    headers, body = encoded()
    verify(["new", KEY], headers, body)
    with pytest.raises(ProtocolError):
        verify(["new", "older"], headers, body)
    with pytest.raises(ProtocolError):
        verify([], headers, body)


@pytest.mark.parametrize("signature", ["", "v1=", "v1=zz", "é", "v2=" + "0" * 64])
def test_a_signature_that_is_none_is_refused(signature: str) -> None:
    headers, body = encoded()
    headers[SIGNATURE_HEADER] = signature
    with pytest.raises(ProtocolError):
        verify([KEY], headers, body)


@pytest.mark.parametrize(
    ("later_s", "words"),
    [(901.0, "901 s old"), (-121.0, "in the future")],
)
def test_an_event_outside_its_time_is_refused(later_s: float, words: str) -> None:
    headers, _ = encoded()
    with pytest.raises(ProtocolError, match=words):
        check_fresh(headers, now_unix_s=NOW + later_s)


def test_an_event_past_its_deadline_is_told_from_one_that_is_not_to_be_trusted() -> None:
    headers, _ = encoded()
    with pytest.raises(DeadlineError, match="deadline has passed"):
        check_fresh(headers, now_unix_s=NOW + 61.0)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(ProtocolError, match="ce-time"):
        check_fresh({"ce-time": "yesterday"}, now_unix_s=NOW)


@pytest.mark.parametrize(
    ("header", "value", "words"),
    [
        ("ce-specversion", "0.3", "CloudEvent 1.0"),
        ("ce-type", "dev.frazil.task.v9", "unknown event type"),
        ("content-type", "application/json", "content type"),
        ("ce-id", "q/2/5/1", "is not that of its body"),
    ],
)
def test_an_event_that_is_no_task_is_refused(header: str, value: str, words: str) -> None:
    headers, body = encoded()
    headers[header] = value
    with pytest.raises(ProtocolError, match=words):
        decode_task(headers, body)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_comes_back_as_it_was_said(event: TaskEvent) -> None:
    line = encode_line(event, attempt="q/2/5/0", sequence=3, source="/f", now_unix_s=NOW)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_line(line, attempt="q/2/5/0") == event


def test_a_line_is_a_structured_cloudevent() -> None:
    line = json.loads(encode_line(Started(cold_start=False), attempt="q/2/5/0", sequence=0, source="/f", now_unix_s=NOW))
    assert line == {
        "specversion": "1.0",
        "type": "dev.frazil.task.started.v1",
        "id": "q/2/5/0/0",
        "source": "/f",
        "subject": "q/2/5/0",
        "time": "2027-01-15T08:00:00.250000Z",
        "datacontenttype": "application/json",
        "data": {"type": "started", "cold_start": False},
    }


def test_a_line_of_another_attempt_is_refused() -> None:
    line = encode_line(Started(cold_start=False), attempt="q/2/5/0", sequence=0, source="/f", now_unix_s=NOW)
    with pytest.raises(ProtocolError, match="in answer to"):
        parse_line(line, attempt="q/2/5/1")


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"not json", b'{"specversion":"1.0","type":"x","id":"1","source":"/","data":{}}']
)
def test_a_line_that_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_line(line)


def test_a_line_whose_type_and_data_differ_is_refused() -> None:
    line = encode_line(Started(cold_start=False), attempt="q/2/5/0", sequence=0, source="/f", now_unix_s=NOW)
    with pytest.raises(ProtocolError, match="holds another event"):
        parse_line(line.replace(b"task.started.v1", b"task.failed.v1"))
