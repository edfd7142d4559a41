"""Serves a function process: settings, store, app, and uvicorn around it until the process is told to end.

SIGTERM makes it refuse new tasks, finish those that run, and return. The app is :mod:`frazil_functions.app`, the next module
on the main path.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Final

from uvicorn.config import Config
from uvicorn.server import Server

from frazil_functions.app import FunctionApp
from frazil_functions.errors import FrazilError
from frazil_functions.memory import map_large_blocks
from frazil_functions.settings import FunctionSettings
from frazil_functions.storage import open_store

__all__ = ["serve"]

logger = logging.getLogger(__name__)

_EXIT_SETTINGS: Final = 2
_KEEP_ALIVE_S: Final = 120
"""Above the idle time of whoever is in front (Go's transports: 90 s), so that it is never us who close a connection on
which a request is just being sent."""

_CANCELLED_GRACE_S: Final = 5.0
"""Seconds that cancelled tasks have to clean up when the process ends."""

_TICKS_A_SECOND: Final = 10
"""What uvicorn counts as a second."""

_LOOK_S: Final = 0.005
"""Seconds between looks whether the last request has ended, once the process is told to end."""


class _Server(Server):
    """A server that tells its app when it is asked to end, so that what still comes in is refused; and that ends promptly.

    uvicorn's own looks ten times a second whether it was told to end, and then sleeps and looks as often whether its
    connections are closed: 150 ms that whoever stops a function, as the end of each local engine does, would wait for.
    """

    def __init__(self, config: Config, app: FunctionApp) -> None:
        super().__init__(config)
        self._function = app
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, then end."""
        self._function.drain()
        super().handle_exit(sig, frame)
        if self._loop is not None:  # a signal may come before the loop runs, which then looks before it waits
            self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        """Wait until told to end; once a second uvicorn keeps its headers up to date."""
        self._loop = asyncio.get_running_loop()
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += _TICKS_A_SECOND
            try:
                async with asyncio.timeout(1.0):
                    await self._told.wait()
            except TimeoutError:
                pass

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let the running requests end, and close the connections."""
        for server in self.servers:
            server.close()
        for one in sockets or []:
            one.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        while (state.connections or state.tasks) and not self.force_exit:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(_LOOK_S)


def serve() -> int:
    """Serve until the process is told to end, and return its exit code: 0, or 2 when the settings are wrong."""
    try:
        settings = FunctionSettings.from_env()
        logging.basicConfig(
            level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr
        )
        map_large_blocks()
        app = FunctionApp(settings, open_store(settings.store_url, settings.store_options))
    except FrazilError as error:
        sys.stderr.write(f"frazil-function: {error}\n")
        return _EXIT_SETTINGS
    if settings.parent_pid is not None:
        threading.Thread(target=_end_with_parent, args=(settings.parent_pid,), name="frazil-parent", daemon=True).start()
    _run(settings, app)
    app.wait_idle(_CANCELLED_GRACE_S)
    return 0


def _run(settings: FunctionSettings, app: FunctionApp) -> None:
    config = Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="auto",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    # uvicorn raises the signal again when it has ended, for whoever handled it before: that is this, so the exit code is 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    sockets = None if settings.socket_fd is None else [socket.socket(fileno=settings.socket_fd)]
    _Server(config, app).run(sockets=sockets)


def _end_with_parent(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(1)
    logger.warning("parent process %d is gone, ending", parent_pid)
    os._exit(0)
