"""The probe tells stores that decide races from those that don't."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from frazil_coordinator.leadership import probe_conditional_puts
from frazil_functions.errors import StorageError
from frazil_functions.storage import CountingStore, FolderStore, open_store
from support.memory_store import MemoryStore
from support.seaweed import SeaweedFS


def test_a_folder_decides_a_race_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    store = CountingStore(FolderStore(tmp_path))
    result = probe_conditional_puts(store, "probe")
    assert (result.conditional, result.winners) == (True, 1)
    assert "of 32 racing writers exactly one wrote" in result.detail
    assert store.requests == {"put": 33, "get": 1, "delete": 1}
    assert store.list("") == []


# One race takes SeaweedFS up to 15 s: a loser waits a second each time that it finds the lock of the object held.
@pytest.mark.parametrize("races", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_real_object_store_decides_a_race(seaweed: SeaweedFS, races: int) -> None:
    store = open_store(seaweed.url("probe-race/x"), seaweed.storage_options)
    assert [probe_conditional_puts(store, "probe").winners for _ in range(races)] == [1] * races
    assert store.list("") == []


class _Lax(MemoryStore):
    """Tells `winners` writers of an object that they made it."""

    def __init__(self, winners: int, *, kept: bytes | None = None) -> None:
        super().__init__()
        self._winners, self._kept = winners, kept
        self._lock = threading.Lock()

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            if self._winners == 0:
                return False
            self._winners -= 1
            self.put(key, [data if self._kept is None else self._kept])
            return True


@pytest.mark.parametrize(
    ("store", "winners", "says"),
    [
        (_Lax(2), 2, "2 of 8 racing writers"),
        (_Lax(8), 8, "8 of 8 racing writers"),
        (_Lax(9), 8, "an object that was there was overwritten"),
        (_Lax(0), 0, "0 of 8 racing writers"),
        (_Lax(1, kept=b"other"), 1, "does not hold what its writer wrote"),
    ],
    ids=["two win", "all win", "it ignores the condition", "nobody wins", "the winner's bytes are not kept"],
)
def test_a_store_that_decides_wrongly_is_found_out(store: MemoryStore, winners: int, says: str) -> None:
    result = probe_conditional_puts(store, "probe", racers=8)
    assert (result.conditional, result.winners) == (False, winners)
    assert says in result.detail
    assert store.list("") == []


def test_nothing_is_said_of_a_store_that_fails() -> None:
    class Down(MemoryStore):
        def create(self, key: str, data: bytes) -> bool:
            raise StorageError("out of order")

    with pytest.raises(StorageError, match="out of order"):
        probe_conditional_puts(Down(), "probe", racers=4)
