"""Serves a function process: settings, store, app, and uvicorn around it until the process is told to end.

SIGTERM makes it refuse new tasks, finish those that run, and return. The app is :mod:`frazil_functions.app`, the next module
on the main path.
"""

from __future__ import annotations

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


class _Server(Server):
    """A server that tells its app when it is asked to end, so that what still comes in is refused."""

    def __init__(self, config: Config, app: FunctionApp) -> None:
        super().__init__(config)
        self._function = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain, then end."""
        self._function.drain()
        super().handle_exit(sig, frame)


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
