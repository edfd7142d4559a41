"""A platform in the process of a test that runs whole tasks, scans and all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from frazil_coordinator.platform.base import PlatformStatus
from frazil_functions.errors import FrazilError, to_wire
from frazil_functions.run import run_task
from frazil_functions.storage import Store
from frazil_functions.task import Failed, Started, Succeeded, TaskEvent, TaskRequest

__all__ = ["ScanPlatform"]


@dataclass
class ScanPlatform:
    """Runs tasks in threads, when the test lets them, and remembers what it was sent."""

    store: Store
    max_in_flight: int = 4
    shares_files: bool = True
    sent: list[TaskRequest] = field(default_factory=list)
    before: Callable[[TaskRequest], asyncio.Event | None] = lambda _: None
    """What a task waits for; None: nothing. What it raises is what the task failed with."""

    async def invoke(self, request: TaskRequest) -> AsyncGenerator[TaskEvent, None]:
        self.sent.append(request)
        yield Started(cold_start=False)
        try:
            if (gate := self.before(request)) is not None:
                await gate.wait()
            descriptor = await asyncio.to_thread(run_task, request, store=self.store)
        except FrazilError as error:
            yield Failed(error=to_wire(error))
            return
        yield Succeeded(descriptor=descriptor)

    def status(self) -> PlatformStatus:
        return PlatformStatus(functions=0, busy=0, started_total=0, died_total=0)

    async def aclose(self) -> None:
        return None
