"""Looks at Frazil's Knative Services as they are deployed: scale, timeouts, concurrency, flags, readiness, settings.

Pure: objects in, findings out. :mod:`.cluster` asks for the objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from frazil_coordinator.doctor.findings import Finding, good, problem, skipped, warning
from frazil_coordinator.platform.knative.models import MAX_SCALE, POLARS_LABEL, Service, function_service
from frazil_functions.errors import FrazilError

__all__ = ["Deployed", "check_manifests", "quantity"]

_TARGET: Final = "autoscaling.knative.dev/target-utilization-percentage"
_DEFAULT_MOST_TIMEOUT_S: Final = 600

_FLAGS: Final = {
    "affinity": "kubernetes.podspec-affinity",
    "dnsConfig": "kubernetes.podspec-dnsconfig",
    "dnsPolicy": "kubernetes.podspec-dnspolicy",
    "hostAliases": "kubernetes.podspec-hostaliases",
    "nodeSelector": "kubernetes.podspec-nodeselector",
    "priorityClassName": "kubernetes.podspec-priorityclassname",
    "runtimeClassName": "kubernetes.podspec-runtimeclassname",
    "schedulerName": "kubernetes.podspec-schedulername",
    "shareProcessNamespace": "kubernetes.podspec-shareprocessnamespace",
    "tolerations": "kubernetes.podspec-tolerations",
    "topologySpreadConstraints": "kubernetes.podspec-topologyspreadconstraints",
}
"""Fields of a pod that Knative takes only with a feature flag of config-features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a namespace has."""

    namespace: str
    polars: str
    """Version here."""

    coordinator: Service | None
    functions: Sequence[Service]
    settings: Mapping[str, str] | None
    """ConfigMap frazil-settings; None when it is not there."""

    defaults: Mapping[str, str]
    """ConfigMap config-defaults of Knative."""

    features: Mapping[str, str]
    """ConfigMap config-features of Knative."""

    nodes: Sequence[Mapping[str, Any]] | None
    """None when they may not be seen."""


def quantity(text: str) -> float:
    """Return a Kubernetes quantity as a number: ``500m``, ``4Gi``; 0 for what can't be read."""
    units = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    units |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([a-zA-Z]*)", str(text))
    return float(found[1]) * units.get(found[2], 0.0) if found else 0.0


def check_manifests(deployed: Deployed) -> Iterator[Finding]:
    """Yield what is found of all services and the settings."""
    if deployed.coordinator is None and not deployed.functions:
        yield problem(
            "services", f"namespace {deployed.namespace} has no service of Frazil", "frazil deploy, or give --namespace"
        )
        return
    yield from _present(deployed)
    for service in (*([] if deployed.coordinator is None else [deployed.coordinator]), *deployed.functions):
        yield _ready(service)
        yield from _timeouts(service, deployed)
        yield from _flags(service, deployed)
    for service in deployed.functions:
        yield from _concurrency(service)
        yield from _scale(service, deployed)
        yield from _polars(service, deployed)
    yield from _settings(deployed)


def _present(deployed: Deployed) -> Iterator[Finding]:
    if deployed.coordinator is None:
        yield problem("services", "there is no service frazil-coordinator", "frazil deploy")
    elif not deployed.functions:
        yield problem("services", "there is no function service: tasks would wait for ever", "frazil deploy")
    else:
        names = ", ".join(each.meta.name for each in deployed.functions)
        yield good("services", f"coordinator and functions are there: {names}")


def _ready(service: Service) -> Finding:
    ready, name = service.ready, service.meta.name
    if ready.status == "True" and service.url:
        return good("ready", f"{name} is ready at {service.url}")
    words = f"{name} is not ready: {ready.reason} {ready.message}".rstrip()
    return problem("ready", words, f"kubectl -n {service.meta.namespace} describe revision {service.latest_created}")


def _timeouts(service: Service, deployed: Deployed) -> Iterator[Finding]:
    spec, name = service.template.spec, service.meta.name
    most = int(quantity(deployed.defaults.get("max-revision-timeout-seconds", "")) or _DEFAULT_MOST_TIMEOUT_S)
    if spec.timeout_seconds > most:
        yield problem(
            "timeouts",
            f"{name}: timeoutSeconds {spec.timeout_seconds} is above the cluster's max-revision-timeout-seconds {most}",
            f"kubectl -n knative-serving patch cm config-defaults --type merge -p "
            f'\'{{"data":{{"max-revision-timeout-seconds":"{spec.timeout_seconds}"}}}}\', or lower timeoutSeconds',
        )
    elif spec.response_start_timeout_seconds != spec.timeout_seconds:
        yield warning(
            "timeouts",
            f"{name}: responseStartTimeoutSeconds is {spec.response_start_timeout_seconds or 'not set'}, timeoutSeconds "
            f"{spec.timeout_seconds}",
            "set both to the same: a request may wait as long for its pod as it may run",
        )
    else:
        yield good("timeouts", f"{name}: {spec.timeout_seconds} s, of at most {most} s that the cluster allows")


