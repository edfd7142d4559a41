"""Looks at a Knative cluster through its API: versions, rights, secrets, and what :mod:`.manifests` makes of the services.

What may not be seen is a finding, not a failure. Nothing is written.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from frazil_coordinator.doctor.findings import Finding, good, problem, skipped
from frazil_coordinator.doctor.manifests import Deployed, check_manifests
from frazil_coordinator.platform.knative.api import REVISIONS, SERVICES, Access, KubeApi, Resource
from frazil_coordinator.platform.knative.errors import DeniedError, KubeError, NotFoundError
from frazil_coordinator.platform.knative.models import COMPONENT_LABEL, Service

__all__ = ["ACCOUNT", "DEPLOYER", "NEEDED", "Reach", "check_cluster", "store_of"]

Reach = Callable[[str], str]
"""Asks a URL, and returns what is wrong with it; empty when it answers."""

ACCOUNT: Final = "frazil-coordinator"
_COORDINATOR: Final = "frazil-coordinator"
_SERVING: Final = "knative-serving"
_LEAST_SERVING: Final = (1, 21)
_LEAST_KUBERNETES: Final = (1, 30)

_CONFIG: Final = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
_SECRETS: Final = Resource(group="", version="v1", plural="secrets", kind="Secret")
_NODES: Final = Resource(group="", version="v1", plural="nodes", kind="Node", namespaced=False)
_DEPLOYMENTS: Final = Resource(group="apps", version="v1", plural="deployments", kind="Deployment")
_RBAC: Final = "rbac.authorization.k8s.io"
_ROLES: Final = Resource(group=_RBAC, version="v1", plural="roles", kind="Role")
_BINDINGS: Final = Resource(group=_RBAC, version="v1", plural="rolebindings", kind="RoleBinding")

NEEDED: Final = tuple(
    Access(verb=verb, group=resource.group, resource=resource.plural)
    for resource, verbs in ((SERVICES, ("list", "watch", "patch", "delete")), (REVISIONS, ("get", "list", "patch")))
    for verb in verbs
)
"""What a coordinator does; knative/components/prescale gives just that."""

DEPLOYER: Final = tuple(
    Access(verb=verb, group=group, resource=resource)
    for group, resource in (
        ("serving.knative.dev", "services"),
        ("", "configmaps"),
        ("", "serviceaccounts"),
        (_RBAC, "roles"),
        (_RBAC, "rolebindings"),
    )
    for verb in ("get", "create", "patch", "delete")
)
"""What ``frazil deploy`` and ``frazil undeploy`` do."""


def check_cluster(api: KubeApi, *, polars: str, as_coordinator: bool, reach: Reach | None = None) -> Iterator[Finding]:
    """Yield what is found of a cluster.

    Parameters
    ----------
    api
        The cluster, and the namespace.
    polars
        Version of polars here.
    as_coordinator
        Whether the account is the coordinator's, as in its pod; else it is somebody's who deploys.
    reach
        Asks URLs, where those of the cluster can be resolved; None elsewhere.
    """
    try:
        version = api.version()
    except KubeError as error:
        yield problem("kubernetes", str(error), "check KUBECONFIG, --context, and that the account's token is good")
        return
    if _numbers(version) < _LEAST_KUBERNETES:
        yield problem("kubernetes", f"{api.host} runs Kubernetes {version}", "update it to 1.30 or later")
    else:
        yield good("kubernetes", f"{api.host} runs Kubernetes {version}")
    yield _serving(api)
    yield from _rights(api, as_coordinator=as_coordinator)
    yield from _secrets(api)
    try:
        deployed = _deployed(api, polars)
    except KubeError as error:
        yield problem("services", str(error), "install Knative Serving, or give the account list of its services")
        return
    yield from check_manifests(deployed)
    yield from _reached(deployed, reach)


def store_of(api: KubeApi) -> tuple[str, dict[str, str]] | None:
    """Return URL and options of the store that is deployed; None when they may not be seen, or can't be read."""
    try:
        url = api.get(_CONFIG, "frazil-settings").get("data", {}).get("store-url")
        data = api.get(_SECRETS, "frazil-secrets").get("data") or {}
        options = msgspec.json.decode(base64.b64decode(data.get("store-options", "") or "e30="), type=dict[str, Any])
    except (KubeError, msgspec.DecodeError, msgspec.ValidationError, binascii.Error):
        return None
    texts = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode() for name, value in options.items()
    }
    return None if not url else (str(url), texts)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in re.findall(r"\d+", version)[:2])


def _serving(api: KubeApi) -> Finding:
    check = "versions.knative"
    try:
        found = api.get(_DEPLOYMENTS, "controller", _SERVING)
    except NotFoundError:
        fix = "install Knative Serving 1.21 or later (docs/deploy.md)"
        return problem(check, "there is no Deployment controller in knative-serving", fix)
    except KubeError as error:
        return skipped(check, str(error), "give the account get of deployments in knative-serving")
    version = found["metadata"].get("labels", {}).get("app.kubernetes.io/version", "")
    if not _numbers(version):
        return skipped(check, "the Deployment controller does not say its version")
    if _numbers(version) < _LEAST_SERVING:
        words = f"Knative Serving is {version}: it does not look at min-scale of a Revision after it was made"
        return problem(check, words, "update it to 1.21 or later, or set FRAZIL_PRESCALE=false")
    return good(check, f"Knative Serving is {version}")


