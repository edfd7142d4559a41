"""Functions as processes of this machine, started on demand and stopped when idle.

The pool: never more than ``max_functions`` processes, each with one task at a time, the one used last first, none when
nothing was asked of them for ``idle_s``. A process in an unknown state (its task was cancelled, its stream broke, it ran
out of memory) is not used again. How one process starts and ends is :mod:`~frazil_coordinator.platform.processes`; what is
said to it is :mod:`~frazil_coordinator.platform.transport`. Next on the main path: :mod:`frazil_functions.app`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Final

from frazil_coordinator.platform.base import PlatformStatus
from frazil_coordinator.platform.processes import FunctionProcess, start_function
from frazil_coordinator.platform.transport import FunctionTransport
from frazil_functions.errors import (
    CancelledQueryError,
    DeadlineError,
    FrazilError,
    FunctionLostError,
    InternalError,
    OutOfMemoryError,
    ProtocolError,
)
from frazil_functions.memory import EXIT_OUT_OF_MEMORY
from frazil_functions.task import Failed, Succeeded, TaskEvent, TaskRequest

__all__ = ["LocalPlatform"]

_LOGGER: Final = logging.getLogger(__name__)

_GRACE_S: Final = 1.0
"""Seconds between SIGTERM and SIGKILL: enough to end what can be ended; only polars in a long batch can not."""

_EXIT_NOTICE_S: Final = 1.0
"""Seconds to wait for the news of a process's end after its connection broke."""

_START_TIMEOUT_S: Final = 60.0
"""Seconds from the start of a process to its first answer."""

_MAX_FAILED_STARTS: Final = 3
"""Processes in a row that may end by themselves before their first answer; then the error is not retryable."""

_CLOSED: Final = "the platform was closed"

_LEAVE_WORK_BEHIND: Final = frozenset(
    error.kind for error in (OutOfMemoryError, DeadlineError, CancelledQueryError, InternalError)
)
"""Failures after which a process may still hold memory or run Polars code that can't be interrupted."""

_LEAST_THREADS: Final = 8
"""Polars threads of a process, where there are as many CPUs."""


