"""Task events over HTTP: one signed CloudEvent out, a stream of CloudEvents back, every failure one of three errors.

It sends an attempt once and never retries (a retry is a new attempt, and the driver's). It does not know where functions
come from: :mod:`~frazil_coordinator.platform.local` and :mod:`~frazil_coordinator.platform.knative` give it URLs.
The other end is :mod:`frazil_functions.app`; the words of both are in docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import aiohttp
import msgspec

from frazil_functions.cloudevent import MARKER_HEADER, encode_task, parse_line
from frazil_functions.errors import DeadlineError, FrazilError, FunctionBusyError, FunctionLostError, ProtocolError
from frazil_functions.ids import traceparent
from frazil_functions.task import Failed, Succeeded, TaskEvent, TaskRequest

__all__ = ["FunctionTransport"]

_CONNECT_TIMEOUT_S: Final = 10.0
_SILENT_HEARTBEATS: Final = 4
"""Heartbeats that may be missed before a function is given up."""

_END_TIMEOUT_S: Final = 1.0
"""Seconds to wait for the end of a stream whose last line has come, so that its connection can be used again."""

_READ_BUFFER_BYTES: Final = 1024 * 1024
_MAX_LINE_BYTES: Final = 1024 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 64 * 1024
_BUSY: Final = frozenset({429, 503})
_TOO_LATE: Final = 408
_A_COPY: Final = 425
"""Of an event that the function ran already: something on the way sent it twice, and the first answer is lost (RFC 8470)."""
_FAILURES: Final = (aiohttp.ClientError, OSError, TimeoutError, RuntimeError)
"""What a connection can fail with: refused, reset, ended in the middle of a chunk, silent; RuntimeError is what aiohttp
raises when the session or the connection was closed under a reader."""


class FunctionTransport:
    """Sends task events to functions. For one event loop; opens its connections on first use.

    Parameters
    ----------
    keys
        Keys that the functions accept; the first signs.
    source
        CloudEvents source of the events.
    start_timeout_s
        Seconds from the request to the head of the response: the time that a platform may take to start a function.
    """

    def __init__(self, keys: Sequence[str], source: str, *, start_timeout_s: float = 300.0) -> None:
        self._keys = tuple(keys)
        self._source = source
        self._start_timeout_s = start_timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def send(self, url: str, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        """Send one attempt and yield its events; the last is `Succeeded` or `Failed`.

        Closing the generator closes the connection at once, which cancels the task on the other side.

        Parameters
        ----------
        url
            Where the function listens.
        request
            The attempt. Its ``limits.heartbeat_s`` decides how long silence may last (4 heartbeats).

        Raises
        ------
        FunctionLostError
            When the connection is refused, reset, silent or ends without a last event, or when the answer is not a
            function's.
        FunctionBusyError
            On 429 and 503; ``where["retry_after_s"]`` holds what the answer's Retry-After said.
        ProtocolError
            When the function refused the event, with its own words.
        """
        response = await self._post(url, request)
        ended = False
        try:
            if response.status != 200 or MARKER_HEADER not in response.headers:
                raise await _refusal(response)
            lines = _Lines(response, _SILENT_HEARTBEATS * request.limits.heartbeat_s)
            while (line := await lines.next()) is not None:
                event = parse_line(line, attempt=request.id)
                ended = isinstance(event, Succeeded | Failed)
                if ended:
                    await lines.finish()
                yield event
                if ended:
                    return
            raise FunctionLostError("the function's stream ended without a last event")
        finally:
            # Returns the connection to the pool when it is at its end; else, closed by force, it tells the function.
            response.close()

    async def aclose(self) -> None:
        """Close all connections; what is being sent fails with `FunctionLostError`."""
        self._closed = True
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, request: TaskRequest) -> aiohttp.ClientResponse:
        headers, body = encode_task(request, keys=self._keys, source=self._source, traceparent=traceparent(request.id))
        try:
            async with asyncio.timeout(self._start_timeout_s):
                # Not as bytes: aiohttp writes those at once, and warns above 1 MiB, which inline blocks exceed.
                return await self._open_session().post(url, data=io.BytesIO(body), headers=headers, allow_redirects=False)
        except _FAILURES as error:
            raise FunctionLostError(f"no answer from the function: {_words(error)}") from error

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise FunctionLostError("the connections to the functions are closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # The driver bounds what is in flight; a second bound here would only hide its queue.
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
                read_bufsize=_READ_BUFFER_BYTES,
                auto_decompress=False,
            )
        return self._session


class _Lines:
    """The lines of a response. aiohttp's own readline refuses lines longer than its buffer, and results are long lines."""

    def __init__(self, response: aiohttp.ClientResponse, silence_s: float) -> None:
        self._content = response.content
        self._silence_s = silence_s
        self._pending = bytearray()
        self._searched = 0

    async def next(self) -> bytes | None:
        """Return the next line without its end; None at the end of the stream. An unfinished line is no line."""
        while True:
            end = self._pending.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._pending[:end])
                del self._pending[: end + 1]
                self._searched = 0
                if line.strip():
                    return line
                continue
            self._searched = len(self._pending)
            if self._searched > _MAX_LINE_BYTES:
                raise FunctionLostError(f"the function sent a line of more than {_MAX_LINE_BYTES} bytes")
            chunk = await self._read()
            if not chunk:
                return None
            self._pending += chunk

    async def finish(self) -> None:
        """Wait a moment for the end of the stream, so that the connection can be used again."""
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                while await self._content.readany():
                    pass
        except _FAILURES:
            return  # the last event is here: how the stream ends after it means nothing, and the connection is not reused

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._silence_s):
                return await self._content.readany()
        except TimeoutError as error:
            raise FunctionLostError(f"the function was silent for {self._silence_s:g} s") from error
        except _FAILURES as error:
            raise FunctionLostError(f"the function's stream broke: {_words(error)}") from error


class _Problem(msgspec.Struct):
    """Body of a function's refusal."""

    message: str


async def _refusal(response: aiohttp.ClientResponse) -> FrazilError:
    """Return the error that an answer other than a stream stands for."""
    try:
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            body = await response.content.read(_MAX_ERROR_BYTES)
    except _FAILURES:
        body = b""  # the status says enough
    ours = MARKER_HEADER in response.headers
    words = f"{'function' if ours else 'platform'} answered {response.status}: {_message(body) or response.reason or ''}"
    if response.status in _BUSY:
        retry_after = response.headers.get("Retry-After")
        return FunctionBusyError(words, where=None if retry_after is None else {"retry_after_s": retry_after})
    if ours and response.status == _TOO_LATE:
        return DeadlineError(words)
    if ours and 400 <= response.status < 500 and response.status != _A_COPY:
        return ProtocolError(words)
    return FunctionLostError(words)


def _message(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Problem).message
    except (msgspec.DecodeError, msgspec.ValidationError):
        return body.decode(errors="replace").strip()[:500]


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
