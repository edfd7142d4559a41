"""Knative's Service, Revision and Route as values: the fields that Frazil uses; the object itself stays beside them.

Nothing is asked or decided here. :func:`function_service` reads what Frazil needs to know of one of its function services.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from frazil_coordinator.platform.knative.errors import KubeError
from frazil_functions.errors import RequestError

__all__ = [
    "COMPONENT_LABEL",
    "FUNCTIONS",
    "IMAGE_ANNOTATION",
    "LARGE",
    "MAX_SCALE",
    "MIN_SCALE",
    "POLARS_LABEL",
    "RELEASE_LABEL",
    "SERVICE_LABEL",
    "SIZE_LABEL",
    "SMALL",
    "Condition",
    "FunctionService",
    "Object",
    "Revision",
    "Route",
    "Service",
    "function_service",
    "in_flight_bound",
]

Object: TypeAlias = dict[str, Any]
"""An object of the API as it came."""

COMPONENT_LABEL: Final = "app.kubernetes.io/component"
FUNCTIONS: Final = f"{COMPONENT_LABEL}=function"
"""Label selector of function services, and of their revisions."""

RELEASE_LABEL: Final = "frazil.dev/release"
POLARS_LABEL: Final = "frazil.dev/polars"
SIZE_LABEL: Final = "frazil.dev/size"
IMAGE_ANNOTATION: Final = "frazil.dev/image"
SERVICE_LABEL: Final = "serving.knative.dev/service"
MIN_SCALE: Final = "autoscaling.knative.dev/min-scale"
MAX_SCALE: Final = "autoscaling.knative.dev/max-scale"
SMALL: Final = "small"
LARGE: Final = "large"

_SHARE_OF_PODS: Final = (9, 10)
_MOST_IN_FLIGHT: Final = 800
"""An ingress overflows at 1,024 requests to one service."""

_DEFAULT_TIMEOUT_S: Final = 300
"""Knative's own, ``revision-timeout-seconds`` of config-defaults."""

_MEMORY_LIMIT: Final = "FRAZIL_MEMORY_LIMIT_BYTES"


class Condition(msgspec.Struct, frozen=True):
    """A condition of a status."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """Of an object."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: dt.datetime | None = None


class _Address(msgspec.Struct, frozen=True):
    url: str = ""


class Traffic(msgspec.Struct, frozen=True, rename="camel"):
    """A share of the requests, and who gets it."""

    revision_name: str = ""
    percent: int | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    conditions: tuple[Condition, ...] = ()
    observed_generation: int = 0
    url: str = ""
    address: _Address = _Address()
    latest_ready_revision_name: str = ""
    latest_created_revision_name: str = ""
    traffic: tuple[Traffic, ...] = ()

    def ready(self, generation: int) -> Condition:
        """Return the condition Ready; unknown while the controller has not seen the latest change."""
        if self.observed_generation < generation:
            return Condition("Ready", "Unknown", "NotReconciled", "Knative has not looked at the latest change yet")
        found = [each for each in self.conditions if each.type == "Ready"]
        return found[0] if found else Condition("Ready", "Unknown", "NoCondition", "Knative has said nothing yet")


class _Env(msgspec.Struct, frozen=True):
    name: str
    value: str = ""


class _Container(msgspec.Struct, frozen=True):
    image: str = ""
    env: tuple[_Env, ...] = ()


class _PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    containers: tuple[_Container, ...] = ()
    container_concurrency: int = 0
    timeout_seconds: int = _DEFAULT_TIMEOUT_S
    response_start_timeout_seconds: int = 0


class _TemplateMeta(msgspec.Struct, frozen=True):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class _Template(msgspec.Struct, frozen=True):
    metadata: _TemplateMeta = _TemplateMeta()
    spec: _PodSpec = _PodSpec()


class _ServiceSpec(msgspec.Struct, frozen=True):
    template: _Template = _Template()


class _ServiceObject(msgspec.Struct, frozen=True):
    metadata: Meta
    spec: _ServiceSpec = _ServiceSpec()
    status: _Status = _Status()


class _RevisionObject(msgspec.Struct, frozen=True):
    metadata: Meta
    spec: _PodSpec = _PodSpec()
    status: _Status = _Status()


class _RouteObject(msgspec.Struct, frozen=True):
    metadata: Meta
    status: _Status = _Status()


