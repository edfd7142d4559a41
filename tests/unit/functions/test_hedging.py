"""A second request beside a slow one: who is answered first, how many there may be, and what is never asked twice."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl
import pytest

from frazil_functions.errors import BlockError, StorageError
from frazil_functions.run import CancelToken, TaskRun
from frazil_functions.storage import CountingStore, open_store
from frazil_functions.storage_hedged import HedgedStore, HedgeLimits, Hedging, is_near
from support.functions import exchange_of, placeholder, rows_of, task
from support.memory_store import MemoryStore

AT_ONCE = HedgeLimits(get_after_s=0.01, put_after_s=0.01, share=1.0)


class SlowStore(MemoryStore):
    """A store whose first so many requests of a kind wait until the test opens the gate."""

    def __init__(self, slow: int = 1, errors: Sequence[Exception | None] = ()) -> None:
        super().__init__()
        self.gate = threading.Event()
        self._slow = slow
        self._errors = list(errors)
        self._asked = 0
        self._lock = threading.Lock()

    def _wait(self) -> None:
        with self._lock:
            number = self._asked
            self._asked += 1
        if number < self._slow:
            assert self.gate.wait(30), "the test never opened the gate"
        if number < len(self._errors) and (error := self._errors[number]) is not None:
            raise error

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self._wait()
        return super().get_range(key, start, length)

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        if key.startswith("slow"):
            self._wait()
        super().put(key, parts)

    def create(self, key: str, data: bytes) -> bool:
        self._wait()
        return super().create(key, data)


def hedged(store: SlowStore, limits: HedgeLimits = AT_ONCE) -> HedgedStore:
    store.put("x", [b"0123456789"])
    return Hedging(limits).over(store)


def test_a_slow_read_is_made_twice_and_the_second_answer_counts() -> None:
    slow = SlowStore()
    store = hedged(slow)
    assert store.get_range("x", 2, 3) == b"234"
    assert store.hedges == 1
    slow.gate.set()


def test_a_slow_write_is_made_twice_with_the_same_bytes() -> None:
    slow = SlowStore()
    store = hedged(slow)
    store.put("slow/y", [b"a", b"b"])
    assert (slow.get("slow/y"), store.hedges) == (b"ab", 1)
    slow.gate.set()


def test_a_quick_request_is_made_once() -> None:
    quick = SlowStore(slow=0)
    store = hedged(quick)
    counted = quick.requests["get_range"]
    assert store.get_range("x", 0, 4) == b"0123"
    assert store.hedges == 0
    assert quick.requests["get_range"] <= counted + 1


def test_at_most_two_in_a_hundred_requests_are_made_twice() -> None:
    hedging = Hedging()
    assert hedging.permits(), "one is always allowed"
    for _ in range(50):
        hedging.patience_s("get", 0)
    assert not hedging.permits()
    for _ in range(100):
        hedging.patience_s("get", 0)
    assert [hedging.permits() for _ in range(4)] == [True, True, False, False]


def test_a_slow_request_that_may_not_be_made_twice_is_waited_for() -> None:
    slow = SlowStore(slow=2)
    store = hedged(slow, HedgeLimits(get_after_s=0.01, share=0.0))
    threading.Timer(0.1, slow.gate.set).start()
    assert store.get_range("x", 0, 1) == b"0"  # the one that is always allowed
    assert store.get_range("x", 1, 1) == b"1"
    assert store.hedges == 1


def test_what_is_usual_here_is_not_slow() -> None:
    hedging = Hedging()
    assert hedging.patience_s("get", 0) == 0.15
    for _ in range(64):
        hedging.took("get", 0, 0.8)
    assert hedging.patience_s("get", 0) == pytest.approx(0.8)
    assert hedging.patience_s("put", 0) == 0.25


def test_bytes_may_take_their_time() -> None:
    assert Hedging().patience_s("get", 85_000_000) == pytest.approx(1.15)
    hedging = Hedging()
    for _ in range(64):
        hedging.took("get", 85_000_000, 1.1)
    assert hedging.patience_s("get", 0) == pytest.approx(0.15), "the time of the bytes is no slowness of the store"


def test_an_error_of_one_of_two_requests_is_no_error() -> None:
    for errors in ([StorageError("first"), None], [None, StorageError("second")]):
        slow = SlowStore(errors=errors)
        store = hedged(slow)
        threading.Timer(0.1, slow.gate.set).start()
        assert store.get_range("x", 0, 1) == b"0"


def test_an_error_of_both_is_raised() -> None:
    slow = SlowStore(errors=[StorageError("first"), StorageError("second")])
    store = hedged(slow)
    threading.Timer(0.1, slow.gate.set).start()
    with pytest.raises(StorageError, match="second"):
        store.get_range("x", 0, 1)


def test_an_error_that_comes_quickly_is_raised_at_once() -> None:
    store = hedged(SlowStore(slow=0), HedgeLimits(get_after_s=30.0))
    with pytest.raises(BlockError):
        store.get("missing")
    assert store.hedges == 0


def test_a_conditional_write_is_never_made_twice() -> None:
    slow = SlowStore()
    store = hedged(slow)
    threading.Timer(0.1, slow.gate.set).start()
    assert store.create("new", b"mine"), "a second one would have been told that it is there"
    assert store.hedges == 0


@pytest.mark.parametrize(
    ("url", "options", "near"),
    [
        ("s3://bucket/x", {"aws_region": "eu-west-1"}, False),
        ("s3://bucket/x", {"aws_endpoint_url": "https://s3.example.org"}, False),
        ("s3://bucket/x", {"aws_endpoint_url": "http://127.0.0.1:8333"}, True),
        ("s3://bucket/x", {"AWS_ENDPOINT_URL": "http://localhost:8333"}, True),
        ("s3://bucket/x", {"endpoint": "http://[::1]:8333"}, True),
    ],
)
def test_a_store_on_this_machine_is_asked_once(url: str, options: dict[str, str], near: bool) -> None:
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_region": "eu-west-1"}
    assert is_near(open_store(url, keys | options), options, {}) is near


def test_an_endpoint_of_the_environment_counts_where_the_options_name_none() -> None:
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_region": "eu-west-1"}
    store = open_store("s3://bucket/x", keys)
    assert is_near(store, keys, {"AWS_ENDPOINT_URL": "http://127.0.0.1:8333"})
    assert not is_near(store, keys, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})
    assert not is_near(store, {"aws_endpoint_url": "https://s3.example.org"}, {"AWS_ENDPOINT_URL": "http://127.0.0.1:8333"})


def test_a_folder_is_on_this_machine(tmp_path: Path) -> None:
    assert is_near(open_store(str(tmp_path)), {})


def test_a_task_tells_how_many_of_its_requests_were_made_twice() -> None:
    frame = pl.DataFrame({"a": range(10)})
    inner = SlowStore(slow=0)
    written = TaskRun(task(frame.lazy()), store=inner, cancelled=CancelToken()).run()
    slow = SlowStore()
    slow.put(written.key or "", [inner.get(written.key or "")])
    request = task(placeholder(frame.schema), exchange_of(written))
    read = TaskRun(request, store=slow, cancelled=CancelToken(), hedging=Hedging(AT_ONCE)).run()
    slow.gate.set()
    assert read.stats.requests["hedge"] == 1
    assert (read.stats.requests["get"], read.stats.requests["put"]) == (2, 1)
    assert rows_of(CountingStore(slow), read).equals(frame)
