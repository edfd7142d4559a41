"""The lease's objects in the store: blocking reads and writes, each with its requests.

``<prefix>/<term>`` is created once and never changed; ``<prefix>/<term>.heartbeat`` is written by the term's owner alone.
The greatest term is never deleted, so "there is no greater one" in a listing means what it says; for smaller ones that is
not so, and nothing relies on it. :mod:`frazil_coordinator.leadership.lease` decides when to call these.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec

from frazil_coordinator.leadership.terms import Beat, Claim, Tenure, beat_key, term_key, terms_among
from frazil_functions.errors import BlockError, FrazilError
from frazil_functions.storage import Store

__all__ = ["LeaseObjects", "Look"]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found."""

    term: int
    """The term looked at; 0: there is none."""

    claim: Claim | None
    """Who leads it; None when it can't be read."""

    beat: bytes | None
    """Its last beat; None when there is none yet, or no longer."""


class LeaseObjects:
    """The objects of one lease.

    Parameters
    ----------
    store
        Where they are.
    prefix
        Key prefix that they have alone.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def greatest(self) -> int:
        """Return the greatest term, 0 when there is none: 1 LIST."""
        return max(self._terms().values(), default=0)

    def look(self) -> Look:
        """Look at the greatest term: 1 LIST, 2 GET."""
        term = self.greatest()
        if term == 0:
            return Look(term=0, claim=None, beat=None)
        return Look(term=term, claim=self.claim(term), beat=self.beat(term))

    def claim(self, term: int) -> Claim | None:
        """Return who leads `term`, None when its object can't be read: 1 GET."""
        data = self._get(term_key(self._prefix, term))
        try:
            return None if data is None else msgspec.json.decode(data, type=Claim)
        except (msgspec.DecodeError, msgspec.ValidationError):
            _LOGGER.warning("claim of another version", extra={"term": term})
            return None

    def beat(self, term: int) -> bytes | None:
        """Return the last beat of `term`: 1 GET."""
        return self._get(beat_key(self._prefix, term))

    def take(self, term: int, claim: Claim) -> bool:
        """Make `term` the claimer's unless another was first, and delete what smaller terms left.

        1 conditional PUT, 1 LIST, 1 DELETE; 1 GET more when it was not created, or nobody knows.
        """
        key, data = term_key(self._prefix, term), msgspec.json.encode(claim)
        if not self._created(key, data):
            return False
        found = self._terms()
        if max(found.values(), default=0) != term:
            # This process slept since it looked: others led since, and the object of this term was deleted by one of them.
            self._store.delete([key])
            return False
        try:
            self._store.delete([old for old, number in found.items() if number < term])
        except FrazilError as error:
            _LOGGER.warning("old terms not deleted", extra={"term": term, "error": type(error).__name__})
        return True

    def renew(self, tenure: Tenure) -> int:
        """Write a beat, and return the greatest term afterwards: 1 PUT, 1 LIST."""
        self._write(tenure.term, Beat(number=tenure.number))
        return self.greatest()

    def release(self, tenure: Tenure) -> None:
        """Say that the owner of the term has ended: 1 PUT."""
        self._write(tenure.term, Beat(number=tenure.number, released=True))

    def _created(self, key: str, data: bytes) -> bool:
        """Create an object; read it when no answer came, or one that the client's second try got after a lost first one."""
        try:
            if self._store.create(key, data):
                return True
        except FrazilError:
            if self._get(key) != data:
                raise
            return True
        return self._get(key) == data

    def _write(self, term: int, beat: Beat) -> None:
        self._store.put(beat_key(self._prefix, term), [msgspec.json.encode(beat)])

    def _get(self, key: str) -> bytes | None:
        try:
            return self._store.get(key)
        except BlockError:
            return None

    def _terms(self) -> dict[str, int]:
        return terms_among(found.key for found in self._store.list(self._prefix))
