"""An ingress in front of real functions that does to chosen attempts what networks and platforms do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Literal, TypeAlias

import aiohttp
from aiohttp import web

__all__ = ["Fault", "faulty_ingress"]

Fault: TypeAlias = Literal[
    "503 of the platform",
    "502 in plain text",
    "connection reset",
    "stream without a last line",
    "torn last line",
    "delivered twice",
]


@contextlib.asynccontextmanager
async def faulty_ingress(functions: list[str], fault: Fault, hits: Callable[[str], bool]) -> AsyncIterator[str]:
    """Give one URL for `functions`; attempts whose CloudEvents id `hits` picks suffer `fault`.

    Parameters
    ----------
    functions
        URLs of function processes.
    fault
        What happens.
    hits
        Told the id of each event.
    """
    free: asyncio.Queue[str] = asyncio.Queue()
    for url in functions:
        free.put_nowait(url)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def call(request: web.Request, body: bytes) -> tuple[int, dict[str, str], bytes]:
            url = await free.get()
            headers = {
                name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")
            }
            try:
                async with session.post(url, data=body, headers=headers) as answer:
                    return answer.status, dict(answer.headers), await answer.read()
            finally:
                free.put_nowait(url)

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            hit = hits(request.headers["ce-id"])
            if hit and fault == "503 of the platform":
                return web.Response(status=503, text="no healthy upstream")
            if hit and fault == "502 in plain text":
                return web.Response(status=502, text="Bad Gateway")
            if hit and fault == "delivered twice":
                await call(request, body)
            status, headers, content = await call(request, body)
            if hit and fault in ("connection reset", "stream without a last line", "torn last line"):
                return await _torn(request, status, headers, content, fault)
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
            yield f"http://127.0.0.1:{port}/"
        finally:
            await runner.cleanup()


async def _torn(
    request: web.Request, status: int, headers: dict[str, str], content: bytes, fault: Fault
) -> web.StreamResponse:
    """Answer with a part of what the function said; its work is done and its output in place all the same."""
    assert request.transport is not None
    if fault == "connection reset":
        request.transport.abort()
        return web.Response()
    lines = content.splitlines(keepends=True)
    part = b"".join(lines[:-1]) if fault == "stream without a last line" else content[: -len(lines[-1]) // 2]
    response = web.StreamResponse(status=status, headers={"frazil-function": headers["frazil-function"]})
    await response.prepare(request)
    await response.write(part)
    await response.write_eof()
    return response
