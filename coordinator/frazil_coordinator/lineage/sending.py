"""Sends the events of queries to a service of OpenLineage, by HTTP, beside the queries: none of them waits, or fails for it.

On when ``FRAZIL_OPENLINEAGE_URL`` is set. Events wait in a bounded queue and are made and sent in their order by one worker;
what finds no room, or is not taken after some tries, is dropped and counted. Told by :mod:`frazil_coordinator.execution`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

import httpx
import msgspec

from frazil_coordinator.lineage.datasets import inputs_of, output_of
from frazil_coordinator.lineage.events import Run, RunEvent, end_event, start_event
from frazil_coordinator.metrics import Metrics
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.status import QueryStatus
from frazil_functions.errors import RequestError
from frazil_functions.ids import QueryId

__all__ = ["Lineage", "Service", "lineage_from"]

_QUEUE: Final = 256
"""Beginnings and ends of queries that wait at most; each holds the plan of its query."""

_TRIES: Final = 3
_PAUSE_S: Final = 0.5
"""Before the second try; doubled before the third."""

_TIMEOUT_S: Final = 5.0
"""Of one try."""

_CLOSE_S: Final = 5.0
"""What is given to what still waits when the coordinator ends."""

_ENDPOINT: Final = "/api/v1/lineage"
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

_Work: TypeAlias = Callable[[], Sequence[RunEvent]]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where events go."""

    url: str
    namespace: str = "frazil"
    """Of the jobs."""

    api_key: str | None = field(default=None, repr=False)
    """Sent as ``Authorization: Bearer``."""

    @classmethod
    def of(cls, url: str, namespace: str = "frazil", api_key: str | None = None) -> Self:
        """Return a service.

        Parameters
        ----------
        url
            Of its endpoint; where it has no path, that of Marquez is meant: ``/api/v1/lineage``.
        namespace, api_key
            See the attributes.

        Raises
        ------
        RequestError
            When it is no address, or holds credentials.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RequestError("FRAZIL_OPENLINEAGE_URL is not an address such as http://marquez:5000")
        if "@" in parts.netloc:
            raise RequestError("FRAZIL_OPENLINEAGE_URL holds credentials: put a key into FRAZIL_OPENLINEAGE_API_KEY")
        path = parts.path if parts.path.strip("/") else _ENDPOINT
        return cls(url=parts._replace(path=path).geturl(), namespace=namespace, api_key=api_key)


def lineage_from(environ: Mapping[str, str] | None = None) -> Lineage | None:
    """Return what sends events where the environment says; None when it says nothing.

    Raises
    ------
    RequestError
        When what it says is no address.
    """
    environ = os.environ if environ is None else environ
    url = environ.get("FRAZIL_OPENLINEAGE_URL", "")
    if not url:
        return None
    namespace = environ.get("FRAZIL_OPENLINEAGE_NAMESPACE") or "frazil"
    return Lineage(Service.of(url, namespace, environ.get("FRAZIL_OPENLINEAGE_API_KEY") or None))


class Lineage:
    """Sends the events of queries while :meth:`running`; all methods are for one event loop.

    Parameters
    ----------
    service
        Where to.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._metrics: Metrics | None = None
        self._queue: asyncio.Queue[_Work] = asyncio.Queue(_QUEUE)
        self._begun: dict[QueryId, Run] = {}
        self._silent = False
        """Whether the last event was not taken; that is logged once."""

    def told(self, metrics: Metrics) -> Self:
        """Return itself, which tells `metrics` of its events from now on."""
        self._metrics = metrics
        return self

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Send what is told, while the context lasts, and for some seconds more what still waits then."""
        headers = {"Content-Type": "application/json"}
        if self._service.api_key is not None:
            headers["Authorization"] = f"Bearer {self._service.api_key}"
        async with httpx.AsyncClient(headers=headers, timeout=_TIMEOUT_S) as client:
            worker = asyncio.ensure_future(self._work(client))
            try:
                yield self
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSE_S):
                        await self._queue.join()
                worker.cancel()
                await asyncio.wait({worker})
                self._count("dropped", self._queue.qsize())

    def planned(self, status: QueryStatus, sql: str, plan: bytes, graph: StageGraph, *, again: bool = False) -> None:
        """Tell that a query begins, whose plan is known; `again`: another coordinator told so before. Returns at once."""
        run = self._run(status, sql)

        def work() -> Sequence[RunEvent]:
            known = replace(run, inputs=inputs_of(plan, graph), output=output_of(graph))
            self._begun[run.query] = known
            return [start_event(known, status.started_unix_s or status.submitted_unix_s, again=again)]

        self._put(work)

    def ended(self, status: QueryStatus, sql: str, profile: Mapping[str, object]) -> None:
        """Tell that a query has ended, whether it was planned or not. Returns at once."""
        run, sink = self._run(status, sql), profile.get("sink")

        def work() -> Sequence[RunEvent]:
            known = self._begun.pop(run.query, None)
            end = end_event(known or run, status, sink if isinstance(sink, dict) else None)
            return [end] if known is not None else [start_event(run, status.submitted_unix_s), end]

        self._put(work)

    def _run(self, status: QueryStatus, sql: str) -> Run:
        return Run(query=status.id, tenant=status.tenant, labels=status.labels, sql=sql, namespace=self._service.namespace)

    def _put(self, work: _Work) -> None:
        try:
            self._queue.put_nowait(work)
        except asyncio.QueueFull:
            self._count("dropped")

    async def _work(self, client: httpx.AsyncClient) -> None:
        while True:
            work = await self._queue.get()
            try:
                for event in await asyncio.to_thread(work):
                    await self._send(client, event)
            except Exception:  # whatever is wrong with an event, the next one is sent
                _LOGGER.exception("lineage event not made")
                self._count("failed")
            finally:
                self._queue.task_done()

    async def _send(self, client: httpx.AsyncClient, event: RunEvent) -> None:
        body, why = msgspec.json.encode(event), ""
        for number in range(_TRIES):
            if number:
                await asyncio.sleep(_PAUSE_S * 2 ** (number - 1))
            try:
                answer = await client.post(self._service.url, content=body)
            except httpx.HTTPError as error:
                why = type(error).__name__  # its text may hold the address
                continue
            if answer.is_success:
                self._count("sent")
                self._silent = False
                return
            why = f"answered {answer.status_code}"
            if answer.status_code not in _AGAIN:
                break
        self._count("failed")
        if not self._silent:
            _LOGGER.warning("lineage events are not taken", extra={"reason": why, "run": event.run.run_id})
        self._silent = True

    def _count(self, outcome: str, number: int = 1) -> None:
        if self._metrics is not None and number:
            self._metrics.lineage.labels(outcome).inc(number)
