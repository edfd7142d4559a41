"""Terms and leases as values: who may lead, and until when. No clock, no store, no await.

A **term** is a number that one coordinator got by creating the object of that number, so no two have the same. While it
leads, its owner writes **beats**. Every time here is of the monotonic clock of the process that asks, in seconds; clocks of
two machines are never compared. :mod:`frazil_coordinator.leadership.objects` comes next: what is stored.

Why two never lead at once, as long as their clocks run equally fast:

1. the leader sends beat *n* at *s*, and counts on it until *s* + lease;
2. who waits sees beat *n* for the first time at *f*, when its answer has come: *f* >= *s*;
3. it takes over only if a request sent at or after *f* + lease still finds beat *n*;
4. beat *n* + 1 counts for the leader only if it was confirmed before *s* + lease <= *f* + lease: then 3. finds it.

What clocks can't promise, fencing does: a deposed leader's conditional PUTs are refused (docs/leadership.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

__all__ = ["Beat", "Claim", "Tenure", "Watch", "beat_key", "term_key", "terms_among"]

_DIGITS = 12


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What the object of a term holds: who leads it."""

    nonce: str
    """Different for each try, so that the writer knows its own object when the answer to its PUT was lost."""

    owner: str
    """Name of the coordinator, for people."""

    lease_s: float
    """Seconds for which a beat of this owner counts; who waits with a shorter lease waits as long."""

    since_unix_s: float
    """When it was claimed, by the owner's clock; for people."""


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """What a leader writes again and again beside the object of its term."""

    number: int
    """Ascends, so that no two beats are equal."""

    released: bool = False
    """Whether the owner has ended, and the next one need not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a coordinator that waits knows of the one that leads."""

    lease_s: float
    """Its own; see :attr:`Claim.lease_s`."""

    term: int = 0
    """Greatest term seen; 0: there was none."""

    claim: Claim | None = None
    """Of that term; None when it can't be read."""

    beat: bytes | None = None
    """Last beat seen, as it is stored."""

    since_s: float = 0.0
    """When this beat was first seen."""

    def saw(self, term: int, claim: Claim | None, beat: bytes | None, now_s: float) -> Watch:
        """Return what is known after a look whose answer came at `now_s`."""
        if (term, beat) == (self.term, self.beat):
            return replace(self, claim=claim)
        return replace(self, term=term, claim=claim, beat=beat, since_s=now_s)

    @property
    def free_s(self) -> float:
        """When the term is over, should no other beat be seen until then."""
        if self.term == 0 or _released(self.beat):
            return 0.0
        return self.since_s + max(self.lease_s, self.claim.lease_s if self.claim else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenure:
    """What a leader knows of its own lease."""

    term: int
    lease_s: float
    sent_s: float
    """When the last confirmed beat, or the claim, was sent; not when its answer came."""

    number: int = 0
    """Of the last beat sent."""

    @property
    def until_s(self) -> float:
        """When the lease is over, should no beat be confirmed until then."""
        return self.sent_s + self.lease_s

    def holds(self, now_s: float) -> bool:
        """Return whether the lease still counts at `now_s`."""
        return now_s < self.until_s

    def beating(self) -> Tenure:
        """Return it with the number of the next beat."""
        return replace(self, number=self.number + 1)

    def renewed(self, sent_s: float, confirmed_s: float) -> Tenure:
        """Return it after a beat sent at `sent_s` was confirmed at `confirmed_s`: too late, it changes nothing."""
        return replace(self, sent_s=sent_s) if self.holds(confirmed_s) else self


def term_key(prefix: str, term: int) -> str:
    """Return the key of a term's claim."""
    return f"{prefix}/{term:0{_DIGITS}d}"


def beat_key(prefix: str, term: int) -> str:
    """Return the key of a term's beats."""
    return f"{term_key(prefix, term)}.heartbeat"


def terms_among(keys: Iterable[str]) -> dict[str, int]:
    """Return the term that each of `keys`, claims and beats, belongs to; what is neither is left out."""
    found = {}
    for key in keys:
        name = key.rpartition("/")[2]
        digits = name.removesuffix(".heartbeat")
        if len(digits) == _DIGITS and digits.isdecimal():
            found[key] = int(digits)
    return found


def _released(beat: bytes | None) -> bool:
    if beat is None:
        return False
    try:
        return msgspec.json.decode(beat, type=Beat).released
    except (msgspec.DecodeError, msgspec.ValidationError):
        return False  # of another version: its lease is waited for
