"""``frazil serve``: a coordinator over HTTP, with functions of this machine or of a Knative Service."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from frazil._parts import (
    LocalOptions,
    coordinator_extra,
    leading,
    local_options,
    open_coordinator,
)
from frazil.cli import _common, _knative
from frazil.cli._knative import Cluster, Place, open_knative
from frazil.cli._logs import FieldFormatter
from frazil_coordinator.tenancy import Tenants, Token, read_tenants
from frazil_functions.errors import JournalError, RequestError, StorageError

if TYPE_CHECKING:
    from frazil_coordinator.coordinator import Coordinator

__all__ = ["serve", "store_options_of"]

_LOOPBACK: Final = "127.0.0.1"
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  # a pod is reached on its own address


_EventsSink = Annotated[
    str | None,
    typer.Option(
        "--events-sink",
        envvar=["FRAZIL_EVENTS_SINK", "K_SINK"],
        help="URL of a Broker that is told, by CloudEvents, which queries ended and what triggers published.",
    ),
]


class Platform(StrEnum):
    """Where functions run."""

    LOCAL = "local"
    KNATIVE = "knative"


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


def serve(
    host: Annotated[
        str | None,
        typer.Option("--host", envvar="FRAZIL_HOST", help="Address to listen on; by default 127.0.0.1, in a pod 0.0.0.0."),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", envvar="PORT", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8080,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="FRAZIL_TOKEN", help="What clients must send; without it, loopback only."),
    ] = None,
    tenants: Annotated[
        Path | None,
        typer.Option("--tenants", envvar="FRAZIL_TENANTS", help="TOML file of tenants and tokens, in place of --token."),
    ] = None,
    catalogs: Annotated[
        Path | None,
        typer.Option("--catalogs", envvar="FRAZIL_CATALOGS", help="TOML file of storages and Iceberg catalogs."),
    ] = None,
    max_functions: _common.MaxFunctions = None,
    store: Annotated[
        str | None,
        typer.Option("--store", envvar="FRAZIL_STORE_URL", help="Folder or URL of the exchange store."),
    ] = None,
    store_option: _common.StoreOptions = None,
    memory_limit: _common.MemoryLimit = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Polars threads of one function; by default the CPUs shared out.")
    ] = None,
    idle_s: _common.Idle = 30.0,
    platform: Annotated[
        Platform, typer.Option("--platform", envvar="FRAZIL_PLATFORM", help="Where functions run.")
    ] = Platform.LOCAL,
    function_url: _knative.FunctionUrl = None,
    cluster: _knative.ClusterOption = Cluster.AUTO,
    namespace: _knative.Namespace = None,
    release: _knative.Release = "",
    grace_s: Annotated[
        float, typer.Option("--grace-s", min=0.0, help="Seconds that running queries get on SIGTERM.")
    ] = 25.0,
    journal: Annotated[
        bool,
        typer.Option(
            "--journal/--no-journal", envvar="FRAZIL_JOURNAL", help="Whether queries outlive the coordinator; needs --store."
        ),
    ] = True,
    events_sink: _EventsSink = None,
    log_level: Annotated[LogLevel, typer.Option("--log-level", envvar="FRAZIL_LOG_LEVEL")] = LogLevel.WARNING,
) -> None:
    """Run a coordinator until it is told to end (SIGTERM, Ctrl-C).

    Settings are read from FRAZIL_<NAME>; the store's credentials also from FRAZIL_STORE_OPTIONS, a JSON object; with
    --platform knative the secrets that sign tasks from FRAZIL_TASK_KEYS, separated by commas; those that seal the journal
    from FRAZIL_JOURNAL_KEYS.
    """
    host = host or (_LOOPBACK if platform is Platform.LOCAL else _EVERYWHERE)
    shared = _tenants(tenants, token)
    if not shared.guarded and not _is_loopback(host):
        raise typer.BadParameter(f"without a token only loopback is served, not {host}: set FRAZIL_TOKEN")
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter())
    logging.basicConfig(level=log_level.upper(), handlers=[handler])
    settings = _common.settings_from_env()
    options = _options(store, store_options_of(store_option), max_functions, memory_limit, threads, idle_s, catalogs)
    options = replace(options, journal_keys=_secrets("FRAZIL_JOURNAL_KEYS") if journal else None)
    if platform is Platform.KNATIVE:
        place = Place(function_url=function_url, cluster=cluster, release=release, namespace=namespace)
        parts = open_knative(options, settings, shared, _secrets("FRAZIL_TASK_KEYS"), place)
    else:
        parts = open_coordinator(options, settings, shared)
    asyncio.run(_serve(parts, host, port, shared, grace_s, events_sink))


async def _serve(
    parts: AbstractAsyncContextManager[Coordinator],
    host: str,
    port: int,
    shared: Tenants,
    grace_s: float,
    events_sink: str | None,
) -> None:
    with coordinator_extra():
        from frazil_coordinator.api.server import serve as serve_http
        from frazil_coordinator.events.announcing import Announcer, extensions_of
        from frazil_coordinator.identity import Identities
    async with AsyncExitStack() as stack:
        try:
            coordinator = await stack.enter_async_context(parts)
            await coordinator.probe()
            await stack.enter_async_context(leading(coordinator, coordinator.settings))
            announcer = None
            if events_sink:
                announcer = Announcer(coordinator, events_sink, extensions_of(os.environ.get("K_CE_OVERRIDES", "")))
        except (StorageError, JournalError, RequestError, TimeoutError) as error:
            raise typer.BadParameter(str(error) or "the store does not answer: check --store and its options") from error
        await serve_http(
            coordinator,
            host,
            port,
            shared.tokens,
            identities=Identities.of(shared),
            announcer=announcer,
            grace_s=grace_s,
            on_started=lambda url: _common.note(f"frazil coordinator at {url}"),
        )


def _tenants(file: Path | None, token: str | None) -> Tenants:
    """Return who shares the coordinator: those of the file, or one tenant with one token, or with none."""
    if file is None:
        return Tenants(tokens=(Token.of(token),) if token else ())
    if token:
        raise typer.BadParameter("the tokens are in the file of --tenants: leave out --token and FRAZIL_TOKEN")
    try:
        return read_tenants(file)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from error


def _options(
    store: str | None,
    store_options: Mapping[str, str],
    max_functions: int | None,
    memory_limit: str | None,
    threads: int | None,
    idle_s: float,
    catalogs: Path | None,
) -> LocalOptions:
    try:
        return local_options(
            max_functions=max_functions,
            store=store,
            storage_options=store_options,
            memory_limit=memory_limit,
            threads_per_function=threads,
            idle_s=idle_s,
            catalogs=catalogs,
        )
    except RequestError as error:
        raise typer.BadParameter(str(error)) from error


def store_options_of(texts: list[str] | None) -> dict[str, str]:
    """Return the options of the variable, with those of the command line on top."""
    try:
        given = json.loads(os.environ.get("FRAZIL_STORE_OPTIONS") or "{}")
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"FRAZIL_STORE_OPTIONS is not JSON: {error.msg} at character {error.pos}") from error
    if not isinstance(given, dict):
        raise typer.BadParameter("FRAZIL_STORE_OPTIONS must be a JSON object")
    # As functions read it: true is "true".
    found = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    return found | _common.pairs(texts, "--store-option")


def _secrets(variable: str) -> tuple[str, ...]:
    """Return the secrets in a variable, separated by commas."""
    # Stripped, as functions do: a secret made from a file often ends in a newline.
    return tuple(key.strip() for key in os.environ.get(variable, "").split(",") if key.strip())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
