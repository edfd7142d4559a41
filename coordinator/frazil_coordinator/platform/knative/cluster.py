"""A fleet that is alive: watched, kept and pre-scaled for as long as a coordinator runs. Puts the package together.

For ``frazil serve``; what a test needs of it, it puts together itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from frazil_coordinator.platform.knative.api import SERVICES, KubeApi
from frazil_coordinator.platform.knative.fleet import Fleet
from frazil_coordinator.platform.knative.keeper import Keeper
from frazil_coordinator.platform.knative.models import FUNCTIONS, Object
from frazil_coordinator.platform.knative.scaler import Scaler
from frazil_coordinator.platform.knative.watching import Follower

__all__ = ["LiveFleet", "live_fleet"]

_LOG = logging.getLogger(__name__)

_PAUSE_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFleet:
    """What runs."""

    fleet: Fleet
    keeper: Keeper
    scaler: Scaler | None
    """None: pods are started by the autoscaler alone."""


@asynccontextmanager
async def live_fleet(
    api: KubeApi,
    *,
    holder: str,
    release: str,
    polars: str,
    prescale: bool = True,
    lease_s: float = 60.0,
    watch_s: float = 240.0,
) -> AsyncIterator[LiveFleet]:
    """Follow the function services of a namespace, until left.

    Parameters
    ----------
    api
        The cluster; it stays the caller's.
    holder
        Name of this coordinator, that no other one has.
    release, polars
        See :class:`~.fleet.Fleet`.
    prescale, lease_s
        Whether, and for how long at a time, pods are asked for before there are requests.
    watch_s
        Seconds after which a watch is begun anew.

    Raises
    ------
    KubeError
        When the services can't be listed.
    """
    scaler = Scaler(api, holder, lease_s=lease_s) if prescale else None
    nothing: Callable[[str, int, int | None], None] = lambda *_: None  # noqa: E731  # its type is the point
    fleet = Fleet(release=release, polars=polars, want=nothing if scaler is None else scaler.want)
    keeper = Keeper(api, holder, fleet.used)
    fleet.on_pins = keeper.changed
    loop = asyncio.get_running_loop()

    def changed(objects: Mapping[str, Object]) -> None:
        loop.call_soon_threadsafe(fleet.update, objects)

    follower = Follower(api, SERVICES, selector=FUNCTIONS, on_change=changed, watch_s=watch_s)
    await asyncio.to_thread(follower.start)
    await asyncio.sleep(0)  # what the first list found is on its way
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(_lasting(keeper.run), name="releases")]
            if scaler is not None:
                running.append(group.create_task(_lasting(scaler.run), name="pre-scaling"))
            try:
                yield LiveFleet(fleet=fleet, keeper=keeper, scaler=scaler)
            finally:
                for task in running:
                    task.cancel()
    finally:
        await asyncio.to_thread(follower.stop)


async def _lasting(work: Callable[[], Awaitable[None]]) -> None:
    """Do what queries can do without: whatever is wrong with it, it begins again, and they go on."""
    while True:
        try:
            await work()
        except Exception:
            _LOG.exception("unforeseen error beside the queries")
            await asyncio.sleep(_PAUSE_S)
