"""The attempts of one query in flight: what each is sent, and what comes back.

Each attempt is a task of asyncio that reads the stream of one request; what it reads goes to
:mod:`frazil_coordinator.schedule.driver`, which decides nothing either. Next on the main path:
:mod:`frazil_coordinator.platform`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator
from typing import Final, Protocol

import msgspec
import polars as pl

from frazil_coordinator.platform.base import Platform
from frazil_coordinator.schedule.arms import Fragments
from frazil_coordinator.schedule.barrier import Barrier
from frazil_coordinator.schedule.bind import output_for
from frazil_coordinator.schedule.messages import AttemptRef
from frazil_coordinator.settings import Settings
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.errors import FrazilError, FunctionLostError, InternalError
from frazil_functions.ids import QueryId
from frazil_functions.task import SinkOutput, TaskEvent, TaskLimits, TaskRequest

__all__ = ["Attempts", "Receiver", "Requests"]

_LOG = logging.getLogger(__name__)

_END_S: Final = 1.0
"""Time that a stream gets to end by itself after its last event, so that its connection can be used again."""


class Requests:
    """What the tasks of one query are told.

    Parameters
    ----------
    query, settings, exchange_prefix, sink
        See :class:`~frazil_coordinator.schedule.driver.QueryDriver`.
    barrier, fragments
        The stages as they are laid out, and their fragments.
    """

    def __init__(
        self,
        *,
        query: QueryId,
        settings: Settings,
        exchange_prefix: str,
        sink: SinkOutput | None,
        barrier: Barrier,
        fragments: Fragments,
    ) -> None:
        self.query = query
        self._settings = settings
        self._exchange_prefix = exchange_prefix
        self._sink = sink
        self._barrier = barrier
        self._fragments = fragments
        self._limits = TaskLimits(memory_bytes=settings.function_memory_bytes, heartbeat_s=settings.heartbeat_s)
        self._expected = [estimate.memory_bytes for estimate in barrier.graph.estimates]
        self._deadline_unix_s: float | None = None

    def begin(self) -> None:
        """Let the query's time run from now."""
        if self._settings.timeout_s is not None:
            self._deadline_unix_s = time.time() + self._settings.timeout_s

    def of(self, ref: AttemptRef) -> TaskRequest:
        """Return the request of an attempt."""
        stage = self._barrier.graph.stages[ref.stage]
        inputs = self._barrier.layouts[ref.stage].shares[ref.task].inputs
        fragment, stored = self._fragments.of_task(stage, inputs)
        return TaskRequest(
            query=self.query,
            stage=ref.stage,
            task=ref.task,
            attempt=ref.attempt,
            fragment=fragment,
            fragment_key=None if stored is None else stored.key,
            fragment_secret=b"" if stored is None else stored.secret,
            inputs=inputs,
            output=output_for(
                stage, ref.task, query=self.query, settings=self._settings, exchange_prefix=self._exchange_prefix
            ),
            sink=self._sink if ref.stage == self._barrier.graph.root.id else None,
            limits=self._limits_of(ref),
            deadline_unix_s=self._deadline_unix_s,
            polars_version=pl.__version__,
            protocol_version=PROTOCOL_VERSION,
        )

    def _limits_of(self, ref: AttemptRef) -> TaskLimits:
        if ref.stage >= len(self._expected):
            return self._limits
        return msgspec.structs.replace(self._limits, expected_bytes=self._expected[ref.stage])


class Receiver(Protocol):
    """Takes what comes of attempts; all calls come in the event loop."""

    def receive(self, ref: AttemptRef, event: TaskEvent) -> bool:
        """Take an event of an attempt; return whether it is its last."""
        ...

    def lost(self, ref: AttemptRef, error: FrazilError) -> None:
        """Take the end of an attempt that gave no last event."""
        ...

    def released(self) -> None:
        """Take back the slot of an attempt that has ended, however it did."""
        ...


class Attempts:
    """The attempts in flight.

    Parameters
    ----------
    platform
        Where they are sent.
    requests
        What they are sent.
    receiver
        Who hears of them.
    """

    def __init__(self, platform: Platform, requests: Requests, receiver: Receiver) -> None:
        self._platform = platform
        self._requests = requests
        self._receiver = receiver
        self._running: dict[AttemptRef, asyncio.Task[None]] = {}

    def launch(self, ref: AttemptRef, group: asyncio.TaskGroup, request: TaskRequest | None = None) -> None:
        """Send an attempt: `request`, or what :class:`Requests` says."""
        name = f"{self._requests.query}/{ref.stage}/{ref.task}/{ref.attempt}"
        task = group.create_task(self._attempt(ref, request), name=name)
        self._running[ref] = task
        # Not in the coroutine's own finally: a task that is cancelled before it runs never enters it.
        task.add_done_callback(lambda _: self._ended(ref))

    def cancel(self, ref: AttemptRef) -> None:
        """Stop an attempt; nothing is heard of it afterwards. No effect when it has ended."""
        task = self._running.get(ref)
        if task is not None:
            task.cancel()

    def _ended(self, ref: AttemptRef) -> None:
        del self._running[ref]
        self._receiver.released()

    async def _attempt(self, ref: AttemptRef, request: TaskRequest | None) -> None:
        """Send an attempt, and pass on what comes back: exactly one last event or loss, unless it is cancelled."""
        ended = False
        try:
            async with contextlib.aclosing(self._platform.invoke(request or self._requests.of(ref))) as stream:
                async for event in stream:
                    ended = self._receiver.receive(ref, event)
                    if ended:
                        await _let_end(stream)
                        return
                error: FrazilError = FunctionLostError("the stream ended without a last event")
        except FrazilError as raised:
            error = raised
        except Exception as raised:
            _LOG.exception("attempt failed in the platform", extra={"query": self._requests.query, **ref._asdict()})
            error = InternalError(f"the platform failed: {raised!r}")
        if not ended:
            self._receiver.lost(ref, error)


async def _let_end(stream: AsyncGenerator[TaskEvent, None]) -> None:
    """Read `stream` to its end; what still comes, errors too, doesn't matter after the last event."""
    with contextlib.suppress(FrazilError, TimeoutError):
        async with asyncio.timeout(_END_S):
            async for _ in stream:
                pass
