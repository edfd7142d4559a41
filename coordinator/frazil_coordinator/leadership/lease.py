"""Leadership of one coordinator: waiting for it, renewing it, noticing that it is lost.

What is decided is in :mod:`frazil_coordinator.leadership.terms`; this module has the clock, the threads and the log. It does
not stop anything itself: its owner waits for :attr:`Leadership.lost`, and asks :attr:`Leadership.leads` before each act that
no conditional PUT fences. :mod:`frazil_coordinator.api.health` shows it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

from frazil_coordinator.leadership.objects import LeaseObjects
from frazil_coordinator.leadership.probe import ProbeResult, probe_conditional_puts
from frazil_coordinator.leadership.terms import Claim, Tenure, Watch
from frazil_functions.errors import FrazilError
from frazil_functions.storage import Store

__all__ = ["Leadership", "Standing"]

_THREADS: Final = 4
"""Own threads, so that a renewal never waits for other work; a few, because a request may hang longer than a lease."""

_BEATS_A_LEASE: Final = 3
_TRIES_A_LEASE: Final = 10
"""How often a beat that failed is tried again within a lease."""

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Whether a coordinator leads, for probes and people."""

    leader: bool
    """Whether it leads now."""

    term: int
    """Its term when it leads, else the greatest one that it has seen; 0 without a lease."""

    journal: Literal["off", "single-writer", "fenced"]
    """``fenced``: the store decides between coordinators. ``single-writer``: it can't, and there must not be two."""

    detail: str
    """The same for people."""


