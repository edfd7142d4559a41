"""Two real coordinator processes and one lease: the leader is paused, killed, ended; on a folder and on a real S3 store."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import support.lease_process
from frazil_functions.storage import Store, open_store
from support.polling import eventually
from support.processes import run_process
from support.seaweed import SeaweedFS

LEASE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A process that leads when it may."""

    pid: int
    log: Path

    def told(self, event: str) -> dict[str, Any] | None:
        """Return what it told of `event`, None until it has."""
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith('{"event"')]
        return next((one for one in found if one["event"] == event), None)

    def when_told(self, event: str) -> dict[str, Any]:
        eventually(lambda: self.told(event) is not None, f"{event} of {self.log.name}", within_s=60)
        told = self.told(event)
        assert told is not None
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A store that several processes share."""

    url: str
    options: dict[str, str]
    folder: Path

    @property
    def store(self) -> Store:
        return open_store(self.url, self.options)

    @contextlib.contextmanager
    def candidate(self, name: str) -> Iterator[Candidate]:
        log = self.folder / f"{name}.log"
        arguments = [self.url, json.dumps(self.options), str(LEASE_S)]
        script = str(Path(support.lease_process.__file__))
        with run_process([sys.executable, script, *arguments], log=log) as process:
            try:
                yield Candidate(pid=process.pid, log=log)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def candidate_after(self, first: Candidate) -> Iterator[Candidate]:
        """Start another one once `first` leads and writes, and yield it when it stands by."""
        assert first.when_told("opened")["term"] == 1
        with self.candidate("second") as second:
            assert second.when_told("probed")["conditional"]
            yield second

    def journal(self) -> list[tuple[int, int]]:
        """Return term and process of each record, in order; there is no gap."""
        store = self.store
        keys = [found.key for found in store.list("journal")]
        assert keys == [f"journal/{number:08d}" for number in range(len(keys))]
        records = [json.loads(store.get(key)) for key in keys]
        return [(record["term"], record["pid"]) for record in records]


@pytest.fixture(params=["folder", "seaweed"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(url=str(tmp_path / "store"), options={}, folder=tmp_path)
    server: SeaweedFS = request.getfixturevalue("seaweed")
    return Place(url=server.url(f"lease/{tmp_path.name}"), options=server.storage_options, folder=tmp_path)


def test_a_leader_that_is_paused_longer_than_its_lease_finds_that_another_one_leads(place: Place) -> None:
    with place.candidate("first") as first, place.candidate_after(first) as second:
        os.kill(first.pid, signal.SIGSTOP)
        assert second.when_told("opened")["term"] == 2
        before = len(place.journal())
        os.kill(first.pid, signal.SIGCONT)
        lost = first.when_told("lost")
        assert lost["written_afterwards"] is False
        assert lost["term"] == 1
        eventually(lambda: len(place.journal()) > before + 5, "the second one writes on")
        _assert_one_wrote_at_a_time(place, [(1, first.pid), (2, second.pid)])
        assert second.told("lost") is None


def test_a_leader_that_is_killed_is_followed_after_its_lease(place: Place) -> None:
    with place.candidate("first") as first, place.candidate_after(first) as second:
        os.kill(first.pid, signal.SIGKILL)
        assert second.when_told("opened")["term"] == 2
        _assert_one_wrote_at_a_time(place, [(1, first.pid), (2, second.pid)])


def test_a_leader_that_ends_cleanly_hands_over(place: Place) -> None:
    with place.candidate("first") as first, place.candidate_after(first) as second:
        os.kill(first.pid, signal.SIGTERM)
        first.when_told("ended")
        assert first.told("lost") is None
        assert second.when_told("opened")["term"] == 2
        _assert_one_wrote_at_a_time(place, [(1, first.pid), (2, second.pid)])


def _assert_one_wrote_at_a_time(place: Place, expected: list[tuple[int, int]]) -> None:
    """Check that the journal holds runs of records, one a term and process, and no record of a term after a greater one."""
    records = place.journal()
    runs = [record for number, record in enumerate(records) if number == 0 or record != records[number - 1]]
    assert runs == expected
