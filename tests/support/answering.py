"""A real HTTP server on loopback whose answers a test sets, and that remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Answer", "Asked", "Server", "answering"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is sent for one."""

    body: object = None
    """Sent as JSON; bytes as they are."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: threading.Event | None = None
    """Held back until this is set."""

    pause_s: float = 0.0
    """Between any two bytes."""


@dataclass
class Server:
    """What answers at `url`."""

    url: str
    answers: dict[str, Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    """By path; what is not here is 404."""

    asked: list[Asked] = field(default_factory=list)

    def count(self, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(one.path == path for one in self.asked)


@contextmanager
def answering(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Give a server, of HTTPS when it has a certificate to show; leaving ends it."""
    http = _Http(("127.0.0.1", 0), _Handler)
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    server = Server(url=f"{'http' if tls is None else 'https'}://127.0.0.1:{http.server_port}")
    http.told = server  # type: ignore[attr-defined]  # the handler finds it there
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


class _Http(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of who hung up, or did not like the certificate."""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server.told  # type: ignore[attr-defined]  # see above
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(method=self.command, path=self.path, headers=dict(self.headers), body=body)
        server.asked.append(asked)
        found = server.answers.get(self.path, Answer(status=404))
        answer = found if isinstance(found, Answer) else found(asked)
        if answer.after is not None:
            answer.after.wait(60)
        sent = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(sent)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who asked has hung up, as some tests want it to
            for piece in [sent] if answer.pause_s == 0 else [sent[at : at + 1] for at in range(len(sent))]:
                self.wfile.write(piece)
                time.sleep(answer.pause_s)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class has it
        """Say nothing: the tests look at `asked`."""