class Leadership:
    """The right to write, of one coordinator among those of a store.

    Belongs to one event loop. Each term is got by :meth:`acquire`; after :attr:`lost` is set, that may be called again.

    Parameters
    ----------
    store
        Where the lease is.
    probe
        What :func:`~frazil_coordinator.leadership.probe.probe_conditional_puts` found of `store`. Where conditional PUTs
        can't be relied on there is no lease: whoever asks leads, with term 0.
    prefix
        Key prefix of the lease's objects; nothing else may be below it.
    lease_s
        Seconds after which a leader that was not heard of is taken for dead.
    owner
        Name of this coordinator in the lease and in logs; by default host and process.
    monotonic, unix
        Clocks, in seconds. The first decides; the second is only told to people.
    threads
        Where blocking requests run; by default in threads of its own.
    """

    def __init__(
        self,
        store: Store,
        probe: ProbeResult,
        *,
        prefix: str = "leader",
        lease_s: float = 15.0,
        owner: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
        threads: Executor | None = None,
    ) -> None:
        self._objects = LeaseObjects(store, prefix)
        self._probe = probe
        self._lease_s = lease_s
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self._monotonic, self._unix = monotonic, unix
        self._threads = threads or ThreadPoolExecutor(_THREADS, thread_name_prefix="frazil-lease")
        self._own_threads = threads is None
        self._watch = Watch(lease_s=lease_s)
        self._tenure: Tenure | None = None
        self._alone = False
        self._reason = ""
        self._lost = asyncio.Event()
        self._stop = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None

    @classmethod
    async def probed(cls, store: Store, *, prefix: str = "leader", lease_s: float = 15.0) -> Leadership:
        """Probe `store`, and return a leadership that nobody holds yet.

        Raises
        ------
        FrazilError
            When the store fails.
        """
        probe = await asyncio.to_thread(probe_conditional_puts, store, "probe")
        return cls(store, probe, prefix=prefix, lease_s=lease_s)

    @property
    def conditional(self) -> bool:
        """Whether the store decides between coordinators; else there must be only one."""
        return self._probe.conditional

    @property
    def leads(self) -> bool:
        """Whether it leads at this moment: the clock is asked, so it is right after a pause, before :attr:`lost` is set."""
        if not self.conditional:
            return self._alone
        return self._tenure is not None and self._tenure.holds(self._monotonic())

    @property
    def term(self) -> int:
        """Fencing token: greater than that of every leader before; 0 before the first one, and without a lease."""
        return self._tenure.term if self._tenure else 0

    @property
    def lost(self) -> asyncio.Event:
        """Set as soon as the term of the last :meth:`acquire` is known to be over; that of the next one is another event."""
        return self._lost

    @property
    def standing(self) -> Standing:
        """Whether it leads, and if not, who does since when."""
        leads = self.leads
        if not self.conditional:
            detail = f"conditional writes of the store can't be relied on ({self._probe.detail}): run only one coordinator"
            return Standing(leader=leads, term=0, journal="single-writer", detail=detail)
        term = self.term if leads else max(self.term, self._watch.term)
        return Standing(
            leader=leads, term=term, journal="fenced", detail=self._probe.detail if leads else self._standby_detail()
        )

    async def acquire(self) -> int:
        """Return the new term when this coordinator leads; until then it stands by, however long that is.

        Requests while another leads: 3 GET a lease; at first, and when that one's lease is over, 1 LIST and 2 GET. To take
        over: 1 PUT, 2 LIST, 1 DELETE. Then 3 PUT and 3 LIST a lease. A store that fails is asked again.

        Raises
        ------
        RuntimeError
            When it leads already, or after :meth:`release`.
        """
        if self._stop.is_set() or self.leads:
            raise RuntimeError("leadership is acquired once a term, and never after its release")
        if self._renewing is not None:
            await self._renewing  # of a term that was lost
        self._lost = asyncio.Event()
        if not self.conditional:
            self._alone = True
            _LOGGER.warning(
                "SINGLE-WRITER MODE: the store can't decide between coordinators; never run two on it",
                extra={"winners": self._probe.winners, "detail": self._probe.detail},
            )
            return 0
        self._tenure = None
        self._watch = Watch(lease_s=self._lease_s)
        while (tenure := await self._tried()) is None:
            pass
        self._tenure, self._reason = tenure, ""
        # Not a task group: it lasts as long as the term, beyond this call. `release` and the next `acquire` wait for it.
        self._renewing = asyncio.create_task(self._renew(tenure, self._lost), name=f"lease of term {tenure.term}")
        _LOGGER.info("leading", extra={"term": tenure.term, "owner": self._owner, "lease_s": self._lease_s})
        return tenure.term

    async def release(self) -> None:
        """End for good; the next coordinator need not wait for the lease to be over. Requests: 1 PUT when it leads."""
        self._stop.set()
        if self._renewing is not None:
            await self._renewing  # at most until the lease is over; else its last beat might overwrite the release
        tenure, held, self._alone = self._tenure, self.leads, False
        self._tenure = None
        if held and tenure is not None:
            try:
                # Bounded as a beat is: a store that hangs must not keep a coordinator from ending.
                async with asyncio.timeout(tenure.until_s - self._monotonic()):
                    await self._in_thread(lambda: self._objects.release(tenure.beating()))
                _LOGGER.info("leadership released", extra={"term": tenure.term})
            except (FrazilError, TimeoutError) as error:
                _LOGGER.warning("leadership not released", extra={"term": tenure.term, "error": type(error).__name__})
        self._lost.set()
        if self._own_threads:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _tried(self) -> Tenure | None:
        """Look at who leads; take over when that one's lease is over, else wait a while."""
        pause_s = self._lease_s / _BEATS_A_LEASE
        try:
            asked_s = self._monotonic()
            await self._observe()
            if asked_s >= self._watch.free_s:
                term = await self._in_thread(self._objects.greatest)
                if term == self._watch.term:
                    if (tenure := await self._take(term + 1)) is not None:
                        return tenure
                else:
                    pause_s = 0.0
                self._watch = Watch(lease_s=self._lease_s)  # another was first: look at that one
            else:
                pause_s = min(pause_s, self._watch.free_s - asked_s)
        except FrazilError as error:
            _LOGGER.warning("can't look who leads", extra={"error": type(error).__name__, "detail": str(error)})
        await asyncio.sleep(pause_s)
        return None

    async def _observe(self) -> None:
        """Look at the term that is known, and at the greatest one when that has no beat."""
        watch = self._watch
        beat = await self._in_thread(lambda: self._objects.beat(watch.term)) if watch.term else None
        if beat is not None:
            self._watch = watch.saw(watch.term, watch.claim, beat, self._monotonic())
            return
        look = await self._in_thread(self._objects.look)
        self._watch = watch.saw(look.term, look.claim, look.beat, self._monotonic())
        if look.term != watch.term:
            _LOGGER.info("standing by", extra={"term": look.term, "leader": look.claim.owner if look.claim else "unknown"})

    async def _take(self, term: int) -> Tenure | None:
        claim = Claim(nonce=uuid.uuid4().hex, owner=self._owner, lease_s=self._lease_s, since_unix_s=self._unix())
        tenure = Tenure(term=term, lease_s=self._lease_s, sent_s=self._monotonic())
        taken = await self._in_thread(lambda: self._objects.take(term, claim))
        return tenure if taken and tenure.holds(self._monotonic()) else None

    async def _renew(self, tenure: Tenure, lost: asyncio.Event) -> None:
        """Renew until the term is over or released, and say so when it is over."""
        reason: str | None = "its renewal ended by an unforeseen error"
        try:
            reason = await self._renew_until_over(tenure)
        finally:
            if reason is not None:
                self._tenure, self._reason = None, reason
                lost.set()
                _LOGGER.warning("leadership lost", extra={"term": tenure.term, "detail": reason})
        if self._watch.term > tenure.term:
            await self._observe_quietly()

    async def _renew_until_over(self, tenure: Tenure) -> str | None:
        """Return why the term is over; None when it was released."""
        pause_s = self._lease_s / _BEATS_A_LEASE
        while not await self._stopped_within(pause_s):
            tenure = tenure.beating()
            sent_s = self._monotonic()
            greatest = await self._beat(tenure) if tenure.holds(sent_s) else None
            if greatest is not None and greatest > tenure.term:
                self._watch = Watch(lease_s=self._lease_s, term=greatest)
                return f"another one took over with term {greatest}"
            now_s = self._monotonic()
            if not tenure.holds(now_s):
                return f"it could not renew its lease for {self._lease_s:g} s"
            if greatest is not None:
                tenure = tenure.renewed(sent_s, now_s)
            self._tenure = tenure
            pause_s = self._lease_s / (_TRIES_A_LEASE if greatest is None else _BEATS_A_LEASE)
            pause_s = min(pause_s, tenure.until_s - now_s)  # to notice the end of the lease when it comes
        return None

    async def _beat(self, tenure: Tenure) -> int | None:
        """Send a beat; return the greatest term, or None when the store did not answer well within the lease."""
        try:
            async with asyncio.timeout(tenure.until_s - self._monotonic()):
                return await self._in_thread(lambda: self._objects.renew(tenure))
        except (FrazilError, TimeoutError) as error:
            _LOGGER.warning("lease not renewed", extra={"term": tenure.term, "error": type(error).__name__})
            return None

    async def _observe_quietly(self) -> None:
        """Look who took over, for :attr:`standing`; that this fails changes nothing."""
        try:
            async with asyncio.timeout(self._lease_s):
                look = await self._in_thread(self._objects.look)
            self._watch = self._watch.saw(look.term, look.claim, look.beat, self._monotonic())
        except (FrazilError, TimeoutError) as error:
            _LOGGER.warning("can't look who leads", extra={"error": type(error).__name__})

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return False
        return True

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _standby_detail(self) -> str:
        claim, term = self._watch.claim, self._watch.term
        words = f"this coordinator stepped down: {self._reason}" if self._reason else "this coordinator stands by"
        if claim is not None:
            since = datetime.fromtimestamp(claim.since_unix_s, UTC).isoformat(timespec="seconds")
            return f"{words}; another one leads since {since} (term {term})"
        return words
