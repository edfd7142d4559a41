"""Frazil's function services in the double of the Kubernetes API, and clients of it with the rights of the coordinator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from frazil_coordinator.platform.knative.api import KubeApi as Client
from frazil_coordinator.platform.knative.api import connect
from frazil_coordinator.platform.knative.releases import service_name
from support.crd import REPOSITORY
from support.kube_api import KubeApi, Object

__all__ = ["COORDINATOR", "ROLE", "client_of", "function_service_object", "min_scale", "role_rules"]

COORDINATOR = "coordinator-token"
ROLE = REPOSITORY / "knative" / "components" / "prescale" / "role.yaml"


def role_rules() -> list[dict[str, Any]]:
    """Return the rules that the manifests give the coordinator."""
    rules: list[dict[str, Any]] = yaml.safe_load(ROLE.read_text())["rules"]
    return rules


@contextmanager
def client_of(api: KubeApi, folder: Path, token: str = COORDINATOR, waits: list[float] | None = None) -> Iterator[Client]:
    """Give a client; by default with the rights of the coordinator's Role. Waits between tries are noted, and not waited."""
    if token == COORDINATOR and token not in api.rights.users:
        api.rights.add(COORDINATOR, "system:serviceaccount:frazil:frazil-coordinator", role_rules(), "frazil")
    client = connect(kubeconfig=str(api.kubeconfig(folder / f"kubeconfig-{token}", token)))
    noted = [] if waits is None else waits
    client._sleep = noted.append
    try:
        yield client
    finally:
        client.close()


def function_service_object(
    size: str = "small",
    release: str = "",
    *,
    polars: str = "",
    image: str = "registry/frazil-function@sha256:aa",
    max_scale: int | None = 50,
    memory_bytes: int | None = 3_489_660_928,
    timeout_s: int = 600,
) -> Object:
    """Return a function service as the manifests have it, in what matters to the coordinator."""
    labels = {"app.kubernetes.io/name": "frazil-function", "app.kubernetes.io/component": "function"}
    own = {"frazil.dev/size": size} | ({"frazil.dev/release": release, "frazil.dev/polars": polars} if release else {})
    scale = {} if max_scale is None else {"autoscaling.knative.dev/max-scale": str(max_scale)}
    env = [] if memory_bytes is None else [{"name": "FRAZIL_MEMORY_LIMIT_BYTES", "value": str(memory_bytes)}]
    base = f"frazil-function-{size}"
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": service_name(base, release) if release else base,
            "namespace": "frazil",
            "labels": labels | own,
        },
        "spec": {
            "template": {
                "metadata": {"labels": labels, "annotations": {"autoscaling.knative.dev/min-scale": "0", **scale}},
                "spec": {
                    "containerConcurrency": 1,
                    "timeoutSeconds": timeout_s,
                    "containers": [{"image": image, "env": env}],
                },
            }
        },
    }


def min_scale(api: KubeApi, revision: str) -> str | None:
    """Return what a Revision's PodAutoscaler was told."""
    found = api.named("podautoscalers", revision, group="autoscaling.internal.knative.dev")
    scale: str | None = found["metadata"]["annotations"].get("autoscaling.knative.dev/min-scale")
    return scale
