"""An HTTP proxy before an S3 server that counts requests: what really went over the wire, whoever sent it.

It changes nothing (the ``Host`` header goes through, and so do signatures) but what a test has it strike.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from support.fault_table import DELAY_S, Kind

__all__ = ["RequestLog", "S3Request", "count_requests"]

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})
_TIMEOUT_S = 30.0


_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_NO_KEY = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Request:
    """A request that has come."""

    method: str
    path: str
    """Without the query: bucket, then key."""

    range: str
    """The header; empty when there is none."""


class RequestLog:
    """The requests that were answered."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        """Where clients send their requests."""

        self.strike: Callable[[S3Request], Kind | None] = lambda _: None
        """What happens to a request; None: what should."""

        self._lock = threading.Lock()
        self._seen: list[tuple[str, str]] = []

    def note(self, method: str, path: str) -> None:
        """Add a request that the server has done."""
        with self._lock:
            self._seen.append((method, unquote(urlsplit(path).path)))

    def paths(self, method: str) -> list[str]:
        """Return the paths of the requests by `method`, bucket first."""
        with self._lock:
            return [path for one, path in self._seen if one == method]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._seen.clear()

    def counts(self, prefix: str) -> Counter[str]:
        """Return the requests by method on objects whose path starts with ``/<prefix>`` (bucket first)."""
        with self._lock:
            return Counter(method for method, path in self._seen if path.startswith(f"/{prefix}"))


def _handler(target: str, log: RequestLog) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
            """Say nothing on standard error."""

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            kind = log.strike(S3Request(method=self.command, path=path, range=self.headers.get("Range") or ""))
            if kind == "error":
                self.say(503, [], _SLOW_DOWN)
                return
            if kind == "missing":
                self.say(404, [], _NO_KEY)
                return
            if kind == "delay":
                time.sleep(DELAY_S)
            status, headers, content = self.ask(body)
            if kind == "duplicate":
                status, headers, content = self.ask(body)
            if kind == "lost response":
                self.close_connection = True
            elif kind == "torn stream":
                self.say(status, headers, content[: len(content) // 2], length=len(content))
                self.close_connection = True
            else:
                damaged = kind == "damaged"
                self.say(status, headers, bytes(byte ^ 1 for byte in content) if damaged else content)

        def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            """Have the server do the request."""
            connection = http.client.HTTPConnection(target, timeout=_TIMEOUT_S)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in _HOP_BY_HOP:
                        connection.putheader(name, value)
                connection.endheaders(body or None)
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            log.note(self.command, self.path)
            return answer.status, answer.getheaders(), content

        def say(self, status: int, headers: list[tuple[str, str]], content: bytes, *, length: int | None = None) -> None:
            """Answer; of an answer without a body its length is that of the server's."""
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP | {"content-length", "date", "server"}:
                    self.send_header(name, value)
            told = next((value for name, value in headers if name.lower() == "content-length"), "0")
            bare = self.command == "HEAD" or status in (204, 304)
            self.send_header("Content-Length", told if bare else str(len(content) if length is None else length))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = forward

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up: a function that stops does so."""


@contextlib.contextmanager
def count_requests(endpoint: str) -> Iterator[RequestLog]:
    """Run a proxy before the S3 server `endpoint` while the context lasts."""
    log = RequestLog("")
    server = _Server(("127.0.0.1", 0), _handler(urlsplit(endpoint).netloc, log))
    log.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield log
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
