"""A coordinator and its platform, put together: for :func:`frazil.local` and for ``frazil serve``.

This is the one module of the client that needs the extra ``coordinator``, and it imports it when a query needs it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from frazil._machine import of_this_machine, safe_limit_bytes
from frazil_coordinator.settings import Settings
from frazil_functions.errors import RequestError, StorageError

if TYPE_CHECKING:
    from frazil_coordinator.catalog.outside import Outside
    from frazil_coordinator.coordinator import Coordinator
    from frazil_coordinator.events.triggers import Triggers
    from frazil_coordinator.journal.journal import Journal
    from frazil_coordinator.leadership import Leadership
    from frazil_coordinator.lineage import Lineage
    from frazil_coordinator.platform.base import Platform
    from frazil_coordinator.tenancy import Tenants
    from frazil_coordinator.tracing import Tracing
    from frazil_functions.storage import Store

__all__ = [
    "LocalOptions",
    "assembled",
    "coordinator_extra",
    "functions_extra",
    "leading",
    "local_options",
    "open_coordinator",
    "parse_bytes",
    "running_triggers",
]

_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
_LOGGER = logging.getLogger(__name__)
_BYTES: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]I?)?B?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalOptions:
    """How functions of this machine run."""

    max_functions: int
    store: str | None = None
    """Folder or URL of the exchange store; None: a temporary folder that goes with the engine."""

    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    memory_limit_bytes: int | None = None
    """Resident memory of one function above which its task fails."""

    threads_per_function: int | None = None
    idle_s: float = 30.0
    """Seconds without work after which a function is stopped."""

    outside: Outside | None = None
    """Storages and catalogs that tables may name; None when there is no file of them."""

    journal_keys: tuple[str, ...] | None = field(default=None, repr=False)
    """Secrets that seal the journal; None when queries end with their coordinator."""


def local_options(
    *,
    max_functions: int | None = None,
    store: str | Path | None = None,
    storage_options: Mapping[str, str] | None = None,
    memory_limit: int | str | None = None,
    threads_per_function: int | None = None,
    idle_s: float = 30.0,
    catalogs: str | Path | None = None,
) -> LocalOptions:
    """Check what a user asked for, and fill in the defaults.

    Raises
    ------
    RequestError
        When a value is out of its range.
    """
    functions = max_functions if max_functions is not None else _cpus()
    threads = threads_per_function if threads_per_function is not None else 1
    if functions < 1 or threads < 1:
        raise RequestError("max_functions and threads_per_function must be at least 1")
    if idle_s < 0:
        raise RequestError("idle_s must not be negative")
    place = None if store is None else _checked_store(str(store), storage_options or {})
    return LocalOptions(
        max_functions=functions,
        store=place,
        storage_options=dict(storage_options or {}),
        memory_limit_bytes=None if memory_limit is None else parse_bytes(memory_limit),
        threads_per_function=threads_per_function,
        idle_s=idle_s,
        outside=None if catalogs is None else _outside(Path(catalogs).expanduser()),
    )


def _outside(file: Path) -> Outside:
    from frazil_coordinator.catalog.config import read_outside

    return read_outside(file)


def _checked_store(store: str, options: Mapping[str, str]) -> str:
    """Return the store as an absolute path or as its URL; nothing is made, and no request is sent."""
    if "://" not in store:
        folder = Path(store).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise RequestError(f"store: {folder} is not a folder")
        return str(folder)
    if store.startswith("file://"):
        return store  # opening it would make the folder
    with coordinator_extra():
        from frazil_functions.storage import open_store
    try:
        open_store(store, options)
    except StorageError as error:
        raise RequestError(f"store: {error.message}") from None
    return store


def _cpus() -> int:
    """Return the CPUs that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_bytes(amount: int | str) -> int:
    """Return a number of bytes, e.g. of ``"512MiB"``, ``"2 GB"`` or ``1_000_000``.

    Raises
    ------
    RequestError
        When it is not an amount of memory, or not above 0.
    """
    found = _BYTES.fullmatch(str(amount).strip())
    total = 0 if found is None else int(float(found[1]) * _UNITS[(found[2] or "").upper()])
    if total <= 0:
        raise RequestError(f"{amount!r} is not an amount of memory: 512MiB, 2GiB or a number of bytes above 0 is")
    return total


@contextmanager
def functions_extra() -> Iterator[None]:
    """Say what to install when an import inside fails that only running a task needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(f'running a task again needs more packages ({error}): pip install "frazil[functions]"') from error


@contextmanager
def coordinator_extra() -> Iterator[None]:
    """Say what to install when an import inside fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(
            f'running queries on this machine needs more packages ({error}): pip install "frazil[coordinator]"'
        ) from error


def _with_memory(settings: Settings, options: LocalOptions) -> Settings:
    """Return the settings with the memory of a function, so that queries are planned for it."""
    limits = [limit for limit in (settings.function_memory_bytes, options.memory_limit_bytes) if limit is not None]
    return replace(settings, function_memory_bytes=min(limits, default=None))


@asynccontextmanager
async def leading(coordinator: Coordinator, settings: Settings) -> AsyncIterator[None]:
    """Lead whenever that is possible, while the context lasts; a coordinator without a leadership leads anyway."""
    leadership = coordinator.leadership
    if leadership is None:
        yield
        return
    with coordinator_extra():
        from frazil_coordinator.leading import lead
    leading = asyncio.ensure_future(lead(coordinator, leadership, settings.lease_s))
    try:
        yield
    finally:
        leading.cancel()
        await asyncio.wait({leading})
        await coordinator.aclose()  # before another one may lead: nobody else is to wait for what this one still does
        await leadership.release()


