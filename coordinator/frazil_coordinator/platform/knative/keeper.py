"""Keeps the releases that are used alive, and deletes the services of those that nobody uses any more.

Requests: while all stays as it is, a GET and a PATCH a service once in half a lease; a LIST in a third of it. Deleting is
conditional on the version of the service in which nobody used it, so a coordinator that has just begun to use it wins:

1. A lists, and finds that nobody uses the service;
2. B writes that it uses it: its version changes;
3. A deletes the version of 1, and the API refuses.

Next: :mod:`.releases` decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from frazil_coordinator.platform.knative.api import SERVICES, KubeApi
from frazil_coordinator.platform.knative.errors import ConflictError, DeniedError, KubeError, NotFoundError
from frazil_coordinator.platform.knative.models import FUNCTIONS, RELEASE_LABEL, Service
from frazil_coordinator.platform.knative.releases import changed_use, is_used

__all__ = ["Keeper"]

_LOG = logging.getLogger(__name__)

_END_S: Final = 5.0


class Keeper:
    """The uses of one coordinator. For one event loop.

    Parameters
    ----------
    api
        Needs list, patch and delete of services.
    holder
        Name of this coordinator, that no other one has.
    used
        Returns the releases that it uses now.
    may_delete
        Returns whether this coordinator looks after the others' leavings: one that leads.
    lease_s
        Seconds after which a coordinator that was not heard of uses nothing.
    unix
        The clock that leases are counted by, in seconds.
    """

    def __init__(
        self,
        api: KubeApi,
        holder: str,
        used: Callable[[], frozenset[str]],
        *,
        may_delete: Callable[[], bool] = lambda: True,
        lease_s: float = 300.0,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._api, self._holder, self._used = api, holder, used
        self.may_delete = may_delete
        self._lease_s, self._unix = lease_s, unix
        self._changed = asyncio.Event()
        self._denied: set[str] = set()

    def changed(self) -> None:
        """Look at once: other releases are used."""
        self._changed.set()

    async def run(self) -> None:
        """Keep and delete until cancelled; then use nothing any more."""
        try:
            while True:
                self._changed.clear()
                await self.round(self._used())
                try:
                    async with asyncio.timeout(self._lease_s / 3):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            try:
                async with asyncio.timeout(_END_S):
                    await self.round(frozenset(), delete=False)
            except TimeoutError:
                _LOG.warning("use of releases left to its lease")

    async def round(self, used: frozenset[str], *, delete: bool = True) -> tuple[str, ...]:
        """Say what is used, delete what nobody uses, and return the names of what was deleted."""
        try:
            objects, _ = await asyncio.to_thread(self._api.list, SERVICES, selector=f"{FUNCTIONS},{RELEASE_LABEL}")
        except KubeError as error:
            self._complain(error, "list")
            return ()
        deleted = []
        for raw in objects:
            service = Service.of(raw)
            release = service.meta.labels[RELEASE_LABEL]
            if release not in used and delete and self.may_delete() and not is_used(service, self._unix()):
                if await self._delete(service):
                    deleted.append(service.meta.name)
            else:
                await self._say(service, used=release in used)
        return tuple(deleted)

    async def _say(self, service: Service, *, used: bool) -> None:
        changes = changed_use(
            service.meta.annotations, holder=self._holder, used=used, now_unix_s=self._unix(), lease_s=self._lease_s
        )
        if changes is None:
            return
        meta = {"resourceVersion": service.meta.resource_version, "annotations": changes}
        try:
            await asyncio.to_thread(self._api.patch, SERVICES, service.meta.name, {"metadata": meta})
        except ConflictError:
            self._changed.set()  # another coordinator was first: look again
        except NotFoundError:
            _LOG.warning("a service of a release was deleted", extra={"service": service.meta.name})
        except KubeError as error:
            self._complain(error, "patch")

    async def _delete(self, service: Service) -> bool:
        name = service.meta.name
        try:
            await asyncio.to_thread(self._api.delete, SERVICES, name, version=service.meta.resource_version)
        except (ConflictError, NotFoundError):
            return False  # somebody began to use it, or was first
        except KubeError as error:
            self._complain(error, "delete")
            return False
        _LOG.info("release no longer used, service deleted", extra={"service": name})
        return True

    def _complain(self, error: KubeError, what: str) -> None:
        """Log a failure; that a right is missing, once each."""
        if isinstance(error, DeniedError) and what in self._denied:
            return
        if isinstance(error, DeniedError):
            self._denied.add(what)
        _LOG.warning("releases not looked after", extra={"error": str(error), "what": what})