class LocalPlatform:
    """A pool of function processes on loopback. Nothing starts before the first :meth:`invoke`.

    All methods are for one event loop, which may run in any thread.

    Parameters
    ----------
    max_functions
        Most processes, and tasks, at once.
    store_url, store_options
        The exchange store, as the functions open it.
    memory_limit_bytes
        Resident memory of one process above which its task fails; None for no limit.
    threads_per_function
        Polars threads of one process. None: its share of the CPUs, and at least 8 or all of them, since a query of one task
        has no others beside it; idle threads cost nothing, and tasks side by side were not slower for having more.
    allow_udfs
        Whether functions run Python functions of the user's; they then find modules where this process finds them.
    idle_s
        Seconds without work after which a process is stopped.
    log_dir
        Folder for the processes' output, one file each; None for a temporary folder that goes with the platform.
    """

    def __init__(
        self,
        *,
        max_functions: int,
        store_url: str,
        store_options: Mapping[str, str] | None = None,
        memory_limit_bytes: int | None = None,
        threads_per_function: int | None = None,
        allow_udfs: bool = False,
        idle_s: float = 30.0,
        log_dir: Path | None = None,
    ) -> None:
        if max_functions < 1:
            raise ValueError(f"max_functions must be at least 1, not {max_functions}")
        keys = (secrets.token_hex(32),)
        self._max_functions = max_functions
        self._idle_s = idle_s
        self._memory_limit_bytes = memory_limit_bytes
        self._log_dir = log_dir
        self._temporary_log_dir: Path | None = None
        self._environment = {
            **os.environ,
            "FRAZIL_STORE_URL": store_url,
            "FRAZIL_STORE_OPTIONS": json.dumps(dict(store_options or {})),
            "FRAZIL_TASK_KEYS": ",".join(keys),
            "POLARS_MAX_THREADS": str(threads_per_function or _threads(os.cpu_count() or 1, max_functions)),
            "RUST_BACKTRACE": "0",
            "FRAZIL_ALLOW_UDFS": str(allow_udfs).lower(),
        }
        if allow_udfs:  # a function of a module travels by the module's name
            self._environment["PYTHONPATH"] = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        for name in ("FRAZIL_MEMORY_LIMIT_BYTES", "FRAZIL_TOKEN"):  # not inherited: the limit is ours, the token no task's
            self._environment.pop(name, None)
        if memory_limit_bytes is not None:
            self._environment["FRAZIL_MEMORY_LIMIT_BYTES"] = str(memory_limit_bytes)
        self._transport = FunctionTransport(keys, source="/frazil/local", start_timeout_s=_START_TIMEOUT_S)
        self._slots = asyncio.Semaphore(max_functions)
        self._functions: set[FunctionProcess] = set()
        self._idle: dict[FunctionProcess, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()
        self._started_total = 0
        self._died_total = 0
        self._failed_starts = 0
        self._closed = False

    @property
    def shares_files(self) -> bool:
        """True: they are processes of this machine."""
        return True

    @property
    def max_in_flight(self) -> int:
        """Attempts that may be in flight at once: one a process."""
        return self._max_functions

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        """Run one attempt in a process of its own, and yield its events; see :class:`~.base.Platform`.

        Raises
        ------
        FunctionLostError
            When the process ended or its stream broke; says how it ended and its last lines.
        FunctionBusyError
            When the process is about to end.
        ProtocolError
            When the function refused the event, or when processes keep ending before their first answer.
        OutOfMemoryError
            When the process ended itself because it was far over its memory limit.
        CancelledQueryError
            When the platform is closed.
        """
        last: TaskEvent | None = None
        async with self._slots:
            function = await self._take()
            try:
                async with aclosing(self._transport.send(function.url, request)) as events:
                    async for event in events:
                        function.answered, self._failed_starts = True, 0
                        if isinstance(event, Succeeded | Failed):
                            last = event
                        else:
                            yield event
            except FunctionLostError as error:
                raise await self._explain(function, error) from error
            finally:
                self._give_back(function, last)
        # Only now, so that the process is free again however long the caller thinks about the answer.
        if last is not None:
            yield last

    def status(self) -> PlatformStatus:
        """Return how many processes there are."""
        stopping = sum(function.stopping for function in self._functions)
        return PlatformStatus(
            functions=len(self._functions),
            busy=len(self._functions) - len(self._idle) - stopping,
            started_total=self._started_total,
            died_total=self._died_total,
        )

    def pids(self) -> tuple[int, ...]:
        """Return the ids of the processes that exist now."""
        return tuple(sorted(function.pid for function in self._functions))

    async def aclose(self) -> None:
        """Stop all processes; running attempts end with an error. May be called again, and at the same time."""
        self._closed = True
        self._announce_change()
        await self._transport.aclose()
        for function in tuple(self._functions):
            self._retire(function)
        try:
            while self._functions:
                await next(iter(self._functions)).wait_ended()
        finally:
            for function in tuple(self._functions):  # only when this coroutine was cancelled
                function.kill()
            if self._temporary_log_dir is not None:
                shutil.rmtree(self._temporary_log_dir, ignore_errors=True)

    async def _take(self) -> FunctionProcess:
        """Return a process that has no task. The caller holds a slot, so that one is or will be to be had."""
        while not self._closed:
            if self._idle:
                function, timer = self._idle.popitem()
                timer.cancel()
                return function
            if len(self._functions) < self._max_functions:
                return self._start()
            await self._changed.wait()  # for one that is stopping
        raise CancelledQueryError(_CLOSED)

    def _give_back(self, function: FunctionProcess, last: TaskEvent | None) -> None:
        """Keep `function` for the next task, if it is in a known state."""
        unsure = last is None or (isinstance(last, Failed) and last.error.kind in _LEAVE_WORK_BEHIND)
        if unsure or self._closed:
            self._retire(function)
        elif function in self._functions:
            self._idle[function] = asyncio.get_running_loop().call_later(self._idle_s, self._retire, function)
            self._announce_change()

    def _retire(self, function: FunctionProcess) -> None:
        timer = self._idle.pop(function, None)
        if timer is not None:
            timer.cancel()
        function.stop(_GRACE_S)

    def _start(self) -> FunctionProcess:
        log_dir = self._log_dir or self._temporary_log_dir
        if log_dir is None:
            log_dir = self._temporary_log_dir = Path(tempfile.mkdtemp(prefix="frazil-functions-"))
        log_dir.mkdir(parents=True, exist_ok=True)
        log_path = log_dir / f"function-{os.getpid()}-{self._started_total}.log"
        try:
            function = start_function(self._environment, log_path, self._on_exit)
        except OSError as error:
            raise FunctionLostError(f"can't start a function process: {error}") from error
        self._functions.add(function)
        self._started_total += 1
        _LOGGER.debug("function started", extra={"pid": function.pid, "log": str(log_path)})
        return function

    def _on_exit(self, function: FunctionProcess) -> None:
        self._functions.discard(function)
        timer = self._idle.pop(function, None)
        if timer is not None:
            timer.cancel()
        if not function.stopping:
            self._died_total += 1
            _LOGGER.warning("function died", extra={"pid": function.pid, "how": function.obituary()})
        elif self._temporary_log_dir is not None:
            function.log_path.unlink(missing_ok=True)
        self._announce_change()

    def _announce_change(self) -> None:
        """Wake those that wait for a process; each looks for itself."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _explain(self, function: FunctionProcess, error: FunctionLostError) -> FrazilError:
        """Return `error` with how the process ended, when it did."""
        try:
            async with asyncio.timeout(_EXIT_NOTICE_S):
                await function.wait_ended()
        except TimeoutError:
            return CancelledQueryError(_CLOSED) if self._closed else error  # it lives: the transport saw the whole story
        if self._closed:
            return CancelledQueryError(_CLOSED)
        words = f"\n{text}" if (text := function.last_words()) else ""
        how = function.obituary() + self._memory_hint(function)
        if function.exit_code == EXIT_OUT_OF_MEMORY and self._memory_limit_bytes is not None:
            return OutOfMemoryError(f"function process {function.pid} went over its memory limit: {how}{words}")
        if function.answered or function.stopping or (function.exit_code or 0) < 0:
            return FunctionLostError(f"function process {function.pid} ended in the middle of a task: {how}{words}")
        self._failed_starts += 1
        message = f"function process {function.pid} ended before it answered: {how}{words}"
        return ProtocolError(message) if self._failed_starts >= _MAX_FAILED_STARTS else FunctionLostError(message)

    def _memory_hint(self, function: FunctionProcess) -> str:
        if function.exit_code not in (-signal.SIGKILL, EXIT_OUT_OF_MEMORY):
            return ""
        limit = "" if self._memory_limit_bytes is None else f" (its limit is {self._memory_limit_bytes} bytes)"
        return f", perhaps by the system for want of memory{limit}"


def _threads(cpus: int, functions: int) -> int:
    """Return the Polars threads of each of some functions."""
    return max(cpus // functions, min(cpus, _LEAST_THREADS))
