"""A coordinator served over HTTP from a thread of the test's process, with real function processes and a folder as store."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from frazil_coordinator.api.server import serve
from frazil_coordinator.catalog.outside import Outside
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.platform.local import LocalPlatform
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenants
from frazil_functions.storage import open_store

__all__ = ["TOKEN", "serving"]

TOKEN = "a-token"
"""What clients of the coordinator show."""


@contextmanager
def serving(
    store: Path, settings: Settings, tenants: Tenants | None = None, outside: Outside | None = None
) -> Iterator[str]:
    """Serve a coordinator, and give its URL; leaving ends it.

    Parameters
    ----------
    store
        Folder of the exchange.
    settings
        The coordinator's.
    tenants
        Who shares it. None: one tenant, whose token is `TOKEN`.
    outside
        Storages and catalogs that tables may name.
    """
    url: Future[str] = Future()
    stop: Future[Callable[[], None]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(store, settings, tenants, outside, url, stop)))
    thread.start()
    try:
        yield url.result(60)
    finally:
        stop.result(60)()
        thread.join()


async def _serve(
    store: Path,
    settings: Settings,
    tenants: Tenants | None,
    outside: Outside | None,
    url: Future[str],
    stop: Future[Callable[[], None]],
) -> None:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def cancel() -> None:
        loop.call_soon_threadsafe(task.cancel)

    stop.set_result(cancel)
    platform = LocalPlatform(max_functions=2, store_url=str(store), allow_udfs=settings.allow_udfs)
    coordinator = Coordinator(
        settings=settings,
        platform=platform,
        store=open_store(str(store)),
        sweep_after_s=(0.2, 2.0),
        tenants=tenants,
    )
    coordinator.catalog.attach(outside or Outside())
    tokens = [TOKEN] if tenants is None else tenants.tokens
    try:
        await serve(coordinator, port=0, tokens=tokens, on_started=url.set_result)
    except asyncio.CancelledError:
        pass  # the test is over
    finally:
        coordinator.catalog.sources.close()
        await platform.aclose()
