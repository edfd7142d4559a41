"""Functions as pods of Knative Services: the same events, sent to a service's one URL.

Knative starts and stops the pods and picks one for each request (containerConcurrency 1). This module only sends, and
counts what it learns; which service, and whether there is room, says :mod:`.fleet`. What the services must be set to is in
knative/base and docs/deploy.md. Next on the main path: :mod:`frazil_functions.app`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.platform.knative.fleet import Fleet
from frazil_coordinator.platform.transport import FunctionTransport
from frazil_functions.errors import FunctionLostError, OutOfMemoryError
from frazil_functions.ids import QueryId
from frazil_functions.task import Failed, Started, TaskEvent, TaskRequest

__all__ = ["KnativePlatform"]

_START_TIMEOUT_S: Final = 600.0
"""Seconds to wait for the head of an answer: a pod may need a new node first. Not below the service's
responseStartTimeoutSeconds, so that Knative, which knows more, gives up first."""


class KnativePlatform:
    """Sends each attempt to a Knative Service.

    Parameters
    ----------
    target
        A service's URL, e.g. ``http://frazil-function-small.<namespace>.svc.cluster.local/``, or the services that a watch
        of the cluster shows.
    keys
        Keys that the functions accept; the first signs.
    max_in_flight
        Attempts at once. With a URL: at most 0.9 x the service's max-scale, and 800, because an ingress overflows at 1,024.
        With a fleet, which knows that: an upper bound of the operator's; None: none.
    start_timeout_s
        Seconds from sending an attempt to the head of its answer.
    """

    def __init__(
        self,
        target: str | Fleet,
        keys: Sequence[str],
        max_in_flight: int | None = None,
        *,
        start_timeout_s: float = _START_TIMEOUT_S,
    ) -> None:
        if max_in_flight is not None and max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, not {max_in_flight}")
        if isinstance(target, str) and max_in_flight is None:
            raise ValueError("a URL says nothing of max-scale: give max_in_flight")
        self._target = target
        self._max_in_flight = max_in_flight
        self._transport = FunctionTransport(keys, source="/frazil/coordinator", start_timeout_s=start_timeout_s)
        self._busy = 0
        self._started_total = 0
        self._lost_total = 0

    @property
    def shares_files(self) -> bool:
        """False: they are pods."""
        return False

    @property
    def max_in_flight(self) -> int:
        """Attempts that may be in flight at once, now."""
        limits = [] if self._max_in_flight is None else [self._max_in_flight]
        if isinstance(self._target, Fleet):
            limits.append(self._target.bound)
        return min(limits)

    @property
    def longest_task_s(self) -> float | None:
        """Seconds after which Knative ends a task; None when that is not known."""
        return self._target.longest_s if isinstance(self._target, Fleet) else None

    def pin(self, query: QueryId, release: str | None = None) -> str:
        """See :class:`~frazil_coordinator.platform.base.Pinning`."""
        return self._target.pin(query, release) if isinstance(self._target, Fleet) else ""

    def unpin(self, query: QueryId) -> None:
        """See :class:`~frazil_coordinator.platform.base.Pinning`."""
        if isinstance(self._target, Fleet):
            self._target.unpin(query)

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        """Send one attempt, and yield its events; see :class:`~frazil_coordinator.platform.base.Platform`.

        Raises
        ------
        FunctionLostError
            When the answer is not a function's, or its stream ended without a last event.
        FunctionBusyError
            When the function or Knative asked to come back later, or no service can be reached.
        ProtocolError
            When the function refused the event.
        """
        self._busy += 1
        try:
            async with aclosing(self._routed(request)) as events:
                async for event in events:
                    if isinstance(event, Started) and event.cold_start:
                        self._started_total += 1
                    yield event
        except FunctionLostError:
            self._lost_total += 1
            raise
        finally:
            self._busy -= 1

    async def _routed(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        if isinstance(self._target, str):
            async with aclosing(self._transport.send(self._target, request)) as events:
                async for event in events:
                    yield event
            return
        service, sent = self._target.route(request)
        await self._target.enter(service)
        try:
            async with aclosing(self._transport.send(service.url, sent)) as events:
                async for event in events:
                    if isinstance(event, Failed) and event.error.kind == OutOfMemoryError.kind:
                        self._target.ran_out_of_memory(request)
                    yield event
        finally:
            self._target.leave(service)

    def status(self) -> PlatformStatus:
        """Return what is known from here, without asking the cluster.

        Returns
        -------
        PlatformStatus
            ``functions`` and ``busy``: attempts in flight, each with a pod or waiting for one. ``started_total``: first
            tasks of a pod. ``died_total``: attempts whose function was lost.
        """
        return PlatformStatus(
            functions=self._busy, busy=self._busy, started_total=self._started_total, died_total=self._lost_total
        )

    async def aclose(self) -> None:
        """Close the connections; attempts in flight fail. The services' pods are Knative's to stop."""
        await self._transport.aclose()