# Rights


def _rights(api: KubeApi, *, as_coordinator: bool) -> Iterator[Finding]:
    check = "rights.coordinator" if as_coordinator else "rights.deployer"
    try:
        lacking = [each for each in (NEEDED if as_coordinator else DEPLOYER) if not api.allowed(each)]
    except KubeError as error:
        yield skipped(check, str(error))
        return
    if lacking:
        fix = "add the component knative/components/prescale" if as_coordinator else "have a Role bound to you that gives it"
        yield problem(check, f"this account may not {', '.join(map(str, lacking))} in {api.namespace}", fix)
    else:
        yield good(check, f"this account has every right that it needs in {api.namespace}")
    if not as_coordinator:
        yield _bound_rights(api)


def _bound_rights(api: KubeApi) -> Finding:
    """Return whether the Roles that are bound to the coordinator's account give what it does."""
    check = "rights.coordinator"
    try:
        given = [rule for role in _bound_roles(api) for rule in role.get("rules") or []]
    except KubeError as error:
        return skipped(check, str(error), "give the account list of roles and rolebindings")
    lacking = [each for each in NEEDED if not any(_gives(rule, each) for rule in given)]
    if not lacking:
        return good(check, f"the account {ACCOUNT} has every right that it needs")
    words = f"no Role gives the account {ACCOUNT} in {api.namespace} the right to {', '.join(map(str, lacking))}"
    return problem(check, words, "add the component knative/components/prescale to the overlay, or set FRAZIL_CLUSTER=off")


def _bound_roles(api: KubeApi) -> list[Mapping[str, Any]]:
    bindings, _ = api.list(_BINDINGS)
    roles = {each["metadata"]["name"]: each for each in api.list(_ROLES)[0]}
    return [
        roles[binding["roleRef"]["name"]]
        for binding in bindings
        if binding["roleRef"]["name"] in roles and any(_is_account(each) for each in binding.get("subjects") or [])
    ]


def _is_account(subject: Mapping[str, Any]) -> bool:
    return bool(subject.get("kind") == "ServiceAccount" and subject.get("name") == ACCOUNT)


def _gives(rule: Mapping[str, Sequence[str]], access: Access) -> bool:
    return all(
        wanted in rule.get(name, ()) or "*" in rule.get(name, ())
        for name, wanted in (("apiGroups", access.group), ("resources", access.resource), ("verbs", access.verb))
    )


# Secrets, services


def _secrets(api: KubeApi) -> Iterator[Finding]:
    check = "secrets"
    make = (
        f"kubectl -n {api.namespace} create secret generic frazil-secrets --from-literal=task-keys=$(openssl rand -hex 32) …"
    )
    try:
        data = api.get(_SECRETS, "frazil-secrets").get("data") or {}
        tenants = _is_there(api, _SECRETS, "frazil-tenants")
    except NotFoundError:
        yield problem(check, f"namespace {api.namespace} has no Secret frazil-secrets", f"{make} (docs/deploy.md)")
        return
    except DeniedError as error:
        yield skipped(check, str(error), "give the account get of secrets, or look yourself")
        return
    missing = [name for name in ("task-keys", "journal-keys") if not data.get(name)]
    if not data.get("token") and not tenants:
        missing.append("token (or a Secret frazil-tenants)")
    if missing:
        yield problem(check, f"the Secret frazil-secrets lacks {', '.join(missing)}", "add what is missing (docs/deploy.md)")
    else:
        yield good(check, f"the Secret frazil-secrets has {', '.join(sorted(data))}")


def _is_there(api: KubeApi, resource: Resource, name: str) -> bool:
    try:
        api.get(resource, name)
    except NotFoundError:
        return False
    return True


def _data(api: KubeApi, name: str, namespace: str | None = None) -> Mapping[str, str] | None:
    try:
        return api.get(_CONFIG, name, namespace).get("data") or {}
    except (NotFoundError, DeniedError):
        return None


def _deployed(api: KubeApi, polars: str) -> Deployed:
    services = [Service.of(each) for each in api.list(SERVICES)[0]]
    coordinators = [each for each in services if each.meta.name == _COORDINATOR]
    try:
        nodes: Sequence[Mapping[str, Any]] | None = api.list(_NODES, namespace="")[0]
    except KubeError:
        nodes = None
    return Deployed(
        namespace=api.namespace,
        polars=polars,
        coordinator=coordinators[0] if coordinators else None,
        functions=[each for each in services if each.meta.labels.get(COMPONENT_LABEL) == "function"],
        settings=_data(api, "frazil-settings"),
        defaults=_data(api, "config-defaults", _SERVING) or {},
        features=_data(api, "config-features", _SERVING) or {},
        nodes=nodes,
    )


def _reached(deployed: Deployed, reach: Reach | None) -> Iterator[Finding]:
    if reach is None:
        yield skipped(
            "reach", "names of the cluster are not known here", "run it in the cluster: kubectl exec … frazil doctor"
        )
        return
    services = [*([] if deployed.coordinator is None else [deployed.coordinator]), *deployed.functions]
    for service in services:
        if not service.url:
            continue
        url = f"{service.url.rstrip('/')}/healthz"
        if wrong := reach(url):
            fix = "check the cluster's DNS, the ingress (Kourier) and NetworkPolicies"
            yield problem("reach", f"{url}: {wrong}", fix)
        else:
            yield good("reach", f"{url} answers")
