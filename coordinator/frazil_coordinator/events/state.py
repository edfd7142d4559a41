"""What a trigger's log says when its records are taken up one after the other. Pure.

A record is one commit: one object, created once by a conditional PUT. :mod:`frazil_coordinator.events.log` reads and writes
them; the format is in docs/triggers.md.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from frazil_coordinator.events.consumed import Consumed, Digest, digest_of, pack, unpack
from frazil_coordinator.events.model import DeadLetter, ObjectRef
from frazil_coordinator.publication import ManifestFile

__all__ = ["Buried", "Checkpoint", "Output", "Published", "Record", "Replayed", "Revived", "State", "TakenOver"]


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """Files that belong to the output, and where they wait until they have their names."""

    store: str
    """Path or URL of the store that holds both."""

    staging: str
    """Key of the folder in which they wait."""

    base: str
    """Key of the folder to which their names are relative."""

    files: tuple[ManifestFile, ...]


class Published(msgspec.Struct, frozen=True, kw_only=True, tag="published"):
    """Objects are consumed, and what was made of them is output."""

    consumed: bytes
    """Entries of the consumed set (`consumed.pack`)."""

    output: Output
    query: str
    objects: int
    object_bytes: int
    """Of the objects."""

    unix_s: float
    seq: int = 0
    """Its number."""

    kept: str = ""
    """Path or URL of the file that holds the aggregates kept, in mode incremental."""


class Buried(msgspec.Struct, frozen=True, kw_only=True, tag="buried"):
    """Objects are given up: they count as consumed, and are in no output."""

    letters: tuple[DeadLetter, ...]


class Revived(msgspec.Struct, frozen=True, kw_only=True, tag="revived"):
    """Dead letters are new again."""

    digests: tuple[bytes, ...]


class TakenOver(msgspec.Struct, frozen=True, kw_only=True, tag="taken_over"):
    """Another process goes on, and deletes what was staged; who was about to commit it finds the number taken."""

    unix_s: float


class Replayed(msgspec.Struct, frozen=True, kw_only=True, tag="replayed"):
    """Objects modified at or after a time are new again; in mode incremental, all of them."""

    since_unix_s: float


Record: TypeAlias = Published | Buried | Revived | Replayed | TakenOver


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """All that the records before a number say."""

    seq: int
    horizon_unix_s: float
    consumed: bytes
    dead: tuple[DeadLetter, ...]
    again: tuple[ObjectRef, ...]
    kept: str
    windows: int
    objects: int
    object_bytes: int
    rows: int
    files: int
    last: Published | None


class State:
    """What is true after some records.

    Parameters
    ----------
    since_unix_s
        Objects modified before this count as consumed.
    """

    def __init__(self, since_unix_s: float = 0.0) -> None:
        self.seq = 0
        """Number of the next record."""

        self.consumed = Consumed(since_unix_s)
        self.dead: dict[Digest, DeadLetter] = {}
        self.again: dict[Digest, ObjectRef] = {}
        """Dead letters that are to be tried again, whatever the consumed set says of their times."""

        self.last: Published | None = None
        self.kept = ""
        """Where the aggregates kept are, in mode incremental; empty when there are none."""

        self.windows = self.objects = self.object_bytes = self.rows = self.files = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> State:
        """Return the state that a checkpoint holds."""
        state = cls()
        state.seq = checkpoint.seq
        state.consumed = Consumed(checkpoint.horizon_unix_s, unpack(checkpoint.consumed))
        state.dead = {digest_of(letter.object): letter for letter in checkpoint.dead}
        state.again = {digest_of(ref): ref for ref in checkpoint.again}
        state.kept = checkpoint.kept
        state.windows, state.objects, state.object_bytes = checkpoint.windows, checkpoint.objects, checkpoint.object_bytes
        state.rows, state.files, state.last = checkpoint.rows, checkpoint.files, checkpoint.last
        return state

    def checkpoint(self) -> Checkpoint:
        """Return the state as it is written down."""
        return Checkpoint(
            seq=self.seq,
            horizon_unix_s=self.consumed.horizon_unix_s,
            consumed=pack(self.consumed.entries),
            dead=tuple(self.dead.values()),
            again=tuple(self.again.values()),
            kept=self.kept,
            windows=self.windows,
            objects=self.objects,
            object_bytes=self.object_bytes,
            rows=self.rows,
            files=self.files,
            last=self.last,
        )

    def apply(self, record: Record) -> None:
        """Take up the next record.

        Raises
        ------
        ValueError
            When it is damaged.
        """
        self.seq += 1
        match record:
            case Published():
                self._consume(unpack(record.consumed))
                self.last, self.kept = record, record.kept
                self.windows += 1
                self.objects += record.objects
                self.object_bytes += record.object_bytes
                self.rows += sum(file.rows for file in record.output.files)
                self.files += len(record.output.files)
            case Buried():
                self.dead.update({digest_of(letter.object): letter for letter in record.letters})
                self._consume({digest_of(one.object): one.object.modified_unix_s for one in record.letters})
            case Revived():
                gone = {Digest(digest) for digest in record.digests} & self.dead.keys()
                self.consumed.drop(gone)
                for digest in gone:
                    self.again[digest] = self.dead.pop(digest).object
            case Replayed():
                self._replay(record.since_unix_s)
            case TakenOver():
                pass

    def is_new(self, ref: ObjectRef, digest: Digest | None = None) -> bool:
        """Return whether an object is in no output, and was not given up; its digest may be known already."""
        own = digest_of(ref) if digest is None else digest
        return own in self.again or not self.consumed.has(ref, own)

    def _consume(self, entries: dict[Digest, float]) -> None:
        self.consumed.add(entries)
        for digest in entries:
            self.again.pop(digest, None)

    def _replay(self, since_unix_s: float) -> None:
        self.consumed.replay(since_unix_s)
        gone = [one for one, letter in self.dead.items() if letter.object.modified_unix_s >= since_unix_s]
        for digest in gone:
            del self.dead[digest]
        self.again = {}
        self.kept = ""