def _flags(service: Service, deployed: Deployed) -> Iterator[Finding]:
    spec = service.raw["spec"]["template"].get("spec", {})
    for field, flag in _FLAGS.items():
        if field in spec and deployed.features.get(flag, "disabled").lower() not in ("enabled", "allowed"):
            yield problem(
                "flags",
                f"{service.meta.name} uses {field}, and the feature flag {flag} is not enabled",
                f'set {flag}: "enabled" in the ConfigMap config-features of namespace knative-serving, '
                "or leave the component out",
            )


def _concurrency(service: Service) -> Iterator[Finding]:
    found = service.template.spec.container_concurrency
    name = service.meta.name
    if found != 1:
        yield problem(
            "concurrency",
            f"{name}: containerConcurrency is {found or 'not set (no limit)'}: pods get tasks that they must refuse",
            "set containerConcurrency: 1",
        )
    target = service.template.metadata.annotations.get(_TARGET)
    if target != "70":
        yield warning(
            "concurrency",
            f"{name}: {_TARGET} is {target or 'not set'}",
            "set it to 70, so that pods start a little ahead of a stage that grows",
        )
    elif found == 1:
        yield good("concurrency", f"{name}: one task a pod, target utilisation 70 %")


def _scale(service: Service, deployed: Deployed) -> Iterator[Finding]:
    name = service.meta.name
    try:
        function = function_service(service)
    except FrazilError as error:
        yield problem("scale", str(error), "correct it")
        return
    if function.max_scale is None:
        yield problem("scale", f"{name}: {MAX_SCALE} is not set", "set it: it is the upper bound of the bill")
        return
    wanted = (deployed.settings or {}).get("max-in-flight", "")
    if function.size == "small" and wanted.isdecimal() and int(wanted) > function.bound:
        yield problem(
            "scale",
            f"max-in-flight {wanted} is above {function.bound}, 0.9 x the {function.max_scale} pods of {name}, at most 800",
            f"set max-in-flight of frazil-settings to {function.bound}, or raise max-scale",
        )
    yield _capacity(service, function.max_scale, deployed)


def _capacity(service: Service, max_scale: int, deployed: Deployed) -> Finding:
    name = service.meta.name
    if deployed.nodes is None:
        return skipped("capacity", f"{name}: the nodes may not be seen", "give the account get and list of nodes")
    containers = service.raw["spec"]["template"]["spec"]["containers"]
    requests = containers[0].get("resources", {}).get("requests", {})
    fits = {
        unit: sum(int(quantity(node["status"]["allocatable"].get(unit, "0")) // quantity(wanted)) for node in deployed.nodes)
        for unit, wanted in requests.items()
        if unit in ("cpu", "memory") and quantity(wanted)
    }
    pods = min(fits.values(), default=0)
    words = f"{name}: max-scale is {max_scale}, and {len(deployed.nodes)} nodes have room for {pods} pods of its requests"
    if not fits:
        return warning("capacity", f"{name} requests neither cpu nor memory", "set resources.requests: nodes fill up else")
    if pods < max_scale:
        return warning(
            "capacity",
            words,
            "let the node pool grow (cluster autoscaler, Karpenter), or lower max-scale: tasks wait for pods without a node",
        )
    return good("capacity", words)


def _polars(service: Service, deployed: Deployed) -> Iterator[Finding]:
    there = service.meta.labels.get(POLARS_LABEL)
    if there is None:
        yield skipped("versions.polars", f"{service.meta.name} does not say which polars it has", "frazil deploy labels it")
    elif there != deployed.polars:
        yield warning(
            "versions.polars",
            f"{service.meta.name} has polars {there}, and here is {deployed.polars}: plans from here are refused there",
            f"pip install polars=={there}, or deploy an image with polars {deployed.polars}",
        )
    else:
        yield good("versions.polars", f"{service.meta.name} and this machine have polars {there}")


def _settings(deployed: Deployed) -> Iterator[Finding]:
    if deployed.settings is None:
        yield problem("settings", "there is no ConfigMap frazil-settings", "frazil deploy")
        return
    named = deployed.settings.get("namespace", "")
    if named != deployed.namespace:
        yield problem(
            "settings.namespace",
            f"frazil-settings says namespace {named!r}, and it is deployed to {deployed.namespace!r}: the coordinator would "
            "address functions that are not there",
            f"set namespace of frazil-settings to {deployed.namespace}",
        )
    else:
        yield good("settings.namespace", f"settings and services are both of namespace {named}")
