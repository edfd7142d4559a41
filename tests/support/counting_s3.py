"""An HTTP proxy before an S3 server that counts requests: what really went over the wire, whoever sent it.

It changes nothing: the ``Host`` header goes through, and so do signatures.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

__all__ = ["RequestLog", "count_requests"]

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding"})
_TIMEOUT_S = 30.0


class RequestLog:
    """The requests that were answered."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        """Where clients send their requests."""

        self._lock = threading.Lock()
        self._seen: list[tuple[str, str]] = []

    def note(self, method: str, path: str) -> None:
        """Add a request."""
        with self._lock:
            self._seen.append((method, unquote(urlsplit(path).path)))

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
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP | {"content-length", "date", "server"}:
                    self.send_header(name, value)
            bare = self.command == "HEAD" or answer.status in (204, 304)
            self.send_header("Content-Length", answer.getheader("Content-Length") or "0" if bare else str(len(content)))
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
