"""What a trigger has still to do, and when: windows, retries, isolation of objects that fail the query.

A pure state machine: the time comes in as a value. :mod:`frazil_coordinator.events.runner` feeds it and obeys. An object is
offered as often as one likes; it is in at most one batch at a time.

When a batch fails by its data, the culprit is isolated: the object that the error names, or each half of the batch. The rest
goes on. An object that fails alone is tried again after a pause, and given up after so many attempts. A failure that is
nobody's fault (a store that does not answer, a quota) counts against no object: the batch is tried again, as it is, after a
pause.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from frazil_coordinator.events.consumed import digest_of
from frazil_coordinator.events.model import Lag, ObjectRef, Window

__all__ = ["MAX_BATCH", "Backlog", "Batch"]

MAX_BATCH: Final = 1_000
"""Objects of a window whose trigger names no count, but for one that runs the whole query anyway."""

_FIRST_PAUSE_S: Final = 1.0
_MAX_PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Objects that are read by one query."""

    objects: tuple[ObjectRef, ...]
    noticed_unix_s: float
    """When the oldest was noticed."""

    attempts: int = 0
    """Times that it failed by its data; counted for one object alone only."""

    stumbles: int = 0
    """Times that it failed and was not to blame."""

    not_before_unix_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    ref: ObjectRef
    noticed_unix_s: float


def _pause_s(failures: int) -> float:
    return float(min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures - 1, 16)))


