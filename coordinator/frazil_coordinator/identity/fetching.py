"""Ask a server for JSON: within a time and a size, of its own address only, and never in the way of the event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Final

import httpx
import msgspec

__all__ = ["FetchError", "fetch_json"]

_MAX_BYTES: Final = 1 << 20


class FetchError(Exception):
    """There is no answer, or none that is of use; the text says why and holds nothing of what was sent."""


async def fetch_json(
    url: str,
    *,
    timeout_s: float,
    ca_file: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    through_proxy: bool = True,
) -> dict[str, object]:
    """Return the JSON object at `url`; one request, which is a POST when it has a body.

    Parameters
    ----------
    url
        What is asked. Redirects are not followed: nobody has vouched for where they lead.
    timeout_s
        For all of it.
    ca_file
        PEM file of the authorities that the certificate is checked with; None: the public ones.
    headers, body
        What is sent.
    through_proxy
        Whether a proxy that the environment names is asked.

    Raises
    ------
    FetchError
        When there is no object.
    """
    try:
        async with asyncio.timeout(timeout_s):
            # Reading a hundred certificates takes tens of milliseconds.
            context = await asyncio.to_thread(_context, ca_file)
            async with httpx.AsyncClient(verify=context, trust_env=through_proxy, timeout=timeout_s) as client:
                method = "GET" if body is None else "POST"
                async with client.stream(method, url, headers=dict(headers or {}), content=body) as response:
                    if not response.is_success:
                        raise FetchError(f"answered {response.status_code}")
                    return _object(await _bounded(response))
    except TimeoutError as error:
        raise FetchError(f"no answer within {timeout_s:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise FetchError(f"{type(error).__name__}") from error


def _context(ca_file: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context() if ca_file is None else ssl.create_default_context(cafile=ca_file)


async def _bounded(response: httpx.Response) -> bytes:
    found = bytearray()
    async for piece in response.aiter_bytes():
        found += piece
        if len(found) > _MAX_BYTES:
            raise FetchError(f"answered more than {_MAX_BYTES:,} bytes")
    return bytes(found)


def _object(body: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FetchError("answered what is no JSON object") from error
