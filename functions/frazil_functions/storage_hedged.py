"""A second request beside one that is slow: of two, the first answer counts.

Object stores answer most requests in tens of milliseconds and a few in seconds; a task that makes hundreds of them nearly
always meets one of the few. :class:`Hedging` knows how long requests take in this process, and how many more may be made;
:class:`HedgedStore` makes them. Reads and writes of whole objects under keys of their own may be done twice; conditional
PUTs are not. Who makes it: :mod:`frazil_functions.app`, for remote stores; who uses it: :mod:`frazil_functions.run`.
"""

from __future__ import annotations

import builtins
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar
from urllib.parse import urlsplit

from frazil_functions.storage_model import PassingStore, Store

__all__ = ["HedgeLimits", "HedgedStore", "Hedging", "is_near"]

_T = TypeVar("_T")

_REMEMBERED: Final = 512
"""Requests of a kind whose times are remembered."""

_LOOK_EVERY: Final = 32
"""Requests of a kind after which the slowest of them are looked for again."""

_SLOW_FROM: Final = 0.95
"""Share of requests that are not slow. Were it 0.99, a store that is slow once in a hundred times would have no slow
requests (docs/adr/0011-hedged-requests.md); `HedgeLimits.share` bounds what 0.95 costs."""


_ENDPOINTS: Final = frozenset({"aws_endpoint", "aws_endpoint_url", "aws_endpoint_url_s3", "endpoint", "endpoint_url"})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


def is_near(store: Store, options: Mapping[str, str], environ: Mapping[str, str] | None = None) -> bool:
    """Return whether a store, opened with `options`, is on this machine, where a second request but competes with the first.

    A folder is; so is a server on loopback. What `options` leave out comes from the environment, as it does for the store.
    """
    environ = os.environ if environ is None else environ
    known = {name.lower(): value for name, value in (*environ.items(), *options.items()) if name.lower() in _ENDPOINTS}
    endpoints = known.values()
    return not store.remote or any(urlsplit(endpoint).hostname in _LOOPBACK for endpoint in endpoints)


@dataclass(frozen=True, slots=True, kw_only=True)
class HedgeLimits:
    """When a request is slow, and how many may be made beside slow ones (design, section 5)."""

    get_after_s: float = 0.15
    """Time for which a read may take without being slow, whatever is usual here; the time for its bytes comes on top."""

    put_after_s: float = 0.25
    """The same for a write."""

    bytes_per_s: float = 85e6
    """What one connection to S3 moves: the time that a request's bytes may take."""

    share: float = 0.02
    """Second requests at most, of all requests; one is always allowed."""


class Hedging:
    """What a process knows of its store: how long requests take, and how many more it may make. Safe for threads.

    Parameters
    ----------
    limits
        When a request is slow.
    clock
        Monotonic seconds.
    """

    def __init__(self, limits: HedgeLimits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or HedgeLimits()
        self.clock = clock
        self._lock = threading.Lock()
        self._requests = 0
        self._second = 0
        self._times = {"get": _Times(self.limits.get_after_s), "put": _Times(self.limits.put_after_s)}

    def over(self, store: Store) -> HedgedStore:
        """Return a store that makes second requests to `store`, and counts its own."""
        return HedgedStore(store, self)

    def patience_s(self, kind: str, size: int) -> float:
        """Return after how many seconds a request of `size` bytes is slow, and note that it is made."""
        with self._lock:
            self._requests += 1
            return self._times[kind].slow_s + size / self.limits.bytes_per_s

    def permits(self) -> bool:
        """Return whether a second request may be made now; it is noted as made."""
        with self._lock:
            permitted = self._second + 1 <= max(1.0, self.limits.share * self._requests)
            self._second += permitted
            return permitted

    def took(self, kind: str, size: int, seconds: float) -> None:
        """Note how long a request took that was answered."""
        with self._lock:
            self._times[kind].note(max(0.0, seconds - size / self.limits.bytes_per_s))


class _Times:
    """How long the last requests of a kind took."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._seconds: deque[float] = deque(maxlen=_REMEMBERED)
        self._unseen = 0
        self.slow_s = least_s
        """Above which a request is slow: the 95th percentile of the last ones, and no less than the least."""

    def note(self, seconds: float) -> None:
        self._seconds.append(seconds)
        self._unseen += 1
        if self._unseen >= _LOOK_EVERY:
            self._unseen = 0
            known = sorted(self._seconds)
            self.slow_s = max(self._least_s, known[min(len(known) - 1, int(_SLOW_FROM * len(known)))])


@dataclass(frozen=True, slots=True)
class _Answer(Generic[_T]):
    value: _T | None
    error: BaseException | None


class HedgedStore(PassingStore):
    """A :class:`~frazil_functions.storage_model.Store` that asks twice where the first answer is slow.

    Only for reads and for PUTs: a second conditional PUT would be told that the object is there.

    Parameters
    ----------
    store
        The store that does the work; it sees each request, the second ones too.
    hedging
        Of the process.

    Notes
    -----
    Each request runs in a thread of its own (some 60 µs), so that a slow one can be left behind: it ends by its own timeout,
    and what a write that was left behind still writes is what is there already.
    """

    def __init__(self, store: Store, hedging: Hedging) -> None:
        super().__init__(store)
        self._hedging = hedging
        self._lock = threading.Lock()
        self.hedges = 0
        """Second requests that were made through this object."""

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        """See :meth:`Store.put`; a slow one is made twice."""
        every = list(parts)
        self._asked("put", sum(map(len, every)), lambda: self._store.put(key, every))

    def get(self, key: str) -> bytes:
        """See :meth:`Store.get`; a slow one is made twice."""
        return self._asked("get", 0, lambda: self._store.get(key))

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """See :meth:`Store.get_range`; a slow one is made twice."""
        return self._asked("get", length, lambda: self._store.get_range(key, start, length))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        """See :meth:`Store.get_ranges`; slow ones are all made twice."""
        size = sum(length for _, length in ranges)
        return self._asked("get", size, lambda: self._store.get_ranges(key, ranges))

    def _asked(self, kind: str, size: int, ask: Callable[[], _T]) -> _T:
        """Ask, ask again when the answer is slow, and return the first answer that is none of an error."""
        answers: SimpleQueue[_Answer[_T]] = SimpleQueue()
        asked = 1
        patience_s = self._hedging.patience_s(kind, size)
        self._start(kind, size, ask, answers)
        try:
            answer = answers.get(timeout=patience_s)
        except Empty:
            if self._hedging.permits():
                asked += 1
                with self._lock:
                    self.hedges += 1
                self._start(kind, size, ask, answers)
            answer = answers.get()
        if answer.error is not None and asked > 1:
            other = answers.get()
            answer = answer if other.error is not None else other
        if answer.error is not None:
            raise answer.error
        return answer.value  # type: ignore[return-value]  # without an error there is a value, if it is None

    def _start(self, kind: str, size: int, ask: Callable[[], _T], answers: SimpleQueue[_Answer[_T]]) -> None:
        began = self._hedging.clock()

        def run() -> None:
            try:
                value = ask()
            except BaseException as error:  # handed to who asked, who raises it
                answers.put(_Answer(None, error))
            else:
                self._hedging.took(kind, size, self._hedging.clock() - began)
                answers.put(_Answer(value, None))

        threading.Thread(target=run, name=f"frazil-{kind}", daemon=True).start()
