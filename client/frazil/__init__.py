"""Polars queries, distributed: what users import.

>>> import frazil
>>> with frazil.local(max_functions=2) as engine:  # doctest: +SKIP
...     lf.collect(engine=engine)

Main path: :mod:`frazil._engine` → :mod:`frazil._serialize` → :mod:`frazil._session`, which is :mod:`frazil._local` or
:mod:`frazil._remote` → ``frazil_coordinator``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as _version
from pathlib import Path
from typing import TYPE_CHECKING

from frazil._engine import Engine
from frazil._profile import ProfileFrames, QueryProfile
from frazil._query import Query
from frazil._session import FallbackWarning, UnreachableError
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryEvent, QueryState, QueryStatus, StageProgress
from frazil_functions.errors import (
    CancelledQueryError,
    CapError,
    DeadlineError,
    FallbackError,
    FrazilError,
    PlanError,
    PlanVersionError,
    PlatformError,
    PythonPlanError,
    QueryError,
    QuotaError,
    RequestError,
    SourceError,
    StorageError,
    TaskError,
    UserError,
)

if TYPE_CHECKING:
    from frazil._replay import Replay

__all__ = [
    "CancelledQueryError",
    "CapError",
    "DeadlineError",
    "Engine",
    "Explanation",
    "FallbackError",
    "FallbackWarning",
    "FrazilError",
    "PlanError",
    "PlanVersionError",
    "PlatformError",
    "ProfileFrames",
    "PythonPlanError",
    "Query",
    "QueryError",
    "QueryEvent",
    "QueryProfile",
    "QueryState",
    "QueryStatus",
    "QuotaError",
    "RequestError",
    "Settings",
    "SourceError",
    "StageProgress",
    "StorageError",
    "TaskError",
    "UnreachableError",
    "UserError",
    "__version__",
    "connect",
    "load_replay",
    "local",
]

__version__ = _version("frazil")


def local(
    max_functions: int | None = None,
    *,
    store: str | Path | None = None,
    storage_options: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    memory_limit: int | str | None = None,
    threads_per_function: int | None = None,
    idle_s: float = 30.0,
    catalogs: str | Path | None = None,
) -> Engine:
    """Return an engine that runs queries on function processes of this machine.

    Nothing starts until a query needs it. Close the engine, or use it as a context manager, to stop what it started; the
    end of the interpreter does it too.

    Parameters
    ----------
    max_functions
        Most function processes at once. None: one a CPU.
    store
        Where tasks leave their output for one another: a folder, or a URL (``s3://bucket/prefix``). None: a temporary
        folder, deleted when the engine closes.
    storage_options
        Credentials and such of `store`, named as in polars' ``storage_options``.
    settings
        Settings of the engine's queries.
    memory_limit
        Resident memory of one function, in bytes or as ``"512MiB"``; a task that goes over it fails.
    threads_per_function
        Polars threads of one function. None: its share of the CPUs, and at least 8 or all of them: a query that starts small
        is one task.
    idle_s
        Seconds without work after which a function is stopped.
    catalogs
        TOML file of storages and Iceberg catalogs that tables and statements may name.

    Raises
    ------
    RequestError
        When a value is out of its range, `store` is of an unknown kind or has an unknown option, or the file of `catalogs`
        says what it may not.
    """
    from frazil._local import LocalSession
    from frazil._parts import local_options

    options = local_options(
        max_functions=max_functions,
        store=store,
        storage_options=storage_options,
        memory_limit=memory_limit,
        threads_per_function=threads_per_function,
        idle_s=idle_s,
        catalogs=catalogs,
    )
    return Engine(LocalSession(options, _checked(settings) or Settings()))


def connect(url: str, *, token: str | None = None, settings: Settings | None = None, timeout_s: float = 30.0) -> Engine:
    """Return an engine that runs queries at a coordinator; no request is sent until it is used.

    Parameters
    ----------
    url
        Address of the coordinator, e.g. ``http://127.0.0.1:8080``.
    token
        What the coordinator was told to ask for.
    settings
        Settings of the engine's queries; those that are at their default follow the coordinator's own.
    timeout_s
        Seconds for which the coordinator may not answer before :class:`UnreachableError`.

    Raises
    ------
    RequestError
        When `url` is not an address, or `settings` are none.
    """
    from frazil._remote import RemoteSession

    return Engine(RemoteSession(url, token=token, settings=_checked(settings), timeout_s=timeout_s))


def load_replay(
    path: str | Path,
    *,
    store: str | None = None,
    storage_options: Mapping[str, str] | None = None,
    allow_udfs: bool = False,
) -> Replay:
    """Return a task that was kept in a file, to be run again in this process (docs/replay.md).

    Parameters
    ----------
    path
        What `frazil replay --save`, or ``save`` of what :meth:`Query.replay` returns, wrote.
    store, storage_options
        The exchange store, for blocks that are not in the file. None: there is none.
    allow_udfs
        Whether Python functions of the query may be called here; they run with the rights of this process.

    Raises
    ------
    RequestError
        When it is another file, or a damaged one.
    ImportError
        When the extra ``functions`` is not installed.
    """
    from frazil._parts import functions_extra

    with functions_extra():
        from frazil._replay import Replay
    return Replay.load(path, store=store, storage_options=storage_options, allow_udfs=allow_udfs)


def _checked(settings: object) -> Settings | None:
    """Refuse what is no settings now, and not when the first query needs one."""
    if settings is not None and not isinstance(settings, Settings):
        raise RequestError(f"settings must be frazil.Settings(...), not {type(settings).__name__}")
    return settings
