"""Brings a cluster to what was rendered, and away from it again: looks, applies in order, waits, deletes.

Nothing is applied before every object was accepted by a dry run of the API server. What was applied is written down before
it is, so that whatever becomes of a deployment, ``undeploy`` finds all of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from frazil_coordinator.deployment.objects import (
    INVENTORY,
    KEPT_KINDS,
    MANAGED_LABEL,
    MANAGER,
    Reference,
    difference,
    in_order,
    inventory_object,
    is_function,
    is_knative,
    labelled,
    read_inventory,
    reference,
)
from frazil_coordinator.platform.knative.api import SERVICES, KubeApi, Resource
from frazil_coordinator.platform.knative.errors import ConflictError, DeniedError, InvalidError, KubeError, NotFoundError
from frazil_coordinator.platform.knative.models import RELEASE_LABEL, Object, Service
from frazil_coordinator.platform.knative.releases import changed_use
from frazil_functions.errors import DeadlineError, RequestError

__all__ = ["Change", "Deployment", "Plan"]

_CONFIG: Final = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
_SECRETS: Final = Resource(group="", version="v1", plural="secrets", kind="Secret")
_NAMESPACES: Final = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
_LOOK_S: Final = 1.0
_KEY_BYTES: Final = 32
_DEPLOYING_S: Final = 900.0
"""How long a release is kept without a coordinator that uses it: until its own has started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happens to one object."""

    object: Reference
    action: str
    """``create``, ``change``, ``keep``, ``delete``."""

    diff: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a deployment would do."""

    changes: Sequence[Change]
    objects: Sequence[Object]
    """To be applied, in order."""

    known: frozenset[Reference] = field(default_factory=frozenset)
    """What earlier deployments applied."""

    @property
    def changed(self) -> bool:
        """Whether anything would change."""
        return any(each.action != "keep" for each in self.changes)


