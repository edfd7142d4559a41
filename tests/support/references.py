"""Whether rendered manifests name each other rightly: accounts, maps, ports, selectors, namespaces, addresses.

Also whether the network policies let a pod reach the addresses that it is given. A cluster takes a wrong name without a
word, and a pod then waits for ever or speaks to nobody. :mod:`support.manifests` checks each resource by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from support.manifests import Resource, named, pod_template
from support.network_policies import matches, may_enter, may_leave

__all__ = ["SECRETS", "reference_problems"]

SECRETS: Final[Mapping[str, frozenset[str]]] = {
    "frazil-secrets": frozenset({"task-keys", "journal-keys", "token", "store-options"}),
    "frazil-tenants": frozenset({"tenants.toml"}),
    "frazil-seaweedfs": frozenset({"s3.json"}),
}
"""What docs/deploy.md has users make, which manifests refer to and no file holds."""

_CLUSTER_WIDE: Final = frozenset({"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding"})
_INGRESS: Final = frozenset({"knative-serving", "kourier-system"})
_URL: Final = re.compile(r"\b(?:http://|targets: \[\")([\w.${}():-]+?)(?::(\d+))?(?=[/\"\s,}]|$)")
_BUILT_IN: Final = frozenset({"system-node-critical", "system-cluster-critical"})


def group(reference: Resource) -> str:
    """Return the API group of a resource or of a reference to one; ``v1`` is that of Kubernetes' core."""
    found: str = reference["apiVersion"].partition("/")[0]
    return found