class Backlog:
    """The objects of one trigger that are known and not in its output.

    Parameters
    ----------
    window
        When they are taken up.
    max_attempts
        Times that one may fail the query.
    most
        Objects of a batch, where the window names no count.
    """

    def __init__(self, window: Window, max_attempts: int, most: int = MAX_BATCH) -> None:
        self.window = window
        self.most = most
        self.max_attempts = max_attempts
        self._pending: dict[str, _Pending] = {}
        """By URL, oldest first: of two versions of an object only the latter can be read."""

        self._set_apart: list[Batch] = []
        self._running: Batch | None = None
        self._forced = False

    def offer(self, refs: Iterable[ObjectRef], now: float, *, waiting_since: float = float("inf")) -> int:
        """Take up objects that are not in the output, and return how many were not known before.

        Parameters
        ----------
        refs
            The objects.
        now
            When they were noticed.
        waiting_since
            Objects modified at this time or later have waited since they were modified: somebody who is not there any more
            noticed them then.
        """
        known = {digest_of(ref) for ref in self._elsewhere()}
        new = 0
        for ref in refs:
            before = self._pending.get(ref.url)
            if (known and digest_of(ref) in known) or (before is not None and before.ref.etag == ref.etag):
                continue
            since = min(ref.modified_unix_s, now) if ref.modified_unix_s >= waiting_since else now
            self._pending[ref.url] = _Pending(ref=ref, noticed_unix_s=since if before is None else before.noticed_unix_s)
            new += before is None
        return new

    def gone(self, urls: Iterable[str]) -> None:
        """Forget objects that are not there any more."""
        for url in urls:
            self._pending.pop(url, None)

    def force(self) -> None:
        """Take up what there is, whatever the window says."""
        self._forced = bool(self._pending)

    def take(self, now: float) -> Batch | None:
        """Return the batch to be read now, if there is one; then it runs until it is settled."""
        if self._running is not None:
            raise RuntimeError("a batch runs already")
        for number, batch in enumerate(self._set_apart):
            if batch.not_before_unix_s <= now:
                self._running = self._set_apart.pop(number)
                return self._running
        if self._pending and now >= self._due_at(now):
            self._running = self._cut()
            return self._running
        return None

    def _cut(self) -> Batch:
        size, taken = 0, list[_Pending]()
        for one in self._pending.values():
            most = self.window.bytes
            full = most is not None and taken and size + one.ref.size > most
            if full or len(taken) >= (self.window.count or self.most):
                break
            taken.append(one)
            size += one.ref.size
        for one in taken:
            del self._pending[one.ref.url]
        self._forced = self._forced and bool(self._pending)
        return Batch(objects=tuple(one.ref for one in taken), noticed_unix_s=min(one.noticed_unix_s for one in taken))

    def _due_at(self, now: float) -> float:
        window = self.window
        if self._forced or (window.count is None and window.bytes is None and window.seconds is None):
            return now
        if window.count is not None and len(self._pending) >= window.count:
            return now
        if window.bytes is not None and sum(one.ref.size for one in self._pending.values()) >= window.bytes:
            return now
        if window.seconds is None:
            return float("inf")
        return min(one.noticed_unix_s for one in self._pending.values()) + window.seconds

    def wake_at(self, now: float) -> float:
        """Return when there will be a batch, if nothing happens until then; infinity when never."""
        times = [batch.not_before_unix_s for batch in self._set_apart]
        if self._pending:
            times.append(self._due_at(now))
        return min(times, default=float("inf"))

    def settled(self, leftover: Sequence[ObjectRef] = (), now: float = 0.0) -> None:
        """Note that the running batch needs no more; `leftover` of it is new again, as when it was replaced meanwhile."""
        self._running = None
        self.offer(leftover, now)

    def stumbled(self, now: float, pause_s: float | None = None) -> None:
        """Try the running batch again later: it was not to blame."""
        batch = self._taken_back()
        again = replace(batch, stumbles=batch.stumbles + 1)
        self._set_apart.append(replace(again, not_before_unix_s=now + (pause_s or _pause_s(again.stumbles))))

    def failed(self, now: float, blamed: str | None = None) -> Batch | None:
        """Isolate the culprit of the running batch, which failed by its data; return it when it is given up.

        Parameters
        ----------
        now
            The time.
        blamed
            URL that the error names.
        """
        batch = self._taken_back()
        if len(batch.objects) == 1:
            again = replace(batch, attempts=batch.attempts + 1, stumbles=0)
            if again.attempts >= self.max_attempts:
                return again
            self._set_apart.append(replace(again, not_before_unix_s=now + _pause_s(again.attempts)))
            return None
        culprits = [ref for ref in batch.objects if ref.url == blamed]
        if culprits:
            parts = [[ref for ref in batch.objects if ref.url != blamed], culprits]
        else:
            middle = len(batch.objects) // 2
            parts = [list(batch.objects[:middle]), list(batch.objects[middle:])]
        self._set_apart[:0] = [replace(batch, objects=tuple(part), attempts=0, not_before_unix_s=now) for part in parts]
        return None

    def _taken_back(self) -> Batch:
        if self._running is None:
            raise RuntimeError("no batch runs")
        batch, self._running = self._running, None
        return batch

    def _elsewhere(self) -> Iterator[ObjectRef]:
        for batch in (*self._set_apart, *(() if self._running is None else (self._running,))):
            yield from batch.objects

    @property
    def retrying(self) -> bool:
        """Whether something that failed waits."""
        return bool(self._set_apart)

    def refs(self) -> tuple[ObjectRef, ...]:
        """Return the objects that wait and were not taken up yet."""
        return tuple(one.ref for one in self._pending.values())

    def oldest_modified_unix_s(self) -> float:
        """Return when the object was modified that was modified first; infinity without one."""
        times = [ref.modified_unix_s for ref in self._elsewhere()]
        return min(times + [one.ref.modified_unix_s for one in self._pending.values()], default=float("inf"))

    def lag(self, now: float) -> Lag:
        """Return how much there is."""
        batches = [*self._set_apart, *(() if self._running is None else (self._running,))]
        noticed = [batch.noticed_unix_s for batch in batches] + [one.noticed_unix_s for one in self._pending.values()]
        refs = [*self._elsewhere(), *(one.ref for one in self._pending.values())]
        return Lag(
            pending_objects=len(refs),
            pending_bytes=sum(ref.size for ref in refs),
            oldest_s=max(0.0, now - min(noticed, default=now)),
        )
