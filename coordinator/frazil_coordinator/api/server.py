"""Serve the coordinator with uvicorn, and stop it gracefully.

What happens on SIGTERM: (1) no more queries are accepted and ``/readyz`` answers 503, while everything else is served on;
(2) queries that run get a grace to end, and their clients a moment to fetch the results; (3) what still runs is cancelled
and its objects deleted, which ends long-polls and event streams; (4) the server stops. A second signal, and SIGINT, skip
to 3.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn

from frazil_coordinator.api.app import create_app
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.announcing import Announcer
from frazil_coordinator.events.triggers import Triggers
from frazil_coordinator.identity import Identities
from frazil_coordinator.tenancy import Token

__all__ = ["serve"]

_LOGGER = logging.getLogger(__name__)


async def serve(
    coordinator: Coordinator,
    host: str = "127.0.0.1",
    port: int = 8080,
    tokens: Sequence[str | Token] = (),
    *,
    identities: Identities | None = None,
    triggers: Triggers | None = None,
    announcer: Announcer | None = None,
    grace_s: float = 25.0,
    on_started: Callable[[str], None] | None = None,
) -> None:
    """Serve `coordinator` until SIGTERM or SIGINT, or until the task is cancelled; then close it.

    Parameters
    ----------
    coordinator
        It is closed at the end; its platform is not.
    host, port
        Where to listen; port 0 takes a free one.
    tokens, identities
        See `create_app`.
    triggers
        The coordinator's; they run as long as it is served. None: new ones.
    announcer
        Announces what its queries and triggers have done, as long as it is served.
    grace_s
        Seconds that running queries get on SIGTERM. Knative and Kubernetes kill 30 s after the signal by default.
    on_started
        Called with the URL when the server listens.

    Raises
    ------
    OSError
        When the address can't be listened on.
    """
    listener = _listen(host, port)
    triggers = triggers or Triggers(coordinator, on_published=None if announcer is None else announcer.published)
    config = uvicorn.Config(
        create_app(coordinator, tokens=tokens, identities=identities, triggers=triggers),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, on_started)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    stopping = asyncio.ensure_future(_until_drained(server, coordinator, grace_s))
    running = {asyncio.ensure_future(triggers.run())}
    running |= set() if announcer is None else {asyncio.ensure_future(announcer.run())}
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # Also when this task is cancelled. The coordinator first: its end is what ends long-polls and event streams.
        stopping.cancel()
        for one in running:  # and they before it: a window that it cancelled must not count as failed
            one.cancel()
        await asyncio.wait(running)
        for one in running:
            if not one.cancelled() and (error := one.exception()) is not None:
                _LOGGER.error("triggers or announcements ended early", exc_info=error)
        await coordinator.aclose()
        server.should_exit = True
        await asyncio.wait({serving, stopping})
    await serving


async def _until_drained(server: _Server, coordinator: Coordinator, grace_s: float) -> None:
    """Wait for a signal, then until the coordinator is drained or a second signal came."""
    await server.term.wait()
    _LOGGER.info("draining", extra={"grace_s": grace_s})
    drain = asyncio.ensure_future(coordinator.drain(grace_s))
    hurry = asyncio.ensure_future(server.hurry.wait())
    try:
        await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        drain.cancel()
        hurry.cancel()


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048)
    # Connections inherit it. asyncio sets it itself for sockets that say that they are TCP, which those that are accepted
    # from such a listener do not: then the body of an answer waits 40 ms until the client has acknowledged the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves it to :func:`serve` when to end.

    uvicorn itself would stop listening at once, so that clients could not fetch what the grace was for, and it would raise
    the signal again afterwards, which would end the process before the coordinator is closed.
    """

    def __init__(self, config: uvicorn.Config, on_started: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._loop: asyncio.AbstractEventLoop | None = None
        self.term = asyncio.Event()
        self.hurry = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self._on_started is not None and not self.should_exit:
            host, port = (sockets or [])[0].getsockname()[:2]
            self._on_started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  # uvicorn's signature
        if self._loop is None:
            self.should_exit = True
            return
        if sig == signal.SIGINT or self.term.is_set():
            self._loop.call_soon_threadsafe(self.hurry.set)
        self._loop.call_soon_threadsafe(self.term.set)
