"""Pre-scaling, the part that waits: writes what :mod:`.prescale` says, and looks after what others have left.

Requests: a GET and a PATCH a change of a wish; while something is wished, the same once in half a lease; a LIST a lease.
No query waits for any of them: without them the autoscaler starts the pods, only later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from frazil_coordinator.platform.knative.api import REVISIONS, KubeApi
from frazil_coordinator.platform.knative.errors import ConflictError, DeniedError, KubeError, NotFoundError
from frazil_coordinator.platform.knative.models import FUNCTIONS, Revision
from frazil_coordinator.platform.knative.prescale import LEASE_ANNOTATION, changed_annotations

__all__ = ["Scaler"]

_LOG = logging.getLogger(__name__)

_TRIES: Final = 8
_END_S: Final = 5.0
"""What the wishes that are left get to be taken back when a coordinator ends."""


class Scaler:
    """The wishes of one coordinator. For one event loop.

    Parameters
    ----------
    api
        Needs get, list and patch of revisions.
    holder
        Name of this coordinator, that no other one has.
    lease_s
        Seconds for which a wish holds when nobody renews it.
    hold_s
        Seconds for which pods that nobody wants any more are still asked for: a barrier between stages takes no longer.
    unix
        The clock that leases are counted by, in seconds.
    """

    def __init__(
        self,
        api: KubeApi,
        holder: str,
        *,
        lease_s: float = 60.0,
        hold_s: float = 5.0,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._api, self._holder = api, holder
        self._lease_s, self._hold_s, self._unix = lease_s, hold_s, unix
        self._wanted: dict[str, tuple[int, int | None]] = {}
        """By Revision: pods, and the most there may be."""

        self._written: dict[str, int] = {}
        """By Revision: what was asked for last."""

        self._changed = asyncio.Event()
        self._denied = False
        self._ended = False
        self.patches = 0
        """Changes that were written."""

    def want(self, revision: str, width: int, most: int | None) -> None:
        """Wish for so many pods of a Revision from now on; returns at once. No effect when all is being taken back."""
        if self._ended:
            return
        if revision and self._wanted.get(revision, (0, None)) != (width, most):
            self._wanted[revision] = (width, most)
            self._changed.set()

    async def run(self) -> None:
        """Write wishes as they come, until cancelled; then take them back."""
        self._ended = False
        try:
            await self.sweep()
            swept_s = self._unix()
            while True:
                await self._write_all()
                await self._wait(self._lease_s / 3)
                if self._unix() - swept_s >= self._lease_s:
                    await self.sweep()
                    swept_s = self._unix()
        finally:
            await self._take_back()

    async def sweep(self) -> tuple[str, ...]:
        """Reset what has run out on any Revision of a function; return their names. Requests: 1 LIST, and 2 for each."""
        try:
            found, _ = await asyncio.to_thread(self._api.list, REVISIONS, selector=FUNCTIONS)
        except KubeError as error:
            self._complain(error, "list revisions")
            return ()
        reset = []
        for raw in found:
            revision = Revision.of(raw)
            annotations = revision.meta.annotations
            if LEASE_ANNOTATION in annotations and await self._write(revision.meta.name, revision.max_scale):
                reset.append(revision.meta.name)
                _LOG.info("pre-scaling reset", extra={"revision": revision.meta.name})
        return tuple(reset)

    async def _write_all(self) -> None:
        self._changed.clear()
        for revision, (_, most) in tuple(self._wanted.items()):
            await self._write(revision, most)
            if self._wanted.get(revision, (1, None))[0] == self._written.get(revision, 0) == 0:
                self._wanted.pop(revision, None)  # it is as if nobody had ever asked

    async def _wait(self, longest_s: float) -> None:
        """Wait for a wish for more; one for less may be followed by one for more, so it waits a while."""
        try:
            async with asyncio.timeout(longest_s):
                await self._changed.wait()
            if all(width <= self._written.get(name, 0) for name, (width, _) in self._wanted.items()):
                async with asyncio.timeout(self._hold_s):
                    while all(width <= self._written.get(name, 0) for name, (width, _) in self._wanted.items()):
                        self._changed.clear()
                        await self._changed.wait()
        except TimeoutError:
            return

    async def _write(self, revision: str, most: int | None) -> bool:
        """Bring one Revision to what is wished; return whether anything was written."""
        for _ in range(_TRIES):
            try:
                found = Revision.of(await asyncio.to_thread(self._api.get, REVISIONS, revision))
                width = self._wanted.get(revision, (0, None))[0]
                changes = changed_annotations(
                    found.meta.annotations,
                    holder=self._holder,
                    width=width,
                    now_unix_s=self._unix(),
                    lease_s=self._lease_s,
                    most=found.max_scale if most is None else min(most, found.max_scale or most),
                )
                self._written[revision] = width
                if changes is None:
                    return False
                await self._patch(found, changes)
            except ConflictError:
                continue  # another coordinator was first: look again
            except NotFoundError:
                self._wanted.pop(revision, None)
                return False
            except KubeError as error:
                self._complain(error, "pre-scale")
                return False
            self.patches += 1
            _LOG.debug("pre-scaled", extra={"revision": revision, "width": width})
            return True
        _LOG.warning("pre-scaling given up: too many others write", extra={"revision": revision})
        return False

    async def _patch(self, revision: Revision, changes: Mapping[str, str | None]) -> None:
        meta = {"resourceVersion": revision.meta.resource_version, "annotations": dict(changes)}
        writing = asyncio.ensure_future(
            asyncio.to_thread(self._api.patch, REVISIONS, revision.meta.name, {"metadata": meta})
        )
        try:
            await asyncio.shield(writing)
        finally:
            if not writing.done():  # cancelled: it can't be called back, and what takes it back must come after it
                await asyncio.wait({writing}, timeout=_END_S)

    async def _take_back(self) -> None:
        revisions = [name for name, width in self._written.items() if width]
        self._ended = True  # the cluster is still followed, and each change of it repeats a wish
        self._wanted.clear()
        try:
            async with asyncio.timeout(_END_S):
                for revision in revisions:
                    await self._write(revision, None)
        except TimeoutError:
            _LOG.warning("pre-scaling left to its lease", extra={"revisions": revisions})

    def _complain(self, error: KubeError, what: str) -> None:
        """Log a failure; that a right is missing, once."""
        if isinstance(error, DeniedError):
            if not self._denied:
                _LOG.warning("pre-scaling is off", extra={"error": str(error), "what": what})
            self._denied = True
        else:
            _LOG.warning("pre-scaling failed", extra={"error": str(error), "what": what})
