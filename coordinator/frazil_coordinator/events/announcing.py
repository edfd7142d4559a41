"""Results announce themselves: CloudEvents to a sink of the operator's (a Broker), at least once, and nobody waits for it.

An announcement is written down (``announcements/<id>`` of the exchange store), sent, and deleted when the sink has taken
it. A
*mark* says up to when everything that ended has been written down; what ended between the mark and a crash is announced
again by the next coordinator, from the journal and the triggers' logs. Ids follow from what happened, so whoever gets an
event twice can tell. The types are in docs/triggers.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.cloudevents import STRUCTURED, CloudEvent, encode
from frazil_coordinator.events.model import Owned
from frazil_coordinator.events.state import Published
from frazil_coordinator.publication.manifest import join
from frazil_coordinator.status import QueryState, QueryStatus, Wanted
from frazil_functions.errors import FrazilError, RequestError

__all__ = ["FAILED_TYPE", "PUBLISHED_TYPE", "SUCCEEDED_TYPE", "Announcer", "extensions_of"]

SUCCEEDED_TYPE: Final = "dev.frazil.query.succeeded.v1"
FAILED_TYPE: Final = "dev.frazil.query.failed.v1"
"""Of queries that failed, or were cancelled: `state` of the data says which."""

PUBLISHED_TYPE: Final = "dev.frazil.trigger.published.v1"

_PREFIX: Final = "announcements"
_MARK: Final = "announcements/mark"
_MARK_EVERY_S: Final = 10.0
_MOST_WAITING: Final = 10_000
_MOST_FILES: Final = 1_000
_TIMEOUT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 60.0
_PATIENCE_S: Final = 86_400.0
"""Seconds after which an announcement that nobody takes is given up."""

_TRY_AGAIN: Final = frozenset({404, 408, 425, 429})
"""Answers of the 4xx kind after which the same request may do: a Broker that is not there yet says 404."""

_TYPES: Final[Mapping[QueryState, str]] = {
    QueryState.SUCCEEDED: SUCCEEDED_TYPE,
    QueryState.FAILED: FAILED_TYPE,
    QueryState.CANCELLED: FAILED_TYPE,
}
_LOGGER = logging.getLogger(__name__)


def extensions_of(text: str) -> dict[str, str]:
    """Return the attributes that ``K_CE_OVERRIDES`` adds to each event.

    Raises
    ------
    RequestError
        When it is not what Knative's SinkBinding writes: ``{"extensions": {"name": "value"}}``.
    """
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, dict[str, str]]).get("extensions", {})
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise RequestError(f'K_CE_OVERRIDES must be {{"extensions": {{"name": "value"}}}}: {error}') from error


class Announcer:
    """Announces what a coordinator's queries and triggers have done.

    Parameters
    ----------
    coordinator
        Whose queries.
    sink
        URL that takes CloudEvents by POST.
    extensions
        Attributes that each event has besides.

    Raises
    ------
    RequestError
        When `sink` is no URL of HTTP.
    """

    def __init__(self, coordinator: Coordinator, sink: str, extensions: Mapping[str, str] | None = None) -> None:
        if not sink.startswith(("http://", "https://")):
            raise RequestError(f"the sink of events must be a URL of http or https, not {sink!r}")
        self._coordinator = coordinator
        self._store = coordinator.store
        self._sink = sink
        self._extensions = dict(extensions or {})
        self._new: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._counter = coordinator.metrics.triggers.announcements
        coordinator.on_ended.append(self.ended)

    def ended(self, status: QueryStatus) -> None:
        """Announce the end of a query."""
        kind = _TYPES.get(status.state)
        if kind is None:
            return
        error = None if status.error is None else {"kind": status.error.kind, "message": status.error.message}
        data = {
            "query": status.id,
            "state": status.state.value,
            "labels": status.labels,
            "tenant": status.tenant,
            "submitted_unix_s": status.submitted_unix_s,
            "ended_unix_s": status.ended_unix_s,
            "rows": status.rows,
            "error": error,
        }
        self._add(kind, _name(status), status.tenant, status.id, data)

    def published(self, owned: Owned, record: Published) -> None:
        """Announce what a trigger has published."""
        files = record.output.files
        place = record.output.store.rstrip("/")
        data = {
            "trigger": owned.trigger.name,
            "tenant": owned.tenant,
            "commit": record.seq,
            "query": record.query,
            "sink": owned.trigger.sink,
            "objects": record.objects,
            "bytes": record.object_bytes,
            "rows": sum(file.rows for file in files),
            "published_unix_s": record.unix_s,
            "file_count": len(files),
            "files": [
                {"path": f"{place}/{join(record.output.base, file.published)}", "rows": file.rows, "bytes": file.bytes}
                for file in files[:_MOST_FILES]
            ],
        }
        self._add(PUBLISHED_TYPE, f"{owned.trigger.id}-{record.seq}", owned.tenant, owned.trigger.name, data)

    def _add(self, kind: str, name: str, tenant: str, subject: str, data: Mapping[str, object]) -> None:
        event = CloudEvent(
            id=name, source=f"/frazil/{tenant}", type=kind, subject=subject, data=data, attributes=self._extensions
        )
        if len(self._new) >= _MOST_WAITING:
            self._counter.labels("dropped").inc()
            return
        self._new.append((name, encode(event, time.time())))
        self._wake.set()

    async def run(self) -> None:
        """Write down and send announcements until cancelled; send what a coordinator before this one left."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as group:
            waiting: deque[tuple[str, bytes]] = deque()
            came = asyncio.Event()
            group.create_task(self._send_all(http, waiting, came))
            began = marked_at = 0.0
            while True:
                if self._coordinator.leads and not began:
                    began = time.time()
                    waiting.extend(await self._left(began))
                    came.set()
                while self._new:
                    one = self._new.popleft()
                    await self._write(one)
                    waiting.append(one)
                    came.set()
                if began and time.time() - marked_at > _MARK_EVERY_S:
                    marked_at = time.time()
                    await self._mark(marked_at)
                if not self._coordinator.leads:
                    began = 0.0
                self._wake.clear()
                try:
                    async with asyncio.timeout(1.0):
                        await self._wake.wait()
                except TimeoutError:
                    pass  # it may be time for a mark

    async def _left(self, now: float) -> list[tuple[str, bytes]]:
        """Return what was written down before, and announce what ended since the mark: 1 LIST, 1 GET each."""
        try:
            found = await asyncio.to_thread(self._store.list, _PREFIX)
            mark = now
            left = list[tuple[str, bytes]]()
            for info in found:
                body = await asyncio.to_thread(self._store.get, info.key)
                if info.key == _MARK:
                    mark = float(body)
                else:
                    left.append((info.key.rpartition("/")[2], body))
        except (FrazilError, ValueError) as error:
            _LOGGER.warning("announcements of before are not sent", extra={"error": str(error)})
            return []
        names = {name for name, _ in left}
        for status in self._coordinator.list(Wanted(limit=_MOST_WAITING)):
            if status.ended_unix_s is not None and mark <= status.ended_unix_s < now and _name(status) not in names:
                self.ended(status)
        return left

    async def _write(self, one: tuple[str, bytes]) -> None:
        name, body = one
        try:
            await asyncio.to_thread(self._store.put, f"{_PREFIX}/{name}", [body])
        except FrazilError as error:
            _LOGGER.warning("an announcement is not durable until it is sent", extra={"event": name, "error": error.message})

    async def _mark(self, now: float) -> None:
        try:
            await asyncio.to_thread(self._store.put, _MARK, [repr(now).encode()])
        except FrazilError as error:
            _LOGGER.warning("the mark of announcements not written", extra={"error": error.message})

    async def _send_all(self, http: aiohttp.ClientSession, waiting: deque[tuple[str, bytes]], came: asyncio.Event) -> None:
        failures, since = 0, time.monotonic()
        while True:
            if not waiting:
                came.clear()
                await came.wait()
                continue
            name, body = waiting[0]
            outcome = await self._sent(http, body)
            if outcome == "failed" and time.monotonic() - since < _PATIENCE_S:
                failures += 1
                self._counter.labels("failed").inc()
                await asyncio.sleep(min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures - 1, 10)))
                continue
            failures, since = 0, time.monotonic()
            self._counter.labels("dropped" if outcome == "failed" else outcome).inc()
            waiting.popleft()
            try:
                await asyncio.to_thread(self._store.delete, [f"{_PREFIX}/{name}"])
            except FrazilError as error:
                _LOGGER.warning("an announcement may be sent twice", extra={"event": name, "error": error.message})

    async def _sent(self, http: aiohttp.ClientSession, body: bytes) -> str:
        """Send an event; return ``sent``, ``refused`` for ever, or ``failed``."""
        try:
            async with http.post(self._sink, data=body, headers={"Content-Type": STRUCTURED}) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            _LOGGER.warning("the sink of events does not answer", extra={"error": type(error).__name__})
            return "failed"
        if status < 300:
            return "sent"
        _LOGGER.warning("the sink of events refuses", extra={"status": status})
        return "refused" if 400 <= status < 500 and status not in _TRY_AGAIN else "failed"


def _name(status: QueryStatus) -> str:
    """Return the id of the event that a query has ended."""
    return f"{status.id}-{status.state.value}"