class Deployment:
    """Frazil in one namespace.

    Parameters
    ----------
    api
        The cluster, with the namespace.
    force
        Whether fields that others own are taken over.
    sleep, monotonic, unix
        Clocks, in seconds.
    """

    def __init__(
        self,
        api: KubeApi,
        *,
        force: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        self._api, self._force = api, force
        self._sleep, self._monotonic, self._unix = sleep, monotonic, unix
        self._others: frozenset[Reference] | None = None
        """What deployments in other namespaces applied; None until it is asked for."""

    # Looking

    def plan(self, rendered: Sequence[Object]) -> Plan:
        """Return what would change, as the API server sees it.

        Raises
        ------
        RequestError
            When an object is refused, or somebody else owns a field of it; all such objects are named.
        KubeError
            When the API fails.
        """
        objects = in_order(labelled(rendered))
        there = self._exists(_NAMESPACES, self._api.namespace)
        changes, refused = [], []
        if not there:
            changes.append(Change(object=Reference("v1", "Namespace", "", self._api.namespace), action="create"))
        for each in objects:
            try:
                changes.append(self._change(each, there=there))
            except (InvalidError, ConflictError) as error:
                hint = "; --force-conflicts takes the fields over" if isinstance(error, ConflictError) else ""
                refused.append(f"{reference(each)}: {error}{hint}")
        if refused:
            raise RequestError("nothing was applied:\n" + "\n".join(refused))
        known = read_inventory(self._inventory() if there else None)
        gone = known - {self._where(each) for each in objects}
        changes += [Change(object=each, action="delete") for each in sorted(gone) if self._is_to_go(each)]
        return Plan(changes=changes, objects=objects, known=known)

    def missing_secret(self) -> bool:
        """Return whether the Secret that the pods need is not there; False when it may not be seen."""
        try:
            return not self._exists(_SECRETS, "frazil-secrets")
        except KubeError:
            return False

    def _change(self, wanted: Object, *, there: bool) -> Change:
        resource = self._api.resource_of(wanted["apiVersion"], wanted["kind"])
        where = reference(wanted, self._api.namespace if resource.namespaced else "")
        if not there and resource.namespaced:
            return Change(object=where, action="create", diff=difference(None, wanted, str(where)))
        live = self._live(resource, where)
        new = self._api.apply(resource, wanted, force=self._force, dry_run=True, manager=MANAGER)
        diff = difference(live, new, str(where))
        return Change(object=where, action="create" if live is None else "change" if diff else "keep", diff=diff)

    def _is_to_go(self, each: Reference) -> bool:
        """Return whether what was applied before is to be deleted; a release's services go when no query uses them."""
        if each.kind in KEPT_KINDS or self._is_shared(each):
            return False
        live = self._live(self._api.resource_of(each.api_version, each.kind), each)
        return live is not None and _is_ours(live) and not live["metadata"].get("labels", {}).get(RELEASE_LABEL)

    def _is_shared(self, each: Reference) -> bool:
        """Return whether an object of the whole cluster is, or may be, also that of a deployment in another namespace."""
        if each.namespace:
            return False
        if self._others is None:
            try:
                maps, _ = self._api.list(_CONFIG, selector=f"{MANAGED_LABEL}={MANAGER}", namespace="")
            except DeniedError:
                return True  # it can't be known
            self._others = frozenset(
                one
                for found in maps
                if found["metadata"]["name"] == INVENTORY and found["metadata"]["namespace"] != self._api.namespace
                for one in read_inventory(found)
            )
        return each in self._others

    def _live(self, resource: Resource, where: Reference) -> Object | None:
        try:
            return self._api.get(resource, where.name, where.namespace)
        except NotFoundError:
            return None

    def _exists(self, resource: Resource, name: str) -> bool:
        try:
            self._api.get(resource, name)
        except NotFoundError:
            return False
        return True

    def _inventory(self) -> Object | None:
        try:
            return self._api.get(_CONFIG, INVENTORY)
        except NotFoundError:
            return None

    # Applying

    def create_secret(self, store_options: Mapping[str, str]) -> None:
        """Make the Secret that the pods need, with fresh keys; it is the user's from then on, and never deleted here.

        Raises
        ------
        KubeError
            When the API refuses or fails.
        """
        self._create_namespace()
        data = {name: secrets.token_hex(_KEY_BYTES) for name in ("task-keys", "journal-keys", "token")}
        if store_options:
            data["store-options"] = msgspec.json.encode(dict(store_options)).decode()
        meta = {"name": "frazil-secrets", "namespace": self._api.namespace}
        wanted: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}
        self._api.apply(_SECRETS, wanted, manager=MANAGER)

    def _create_namespace(self) -> None:
        name = self._api.namespace
        if not self._exists(_NAMESPACES, name):
            self._api.apply(
                _NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, manager=MANAGER
            )

    def apply(self, plan: Plan, release: str, *, timeout_s: float, on_event: Callable[[str], None] = lambda _: None) -> str:
        """Apply a plan, wait until all is ready, and return the coordinator's URL.

        Raises
        ------
        DeadlineError
            When something is not ready in time, with the reasons.
        KubeError
            When the API refuses or fails.
        """
        api = self._api
        self._create_namespace()
        mine = {self._where(each) for each in plan.objects if each["kind"] not in KEPT_KINDS}
        api.apply(_CONFIG, inventory_object(plan.known | mine, api.namespace, release), force=True, manager=MANAGER)
        for change in plan.changes:
            if change.action == "delete":
                self._delete(change.object)
                on_event(f"{change.object} deleted")
        changed = {each.object for each in plan.changes if each.action != "keep"}
        for each in plan.objects:
            if is_knative(each) and not is_function(each):
                # The functions first: the coordinator that begins to use them must find them.
                self._wait([one for one in plan.objects if is_function(one)], timeout_s, on_event)
            resource = api.resource_of(each["apiVersion"], each["kind"])
            api.apply(resource, each, force=self._force, manager=MANAGER)
            if (where := self._where(each)) in changed:
                on_event(f"{where} applied")
            if is_function(each) and release:
                self._keep_for_a_while(each)
        ready = self._wait([each for each in plan.objects if is_knative(each)], timeout_s, on_event)
        # What is of an earlier release and has gone meanwhile need not be remembered.
        kept = {each for each in plan.known - mine if self._live(api.resource_of(each.api_version, each.kind), each)}
        api.apply(_CONFIG, inventory_object(kept | mine, api.namespace, release), force=True, manager=MANAGER)
        return next((each.url for each in ready if not is_function(dict(each.raw))), "")

    def _where(self, obj: Object) -> Reference:
        resource = self._api.resource_of(obj["apiVersion"], obj["kind"])
        return reference(obj, self._api.namespace if resource.namespaced else "")

    def _keep_for_a_while(self, wanted: Object) -> None:
        """Let no coordinator of another release delete a service that its own does not use yet."""
        for _ in range(5):
            service = Service.of(self._api.get(SERVICES, wanted["metadata"]["name"]))
            changes = changed_use(
                service.meta.annotations, holder="deploy", used=True, now_unix_s=self._unix(), lease_s=_DEPLOYING_S
            )
            if changes is None:
                return
            meta = {"resourceVersion": service.meta.resource_version, "annotations": changes}
            try:
                self._api.patch(SERVICES, service.meta.name, {"metadata": meta})
            except ConflictError:
                continue
            return

    def _wait(self, services: Sequence[Object], timeout_s: float, on_event: Callable[[str], None]) -> list[Service]:
        ends = self._monotonic() + timeout_s
        said: dict[str, str] = {}
        while True:
            found = [Service.of(self._api.get(SERVICES, each["metadata"]["name"])) for each in services]
            waiting = [each for each in found if each.ready.status != "True"]
            for each in waiting:
                words = f"{each.meta.name}: {each.ready.reason} {each.ready.message}".rstrip()
                if said.get(each.meta.name) != words:
                    said[each.meta.name] = words
                    on_event(f"waiting for {words}")
            if not waiting:
                return found
            if self._monotonic() >= ends:
                reasons = "; ".join(said[each.meta.name] for each in waiting)
                raise DeadlineError(f"not ready after {timeout_s:g} s: {reasons}. frazil doctor tells more")
            self._sleep(_LOOK_S)

    # Undeploying

    def deployed(self) -> list[Reference]:
        """Return what is there of what was applied, in the order in which it is deleted."""
        found = []
        for each in read_inventory(self._inventory()):
            live = self._live(self._api.resource_of(each.api_version, each.kind), each)
            if live is not None and _is_ours(live) and each.kind not in KEPT_KINDS and not self._is_shared(each):
                found.append((each, live))
        order = [reference(obj, self._api.namespace) for obj in in_order(live for _, live in found)]
        known = {each for each, _ in found}
        # Of a cluster-wide object the reference has no namespace.
        return [each if each in known else Reference(each.api_version, each.kind, "", each.name) for each in reversed(order)]

    def undeploy(self, references: Sequence[Reference]) -> Iterator[Reference]:
        """Delete what :meth:`deployed` returned, and the list of it at last; yield each as it goes."""
        for each in references:
            self._delete(each)
            yield each
        self._delete(Reference("v1", "ConfigMap", self._api.namespace, INVENTORY))

    def _delete(self, each: Reference) -> None:
        if each.kind in KEPT_KINDS:
            raise AssertionError(f"{each} may hold data of the user's")
        resource = self._api.resource_of(each.api_version, each.kind)
        try:
            self._api.delete(resource, each.name, namespace=each.namespace)
        except NotFoundError:
            return  # somebody was first


def _is_ours(live: Object) -> bool:
    return bool(live["metadata"].get("labels", {}).get(MANAGED_LABEL) == MANAGER)