class _World:
    """The resources of one rendering, by what they are looked up by."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self.resources = resources
        self.named = {
            (each["apiVersion"].partition("/")[0], each["kind"], each["metadata"]["name"]): each for each in resources
        }
        self.pods = [(each, template) for each in resources if (template := pod_template(each)) is not None]
        spaces = {each["metadata"].get("namespace", "default") for each in resources if each["kind"] not in _CLUSTER_WIDE}
        self.namespaces = spaces

    def has(self, group: str, kind: str, name: str) -> bool:
        return (group, kind, name) in self.named

    def of(self, kind: str) -> list[Resource]:
        return [each for each in self.resources if each["kind"] == kind]

    def selected(self, labels: Mapping[str, str]) -> list[tuple[Resource, Resource]]:
        return [(owner, pod) for owner, pod in self.pods if labels.items() <= pod["metadata"]["labels"].items()]


def reference_problems(resources: Sequence[Resource]) -> list[str]:
    """Return each reference of the resources that leads nowhere, or where it may not."""
    world = _World(resources)
    found = [*_namespaces(world), *_bindings(world), *_events(world), *_selectors(world)]
    for owner, template in world.pods:
        found += [f"{named(owner)}: {problem}" for problem in (*_pod(world, owner, template), *_addresses(world, template))]
    return found


def _namespaces(world: _World) -> Iterator[str]:
    if len(world.namespaces) > 1:
        yield f"resources are in more than one namespace: {sorted(world.namespaces)}"
    for each in world.of("Namespace"):
        if {each["metadata"]["name"]} != world.namespaces:
            yield f"{named(each)} is not that of the resources: {sorted(world.namespaces)}"
    settings = world.named.get(("v1", "ConfigMap", "frazil-settings"))
    if settings is not None and settings["data"]["namespace"] not in world.namespaces:
        yield f"frazil-settings says namespace {settings['data']['namespace']}, resources are in {sorted(world.namespaces)}"


def _bindings(world: _World) -> Iterator[str]:
    for binding in (*world.of("RoleBinding"), *world.of("ClusterRoleBinding")):
        role = binding["roleRef"]
        if not world.has(role["apiGroup"], role["kind"], role["name"]):
            yield f"{named(binding)}: no {role['kind']} {role['name']}"
        for subject in binding["subjects"]:
            if not world.has("v1", "ServiceAccount", subject["name"]):
                yield f"{named(binding)}: no ServiceAccount {subject['name']}"
            elif subject.get("namespace", "default") not in world.namespaces:
                yield f"{named(binding)}: ServiceAccount {subject['name']} is not in namespace {subject.get('namespace')}"


def _events(world: _World) -> Iterator[str]:
    for each in world.resources:
        spec = each.get("spec", {})
        if each["kind"] == "Trigger" and not world.has("eventing.knative.dev", "Broker", spec["broker"]):
            yield f"{named(each)}: no Broker {spec['broker']}"
        references = [spec.get(name, {}).get("ref") for name in ("sink", "subscriber")]
        config = [spec["config"]] if each["kind"] == "Broker" and "config" in spec else []
        for reference in [*filter(None, references), *config]:
            if not world.has(group(reference), reference["kind"], reference["name"]):
                yield f"{named(each)}: no {reference['kind']} {reference['name']}"
        account = (
            spec.get("aws", {}).get("auth", {}).get("serviceAccountName") if each["kind"] == "IntegrationSource" else None
        )
        if account is not None and not world.has("v1", "ServiceAccount", account):
            yield f"{named(each)}: no ServiceAccount {account}"


def _selectors(world: _World) -> Iterator[str]:
    for each in world.resources:
        spec = each.get("spec", {})
        if each["kind"] == "Service" and each["apiVersion"] == "v1":
            selected = world.selected(spec["selector"])
            ports = {port["name"]: port["containerPort"] for _, pod in selected for port in _ports(pod)}
            if not selected:
                yield f"{named(each)}: selects no pod"
            for port in spec["ports"]:
                target = port.get("targetPort", port["port"])
                if target not in ports and target not in ports.values():
                    yield f"{named(each)}: no pod that it selects has port {target}"
        elif each["kind"] in {"PodDisruptionBudget", "NetworkPolicy"}:
            selector = spec.get("podSelector", spec.get("selector"))
            if not any(matches(selector, pod) for _, pod in world.pods):
                yield f"{named(each)}: selects no pod"
        elif each["apiVersion"] == "apps/v1" and not matches(spec["selector"], spec["template"]):
            yield f"{named(each)}: does not select its own pods"


def _ports(pod: Resource) -> list[Resource]:
    return [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]


def _pod(world: _World, owner: Resource, template: Resource) -> Iterator[str]:
    spec = template["spec"]
    if not world.has("v1", "ServiceAccount", spec.get("serviceAccountName", "")):
        yield f"no ServiceAccount {spec.get('serviceAccountName')}"
    priority = spec.get("priorityClassName")
    if priority is not None and priority not in _BUILT_IN and not world.has("scheduling.k8s.io", "PriorityClass", priority):
        yield f"no PriorityClass {priority}"
    volumes = {each["name"] for each in spec.get("volumes", [])}
    volumes |= {each["metadata"]["name"] for each in owner["spec"].get("volumeClaimTemplates", [])}
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"no volume {mount['name']}"
        names = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and port not in names and port not in names.values():
                yield f"{probe} asks port {port}, which container {container['name']} has not"
    yield from _sources(world, spec)


def _sources(world: _World, spec: Resource) -> Iterator[str]:
    containers = (*spec.get("initContainers", []), *spec["containers"])
    values = [each["valueFrom"] for container in containers for each in container.get("env", []) if "valueFrom" in each]
    whole = [each for container in containers for each in container.get("envFrom", [])]
    for source in (*values, *whole, *spec.get("volumes", [])):
        configured = source.get("configMapKeyRef") or source.get("configMapRef") or source.get("configMap")
        if configured is not None:
            found = world.named.get(("v1", "ConfigMap", configured["name"]))
            if found is None:
                yield f"no ConfigMap {configured['name']}"
            elif "key" in configured and configured["key"] not in found["data"]:
                yield f"no key {configured['key']} in ConfigMap {configured['name']}"
        secret = source.get("secretKeyRef") or source.get("secret")
        if secret is not None:
            name = secret.get("name", secret.get("secretName"))
            keys = {secret["key"]} if "key" in secret else {each["key"] for each in secret.get("items", [])}
            if not keys <= SECRETS.get(name, frozenset()) or name not in SECRETS:
                yield f"no Secret {name} with {sorted(keys)} is told of in docs/deploy.md"


def _texts(world: _World, template: Resource) -> list[str]:
    """Return what the pod is told in variables, arguments and the files of its ConfigMaps, with its namespace put in."""
    containers = template["spec"]["containers"]
    found = [str(each.get("value", "")) for container in containers for each in container.get("env", [])]
    found += [each for container in containers for each in container.get("args", [])]
    mapped = [each["configMap"]["name"] for each in template["spec"].get("volumes", []) if "configMap" in each]
    found += [text for name in mapped for text in world.named["v1", "ConfigMap", name]["data"].values()]
    (space,) = world.namespaces
    settings = world.named.get(("v1", "ConfigMap", "frazil-settings"), {"data": {"namespace": space}})["data"]["namespace"]
    names = {"$(FRAZIL_NAMESPACE)": settings, "$(NAMESPACE)": space, "${env:NAMESPACE}": space}
    for name, value in names.items():
        found = [text.replace(name, value) for text in found]
    return found


def _addresses(world: _World, template: Resource) -> Iterator[str]:
    if len(world.namespaces) != 1:
        return
    (space,) = world.namespaces
    for text in _texts(world, template):
        for host, port in _URL.findall(text):
            if host in {"0.0.0.0", "127.0.0.1"} or host.endswith(".knative-eventing.svc.cluster.local"):
                continue
            name, _, rest = host.partition(".")
            if rest not in {"", f"{space}.svc.cluster.local"}:
                yield f"address {host} is not in namespace {space}"
            elif world.has("serving.knative.dev", "Service", name):
                yield from _knative_address(world, template, name, host, rest, port)
            elif world.has("v1", "Service", name):
                yield from _plain_address(world, template, world.named["v1", "Service", name], int(port or 80))
            else:
                yield f"no Service at {host}"


def _knative_address(world: _World, template: Resource, name: str, host: str, rest: str, port: str) -> Iterator[str]:
    if port not in {"", "80"}:
        yield f"{host} is a Knative Service, which answers on port 80 and not {port}"
    if not rest:
        yield f"{host}: the ingress knows a Knative Service by its name with its namespace only"
    for needed in (80, 8081):
        if not may_leave(world.resources, template, needed, spaces=_INGRESS):
            yield f"no egress policy lets it reach the ingress of {host} on port {needed}"
    target = world.named["serving.knative.dev", "Service", name]["spec"]["template"]
    for needed in (8012, 9090):
        if not may_enter(world.resources, target, needed, spaces=_INGRESS):
            yield f"no ingress policy lets Knative reach {name} on port {needed}"


def _plain_address(world: _World, template: Resource, service: Resource, port: int) -> Iterator[str]:
    entry = next((each for each in service["spec"]["ports"] if each["port"] == port), None)
    if entry is None:
        yield f"{named(service)} has no port {port}"
        return
    for _, target in world.selected(service["spec"]["selector"]):
        names = {each["name"]: each["containerPort"] for each in _ports(target)}
        wanted = names.get(entry.get("targetPort", port), entry.get("targetPort", port))
        if not may_leave(world.resources, template, wanted, there=target):
            yield f"no egress policy lets it reach {named(service)} on port {wanted}"
        if not may_enter(world.resources, target, wanted, there=template):
            yield f"no ingress policy lets it into {named(service)} on port {wanted}"
