"""The objects of a lease: which there are, which stay, and a claim that comes much too late."""

from __future__ import annotations

from frazil_coordinator.leadership.objects import LeaseObjects
from frazil_coordinator.leadership.terms import Claim, Tenure, terms_among
from frazil_functions.storage import Store
from support.memory_store import MemoryStore


def _claim(owner: str) -> Claim:
    return Claim(nonce=owner, owner=owner, lease_s=15.0, since_unix_s=0.0)


def _keys(store: Store) -> list[str]:
    return [found.key for found in store.list("")]


def test_a_new_term_deletes_what_smaller_ones_left_and_keeps_itself() -> None:
    store = MemoryStore()
    store.put("leader/readme.txt", [b"not of the lease"])
    objects = LeaseObjects(store, "leader")
    for term in (1, 2):
        assert objects.take(term, _claim(f"owner {term}"))
        assert objects.renew(Tenure(term=term, lease_s=15.0, sent_s=0.0)) == term
    assert _keys(store) == ["leader/000000000002", "leader/000000000002.heartbeat", "leader/readme.txt"]


def test_a_term_is_given_once() -> None:
    objects = LeaseObjects(MemoryStore(), "leader")
    assert objects.take(1, _claim("first"))
    assert not objects.take(1, _claim("second"))
    found = objects.claim(1)
    assert found is not None
    assert found.owner == "first"


def test_one_that_slept_since_it_looked_gets_no_term_that_was_deleted_meanwhile() -> None:
    store = MemoryStore()
    objects = LeaseObjects(store, "leader")
    for term in (1, 2, 3):
        assert objects.take(term, _claim(f"owner {term}"))
    assert not objects.take(2, _claim("late"))  # its object is gone, so creating it succeeds
    assert _keys(store) == ["leader/000000000003"]


def test_a_deposed_owner_is_told_so_however_many_led_since() -> None:
    objects = LeaseObjects(MemoryStore(), "leader")
    old = Tenure(term=1, lease_s=15.0, sent_s=0.0)
    for term in (1, 2, 3, 4):
        assert objects.take(term, _claim(f"owner {term}"))
    assert objects.renew(old) == 4


def test_a_claim_of_another_version_is_waited_for_as_any_other() -> None:
    store = MemoryStore()
    store.create("leader/000000000007", b"\x00\x01")
    look = LeaseObjects(store, "leader").look()
    assert (look.term, look.claim, look.beat) == (7, None, None)


def test_names_that_are_no_terms_are_left_alone() -> None:
    keys = ["l/000000000001", "l/000000000001.heartbeat", "l/1", "l/000000000001.tmp", "l/probe", "l/00000000000x"]
    assert terms_among(keys) == {"l/000000000001": 1, "l/000000000001.heartbeat": 1}


def test_a_beat_confirmed_after_the_lease_was_over_does_not_revive_it() -> None:
    tenure = Tenure(term=1, lease_s=15.0, sent_s=100.0)
    assert tenure.renewed(110.0, 114.9).until_s == 125.0
    assert tenure.renewed(110.0, 115.0) == tenure
    assert not tenure.holds(115.0)
