"""What producers send becomes events of objects: the real forms of S3, MinIO, SeaweedFS, Ceph, GCS, and CloudEvents."""

from __future__ import annotations

from pathlib import Path

import pytest
from cloudevents.v1.conversion import to_binary, to_structured  # the SDK that others use
from cloudevents.v1.http import CloudEvent as SdkEvent

from frazil_coordinator.events.cloudevents import BATCH, STRUCTURED, CloudEvent, decode, encode, is_cloudevent
from frazil_coordinator.events.formats import CREATED_TYPE, PING_TYPE, told_by_cloudevent, told_by_notification
from frazil_functions.errors import RequestError

GOLDEN = Path(__file__).parents[2] / "golden" / "notifications"
PLACES = {
    "aws-s3": ("s3", [("in/day=1/a b+c-ü.parquet", False), ("in/gone.parquet", True)]),
    "aws-s3-test": ("s3", []),
    "aws-sns": ("s3", [("in/a b.parquet", False)]),
    "aws-eventbridge": ("eventbridge", [("in/a b+c.parquet", False)]),
    "minio": ("s3", [("in/day=1/a b+c-ü.parquet", False)]),
    "ceph": ("s3", [("in/a b.parquet", False), ("in/a+b.parquet", False)]),
    "gcs-pubsub": ("gcs", [("in/a b+c.parquet", False)]),
    "gcs-object": ("gcs", [("in/a b+c.parquet", False)]),
    "seaweedfs-put": ("seaweedfs", [("in/a b+c=1/ü.parquet", False)]),
    "seaweedfs-multipart": ("seaweedfs", [("in/mp.parquet", False)]),
    "seaweedfs-folder": ("seaweedfs", []),
    "seaweedfs-part": ("seaweedfs", []),
    "seaweedfs-delete": ("seaweedfs", [("in/copy.parquet", True)]),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_notification_names_bucket_and_key_as_the_store_has_them(name: str) -> None:
    told = told_by_notification((GOLDEN / f"{name}.json").read_bytes())
    form, expected = PLACES[name]
    assert told.form == form
    assert [(event.key, event.removed) for event in told.events] == expected
    assert {event.bucket for event in told.events} <= {"lake"}


def test_every_fixture_is_looked_at() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(PLACES)


def test_what_a_notification_says_of_an_object_is_kept() -> None:
    (event, _) = told_by_notification((GOLDEN / "aws-s3.json").read_bytes()).events
    assert (event.size, event.etag, event.sequencer) == (1024, "d41d8cd98f00b204e9800998ecf8427e", "0055AED6DCD90281E5")
    assert event.version == "096fKKXTRTtl3on89fVO.nfljtsv6qko"
    (event,) = told_by_notification((GOLDEN / "seaweedfs-multipart.json").read_bytes()).events
    assert (event.size, event.etag) == (6_000_000, "c71ea40997a6df3a5ece61492c90eeb5-1")


def test_what_is_no_notification_is_refused_with_advice() -> None:
    for body in (b'{"some": "thing"}', b"not json", b"[1, 2]", b'"{"'):
        with pytest.raises(RequestError, match=r"/, with the data|must be JSON"):
            told_by_notification(body)


def test_a_subscription_of_sns_is_not_confirmed_by_calling_a_url_of_a_stranger() -> None:
    with pytest.raises(RequestError, match="confirm this subscription"):
        told_by_notification(b'{"Type": "SubscriptionConfirmation", "SubscribeURL": "https://example.org/x"}')


def _sdk() -> SdkEvent:
    attributes = {"type": CREATED_TYPE, "source": "/lädt 100%", "subject": "a b"}
    return SdkEvent(attributes, {"url": "s3://lake/in/ü.parquet"})


@pytest.mark.parametrize("write", [to_binary, to_structured])
def test_events_of_the_sdk_are_read(write: object) -> None:
    headers, body = write(_sdk())  # type: ignore[operator]  # one of two functions of the SDK
    lower = {str(name).lower(): str(value) for name, value in headers.items()}
    assert is_cloudevent(lower)
    (event,) = decode(lower, body)
    assert event.type == CREATED_TYPE
    assert [one.url for one in told_by_cloudevent(event).events] == ["s3://lake/in/ü.parquet"]


def test_the_sdk_reads_what_is_written() -> None:
    from cloudevents.v1.http import from_http

    body = encode(CloudEvent(id="1", source="/frazil", type="t", subject="q", data={"a": 1}), 0.0)
    event = from_http({"content-type": STRUCTURED}, body)
    assert (event["id"], event["subject"], event["time"], event.data) == ("1", "q", "1970-01-01T00:00:00Z", {"a": 1})


def test_a_batch_is_all_of_its_events() -> None:
    one = encode(CloudEvent(id="1", source="/a", type="x"), 0.0).decode()
    assert len(decode({"content-type": f"{BATCH}; charset=utf-8"}, f"[{one},{one}]".encode())) == 2


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": STRUCTURED}, b'{"specversion": "1.0", "id": "1", "source": "/a"}'),
        ({"content-type": STRUCTURED}, b'{"specversion": "0.3", "id": "1", "source": "/a", "type": "t"}'),
        ({"content-type": STRUCTURED}, b"[]"),
        ({"content-type": BATCH}, b'{"specversion": "1.0"}'),
        ({"content-type": "application/cloudevents+avro"}, b""),
        ({"ce-specversion": "1.0", "ce-id": "", "ce-source": "/a", "ce-type": "t"}, b""),
        ({"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a", "ce-type": "t"}, b"no json"),
        ({"content-type": STRUCTURED}, b'{"specversion":"1.0","id":"1","source":"/a","type":"t","data_base64":"%"}'),
    ],
)
def test_what_is_no_cloudevent_is_refused(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(RequestError):
        decode(headers, body)


def test_a_notification_inside_of_a_cloudevent_is_read_as_it_is_outside() -> None:
    data = (GOLDEN / "aws-s3.json").read_text()
    for carried in (data, [data], {"body": data}):
        event = CloudEvent(id="1", source="arn:aws:sqs:queue", type="dev.knative.eventing.aws-sqs", data=carried)
        assert len(told_by_cloudevent(event).events) == 2


def test_a_cloudevent_of_gcs_says_all_in_its_attributes() -> None:
    event = CloudEvent(
        id="1",
        source="//storage.googleapis.com/projects/_/buckets/lake",
        subject="objects/in/a b.parquet",
        type="google.cloud.storage.object.v1.finalized",
    )
    assert [(one.bucket, one.key, one.removed) for one in told_by_cloudevent(event).events] == [
        ("lake", "in/a b.parquet", False)
    ]


def test_a_schedule_names_the_trigger_that_shall_run() -> None:
    ping = CloudEvent(id="1", source="/apis/v1/namespaces/x/pingsources/y", type=PING_TYPE, data={"trigger": "orders"})
    assert told_by_cloudevent(ping).run == ("orders",)
    with pytest.raises(RequestError, match="must name a trigger"):
        told_by_cloudevent(CloudEvent(id="1", source="/x", type=PING_TYPE, data={"message": "hello"}))


def test_an_event_that_concerns_nobody_is_no_error() -> None:
    assert told_by_cloudevent(CloudEvent(id="1", source="/x", type="com.example.other", data={"a": 1})).form == "unknown"
