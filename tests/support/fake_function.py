"""A function that behaves as a test tells it, on raw sockets: any status, any bytes, any end.

It writes the wire by hand and not with our codec, so that a test of one side does not prove the other side's mistake.

As a program, ``python -m support.fake_function BEHAVIOUR MARKER``, it takes the place of a function process: it misbehaves
until the file MARKER exists, which it makes, so that the next process behaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from frazil_functions.task import Descriptor, Started, Succeeded, TaskEvent, encode_event

__all__ = ["Behaviour", "Conversation", "FakeFunction", "fake_function", "line", "succeed"]

MARKER = {"frazil-function": "1"}


class Conversation:
    """One request and the answer to it, under the test's control."""

    def __init__(
        self, headers: Mapping[str, str], body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.headers = headers
        """Request headers, names in lower case."""
        self.body = body
        self._reader = reader
        self._writer = writer

    async def head(self, status: int = 200, headers: Mapping[str, str] = MARKER) -> None:
        """Send the head of a chunked response."""
        lines = [f"HTTP/1.1 {status} Whatever", "Transfer-Encoding: chunked", *(f"{k}: {v}" for k, v in headers.items())]
        await self._write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def raw(self, data: bytes) -> None:
        """Send one chunk."""
        await self._write(b"%x\r\n%b\r\n" % (len(data), data))

    async def event(self, event: TaskEvent) -> None:
        """Send one line: a structured CloudEvent."""
        await self.raw(line(event, self.headers.get("ce-id", "q/0/0/0")))

    async def end(self) -> None:
        """Send the last chunk: the response is whole."""
        await self._write(b"0\r\n\r\n")

    async def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] = MARKER) -> None:
        """Send a whole response."""
        await self.head(status, headers)
        if body:
            await self.raw(body)
        await self.end()

    def reset(self) -> None:
        """Break the connection off."""
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Wait until the caller has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(1024):
                pass

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


Behaviour = Callable[[Conversation], Awaitable[None]]


def line(event: TaskEvent, request_id: str) -> bytes:
    """Return `event` as a structured CloudEvent on one line."""
    data = json.loads(encode_event(event))
    name = f"dev.frazil.task.{data['type']}.v1"
    attributes = {"specversion": "1.0", "type": name, "id": f"{request_id}/0", "source": "/fake", "subject": request_id}
    return json.dumps({**attributes, "data": data}).encode() + b"\n"


async def succeed(conversation: Conversation) -> None:
    """Behave: start, and succeed with an empty output."""
    await conversation.head()
    await conversation.event(Started(cold_start=False))
    await conversation.event(Succeeded(descriptor=Descriptor(key=None, blocks=())))
    await conversation.end()


@dataclass
class FakeFunction:
    """A server; `behave` may be changed at any time."""

    behave: Behaviour = succeed
    url: str = ""
    connections: int = 0
    """Connections accepted so far."""

    requests: list[Conversation] = field(default_factory=list)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in head[1:] if text)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                conversation = Conversation(headers, body, reader, writer)
                self.requests.append(conversation)
                await self.behave(conversation)
                if writer.transport.is_closing():
                    return
        writer.close()


@contextlib.asynccontextmanager
async def fake_function(behave: Behaviour = succeed, listening: socket.socket | None = None) -> AsyncIterator[FakeFunction]:
    """Run a fake function on a free port of loopback, or on a socket that listens already."""
    fake = FakeFunction(behave)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(fake._serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = listening or socket.create_server(("127.0.0.1", 0))
    server = await asyncio.start_server(accept, sock=listening, limit=2**20)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield fake
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _busy(conversation: Conversation) -> None:
    await conversation.answer(503, b'{"message": "this function is busy"}')


async def _no_last_line(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.event(Started(cold_start=True))
    await conversation.end()


async def _reset(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.event(Started(cold_start=True))
    conversation.reset()


async def _silent(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.event(Started(cold_start=True))
    await conversation.gone()


async def _exits(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.event(Started(cold_start=True))
    sys.stderr.write("giving up\n")
    sys.stderr.flush()
    os._exit(3)


_MISBEHAVIOUR = {"busy": _busy, "no-last-line": _no_last_line, "reset": _reset, "silent": _silent, "exits": _exits}


async def _main(behaviour: str, fresh: bool) -> None:
    listening = socket.socket(fileno=int(os.environ["FRAZIL_FUNCTION_FD"]))
    async with fake_function(_MISBEHAVIOUR[behaviour] if fresh else succeed, listening):
        await asyncio.Event().wait()


if __name__ == "__main__":
    first = not Path(sys.argv[2]).exists()
    Path(sys.argv[2]).touch()
    asyncio.run(_main(sys.argv[1], first))