def _converted(raw: Mapping[str, Any], kind: type[Any]) -> Any:  # noqa: ANN401  # an instance of `kind`
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise KubeError(f"an object of Knative is not as expected: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Knative Service."""

    meta: Meta
    template: _Template
    ready: Condition
    url: str
    """Where it is reached inside the cluster; empty while it is nowhere."""

    latest_ready: str
    """Name of its latest Revision that is ready; empty when none is."""

    latest_created: str
    traffic: tuple[Traffic, ...]
    raw: Mapping[str, Any]
    """The object as it came."""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Service:
        """Return what an object says.

        Raises
        ------
        KubeError
            When it is no Service.
        """
        found: _ServiceObject = _converted(raw, _ServiceObject)
        status = found.status
        return cls(
            meta=found.metadata,
            template=found.spec.template,
            ready=status.ready(found.metadata.generation),
            url=status.address.url or status.url,
            latest_ready=status.latest_ready_revision_name,
            latest_created=status.latest_created_revision_name,
            traffic=status.traffic,
            raw=raw,
        )

    @property
    def timeout_s(self) -> int:
        """Seconds after which Knative ends a request."""
        return self.template.spec.timeout_seconds

    @property
    def image(self) -> str:
        """Of its first container."""
        containers = self.template.spec.containers
        return containers[0].image if containers else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """A Knative Revision."""

    meta: Meta
    ready: Condition
    service: str
    """Name of the Service that it is of."""

    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Revision:
        """Return what an object says.

        Raises
        ------
        KubeError
            When it is no Revision.
        """
        found: _RevisionObject = _converted(raw, _RevisionObject)
        meta = found.metadata
        # Its generation changes with its annotations, which the controller need not look at.
        return cls(meta=meta, ready=found.status.ready(0), service=meta.labels.get(SERVICE_LABEL, ""), raw=raw)

    @property
    def max_scale(self) -> int | None:
        """Most pods; None: any number."""
        return _scale(self.meta.annotations.get(MAX_SCALE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A Knative Route."""

    meta: Meta
    ready: Condition
    url: str
    traffic: tuple[Traffic, ...]
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Route:
        """Return what an object says.

        Raises
        ------
        KubeError
            When it is no Route.
        """
        found: _RouteObject = _converted(raw, _RouteObject)
        status = found.status
        return cls(
            meta=found.metadata,
            ready=status.ready(found.metadata.generation),
            url=status.address.url or status.url,
            traffic=status.traffic,
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionService:
    """One of Frazil's function services: what tasks need to know of it."""

    name: str
    release: str
    """The release that it is of; empty where it is not named by one."""

    polars: str
    """Version of polars in its image; empty when nobody said."""

    size: str
    """``small`` or ``large``."""

    url: str
    """Empty while it can't be reached."""

    ready: Condition
    revision: str
    """The Revision that its requests go to; empty when there is none yet."""

    max_scale: int | None
    memory_bytes: int | None
    """Memory of one task; None when nobody said."""

    timeout_s: int
    """Seconds after which Knative ends a task."""

    @property
    def bound(self) -> int:
        """Attempts that may be in flight at once."""
        return in_flight_bound(self.max_scale)


def in_flight_bound(max_scale: int | None) -> int:
    """Return how many attempts a service may have in flight: 0.9 × its pods, at most 800, and at least 1."""
    if not max_scale:
        return _MOST_IN_FLIGHT
    numerator, denominator = _SHARE_OF_PODS
    return max(1, min(max_scale * numerator // denominator, _MOST_IN_FLIGHT))


def function_service(service: Service) -> FunctionService:
    """Return what a Service with the label of functions is to the scheduler.

    Raises
    ------
    RequestError
        When a value of it can't be read.
    """
    annotations = service.template.metadata.annotations
    containers = service.template.spec.containers
    environment = {each.name: each.value for each in (containers[0].env if containers else ())}
    labels = service.meta.labels
    size = labels.get(SIZE_LABEL) or (LARGE if service.meta.name.startswith("frazil-function-large") else SMALL)
    memory = environment.get(_MEMORY_LIMIT)
    if memory is not None and not memory.isdecimal():
        raise RequestError(f"service {service.meta.name}: {_MEMORY_LIMIT}={memory!r} is not a number of bytes")
    return FunctionService(
        name=service.meta.name,
        release=labels.get(RELEASE_LABEL, ""),
        polars=labels.get(POLARS_LABEL, ""),
        size=size,
        url=f"{service.url.rstrip('/')}/" if service.url else "",
        ready=service.ready,
        revision=service.latest_ready,
        max_scale=_scale(annotations.get(MAX_SCALE)),
        memory_bytes=None if memory is None else int(memory),
        timeout_s=service.timeout_s,
    )


def _scale(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and int(text) > 0 else None