@asynccontextmanager
async def running_triggers(coordinator: Coordinator) -> AsyncIterator[Triggers]:
    """Run the triggers of a coordinator while the context lasts."""
    with coordinator_extra():
        from frazil_coordinator.events.triggers import Triggers
    triggers = Triggers(coordinator)
    running = asyncio.ensure_future(triggers.run())
    try:
        yield triggers
    finally:
        running.cancel()
        await asyncio.wait({running})


def attach_outside(stack: AsyncExitStack, coordinator: Coordinator, options: LocalOptions) -> None:
    """Have a coordinator know storages and catalogs until `stack` ends.

    Raises
    ------
    RequestError
        When a tenant may use one that is not there.
    """
    from frazil_coordinator.catalog.outside import Outside

    coordinator.catalog.attach(options.outside or Outside())
    stack.push_async_callback(asyncio.to_thread, coordinator.catalog.sources.close)


def open_tracing(stack: AsyncExitStack) -> Tracing | None:
    """Return what sends traces, if the environment asks for it; what is queued is sent when `stack` ends.

    Raises
    ------
    RequestError
        When the packages that it needs are missing.
    """
    from frazil_coordinator.tracing import tracing_from

    tracing = tracing_from()
    if tracing is not None:
        stack.push_async_callback(asyncio.to_thread, tracing.close)
    return tracing


async def open_lineage(stack: AsyncExitStack) -> Lineage | None:
    """Return what sends events of OpenLineage, if the environment asks for it; what waits is sent when `stack` ends.

    Raises
    ------
    RequestError
        When what it says is no address.
    """
    from frazil_coordinator.lineage import lineage_from

    lineage = lineage_from()
    return None if lineage is None else await stack.enter_async_context(lineage.running())


async def open_leadership(journal: Journal | None, settings: Settings) -> Leadership | None:
    """Return the leadership that a journal needs, its store probed.

    Raises
    ------
    StorageError
        When the store fails.
    """
    if journal is None:
        return None
    with coordinator_extra():
        from frazil_coordinator.leadership import Leadership
    return await Leadership.probed(journal.store, lease_s=settings.lease_s)


def open_journal(store: Store, place: str, options: LocalOptions) -> Journal | None:
    """Return the journal in a store; None when there is none, which is logged where one was wanted.

    Raises
    ------
    JournalError
        When a secret is too short.
    StorageError
        When the key of a folder can't be made.
    """
    if options.journal_keys is None or options.store is None:
        return None
    with coordinator_extra():
        from frazil_coordinator.journal.journal import Journal
        from frazil_coordinator.journal.keys import journal_keys
        from frazil_coordinator.journal.sealing import Sealer
    keys = journal_keys(place, options.journal_keys)
    if not keys:
        _LOGGER.warning(
            "no journal: queries end with this coordinator; set FRAZIL_JOURNAL_KEYS to a secret to keep them",
            extra={"store": place},
        )
        return None
    return Journal(store=store, sealer=Sealer.of(keys))


async def assembled(
    stack: AsyncExitStack,
    options: LocalOptions,
    place: str,
    *,
    settings: Settings,
    platform: Platform,
    tenants: Tenants | None,
) -> Coordinator:
    """Return a coordinator whose functions are a platform's; it ends with `stack`, before the platform.

    Parameters
    ----------
    stack
        Has the platform's end on it already.
    options, place
        Where queries leave what they exchange: the store is `place`, with the options of `options`.
    settings, platform, tenants
        See :class:`~frazil_coordinator.coordinator.Coordinator`.

    Raises
    ------
    StorageError
        When the store can't be opened.
    """
    with coordinator_extra():
        from frazil_coordinator.coordinator import Coordinator
        from frazil_functions.storage import open_store
    store = open_store(place, options.storage_options)
    journal = open_journal(store, place, options)
    coordinator = Coordinator(
        settings=settings,
        platform=platform,
        store=store,
        journal=journal,
        leadership=await open_leadership(journal, settings),
        tenants=tenants,
        tracing=open_tracing(stack),
        lineage=await open_lineage(stack),
    )
    attach_outside(stack, coordinator, options)
    stack.push_async_callback(coordinator.aclose)
    return coordinator


@asynccontextmanager
async def open_coordinator(
    options: LocalOptions, settings: Settings, tenants: Tenants | None = None
) -> AsyncIterator[Coordinator]:
    """Give a coordinator with functions of this machine; at the end, stop both and delete a temporary store.

    Raises
    ------
    ImportError
        When the extra ``coordinator`` is not installed.
    StorageError
        When the store can't be opened.
    """
    with coordinator_extra():
        from frazil_coordinator.platform.local import LocalPlatform
        from frazil_coordinator.scratch import scratch_folder
    async with AsyncExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        place = str(scratch / "store") if options.store is None else options.store
        platform = LocalPlatform(
            max_functions=options.max_functions,
            store_url=place,
            store_options=options.storage_options,
            memory_limit_bytes=options.memory_limit_bytes or safe_limit_bytes(),
            threads_per_function=options.threads_per_function,
            allow_udfs=settings.allow_udfs,
            idle_s=options.idle_s,
            log_dir=scratch / "functions",
        )
        stack.push_async_callback(platform.aclose)
        settings = _with_memory(of_this_machine(settings), options)
        yield await assembled(stack, options, place, settings=settings, platform=platform, tenants=tenants)
