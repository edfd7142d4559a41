"""A small Knative Serving: makes Configurations, Revisions, Routes, PodAutoscalers and status from Services.

A new Revision comes with each change of a Service's template. It is ready at once, unless a test says otherwise
(:attr:`Knative.not_ready`); traffic goes to the latest one that is. No pods run here: :mod:`support.data_path` has those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from support.kube_api.fields import Object
from support.kube_api.objects import KINDS, Key, Kind, Objects

__all__ = ["Knative"]

SERVING = "serving.knative.dev"


def _kind(resource: str, group: str = SERVING) -> Kind:
    return next(each for each in KINDS if (each.group, each.resource) == (group, resource))


@dataclass
class Knative:
    """The controllers of Knative Serving."""

    objects: Objects
    not_ready: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Images that make no Revision ready: reason and message, e.g. ``("ContainerMissing", "Unable to fetch image")``."""

    version: str = "1.23.0"

    def __post_init__(self) -> None:
        self.objects.controllers.append(self._changed)
        self._deploy()

    def _deploy(self) -> None:
        """Make what doctor looks at of an installation: the controller's Deployment and the configuration."""
        labels = {"app.kubernetes.io/name": "knative-serving", "app.kubernetes.io/version": self.version}
        meta = {"name": "controller", "namespace": "knative-serving", "labels": labels}
        self.objects.create(_kind("deployments", "apps"), {"metadata": meta, "spec": {}}, "installer")
        for name in ("config-defaults", "config-features", "config-autoscaler", "config-network"):
            meta = {"name": name, "namespace": "knative-serving"}
            self.objects.create(_kind("configmaps", ""), {"metadata": meta, "data": {}}, "installer")

    def settle(self) -> None:
        """Look at all Services again, as when an image can be fetched at last."""
        for service in self.objects.find(_kind("services"), ""):
            self._reconcile(service)

    def _changed(self, event: str, key: Key, obj: Object) -> None:
        if event == "DELETED" or key[0] != SERVING:
            return
        if key[1] == "services":
            status = obj.get("status", {})
            if status.get("observedGeneration") != obj["metadata"]["generation"]:
                self._reconcile(obj)
        elif key[1] == "revisions":
            self._scale(obj)

    def _reconcile(self, service: Object) -> None:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        generation = service["metadata"]["generation"]
        template = service["spec"]["template"]
        revisions = self.objects.find(_kind("revisions"), namespace, f"serving.knative.dev/service={name}")
        latest = max(revisions, key=lambda each: int(each["metadata"]["labels"][f"{SERVING}/generation"]), default=None)
        if latest is None or latest["metadata"]["annotations"].get("double/template") != repr(_sorted(template)):
            number = 1 if latest is None else int(latest["metadata"]["labels"][f"{SERVING}/generation"]) + 1
            latest = self._revision(service, template, number)
        ready, reason, message = self._ready(latest)
        conditions = _conditions(ready, reason, message, "ConfigurationsReady", "RoutesReady")
        url = {"url": f"http://{name}.{namespace}.svc.cluster.local"}
        before = service.get("status", {}).get("latestReadyRevisionName")
        ready_name = latest["metadata"]["name"] if ready == "True" else before
        traffic = [{"latestRevision": True, "percent": 100, "revisionName": ready_name}] if ready_name else []
        status: Object = {
            "observedGeneration": generation,
            "conditions": conditions,
            "latestCreatedRevisionName": latest["metadata"]["name"],
            **({"latestReadyRevisionName": ready_name} if ready_name else {}),
            **({"url": url["url"], "address": url, "traffic": traffic} if ready_name else {}),
        }
        for resource, body in (("configurations", {"template": template}), ("routes", {"traffic": traffic})):
            self._own(resource, service, body, {**status, "conditions": _conditions(ready, reason, message)})
        key = (SERVING, "services", namespace, name)
        self.objects.patch(_kind("services"), key, {"status": status}, "controller", status=True)

    def _revision(self, service: Object, template: Mapping[str, Any], number: int) -> Object:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        meta = template.get("metadata", {})
        labels = {
            **meta.get("labels", {}),
            f"{SERVING}/service": name,
            f"{SERVING}/configuration": name,
            f"{SERVING}/generation": str(number),
            f"{SERVING}/configurationGeneration": str(number),
        }
        made = {
            "metadata": {
                "name": f"{name}-{number:05d}",
                "namespace": namespace,
                "labels": labels,
                "annotations": {**meta.get("annotations", {}), "double/template": repr(_sorted(template))},
                "ownerReferences": [_owner(service)],
            },
            "spec": {"containerConcurrency": 0, "timeoutSeconds": 300, **template.get("spec", {})},
        }
        made = self.objects.create(_kind("revisions"), made, "controller")
        ready, reason, message = self._ready(made)
        self._status("revisions", made, {"conditions": _conditions(ready, reason, message)})
        return made

    def _ready(self, revision: Object) -> tuple[str, str, str]:
        image = revision["spec"]["containers"][0].get("image", "")
        if image in self.not_ready:
            return "False", *self.not_ready[image]
        return "True", "", ""

    def _scale(self, revision: Object) -> None:
        """Carry the annotations of a Revision to its PodAutoscaler: so since Knative 1.21."""
        annotations = revision["metadata"].get("annotations", {})
        scale = {name: value for name, value in annotations.items() if name.startswith("autoscaling.knative.dev/")}
        meta = {**_named(revision), "annotations": scale, "ownerReferences": [_owner(revision)]}
        kind = _kind("podautoscalers", "autoscaling.internal.knative.dev")
        self.objects.apply(kind, {"metadata": meta, "spec": {}}, "controller", force=True)

    def _own(self, resource: str, service: Object, spec: Mapping[str, Any], status: Object) -> None:
        kind = _kind(resource)
        made = {"metadata": {**_named(service), "ownerReferences": [_owner(service)]}, "spec": dict(spec)}
        self._status(resource, self.objects.apply(kind, made, "controller", force=True, strict=False), status)

    def _status(self, resource: str, obj: Object, status: Object) -> None:
        kind, meta = _kind(resource), obj["metadata"]
        key = (SERVING, resource, meta["namespace"], meta["name"])
        self.objects.patch(kind, key, {"status": status}, "controller", status=True, strict=False)


def _named(obj: Object) -> Object:
    return {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]}


def _owner(obj: Object) -> Object:
    meta = obj["metadata"]
    kind = {"apiVersion": obj["apiVersion"], "kind": obj["kind"]}
    return {**kind, "name": meta["name"], "uid": meta["uid"], "controller": True, "blockOwnerDeletion": True}


def _conditions(ready: str, reason: str, message: str, *more: str) -> list[Object]:
    words = {"reason": reason, "message": message} if reason else {}
    return [{"type": each, "status": ready, **words} for each in (*more, "Ready")]


def _sorted(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _sorted(node[name]) for name in sorted(node)}
    return [_sorted(each) for each in node] if isinstance(node, list) else node
