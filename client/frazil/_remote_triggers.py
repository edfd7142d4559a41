"""The triggers of a coordinator over HTTP (``/v1/triggers``); :mod:`frazil._remote` sends the requests."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from frazil_coordinator.events.model import DeadLetter, Trigger, TriggerSource, TriggerView

__all__ = ["RemoteTriggers"]

_JSON: Final = {"Content-Type": "application/json"}


class Send(Protocol):
    """Sends a request, and returns the body of its answer."""

    def __call__(
        self, method: str, path: str, *, content: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        """Send it."""
        ...


class RemoteTriggers:
    """See :class:`frazil._session.TriggerSession`.

    Parameters
    ----------
    send
        Sends requests to the coordinator.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    def list(self) -> tuple[TriggerView, ...]:
        """Return all of the tenant's."""
        return msgspec.json.decode(self._send("GET", "/v1/triggers"), type=tuple[TriggerView, ...])

    def show(self, name: str) -> TriggerView:
        """Return one."""
        return msgspec.json.decode(self._send("GET", _path(name)), type=TriggerView)

    def put(self, name: str, source: TriggerSource, expected: int | None) -> Trigger:
        """Make or replace one."""
        new = {"If-None-Match": "*"} if expected == 0 else {}
        headers = {**_JSON, **new, **_matching(expected)}
        answer = self._send("PUT", _path(name), content=msgspec.json.encode(source), headers=headers)
        return msgspec.json.decode(answer, type=Trigger)

    def drop(self, name: str, expected: int | None) -> None:
        """Drop one."""
        self._send("DELETE", _path(name), headers=_matching(expected))

    def pause(self, name: str, *, paused: bool) -> Trigger:
        """Pause or resume one."""
        return msgspec.json.decode(self._send("POST", _path(name, "pause" if paused else "resume")), type=Trigger)

    def run(self, name: str) -> None:
        """List its source now, and take up what is new."""
        self._send("POST", _path(name, "run"))

    def replay(self, name: str, since_unix_s: float) -> None:
        """Let objects modified since a time be new again."""
        content = msgspec.json.encode({"since_unix_s": since_unix_s})
        self._send("POST", _path(name, "replay"), content=content, headers=_JSON)

    def dead(self, name: str) -> tuple[DeadLetter, ...]:
        """Return the objects that it gave up."""
        return msgspec.json.decode(self._send("GET", _path(name, "dead-letters")), type=tuple[DeadLetter, ...])

    def revive(self, name: str, urls: Sequence[str] | None) -> int:
        """Try dead letters again."""
        content = msgspec.json.encode({} if urls is None else {"urls": builtins.list(urls)})
        answer = self._send("POST", _path(name, "dead-letters/retry"), content=content, headers=_JSON)
        return msgspec.json.decode(answer, type=dict[str, int])["objects"]


def _path(name: str, more: str = "") -> str:
    return f"/v1/triggers/{quote(name, safe='')}" + (f"/{more}" if more else "")


def _matching(expected: int | None) -> dict[str, str]:
    return {"If-Match": f'"{expected}"'} if expected else {}
