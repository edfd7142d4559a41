"""Which objects are in a trigger's output: a set that is exact, and does not grow without bound.

Pure values. An object is 16 bytes of a digest of its URL and etag, with the time at which it was last modified. Two things
keep the set small: what a listing shows to be gone is dropped, and of an object store entries older than a bound on times
(the
*horizon*) are, because everything modified before the horizon counts as consumed (docs/triggers.md). Next:
:mod:`frazil_coordinator.events.state`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, NewType

from frazil_coordinator.events.model import ObjectRef

__all__ = ["GONE_AFTER_S", "SLACK_S", "Consumed", "Digest", "digest_of", "pack", "unpack"]

Digest = NewType("Digest", bytes)
"""16 bytes."""

GONE_AFTER_S: Final = 86_400.0
"""Seconds for which listings must not have found an object before its entry is dropped."""

SLACK_S: Final = 2.0
"""Seconds by which entries outlive the horizon."""

_ENTRY: Final = struct.Struct("<16sd")


def digest_of(ref: ObjectRef) -> Digest:
    """Return what an object is known by: its URL and etag. 128 bits, so that no two of 2**40 objects are taken for one."""
    url, etag = ref.url.encode("utf-8", "surrogateescape"), ref.etag.encode("utf-8", "surrogateescape")
    return Digest(hashlib.sha256(b"%d:%s%s" % (len(url), url, etag)).digest()[:16])


def pack(entries: Mapping[Digest, float]) -> bytes:
    """Return entries as 24 bytes each, sorted: digest, then the time as a little-endian double."""
    return b"".join(_ENTRY.pack(digest, entries[digest]) for digest in sorted(entries))


def unpack(data: bytes) -> dict[Digest, float]:
    """Return entries.

    Raises
    ------
    ValueError
        When `data` was cut off.
    """
    if len(data) % _ENTRY.size:
        raise ValueError(f"{len(data)} bytes are no entries of {_ENTRY.size} bytes")
    return {Digest(digest): when for digest, when in _ENTRY.iter_unpack(data)}


class Consumed:
    """The set.

    Parameters
    ----------
    horizon_unix_s
        Objects modified before this are in the set.
    entries
        Others that are, with the times at which they were modified.
    """

    def __init__(self, horizon_unix_s: float = 0.0, entries: Mapping[Digest, float] | None = None) -> None:
        self.horizon_unix_s = horizon_unix_s
        self.entries = dict(entries or {})
        self._absent: dict[Digest, float] = {}
        """Since when listings have not found them."""

    def __len__(self) -> int:
        return len(self.entries)

    def has(self, ref: ObjectRef, digest: Digest | None = None) -> bool:
        """Return whether an object is in the set; its digest may be known already."""
        return ref.modified_unix_s < self.horizon_unix_s or (digest or digest_of(ref)) in self.entries

    def add(self, entries: Mapping[Digest, float]) -> None:
        """Add objects."""
        self.entries.update(entries)

    def drop(self, digests: Iterable[Digest]) -> None:
        """Take objects out, so that they are new again."""
        for digest in digests:
            self.entries.pop(digest, None)

    def replay(self, since_unix_s: float) -> None:
        """Take out all objects modified at or after a time."""
        self.horizon_unix_s = min(self.horizon_unix_s, since_unix_s)
        self.entries = {digest: when for digest, when in self.entries.items() if when < since_unix_s}

    def keep(self, known: AbstractSet[Digest], listed: AbstractSet[Digest], now: float) -> None:
        """Drop what has been gone for a day.

        Not at once: a folder that is not mounted for a while, or a name that is written again with the same bytes, must not
        make old objects new. For the same reason a listing that found nothing drops nothing.

        Parameters
        ----------
        known
            What was in the set when the listing began: what came in since then may have been written after it.
        listed
            All objects that the listing found.
        now
            The time.
        """
        if not listed:
            return
        absent = (known & self.entries.keys()) - listed
        self._absent = {digest: self._absent.get(digest, now) for digest in absent}
        for digest, since in list(self._absent.items()):
            if now - since >= GONE_AFTER_S:
                del self.entries[digest], self._absent[digest]

    def advance(self, horizon_unix_s: float) -> None:
        """Let everything modified before a time count as consumed; all that there is of it must be in the set."""
        if horizon_unix_s <= self.horizon_unix_s:
            return
        self.horizon_unix_s = horizon_unix_s
        # Some stores tell times to the second, but in listings to the millisecond: an entry may seem older than its object.
        least = horizon_unix_s - SLACK_S
        self.entries = {digest: when for digest, when in self.entries.items() if when >= least}
