"""The values of the task protocol keep their meaning on the wire, and garbage is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frazil_functions.errors import ProtocolError, WireError
from frazil_functions.ids import QueryId, StageId, TaskIndex, attempt_id
from frazil_functions.task import (
    BlockInfo,
    BlockRef,
    Descriptor,
    ExchangeInput,
    Failed,
    Heartbeat,
    KeyRange,
    Output,
    ScanInput,
    SortKey,
    Split,
    Started,
    Succeeded,
    TaskEvent,
    TaskInput,
    TaskLimits,
    TaskRequest,
    TaskStats,
    decode_event,
    decode_request,
    encode_event,
    encode_request,
    input_path,
)

small = st.integers(0, 2**40)
text = st.text(max_size=20)
blobs = st.binary(max_size=40)
splits = st.builds(
    Split,
    path=text,
    offset=small,
    rows=small,
    whole=st.booleans(),
    size=st.none() | small,
    etag=st.none() | text,
    start=small,
    length=st.none() | small,
    header=st.none() | blobs,
)
sort_keys = st.builds(SortKey, column=text, descending=st.booleans(), nulls_last=st.booleans())
block_refs = st.builds(
    BlockRef,
    key=text,
    offset=small,
    length=small,
    rows=small,
    crc32c=st.integers(0, 2**32 - 1),
    codec=st.sampled_from(["ipc", "ipc_zstd", "parquet_snappy"]),
    map_index=small,
    data=st.none() | blobs,
)
key_ranges = st.builds(KeyRange, low=st.none() | blobs, high=st.none() | blobs)
scans = st.builds(ScanInput, splits=st.lists(splits, max_size=3).map(tuple), scan_type=st.none() | blobs)
exchanges = st.builds(
    ExchangeInput,
    blocks=st.lists(block_refs, max_size=3).map(tuple),
    key_range=st.none() | key_ranges,
    sort_keys=st.lists(sort_keys, max_size=2).map(tuple),
)
inputs: st.SearchStrategy[TaskInput] = st.one_of(scans, exchanges)
requests = st.builds(
    TaskRequest,
    query=text.map(QueryId),
    stage=small.map(StageId),
    task=small.map(TaskIndex),
    attempt=small,
    fragment=blobs,
    inputs=st.lists(inputs, max_size=3).map(tuple),
    output=st.builds(
        Output,
        kind=st.sampled_from(["hash", "range", "broadcast", "single"]),
        hash_keys=st.lists(blobs, max_size=2).map(tuple),
    ),
    limits=st.builds(TaskLimits, memory_bytes=st.none() | small),
    deadline_unix_s=st.none() | st.floats(0, 1e12),
    fragment_key=st.none() | text,
    fragment_secret=st.binary(max_size=32),
    polars_version=text,
    protocol_version=small,
)
stats = st.builds(TaskStats, rows_in=small, requests=st.dictionaries(text, small, max_size=3), cold_start=st.booleans())
blocks = st.builds(
    BlockInfo,
    partition=small,
    offset=small,
    length=small,
    rows=small,
    crc32c=small,
    codec=st.just("ipc"),
    low=st.none() | blobs,
)
events: st.SearchStrategy[TaskEvent] = st.one_of(
    st.builds(Started, cold_start=st.booleans()),
    st.builds(Heartbeat, rows=small, bytes=small, memory_bytes=small),
    st.builds(
        Succeeded,
        descriptor=st.builds(
            Descriptor,
            key=st.none() | text,
            blocks=st.lists(blocks, max_size=3).map(tuple),
            inline=st.none() | blobs,
            stats=stats,
        ),
    ),
    st.builds(Failed, error=st.builds(WireError, kind=text, message=text), stats=stats),
)


@given(requests)
def test_a_request_comes_back_equal(request_: TaskRequest) -> None:
    assert decode_request(encode_request(request_)) == request_


@given(events)
def test_an_event_comes_back_equal_and_is_one_line(event: TaskEvent) -> None:
    line = encode_event(event)
    assert decode_event(line) == event
    assert b"\n" not in line


@given(st.binary(max_size=200))
def test_bytes_that_are_no_request_are_refused_as_such(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a task request"):
        decode_request(body)


@given(requests, st.data())
def test_a_torn_request_is_refused(request_: TaskRequest, data: st.DataObject) -> None:
    body = encode_request(request_)
    with pytest.raises(ProtocolError):
        decode_request(body[: data.draw(st.integers(0, len(body) - 1))])


@pytest.mark.parametrize(
    "line", [b"", b"null", b"{}", b'{"type":"finished"}', b'{"type":"started","cold_start":3}', b"\xff"]
)
def test_lines_that_are_no_event_are_refused_as_such(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a task event"):
        decode_event(line)


def test_a_field_of_a_later_minor_version_is_passed_over() -> None:
    assert decode_event(b'{"type":"started","cold_start":true,"zone":"a"}') == Started(cold_start=True)


def test_the_bytes_of_a_request_are_the_same_every_time() -> None:
    request_ = TaskRequest(
        query=QueryId("q"),
        stage=StageId(1),
        task=TaskIndex(2),
        attempt=3,
        fragment=b"plan",
        inputs=(ScanInput(splits=(Split(path="a.parquet", offset=0, rows=4),)),),
        output=Output(kind="single"),
        polars_version="2.1.0",
        protocol_version=1,
    )
    assert encode_request(request_) == encode_request(decode_request(encode_request(request_)))
    assert request_.id == attempt_id(QueryId("q"), StageId(1), TaskIndex(2), 3) == "q/1/2/3"


def test_wire_values_can_not_be_changed() -> None:
    with pytest.raises(AttributeError):
        Started(cold_start=True).cold_start = False  # type: ignore[misc]  # the point of the test
    assert issubclass(TaskRequest, msgspec.Struct)


def test_a_placeholder_names_its_input_by_number() -> None:
    assert input_path(3) == "frazil-input:///3"
