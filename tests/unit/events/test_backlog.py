"""The pure parts: what is taken up when, and the set of what was consumed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frazil_coordinator.events.backlog import Backlog
from frazil_coordinator.events.consumed import GONE_AFTER_S, SLACK_S, Consumed, digest_of, pack, unpack
from frazil_coordinator.events.forms import decode_checkpoint, decode_record, encode_checkpoint, encode_record
from frazil_coordinator.events.log import CHECKPOINT_EVERY, TriggerLog
from frazil_coordinator.events.model import DeadLetter, ObjectRef, Window
from frazil_coordinator.events.state import Buried, Output, Published, Record, Replayed, Revived, State, TakenOver
from frazil_coordinator.publication import ManifestFile
from frazil_functions.errors import JournalError, StandbyError
from frazil_functions.storage import CountingStore, FolderStore
from support.memory_store import MemoryStore

GOLDEN = Path(__file__).parents[2] / "golden" / "triggers"


def _ref(number: int, etag: str = "e", modified: float = 0.0) -> ObjectRef:
    return ObjectRef(url=f"s3://b/{number}", etag=etag, size=10, modified_unix_s=modified)


def test_without_a_window_what_there_is_is_taken_up_at_once() -> None:
    backlog = Backlog(Window(), 3)
    assert backlog.take(0.0) is None
    backlog.offer([_ref(1), _ref(2)], 0.0)
    batch = backlog.take(0.0)
    assert batch is not None
    assert batch.objects == (_ref(1), _ref(2))


@pytest.mark.parametrize(
    ("window", "due"),
    [
        (Window(count=3), [False, False, True]),
        (Window(bytes=20), [False, True, True]),
        (Window(count=3, seconds=15.0), [False, False, True]),
        (Window(count=9, seconds=10.0), [False, False, True]),
    ],
)
def test_a_window_closes_by_count_bytes_or_time(window: Window, due: list[bool]) -> None:
    backlog = Backlog(window, 3)
    for number, expected in enumerate(due):
        backlog.offer([_ref(number)], now := 5.0 * number)
        assert (backlog.wake_at(now) <= now) == expected
    assert backlog.take(10.0) is not None


def test_a_window_holds_no_more_than_it_says() -> None:
    backlog = Backlog(Window(count=2), 3)
    backlog.offer(map(_ref, range(5)), 0.0)
    sizes = []
    for _ in range(2):
        batch = backlog.take(0.0)
        assert batch is not None
        sizes.append(len(batch.objects))
        backlog.settled()
    assert sizes == [2, 2]
    assert backlog.take(0.0) is None
    backlog.force()
    assert backlog.take(0.0) is not None


def test_of_an_object_that_is_replaced_while_it_waits_only_the_last_version_counts() -> None:
    backlog = Backlog(Window(), 3)
    backlog.offer([_ref(1, "old"), _ref(1, "new"), _ref(1, "new")], 0.0)
    batch = backlog.take(0.0)
    assert batch is not None
    assert batch.objects == (_ref(1, "new"),)


def test_after_a_restart_an_object_has_waited_since_it_was_modified() -> None:
    backlog = Backlog(Window(seconds=60.0), 3)
    backlog.offer([_ref(1, modified=100.0), _ref(2, modified=10.0)], 130.0, waiting_since=50.0)
    assert backlog.lag(140.0).oldest_s == 40.0  # the other one was there before the trigger was
    assert backlog.wake_at(140.0) == 160.0


def test_what_fails_without_fault_is_tried_again_as_it_is_after_longer_and_longer_pauses() -> None:
    backlog = Backlog(Window(), 1)
    backlog.offer(map(_ref, range(4)), 0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        batch = backlog.take(now)
        assert batch is not None
        assert len(batch.objects) == 4
        backlog.stumbled(now)
        pauses.append(backlog.wake_at(now) - now)
        now = backlog.wake_at(now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


@settings(max_examples=60, deadline=None)
@given(
    objects=st.integers(1, 40),
    bad=st.sets(st.integers(0, 39), max_size=5),
    attempts=st.integers(1, 3),
    named=st.booleans(),
    repeats=st.lists(st.integers(0, 39), max_size=30),
)
def test_every_object_is_read_once_or_given_up_and_no_good_one_is_given_up(
    objects: int, bad: set[int], attempts: int, named: bool, repeats: list[int]
) -> None:
    backlog = Backlog(Window(), attempts)
    backlog.offer(map(_ref, range(objects)), 0.0)
    read, buried, now = Counter[str](), Counter[str](), 0.0
    again = iter(repeats)
    for _ in range(2000):
        if (batch := backlog.take(now)) is None:
            if backlog.wake_at(now) == float("inf"):
                break
            now = backlog.wake_at(now)
            continue
        if (number := next(again, None)) is not None and number < objects:
            gone = read.keys() | buried.keys()
            backlog.offer([ref for ref in [_ref(number)] if ref.url not in gone], now)  # the consumed set answers for those
        culprits = [ref.url for ref in batch.objects if int(ref.url.rpartition("/")[2]) in bad]
        if not culprits:
            read.update(ref.url for ref in batch.objects)
            backlog.settled()
        elif (letter := backlog.failed(now, culprits[0] if named else None)) is not None:
            buried.update(ref.url for ref in letter.objects)
            assert letter.attempts == attempts
    assert read == Counter(_ref(number).url for number in range(objects) if number not in bad)
    assert buried == Counter(_ref(number).url for number in range(objects) if number in bad)
    assert backlog.lag(now).pending_objects == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 100)), max_size=40), st.floats(0, 100))
def test_the_consumed_set_holds_what_was_added_and_what_is_older_than_the_horizon(
    added: list[tuple[int, float]], horizon: float
) -> None:
    consumed = Consumed()
    refs = {number: _ref(number, modified=when) for number, when in added}
    consumed.add({digest_of(ref): ref.modified_unix_s for ref in refs.values()})
    consumed.advance(horizon)
    assert all(consumed.has(ref) for ref in refs.values())
    assert not consumed.has(_ref(99, modified=horizon))
    assert len(consumed) == sum(ref.modified_unix_s >= horizon - SLACK_S for ref in refs.values())
    assert unpack(pack(consumed.entries)) == consumed.entries
    consumed.replay(50.0)
    assert all(consumed.has(ref) == (ref.modified_unix_s < 50.0) for ref in refs.values() if horizon < 50.0)


def test_an_object_whose_time_a_listing_tells_more_exactly_stays_consumed_while_the_horizon_passes() -> None:
    told, listed = _ref(1, modified=10.0), _ref(1, modified=10.7)
    consumed = Consumed(0.0, {digest_of(told): told.modified_unix_s})
    for horizon in (9.9, 10.3, 10.65, 11.0, 13.0):
        consumed.advance(horizon)
        assert consumed.has(listed)
    assert len(consumed) == 0


def test_what_is_gone_for_a_day_is_forgotten_and_an_empty_listing_forgets_nothing() -> None:
    kept, gone = _ref(1), _ref(2)
    consumed = Consumed(0.0, {digest_of(kept): 0.0, digest_of(gone): 0.0})
    known, listed = set(consumed.entries), {digest_of(kept)}
    consumed.keep(known, set(), 0.0)
    consumed.keep(known, listed, 1.0)
    consumed.keep(known, listed, GONE_AFTER_S)
    assert len(consumed) == 2
    consumed.keep(known, listed, GONE_AFTER_S + 1.0)
    assert list(consumed.entries) == [digest_of(kept)]


def _records() -> list[Record]:
    file = ManifestFile(staged="a.parquet", published="out/t-000000000000-00000.parquet", rows=3, bytes=100)
    output = Output(store="s3://b", staging=".frazil-triggers/id/0", base="", files=(file,))
    letter = DeadLetter(object=_ref(2, modified=7.0), reason="no Parquet", kind="query", attempts=3, query="q")
    return [
        Published(
            consumed=pack({digest_of(_ref(1)): 5.0}),
            output=output,
            query="q",
            objects=1,
            object_bytes=10,
            unix_s=9.0,
            seq=4,
            kept="k",
        ),
        Buried(letters=(letter,)),
        Revived(digests=(digest_of(letter.object),)),
        TakenOver(unix_s=10.0),
        Replayed(since_unix_s=5.0),
    ]


def test_objects_of_version_1_are_read_for_ever() -> None:
    """Written once; what they say must stay what it is."""
    for number, record in enumerate(_records()):
        assert decode_record((GOLDEN / f"commit-v1-{number}.bin").read_bytes(), "golden") == record
    state = State()
    for record in _records()[:2]:
        state.apply(record)
    assert decode_checkpoint((GOLDEN / "checkpoint-v1.bin").read_bytes(), "golden") == state.checkpoint()
    assert msgspec.to_builtins(State.of(state.checkpoint()).checkpoint()) == msgspec.to_builtins(state.checkpoint())


def test_a_damaged_or_foreign_object_is_told_of() -> None:
    data = encode_record(_records()[3], "w")
    for bad in (b"", b"FRZJ" + data[4:], data[:-1], data[:12] + b"x" + data[13:], data[:4] + b"\x09" + data[5:]):
        with pytest.raises(JournalError):
            decode_record(bad, "one")
    with pytest.raises(JournalError, match="kind"):
        decode_record(encode_checkpoint(State().checkpoint(), "w"), "one")


def test_a_dead_letter_that_is_revived_is_new_whatever_the_horizon_says() -> None:
    state = State()
    for record in _records()[:2]:
        state.apply(record)
    state.consumed.advance(100.0)
    assert not state.is_new(_ref(2, modified=7.0))
    state.apply(_records()[2])
    assert state.is_new(_ref(2, modified=7.0))
    assert list(State.of(state.checkpoint()).again.values()) == [_ref(2, modified=7.0)]


def test_the_log_is_read_from_its_newest_checkpoint_and_does_not_grow() -> None:
    store = CountingStore(MemoryStore())
    log = TriggerLog(store, "t")
    state = log.load(0.0)
    for number in range(3 * CHECKPOINT_EVERY + 5):
        entries = pack({digest_of(_ref(number)): float(number)})
        log.commit(state, msgspec.structs.replace(_published(), consumed=entries))
        log.compact(state)
    assert len(store.list("t")) <= CHECKPOINT_EVERY + 1
    before = store.requests
    again = TriggerLog(store, "t").load(0.0)
    assert again.checkpoint() == state.checkpoint()
    assert store.requests["get"] - before.get("get", 0) == 1 + 5
    assert store.requests["list"] - before["list"] == 1


def test_whoever_slept_while_the_log_was_made_smaller_can_t_commit(tmp_path: Path) -> None:
    """Its number is free again, since the checkpoint holds it: it learns from a listing, and takes its commit back."""
    store = FolderStore(tmp_path)
    slept, awake = TriggerLog(store, "t"), TriggerLog(store, "t")
    old, new = slept.load(0.0), awake.load(0.0)
    for _ in range(CHECKPOINT_EVERY):
        awake.commit(new, TakenOver(unix_s=0.0))
    awake.compact(new)
    with pytest.raises(StandbyError):
        slept.commit(old, TakenOver(unix_s=0.0))
    assert TriggerLog(store, "t").load(0.0).seq == CHECKPOINT_EVERY
    assert not store.list("t/commits")


def test_of_two_who_commit_the_same_number_one_learns_that_it_lost() -> None:
    store = MemoryStore()
    one, other = TriggerLog(store, "t"), TriggerLog(store, "t")
    first, second = one.load(0.0), other.load(0.0)
    one.commit(first, TakenOver(unix_s=0.0))
    with pytest.raises(StandbyError):
        other.commit(second, TakenOver(unix_s=0.0))


def _published() -> Published:
    record = _records()[0]
    assert isinstance(record, Published)
    return record
