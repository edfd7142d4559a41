"""An ingress in front of real functions that does to attempts what networks and platforms do: a row of the fault table."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from support.fault_table import DELAY_S, Row, Strikes

__all__ = ["Ingress", "faulty_ingress"]


@dataclass
class Ingress:
    """What runs in front of the functions."""

    url: str = ""
    strikes: Strikes | None = None
    """Which attempts suffer what; None: nobody suffers."""

    _free: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def hit(self, event: str) -> Row | None:
        """Return what the attempt with this CloudEvents id suffers."""
        _, stage, task, attempt = event.split("/")
        strikes = self.strikes
        return strikes.row if strikes is not None and strikes.attempt((int(stage), int(task), int(attempt))) else None


@contextlib.asynccontextmanager
async def faulty_ingress(functions: list[str]) -> AsyncIterator[Ingress]:
    """Give one URL for `functions`, of which each does one request at a time.

    Parameters
    ----------
    functions
        URLs of function processes.
    """
    ingress = Ingress()
    for url in functions:
        ingress._free.put_nowait(url)  # of this module

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        twice = asyncio.Lock()

        async def call(request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
            url = await ingress._free.get()  # of this module
            try:
                return await sent(url, request, body)
            finally:
                ingress._free.put_nowait(url)  # of this module

        async def call_twice(request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
            """Send it to two functions, one after the other: the first would refuse the copy."""
            async with twice:
                first, second = await ingress._free.get(), await ingress._free.get()  # of this module
            try:
                await sent(first, request, body)
                return await sent(second, request, body)
            finally:
                for url in (first, second):
                    ingress._free.put_nowait(url)  # of this module

        async def sent(url: str, request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
            headers = {
                name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")
            }
            async with session.post(url, data=body, headers=headers) as answer:
                return answer.status, dict(answer.headers), await answer.read()

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            row = ingress.hit(request.headers["ce-id"])
            if row is not None and (refusal := await _before(row, request)) is not None:
                return refusal
            deliver = call_twice if row is not None and row.is_a("event", "duplicate") else call
            status, headers, content = await deliver(request, body)
            if row is not None and row.kind in ("lost response", "torn stream"):
                return await _torn(request, status, headers, content, row)
            if row is not None and row.is_a("answer", "delay"):
                await asyncio.sleep(DELAY_S)
            kept = {name: headers[name] for name in headers if name.lower() in ("content-type", "frazil-function")}
            return web.Response(status=status, headers=kept, body=content)

        app = web.Application(client_max_size=2**26)
        app.router.add_post("/", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            _, port = runner.addresses[0]
            ingress.url = f"http://127.0.0.1:{port}/"
            yield ingress
        finally:
            await runner.cleanup()


async def _before(row: Row, request: web.Request) -> web.Response | None:
    """Return what is answered without asking a function."""
    if row.is_a("event", "error"):
        return web.Response(status=503, text="no healthy upstream")
    if row.is_a("answer", "error"):
        return web.Response(status=502, text="Bad Gateway")
    if row.is_a("event", "lost response"):
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
    if row.is_a("event", "delay"):
        await asyncio.sleep(DELAY_S)
    return None


async def _torn(request: web.Request, status: int, headers: dict[str, str], content: bytes, row: Row) -> web.StreamResponse:
    """Answer with a part of what the function said; its work is done and its output in place all the same."""
    assert request.transport is not None
    if row.kind == "lost response":
        request.transport.abort()
        return web.Response()
    lines = content.splitlines(keepends=True)
    part = b"".join(lines[:-1]) if row.strikes == "answer" else content[: -len(lines[-1]) // 2]
    response = web.StreamResponse(status=status, headers={"frazil-function": headers["frazil-function"]})
    await response.prepare(request)
    await response.write(part)
    await response.write_eof()
    return response
