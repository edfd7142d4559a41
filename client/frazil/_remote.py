"""A session with a coordinator behind HTTP (docs/http-api.md): what :func:`frazil.connect` uses.

What gets no answer is sent again, a submission under the same key: so a coordinator that ends, and another that goes on
with its queries, cost time and nothing else. A plan can be read by its own version of polars only: the coordinator's is
known by any answer of it, and asked for before the first plan when there was none.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import islice
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import polars as pl

from frazil._ipc import read_batches
from frazil._problems import NotHereError, raise_for_problem, raise_if_elsewhere
from frazil._remote_triggers import RemoteTriggers
from frazil._session import UnreachableError
from frazil._versions import OWN, Served, served_by
from frazil_coordinator.catalog.model import CatalogInfo, CatalogTable, Table, TableSource
from frazil_coordinator.catalog.parameters import Parameters, sendable
from frazil_coordinator.query_settings import AS_SETTINGS, Reusing
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import (
    Explanation,
    QueryEvent,
    QueryState,
    QueryStatus,
    Wanted,
    decode_event,
    decode_explanation,
    decode_status,
    decode_statuses,
)
from frazil_functions.errors import FrazilError, RequestError
from frazil_functions.ids import QueryId

__all__ = ["RemoteSession"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FIRST_BACKOFF_S: Final = 0.1
_MAX_BACKOFF_S: Final = 2.0
_FIRST_CONTACT_S: Final = 3.0
"""How long a coordinator that never answered is tried to be connected to: its URL is rather wrong than it restarts."""

_LONG_POLL_S: Final = 20.0
_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_EVENT_FIELD: Final = "data:"
_JSON: Final = {"Content-Type": "application/json"}
_CATALOG_S: Final = 300.0
"""Seconds that a catalog may take to list its namespaces."""
_BUNDLE_S: Final = 60.0
"""Seconds that the bundle of a task, whose blocks a coordinator reads first, may take on top."""

_ANALYZE_S: Final = 86_400.0
"""Seconds that EXPLAIN ANALYZE, which runs the query, may take."""


class RemoteSession:
    """Talks to one coordinator.

    Parameters
    ----------
    url
        Address of the coordinator, e.g. ``http://127.0.0.1:8080``.
    token
        Bearer token; None where the coordinator asks for none.
    settings
        Settings of this session's queries. None: the coordinator's own.
    timeout_s
        Seconds for which a coordinator may not answer before :class:`frazil.UnreachableError`. One that never answered
        and can't be connected to is given up after 3 s.
    transport
        How requests are sent; by default over the network.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        settings: Settings | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        address = httpx.URL(url)
        if address.scheme not in ("http", "https") or not address.host:
            raise RequestError(f"{url!r} is not the address of a coordinator: http://host:port is")
        self.settings = settings or Settings()
        self._url = url.rstrip("/")
        self._timeout_s, self._token = timeout_s, token
        given = {} if settings is None else {"Frazil-Settings": _changed(settings)}
        self._plan_headers = {"Content-Type": "application/vnd.frazil.plan", **OWN, **given}
        self._sql_headers = {**_JSON, **given}
        self._client = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(timeout_s),
            transport=transport,
        )
        weakref.finalize(self, self._client.close)  # of one that came to another process nobody else knows
        self._lock = threading.Lock()
        self._served: Served | None = None
        """Versions of the coordinator, by its last answer that told them."""
        self._answered = False

    def __repr__(self) -> str:
        return f"connected to {self._url}"

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process as an address and a token: that process connects anew."""
        return _connected, (self._url, self._token, self.settings, self._timeout_s)

    @property
    def shares_files(self) -> bool:
        """Whether the coordinator is on this machine, as far as its address tells."""
        return urlsplit(self._url).hostname in _THIS_MACHINE

    def submit(
        self,
        plan: bytes,
        labels: Sequence[str],
        *,
        discard_result: bool = False,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> QueryStatus:
        """Start a query."""
        self._check_version()
        params = httpx.QueryParams(
            [
                *(("label", label) for label in labels),
                *([("discard_result", "true")] if discard_result else []),
                *([("priority", str(priority))] if priority else []),
                *_params(reusing),
            ]
        )
        # Under its key it is the same query, however often it arrives.
        headers = {**self._plan_headers, "Idempotency-Key": secrets.token_hex(16)}
        return decode_status(
            self._send("POST", "/v1/queries", content=plan, params=params, headers=headers, repeatable=True)
        )

    def status(self, query: QueryId) -> QueryStatus:
        """Return what is known of a query now."""
        return decode_status(self._send("GET", f"/v1/queries/{query}"))

    def wait(self, query: QueryId, timeout_s: float | None) -> QueryStatus:
        """Return when the query has ended, or after `timeout_s` seconds, by long-poll."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = _LONG_POLL_S if deadline is None else max(0.0, min(_LONG_POLL_S, deadline - time.monotonic()))
            params = httpx.QueryParams({"wait_s": f"{left:.3f}"})
            status = decode_status(self._send("GET", f"/v1/queries/{query}", params=params, patience_s=left))
            if status.state.ended or (deadline is not None and time.monotonic() >= deadline):
                return status

    def events(self, query: QueryId) -> Iterator[QueryEvent]:
        """Yield changes of a query until its end; a broken stream is opened again."""
        ended = False
        retry = _Retry(self._timeout_s)
        while not ended:
            try:
                with self._stream(f"/v1/queries/{query}/events", read_timeout_s=None) as response:
                    for line in response.iter_lines():
                        if line.startswith(_EVENT_FIELD):
                            event = decode_event(line.removeprefix(_EVENT_FIELD).encode())
                            ended = event.status.state.ended
                            retry = _Retry(self._timeout_s)
                            yield event
                if not ended:  # the coordinator ends, and another one goes on with the query
                    retry.pause_or_raise(self._url, httpx.RemoteProtocolError("the stream of events was closed"))
            except httpx.TransportError as error:
                retry.pause_or_raise(self._url, error)

    def batches(self, query: QueryId) -> Iterator[pl.DataFrame]:
        """Yield the result as its bytes arrive; when the connection breaks, go on behind what has arrived."""
        arrived = 0
        retry = _Retry(self._timeout_s)
        while True:
            try:
                with self._stream(f"/v1/queries/{query}/result", read_timeout_s=self._timeout_s) as response:
                    for frame in islice(read_batches(response.iter_bytes()), arrived, None):
                        arrived += 1
                        retry = _Retry(self._timeout_s)
                        yield frame
                return
            except httpx.TransportError as error:
                retry.pause_or_raise(self._url, error)

    def page(self, query: QueryId, offset: int, limit: int) -> pl.DataFrame:
        """Return some rows of a result."""
        params = httpx.QueryParams({"offset": str(offset), "limit": str(limit)})
        return pl.concat(list(read_batches([self._send("GET", f"/v1/queries/{query}/result", params=params)])))

    def plan(self, query: QueryId, *, analyze: bool = False) -> Explanation:
        """Return how a submitted query is cut into stages."""
        params = httpx.QueryParams({"analyze": "true"} if analyze else {})
        return decode_explanation(self._send("GET", f"/v1/queries/{query}/plan", params=params))

    def profile(self, query: QueryId) -> dict[str, object]:
        """Return what the query used."""
        return _read(self._send("GET", f"/v1/queries/{query}/profile"), dict[str, object])

    def replay(self, query: QueryId, stage: int, task: int, attempt: int | None = None) -> bytes:
        """Return the bundle of a task."""
        params = httpx.QueryParams({} if attempt is None else {"attempt": str(attempt)})
        path = f"/v1/queries/{quote(query, safe='')}/stages/{stage}/tasks/{task}/replay"
        return self._send("GET", path, params=params, patience_s=_BUNDLE_S)

    def glance(self, query: QueryId, timeout_s: float) -> tuple[QueryStatus, dict[str, object] | None]:
        """Return what is known of a query now and what it used, each by one request."""
        status: Future[QueryStatus] = Future()
        profile: Future[dict[str, object]] = Future()

        def look() -> None:
            path, timeout = f"/v1/queries/{query}", httpx.Timeout(timeout_s)
            try:
                status.set_result(decode_status(self._once("GET", path, timeout=timeout)))
                profile.set_result(_read(self._once("GET", f"{path}/profile", timeout=timeout), dict[str, object]))
            except Exception as error:  # it is raised where it is waited for
                (profile if status.done() else status).set_exception(error)

        # On a thread: a timeout of httpx is one of each step, and looking up the name of a host has none.
        threading.Thread(target=look, name="frazil-glance", daemon=True).start()
        deadline = time.monotonic() + timeout_s
        try:
            known = status.result(timeout_s)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise UnreachableError(f"no answer from the coordinator at {self._url} within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise _unreachable(self._url, error) from error
        try:
            return known, profile.result(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, FrazilError, httpx.HTTPError) as error:
            _log.debug("no profile for a glance", extra={"query": query, "error": str(error)})
            return known, None

    def cancel(self, query: QueryId) -> None:
        """Stop a query."""
        self._send("DELETE", f"/v1/queries/{query}")

    def explain(self, plan: bytes, *, dry_run: bool = False) -> Explanation:
        """Return how a plan would be cut into stages."""
        self._check_version()
        path = "/v1/queries" if dry_run else "/v1/explain"
        params = httpx.QueryParams({"dry_run": "true"} if dry_run else {})
        return decode_explanation(self._send("POST", path, content=plan, params=params, headers=self._plan_headers))

    def queries(self, *, limit: int, state: QueryState | None = None, label: str | None = None) -> tuple[QueryStatus, ...]:
        """Return the coordinator's newest queries."""
        return self.wanted(Wanted(limit=limit, state=state, label=label))

    def wanted(self, wanted: Wanted) -> tuple[QueryStatus, ...]:
        """Return the coordinator's newest queries that are like that."""
        chosen = {
            "limit": wanted.limit,
            "state": wanted.state and wanted.state.value,
            "label": wanted.label,
            "tenant": wanted.tenant,
            "text": wanted.text,
            "since": wanted.since_unix_s,
        }
        params = httpx.QueryParams({name: str(value) for name, value in chosen.items() if value is not None})
        return decode_statuses(self._send("GET", "/v1/queries", params=params))

    def cluster(self) -> dict[str, object]:
        """Return what the coordinator is busy with (docs/http-api.md)."""
        return msgspec.json.decode(self._send("GET", "/v1/cluster"), type=dict[str, object])

    def submit_sql(
        self,
        text: str,
        parameters: Parameters,
        labels: Sequence[str],
        *,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> QueryStatus:
        """Start a statement."""
        named = [("label", label) for label in labels]
        params = httpx.QueryParams([*named, ("priority", str(priority)), *_params(reusing)])
        headers = {**self._sql_headers, "Idempotency-Key": secrets.token_hex(16)}
        return decode_status(
            self._send(
                "POST", "/v1/queries", content=_body(text, parameters), params=params, headers=headers, repeatable=True
            )
        )

    def explain_sql(self, text: str, parameters: Parameters, *, dry_run: bool = False) -> Explanation:
        """Return how a statement would be cut into stages; that of ``EXPLAIN ANALYZE`` is run."""
        path = "/v1/queries?dry_run=true" if dry_run else "/v1/explain"
        content = _body(text, parameters)
        return decode_explanation(
            self._send("POST", path, content=content, headers=self._sql_headers, patience_s=_ANALYZE_S)
        )

    def tables(self) -> tuple[Table, ...]:
        """Return the tenant's tables."""
        return _read(self._send("GET", "/v1/tables"), tuple[Table, ...])

    def table(self, name: str) -> Table:
        """Return a table."""
        return _read(self._send("GET", f"/v1/tables/{quote(name, safe='')}"), Table)

    def put_table(self, name: str, source: TableSource, *, expected: int | None = None) -> Table:
        """Make or replace a table."""
        new = {"If-None-Match": "*"} if expected == 0 else {}
        headers = {**_JSON, **new, **({"If-Match": f'"{expected}"'} if expected else {})}
        content = msgspec.json.encode(source)
        return _read(self._send("PUT", f"/v1/tables/{quote(name, safe='')}", content=content, headers=headers), Table)

    def drop_table(self, name: str, *, expected: int | None = None) -> None:
        """Drop a table."""
        headers = {"If-Match": f'"{expected}"'} if expected else {}
        self._send("DELETE", f"/v1/tables/{quote(name, safe='')}", headers=headers)

    @property
    def triggers(self) -> RemoteTriggers:
        """The tenant's triggers."""
        return RemoteTriggers(self._send)

    def catalogs(self) -> tuple[CatalogInfo, ...]:
        """Return the catalogs that the tenant may use."""
        return _read(self._send("GET", "/v1/catalogs"), tuple[CatalogInfo, ...])

    def catalog_tables(self, catalog: str, namespace: str = "") -> tuple[CatalogTable, ...]:
        """Return the tables of a catalog."""
        params = httpx.QueryParams({"namespace": namespace} if namespace else {})
        path = f"/v1/catalogs/{quote(catalog, safe='')}/tables"
        return _read(self._send("GET", path, params=params, patience_s=_CATALOG_S), tuple[CatalogTable, ...])

    def close(self) -> None:
        """Hang up. Queries go on."""
        self._client.close()

    def _check_version(self) -> None:
        """Refuse to send a plan that would be refused; costs a request before the first answer, and before it raises."""
        with self._lock:
            if self._served is not None and self._served.ours:
                return
            try:
                self._served = msgspec.json.decode(self._send("GET", "/v1/version"), type=Served)
            except msgspec.MsgspecError as error:
                raise RequestError(f"{self._url} is not a Frazil coordinator: {error}") from error
            if not self._served.ours:
                raise self._served.error(self._url)

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: httpx.QueryParams | None = None,
        headers: dict[str, str] | None = None,
        patience_s: float = 0.0,
        repeatable: bool = False,
    ) -> bytes:
        """Send a request and return the body of its answer; `patience_s` is what the answer may take on top.

        It is sent again when there is no answer: all but a POST, which only is when it is `repeatable` or was never sent.
        """
        timeout = httpx.Timeout(self._timeout_s, read=self._timeout_s + patience_s)

        def once() -> bytes:
            return self._once(method, path, content=content, params=params, headers=headers, timeout=timeout)

        return self._retried(once, httpx.TransportError if repeatable or method != "POST" else (*_NEVER_SENT, NotHereError))

    def _once(
        self,
        method: str,
        path: str,
        *,
        timeout: httpx.Timeout,
        content: bytes | None = None,
        params: httpx.QueryParams | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        if self._client.is_closed:
            raise RequestError("this engine is closed")
        response = self._client.request(method, path, content=content, params=params, headers=headers, timeout=timeout)
        self._answered = True
        self._served = served_by(response.headers) or self._served
        raise_if_elsewhere(response)
        raise_for_problem(response)
        return response.content

    def _retried(self, once: Callable[[], _T], repeatable: type[Exception] | tuple[type[Exception], ...]) -> _T:
        retry = (
            _Retry(self._timeout_s)
            if self._answered
            else _Retry(min(self._timeout_s, _FIRST_CONTACT_S), after_contact=False)
        )
        while True:
            try:
                return once()
            except httpx.TransportError as error:
                if not isinstance(error, repeatable):
                    raise _unreachable(self._url, error) from error
                if self._answered and not retry.after_contact:  # there is a coordinator, which asks for patience
                    retry = _Retry(self._timeout_s)
                retry.pause_or_raise(self._url, error)

    @contextmanager
    def _stream(self, path: str, *, read_timeout_s: float | None) -> Iterator[httpx.Response]:
        timeout = httpx.Timeout(self._timeout_s, read=read_timeout_s)
        with self._client.stream("GET", path, timeout=timeout) as response:
            if response.is_error:
                response.read()
            raise_if_elsewhere(response)
            raise_for_problem(response)
            yield response


def _connected(url: str, token: str | None, settings: Settings, timeout_s: float) -> RemoteSession:
    return RemoteSession(url, token=token, settings=settings, timeout_s=timeout_s)


def _body(text: str, parameters: Parameters) -> bytes:
    return msgspec.json.encode({"sql": text, "parameters": sendable(parameters)})


def _read(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise RequestError(f"not an answer of a Frazil coordinator: {error}") from error


class _Retry:
    """Pauses between tries, longer each time, for `timeout_s` seconds in all."""

    def __init__(self, timeout_s: float, *, after_contact: bool = True) -> None:
        self.after_contact = after_contact
        """Whether the coordinator had answered before."""

        self._deadline = time.monotonic() + timeout_s
        self._pause_s = _FIRST_BACKOFF_S

    def pause_or_raise(self, url: str, error: httpx.TransportError) -> None:
        """Sleep until the next try, or raise when the time is up."""
        if time.monotonic() + self._pause_s > self._deadline:
            raise _unreachable(url, error) from error
        _log.debug("the coordinator did not answer; trying again", extra={"url": url, "error": str(error)})
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _MAX_BACKOFF_S)


def _unreachable(url: str, error: httpx.HTTPError) -> UnreachableError:
    return UnreachableError(f"no answer from the coordinator at {url}: {error or type(error).__name__}")


def _params(reusing: Reusing) -> list[tuple[str, str]]:
    given = (("reuse", reusing.reuse), ("max_age_s", reusing.max_age_s))
    return [(name, str(value)) for name, value in given if value is not None]


def _changed(settings: Settings) -> str:
    """Return the knobs that differ from their defaults, as JSON: the coordinator's own hold for the others."""
    default = Settings()
    names = (knob.name for knob in dataclasses.fields(settings))
    return json.dumps({name: value for name in names if (value := getattr(settings, name)) != getattr(default, name)})
