"""The objects of the double: their versions, what changed of them, and every way to write one.

Everything happens under one lock and at once; the controllers (:mod:`support.kube_api.knative`) are called after each
change, before the answer goes out, so that a test waits for nothing.
"""

from __future__ import annotations

import base64
import copy
import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from support.kube_api.fields import ConflictsError, Object, applied, merged, written
from support.kube_api.schema import Refused, check

__all__ = ["KINDS", "Kind", "Objects", "matches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A resource that the API serves."""

    group: str
    version: str
    resource: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As it stands in an object."""
        return f"{self.group}/{self.version}" if self.group else self.version


def _kinds(group: str, version: str, *names: tuple[str, str], namespaced: bool = True) -> Iterable[Kind]:
    for resource, kind in names:
        yield Kind(group=group, version=version, resource=resource, kind=kind, namespaced=namespaced)


KINDS: tuple[Kind, ...] = (
    *_kinds("", "v1", ("namespaces", "Namespace"), ("nodes", "Node"), namespaced=False),
    *_kinds("", "v1", ("configmaps", "ConfigMap"), ("secrets", "Secret"), ("serviceaccounts", "ServiceAccount")),
    *_kinds("", "v1", ("services", "Service"), ("pods", "Pod"), ("resourcequotas", "ResourceQuota")),
    *_kinds("", "v1", ("limitranges", "LimitRange"), ("events", "Event")),
    *_kinds("", "v1", ("persistentvolumeclaims", "PersistentVolumeClaim")),
    *_kinds("apps", "v1", ("deployments", "Deployment"), ("daemonsets", "DaemonSet"), ("statefulsets", "StatefulSet")),
    *_kinds("autoscaling", "v2", ("horizontalpodautoscalers", "HorizontalPodAutoscaler")),
    *_kinds("batch", "v1", ("jobs", "Job"), ("cronjobs", "CronJob")),
    *_kinds("rbac.authorization.k8s.io", "v1", ("roles", "Role"), ("rolebindings", "RoleBinding")),
    *_kinds("rbac.authorization.k8s.io", "v1", ("clusterroles", "ClusterRole"), namespaced=False),
    *_kinds("rbac.authorization.k8s.io", "v1", ("clusterrolebindings", "ClusterRoleBinding"), namespaced=False),
    *_kinds("scheduling.k8s.io", "v1", ("priorityclasses", "PriorityClass"), namespaced=False),
    *_kinds("networking.k8s.io", "v1", ("networkpolicies", "NetworkPolicy")),
    *_kinds("policy", "v1", ("poddisruptionbudgets", "PodDisruptionBudget")),
    *_kinds("serving.knative.dev", "v1", ("services", "Service"), ("configurations", "Configuration")),
    *_kinds("serving.knative.dev", "v1", ("revisions", "Revision"), ("routes", "Route")),
    *_kinds("autoscaling.internal.knative.dev", "v1alpha1", ("podautoscalers", "PodAutoscaler")),
    *_kinds("eventing.knative.dev", "v1", ("brokers", "Broker"), ("triggers", "Trigger")),
)

Key = tuple[str, str, str, str]
"""Group, resource, namespace, name."""


def matches(obj: Object, selector: str) -> bool:
    """Return whether an object's labels are those of a selector of equalities, ``a in (x,y)`` and presence."""
    labels: Mapping[str, str] = obj["metadata"].get("labels", {})
    for term in _terms(selector):
        name, equal, value = term.replace("==", "=").partition("=")
        if " in (" in term:
            name, _, values = term.partition(" in (")
            if labels.get(name.strip()) not in {each.strip() for each in values.rstrip(")").split(",")}:
                return False
        elif name.endswith("!"):
            if labels.get(name[:-1].strip()) == value.strip():
                return False
        elif equal:
            if labels.get(name.strip()) != value.strip():
                return False
        elif (name.strip("! ") in labels) == name.strip().startswith("!"):
            return False
    return True


def _terms(selector: str) -> list[str]:
    found, depth = [""], 0
    for letter in selector:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [each.strip() for each in found if each.strip()]


class Objects:
    """What is stored. Objects handed out are copies."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.now = now
        self.version = 100
        self.compacted = 0
        """Changes up to this version are forgotten: who wants to resume from before gets 410."""

        self.history: list[tuple[int, str, Key, Object]] = []
        self.controllers: list[Callable[[str, Key, Object], None]] = []
        self.flags: frozenset[str] = frozenset()
        """Feature flags of Knative Serving that are switched on besides the defaults."""

        self.most_timeout_s = 600
        """``max-revision-timeout-seconds`` of config-defaults."""

        self._objects: dict[Key, Object] = {}
        for name in ("default", "knative-serving", "kube-system"):
            self.create(_kind("namespaces"), {"metadata": {"name": name}})

    # Reading

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return a copy of an object."""
        with self.lock:
            found = self._objects.get((kind.group, kind.resource, namespace, name))
            return copy.deepcopy(found)

    def find(self, kind: Kind, namespace: str, selector: str = "", field: str = "") -> list[Object]:
        """Return copies of the objects of a kind, of one namespace or ("") of all."""
        with self.lock:
            found = [
                copy.deepcopy(each)
                for (group, resource, where, name), each in sorted(self._objects.items())
                if (group, resource) == (kind.group, kind.resource) and namespace in ("", where)
                if field in ("", f"metadata.name={name}")
            ]
            return [each for each in found if matches(each, selector)]

    # Writing

    def create(
        self, kind: Kind, new: Object, manager: str = "test", *, dry_run: bool = False, strict: bool = True
    ) -> Object:
        """Create an object; 409 when it exists."""
        with self.lock:
            key = self._key(kind, new)
            if key in self._objects:
                raise Refused(409, "AlreadyExists", f'{_plural(kind)} "{key[3]}" already exists')
            self._check_namespace(kind, key)
            return self._store(kind, key, None, written(None, self._shaped(kind, new), manager), dry_run, strict)

    def apply(
        self, kind: Kind, wanted: Object, manager: str, *, force: bool = False, dry_run: bool = False, strict: bool = True
    ) -> Object:
        """Apply server-side."""
        with self.lock:
            key = self._key(kind, wanted)
            self._check_namespace(kind, key)
            live = self._objects.get(key)
            self._check_version(kind, key, live, wanted)
            wanted = self._shaped(kind, wanted)
            try:
                made = applied(live, wanted, manager, force=force)
            except ConflictsError as error:
                words = "\n".join(f'conflict with "{each.manager}": {each.path}' for each in error.conflicts)
                number = len(error.conflicts)
                message = f"Apply failed with {number} conflict{'s' if number > 1 else ''}: {words}"
                raise Refused(409, "Conflict", message) from error
            return self._store(kind, key, live, made, dry_run, strict)

    def update(
        self,
        kind: Kind,
        key: Key,
        new: Object,
        manager: str,
        *,
        status: bool = False,
        dry_run: bool = False,
        strict: bool = True,
    ) -> Object:
        """Write a whole object, or its status only."""
        with self.lock:
            live = self._existing(kind, key)
            self._check_version(kind, key, live, new)
            shaped = self._shaped(kind, new)
            if status:
                shaped = {**copy.deepcopy(live), "status": shaped.get("status", {})}
            elif kind.group.endswith("knative.dev") and "status" in live:
                shaped["status"] = live["status"]
            return self._store(kind, key, live, written(live, shaped, manager), dry_run, strict)

    def patch(
        self,
        kind: Kind,
        key: Key,
        patch: Object,
        manager: str,
        *,
        status: bool = False,
        dry_run: bool = False,
        strict: bool = True,
    ) -> Object:
        """Merge a patch into an object; its ``metadata.resourceVersion``, if there, is a precondition."""
        with self.lock:
            return self.update(
                kind, key, merged(self._existing(kind, key), patch), manager, status=status, dry_run=dry_run, strict=strict
            )

    def delete(
        self, kind: Kind, key: Key, preconditions: Mapping[str, str] | None = None, *, dry_run: bool = False
    ) -> Object:
        """Delete an object, and what it owns."""
        with self.lock:
            live = self._existing(kind, key)
            for name, value in (preconditions or {}).items():
                if live["metadata"].get(name) != value:
                    words = (
                        f"Precondition failed: {name} in precondition: {value}, in object meta: {live['metadata'].get(name)}"
                    )
                    raise Refused(409, "Conflict", f'Operation cannot be fulfilled on {_plural(kind)} "{key[3]}": {words}')
            if not dry_run:
                self._remove(key, live)
            return copy.deepcopy(live)

    def compact(self) -> None:
        """Forget all changes so far, as etcd does after some minutes."""
        with self.lock:
            self.compacted = self.version
            self.history.clear()

    def bump(self) -> None:
        """Let versions go on, as they do when other objects change."""
        with self.lock:
            self.version += 1

    # Parts

    def _remove(self, key: Key, live: Object) -> None:
        del self._objects[key]
        self._record("DELETED", key, live)
        uid = live["metadata"]["uid"]
        if key[1] == "namespaces":
            owned = [each for each in self._objects if each[2] == key[3]]
        else:
            owned = [
                each
                for each, obj in self._objects.items()
                if any(owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences", []))
            ]
        for each in owned:
            if each in self._objects:
                self._remove(each, self._objects[each])

    def _store(self, kind: Kind, key: Key, live: Object | None, made: Object, dry_run: bool, strict: bool) -> Object:
        check(made, live, strict=strict, flags=self.flags, most_timeout_s=self.most_timeout_s)
        meta = made["metadata"]
        meta.update({"name": key[3], **({"namespace": key[2]} if kind.namespaced else {})})
        before = {} if live is None else live["metadata"]
        meta["uid"] = before.get("uid") or str(uuid.uuid4())
        meta["creationTimestamp"] = before.get("creationTimestamp") or _stamp(self.now())
        meta["resourceVersion"] = before.get("resourceVersion", "")
        same_spec = live is not None and _without(live, "metadata", "status") == _without(made, "metadata", "status")
        meta["generation"] = before.get("generation", 0) + (0 if same_spec else 1)
        if not kind.group and kind.resource != "pods":
            del meta["generation"]
        if live == made:
            return copy.deepcopy(made)
        if dry_run:
            return copy.deepcopy(made)
        self._objects[key] = made
        self._record("ADDED" if live is None else "MODIFIED", key, made)
        return copy.deepcopy(self._objects.get(key, made))

    def _record(self, event: str, key: Key, obj: Object) -> None:
        self.version += 1
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(self.version)
        if event != "DELETED":
            self._objects[key]["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.version, event, key, obj))
        self.changed.notify_all()
        for controller in self.controllers:
            controller(event, key, copy.deepcopy(obj))

    def _key(self, kind: Kind, obj: Object) -> Key:
        meta = obj.get("metadata", {})
        if not meta.get("name"):
            raise Refused(422, "Invalid", f'{kind.kind} "" is invalid: metadata.name: Required value: name is required')
        return kind.group, kind.resource, meta.get("namespace", "") if kind.namespaced else "", meta["name"]

    def _check_namespace(self, kind: Kind, key: Key) -> None:
        if kind.namespaced and ("", "namespaces", "", key[2]) not in self._objects:
            raise Refused(404, "NotFound", f'namespaces "{key[2]}" not found')

    def _existing(self, kind: Kind, key: Key) -> Object:
        live = self._objects.get(key)
        if live is None:
            raise Refused(404, "NotFound", f'{_plural(kind)} "{key[3]}" not found')
        return live

    def _check_version(self, kind: Kind, key: Key, live: Object | None, new: Object) -> None:
        given = new.get("metadata", {}).get("resourceVersion")
        if given and live is not None and given != live["metadata"]["resourceVersion"]:
            words = "the object has been modified; please apply your changes to the latest version and try again"
            raise Refused(409, "Conflict", f'Operation cannot be fulfilled on {_plural(kind)} "{key[3]}": {words}')

    @staticmethod
    def _shaped(kind: Kind, new: Object) -> Object:
        made = copy.deepcopy(new)
        made.update(apiVersion=kind.api_version, kind=kind.kind)
        for name in ("resourceVersion", "uid", "generation", "creationTimestamp"):
            made["metadata"].pop(name, None)
        if kind.kind == "Secret" and "stringData" in made:
            texts = {name: base64.b64encode(text.encode()).decode() for name, text in made.pop("stringData").items()}
            made["data"] = {**made.get("data", {}), **texts}
        return made


def _kind(resource: str, group: str = "") -> Kind:
    return next(each for each in KINDS if (each.group, each.resource) == (group, resource))


def _plural(kind: Kind) -> str:
    return f"{kind.resource}.{kind.group}" if kind.group else kind.resource


def _without(obj: Object, *names: str) -> dict[str, Any]:
    return {name: value for name, value in obj.items() if name not in names}


def _stamp(unix_s: float) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
