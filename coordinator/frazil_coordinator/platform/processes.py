"""One function process on this machine: how it starts, how its end is noticed, what it said last.

It knows nothing of tasks or pools; :mod:`frazil_coordinator.platform.local` owns the pool.
The child inherits a listening socket that is bound before it starts, so a request may be sent at once: it waits in the
socket's backlog until the function accepts. When the child dies, its backlog is reset, so no request waits for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

__all__ = ["FunctionProcess", "start_function"]

_ARGUMENTS: Final = ("-P", "-m", "frazil_functions")
"""-P: a file named polars.py in the user's working directory must not be imported."""

_TAIL_BYTES: Final = 4096
_BACKLOG: Final = 16


class FunctionProcess:
    """A running function process. Made by :func:`start_function`; used on one event loop only.

    Parameters
    ----------
    process
        The child.
    port
        Loopback port that it listens on.
    log_path
        File that its stdout and stderr go to.
    on_exit
        Called on the event loop, once, when the process has ended.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, log_path: Path, on_exit: Callable[[FunctionProcess], None]
    ) -> None:
        self._process = process
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._kill_timer: asyncio.TimerHandle | None = None
        self.url: Final = f"http://127.0.0.1:{port}/"
        self.log_path: Final = log_path
        self.answered = False
        """Whether it ever sent an event, so that its death is not a failure to start."""
        self.stopping = False
        """Whether it was told to end."""
        threading.Thread(target=self._reap, name=f"frazil-reap-{process.pid}", daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.returncode if self._ended.is_set() else None

    def stop(self, grace_s: float) -> None:
        """Ask the process to end (SIGTERM), and kill it after `grace_s` seconds."""
        self.stopping = True
        if self._ended.is_set() or self._kill_timer is not None:
            return
        self._signal(signal.SIGTERM)
        self._kill_timer = self._loop.call_later(grace_s, self.kill)

    def kill(self) -> None:
        """End the process at once (SIGKILL)."""
        self.stopping = True
        self._signal(signal.SIGKILL)

    async def wait_ended(self) -> None:
        """Wait until the process has ended and `on_exit` was called."""
        await self._ended.wait()

    def last_words(self) -> str:
        """Return the end of what the process wrote to its log, at most 4 KiB and 20 lines."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, self.log_path.stat().st_size - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:  # its folder was removed, so there is nothing to quote
            return ""
        return "\n".join(text.strip().splitlines()[-20:])

    def obituary(self) -> str:
        """Return how the process ended, in words: ``exit code 3`` or ``killed by SIGKILL``."""
        code = self.exit_code
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:  # a real-time signal has no name
            return f"killed by signal {-code}"

    def _signal(self, number: signal.Signals) -> None:
        # Popen sends nothing to a child that it has reaped, so that a process which has got the same pid is not hit.
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _reap(self) -> None:
        # A thread a process, because asyncio's child watchers need the main thread or a loop that they know.
        self._process.wait()
        # The loop may be closed already: then nobody is left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_ended)

    def _on_ended(self) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._ended.set()
        self._on_exit(self)


def start_function(
    environment: Mapping[str, str], log_path: Path, on_exit: Callable[[FunctionProcess], None]
) -> FunctionProcess:
    """Start a function process that listens on a free loopback port.

    Parameters
    ----------
    environment
        Its whole environment, but for ``FRAZIL_FUNCTION_FD`` and ``FRAZIL_PARENT_PID``, which are added here.
    log_path
        File for its stdout and stderr.
    on_exit
        Called on the running event loop when the process has ended.

    Raises
    ------
    OSError
        When the process can't be started.
    """
    with socket.socket() as listening, log_path.open("ab") as log:
        listening.bind(("127.0.0.1", 0))
        listening.listen(_BACKLOG)
        port: int = listening.getsockname()[1]
        own = {"FRAZIL_FUNCTION_FD": str(listening.fileno()), "FRAZIL_PARENT_PID": str(os.getpid())}
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, *_ARGUMENTS],
            env={**environment, **own},
            pass_fds=(listening.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # A Ctrl-C in the user's terminal is for the coordinator, which then stops its functions in order.
            start_new_session=True,
        )
    return FunctionProcess(process, port, log_path, on_exit)
