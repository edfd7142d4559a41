"""The log of one trigger: commits, each one conditional PUT of the next number, and checkpoints of what they say.

Layout below the trigger's folder (docs/triggers.md)::

    commits/<12 digits>       one record
    checkpoints/<12 digits>   what all records before that number say

Nobody can commit who does not know everything before: the number is taken. A process that slept while the log went on, and
whose number was deleted meanwhile because a checkpoint holds it, learns so from a listing right after its PUT, and takes the
commit back. All methods block. Next: :mod:`frazil_coordinator.events.publishing` gives the files of a commit their names.
"""

from __future__ import annotations

import logging
import secrets
from typing import Final

from frazil_coordinator.events.forms import decode_checkpoint, decode_record, encode_checkpoint, encode_record
from frazil_coordinator.events.state import Record, State
from frazil_coordinator.journal.log import create_once
from frazil_functions.errors import BlockError, FrazilError, StandbyError
from frazil_functions.storage import Store

__all__ = ["CHECKPOINT_EVERY", "TriggerLog"]

CHECKPOINT_EVERY: Final = 64
"""Commits after which a checkpoint is written."""

_COMMITS: Final = "commits"
_TRIES: Final = 8
_LOGGER = logging.getLogger(__name__)


class TriggerLog:
    """The log of one trigger, as one process writes it.

    Parameters
    ----------
    store
        Where it is kept.
    folder
        Key that it has alone.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._writer = secrets.token_hex(8)
        self._checkpoint = 0
        """Number of the newest one that is known."""

    def load(self, since_unix_s: float) -> State:
        """Return what the log says: 1 LIST, 1 GET for the checkpoint, and 1 GET for each commit since.

        Parameters
        ----------
        since_unix_s
            Objects modified before this count as consumed from the beginning.

        Raises
        ------
        JournalError
            When it can't be understood.
        """
        for _ in range(_TRIES):
            commits, checkpoint = self._listed()
            try:
                return self._read(commits, checkpoint, since_unix_s)
            except BlockError:
                continue  # a newer checkpoint came since it was listed, and what it holds was deleted
        raise StandbyError("another coordinator runs this trigger")

    def _read(self, commits: set[int], checkpoint: int, since_unix_s: float) -> State:
        state = State(since_unix_s)
        if checkpoint:
            key = self._key("checkpoints", checkpoint)
            state = State.of(decode_checkpoint(self._store.get(key), f"{self._store.url}/{key}"))
        self._checkpoint = checkpoint
        while state.seq in commits:
            key = self._key("commits", state.seq)
            state.apply(decode_record(self._store.get(key), f"{self._store.url}/{key}"))
        return state

    def commit(self, state: State, record: Record) -> None:
        """Write the next record, and take it up in `state`: 1 conditional PUT, 1 LIST.

        Raises
        ------
        StandbyError
            When somebody else has committed since: nothing of this record holds.
        StorageError
            When the store fails. The record may hold or not: load the log again.
        """
        key = self._key("commits", state.seq)
        deposed = StandbyError("another coordinator runs this trigger: what this one was about to commit does not count")
        if not create_once(self._store, key, encode_record(record, self._writer)):
            raise deposed
        if self._listed()[1] > state.seq:
            self._store.delete([key])
            raise deposed
        state.apply(record)

    def compact(self, state: State, *, always: bool = False) -> None:
        """Write a checkpoint when there are commits enough, and delete what it holds: 1 PUT, 1 LIST, 1 DELETE.

        Call it only when all files of the last commit have their names. Failing costs nothing but the next try.
        """
        if state.seq - self._checkpoint < (1 if always else CHECKPOINT_EVERY):
            return
        try:
            if not create_once(
                self._store, self._key("checkpoints", state.seq), encode_checkpoint(state.checkpoint(), self._writer)
            ):
                return
            self._checkpoint = state.seq
            found = self._store.list(self._folder)
            self._store.delete([info.key for info in found if _number(info.key) < state.seq])
        except FrazilError as error:
            _LOGGER.warning("a trigger's log not made smaller", extra={"folder": self._folder, "error": error.message})

    def delete(self) -> None:
        """Delete all of it."""
        self._store.delete_prefix(self._folder)

    def _listed(self) -> tuple[set[int], int]:
        """Return the numbers of the commits, and that of the newest checkpoint, 0 for none."""
        commits, newest = set[int](), 0
        for info in self._store.list(self._folder):
            number = _number(info.key)
            if f"/{_COMMITS}/" in info.key:
                commits.add(number)
            else:
                newest = max(newest, number)
        return commits, newest

    def _key(self, kind: str, number: int) -> str:
        return f"{self._folder}/{kind}/{number:012d}"


def _number(key: str) -> int:
    return int(key.rpartition("/")[2])
