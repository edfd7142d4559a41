"""A coordinator whose functions are the pods of Knative Services, put together for ``frazil serve --platform knative``.

With the Kubernetes API the services are found by their label, and pods asked for beforehand; without it there is one URL.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import polars as pl
import typer

from frazil._parts import LocalOptions, assembled, coordinator_extra
from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Tenants
from frazil_functions.errors import FrazilError, RequestError

if TYPE_CHECKING:
    from frazil_coordinator.coordinator import Coordinator
    from frazil_coordinator.platform.knative.api import KubeApi
    from frazil_coordinator.platform.knative.cluster import LiveFleet

__all__ = ["Cluster", "ClusterOption", "FunctionUrl", "Namespace", "Place", "Release", "open_knative"]

_LOG = logging.getLogger(__name__)

_IN_FLIGHT: Final = 100
"""Attempts at once on a service of which nothing is known."""


class Cluster(StrEnum):
    """Whether the Kubernetes API is asked."""

    AUTO = "auto"
    """If this is a pod with a token, or KUBECONFIG is set."""

    ON = "on"
    OFF = "off"


ClusterOption: TypeAlias = Annotated[
    Cluster,
    typer.Option(
        "--cluster", envvar="FRAZIL_CLUSTER", help="Whether the function services are found by the Kubernetes API."
    ),
]
Namespace: TypeAlias = Annotated[
    str | None, typer.Option("--namespace", envvar="FRAZIL_NAMESPACE", help="Where the function services are.")
]
Release: TypeAlias = Annotated[
    str, typer.Option("--release", envvar="FRAZIL_RELEASE", help="Release of functions that queries begin with.")
]
FunctionUrl: TypeAlias = Annotated[
    str | None, typer.Option("--function-url", envvar="FRAZIL_FUNCTION_URL", help="URL of the Knative Service.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the functions are."""

    function_url: str | None
    """Of one service, where the cluster is not asked."""

    cluster: Cluster
    release: str
    namespace: str | None


@asynccontextmanager
async def open_knative(
    options: LocalOptions,
    settings: Settings,
    tenants: Tenants,
    keys: Sequence[str],
    place: Place,
) -> AsyncIterator[Coordinator]:
    """Give a coordinator on Knative; at the end, stop it.

    Raises
    ------
    typer.BadParameter
        When something is missing, or the cluster can't be asked.
    """
    function_url = place.function_url
    api = _api(place.cluster, place.namespace)
    if not keys or options.store is None or (api is None and not function_url):
        raise typer.BadParameter("--platform knative needs --function-url (or --cluster on), --store and FRAZIL_TASK_KEYS")
    with coordinator_extra():
        from frazil_coordinator.platform.knative import KnativePlatform
    async with AsyncExitStack() as stack:
        live = None if api is None else await _live(stack, api, settings, place)
        if live is None:
            assert function_url is not None  # noqa: S101  # refused above, and by _live
            platform = KnativePlatform(function_url, keys, settings.max_in_flight or _IN_FLIGHT)
        else:
            platform = KnativePlatform(live.fleet, keys, settings.max_in_flight)
        stack.push_async_callback(platform.aclose)
        settings = replace(settings, max_in_flight=platform.max_in_flight)
        coordinator = await assembled(stack, options, options.store, settings=settings, platform=platform, tenants=tenants)
        if live is not None:
            slots = coordinator.cluster.slots
            live.fleet.on_bound = lambda _: slots.resize(platform.max_in_flight)
            slots.on_demand = live.fleet.demand
            live.keeper.may_delete = lambda: coordinator.leads
            slots.resize(platform.max_in_flight)
        yield coordinator


def _api(cluster: Cluster, namespace: str | None) -> KubeApi | None:
    """Return the Kubernetes API, if it is to be asked."""
    if cluster is Cluster.OFF:
        return None
    try:
        from frazil_coordinator.platform.knative.api import connect, is_in_cluster
    except ImportError as error:
        if cluster is Cluster.ON:
            raise typer.BadParameter("--cluster on needs another package: pip install 'frazil[knative]'") from error
        return None
    if cluster is Cluster.AUTO and not is_in_cluster() and not os.environ.get("KUBECONFIG"):
        return None
    try:
        return connect(namespace=namespace)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from error


async def _live(stack: AsyncExitStack, api: KubeApi, settings: Settings, place: Place) -> LiveFleet | None:
    """Return the fleet of the cluster; None when it can't be seen and there is a URL to go by."""
    from frazil_coordinator.platform.knative.cluster import live_fleet

    stack.callback(api.close)
    fleet = live_fleet(
        api,
        holder=f"{socket.gethostname()}-{os.getpid()}",
        release=place.release,
        polars=pl.__version__,
        prescale=settings.prescale,
        lease_s=settings.prescale_lease_s,
    )
    try:
        return await stack.enter_async_context(fleet)
    except FrazilError as error:
        if not place.function_url:
            raise typer.BadParameter(f"the function services can't be found: {error}") from error
        _LOG.warning("no Kubernetes API: only the service of --function-url is used", extra={"error": str(error)})
        return None
