"""Functions as pods of a Knative Service: the same events, sent to the service's one URL.

Knative starts and stops the pods and picks one for each request (containerConcurrency 1). This module only sends, and
counts what it learns. What the service must be set to is in knative/base and docs/deploy.md. Next on the main path:
:mod:`frazil_functions.app`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.platform.transport import FunctionTransport
from frazil_functions.errors import FunctionLostError
from frazil_functions.task import Started, TaskEvent, TaskRequest

__all__ = ["KnativePlatform"]

_START_TIMEOUT_S: Final = 600.0
"""Seconds to wait for the head of an answer: a pod may need a new node first. Not below the service's
responseStartTimeoutSeconds, so that Knative, which knows more, gives up first."""


class KnativePlatform:
    """Sends each attempt to a Knative Service.

    Parameters
    ----------
    url
        The service's URL, e.g. ``http://frazil-function-small.<namespace>.svc.cluster.local/``.
    keys
        Keys that the functions accept; the first signs.
    max_in_flight
        Attempts at once: at most 0.9 x the service's max-scale, and 800, because an ingress overflows at 1,024.
    start_timeout_s
        Seconds from sending an attempt to the head of its answer.
    """

    def __init__(
        self, url: str, keys: Sequence[str], max_in_flight: int, *, start_timeout_s: float = _START_TIMEOUT_S
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight must be at least 1, not {max_in_flight}")
        self._url = url
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
        """Attempts that may be in flight at once."""
        return self._max_in_flight

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        """Send one attempt, and yield its events; see :class:`~.base.Platform`.

        Raises
        ------
        FunctionLostError
            When the answer is not a function's, or its stream ended without a last event.
        FunctionBusyError
            When the function or Knative asked to come back later.
        ProtocolError
            When the function refused the event.
        """
        self._busy += 1
        try:
            async with aclosing(self._transport.send(self._url, request)) as events:
                async for event in events:
                    if isinstance(event, Started) and event.cold_start:
                        self._started_total += 1
                    yield event
        except FunctionLostError:
            self._lost_total += 1
            raise
        finally:
            self._busy -= 1

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
        """Close the connections; attempts in flight fail. The service's pods are Knative's to stop."""
        await self._transport.aclose()
