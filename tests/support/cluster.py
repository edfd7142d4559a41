"""A real Kubernetes cluster with Knative, for the suite that runs on one: what the environment says of it, how it is asked.

Everything goes through the commands ``kubectl`` and ``frazil``, as a person would. The suite is tests/e2e/test_cluster.py;
the variables are in docs/deploy.md, "Try a cluster".
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import frazil
from benchmarks.processes import program
from support.crd import REPOSITORY
from support.polling import eventually

__all__ = ["Cluster", "Wanted", "wanted", "write_overlay"]

_REQUIRED: Final = ("KUBECONFIG", "FRAZIL_E2E_COORDINATOR_IMAGE", "FRAZIL_E2E_FUNCTION_IMAGE", "FRAZIL_E2E_STORE")
FUNCTION: Final = "app.kubernetes.io/name=frazil-function"
COORDINATOR: Final = "app.kubernetes.io/name=frazil-coordinator"
_KINDS: Final = (
    *("services.serving.knative.dev", "revisions.serving.knative.dev", "deployment", "statefulset", "daemonset", "pod"),
    *("serviceaccount", "configmap", "role", "rolebinding", "networkpolicy", "poddisruptionbudget"),
    *("resourcequota", "limitrange"),
)
_OF_EVERY_NAMESPACE: Final = {"serviceaccount/default", "configmap/kube-root-ca.crt", "configmap/openshift-service-ca.crt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the environment says."""

    coordinator_image: str
    function_image: str
    next_coordinator_image: str
    """To roll to; by default the same, whose pods are made anew all the same."""

    next_function_image: str
    store: str
    """URL with a prefix, as pods see it: Frazil's store, and below it the data of the suite."""

    store_options: dict[str, str]
    """What opens it for pods; empty where their identity does."""

    client_options: dict[str, str]
    """What opens it from here, e.g. with another endpoint."""

    namespace: str
    components: tuple[str, ...]
    scale_factor: float
    url: str
    """The coordinator from here; empty for a port-forward."""


def wanted(environment: Mapping[str, str] = os.environ) -> Wanted:
    """Return what the environment says; skip the test where it names no cluster."""
    missing = [name for name in _REQUIRED if not environment.get(name)]
    if missing:
        pytest.skip(f'no cluster: set {", ".join(missing)} (docs/deploy.md, "Try a cluster")')
    options = environment.get("FRAZIL_E2E_STORE_OPTIONS", "{}")
    names = environment.get("FRAZIL_E2E_COMPONENTS", "network-policies,quotas,prescale")
    present = [name for name in names.split(",") if (REPOSITORY / "knative" / "components" / name).is_dir()]
    return Wanted(
        coordinator_image=environment["FRAZIL_E2E_COORDINATOR_IMAGE"],
        function_image=environment["FRAZIL_E2E_FUNCTION_IMAGE"],
        next_coordinator_image=environment.get("FRAZIL_E2E_NEXT_COORDINATOR_IMAGE")
        or environment["FRAZIL_E2E_COORDINATOR_IMAGE"],
        next_function_image=environment.get("FRAZIL_E2E_NEXT_FUNCTION_IMAGE") or environment["FRAZIL_E2E_FUNCTION_IMAGE"],
        store=environment["FRAZIL_E2E_STORE"].rstrip("/"),
        store_options=json.loads(options),
        client_options=json.loads(environment.get("FRAZIL_E2E_CLIENT_STORE_OPTIONS", options)),
        namespace=environment.get("FRAZIL_E2E_NAMESPACE", "frazil-e2e"),
        components=tuple(present),
        scale_factor=float(environment.get("FRAZIL_E2E_SCALE", "0.1")),
        url=environment.get("FRAZIL_E2E_URL", ""),
    )


def write_overlay(folder: Path, wanted: Wanted, *, rolled: bool = False) -> Path:
    """Write an overlay, and the manifests that it is laid over, into an empty folder; return the overlay's.

    With `rolled` it has the next images, and pods are made anew even when these are the same.
    """
    shutil.copytree(REPOSITORY / "knative", folder / "knative")
    overlay = folder / "knative" / "overlays" / "e2e"
    overlay.mkdir()
    images = {"frazil-coordinator": wanted.coordinator_image, "frazil-function-.*": wanted.function_image}
    if rolled:
        images = {"frazil-coordinator": wanted.next_coordinator_image, "frazil-function-.*": wanted.next_function_image}
    settings = {"namespace": wanted.namespace, "store-url": wanted.store}
    patches: list[dict[str, Any]] = [
        {"patch": yaml.safe_dump(_named("ConfigMap", "frazil-settings") | {"data": settings})},
    ]
    for name, image in images.items():
        change: list[dict[str, Any]] = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
        if rolled:
            change.append({"op": "add", "path": "/spec/template/metadata/annotations/frazil.dev~1rolled", "value": "1"})
        patches.append(
            {"target": {"group": "serving.knative.dev", "kind": "Service", "name": name}, "patch": yaml.safe_dump(change)}
        )
    document = {
        "namespace": wanted.namespace,
        "resources": ["../../base"],
        "components": [f"../../components/{name}" for name in wanted.components],
        "patches": patches,
    }
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return overlay


def _named(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


@dataclass(slots=True, kw_only=True)
class Cluster:
    """One namespace of a cluster."""

    wanted: Wanted
    token: str
    deployed: list[dict[str, Any]] = field(default_factory=list)
    """What each `frazil deploy` said."""

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl in the namespace; return what it prints."""
        command = [program("kubectl"), "--namespace", self.wanted.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def command(self, *arguments: str) -> Any:
        """Run the command frazil with ``--json`` in the namespace; return what it says."""
        command = [program("frazil"), *arguments, "--namespace", self.wanted.namespace, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        assert done.returncode == 0, f"frazil {' '.join(arguments)}: {done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def deploy(self, overlay: Path) -> dict[str, Any]:
        """Deploy an overlay."""
        said: dict[str, Any] = self.command("deploy", "--overlay", str(overlay), "--store", self.wanted.store, "--yes")
        self.deployed.append(said)
        return said

    def prepare(self) -> None:
        """Make the namespace, which may not be there yet, and the secrets."""
        self.kubectl("create", "--filename", "-", stdin=json.dumps(_named("Namespace", self.wanted.namespace)))
        keys = {"task-keys": os.urandom(32).hex(), "journal-keys": os.urandom(32).hex(), "token": self.token}
        if self.wanted.store_options:
            keys["store-options"] = json.dumps(self.wanted.store_options)
        secret = _named("Secret", "frazil-secrets") | {"stringData": keys}
        self.kubectl("create", "--filename", "-", stdin=json.dumps(secret))

    def pods(self, selector: str) -> list[str]:
        """Return the names of running pods that nobody has told to end."""
        listed = json.loads(self.kubectl("get", "pods", "--selector", selector, "--output", "json"))["items"]
        alive = [
            each for each in listed if "deletionTimestamp" not in each["metadata"] and each["status"]["phase"] == "Running"
        ]
        return [each["metadata"]["name"] for each in alive]

    def kill(self, pods: list[str]) -> None:
        """Take pods away without a word to them."""
        self.kubectl("delete", "pod", *pods, "--grace-period=0", "--force", "--wait=false")

    def revision(self) -> str:
        """Return the coordinator's revision that is ready."""
        return self.kubectl(
            "get",
            "services.serving.knative.dev",
            "frazil-coordinator",
            "--output",
            "jsonpath={.status.latestReadyRevisionName}",
        )

    def left(self) -> list[str]:
        """Return what the namespace has that not every namespace has, secrets aside."""
        names = self.kubectl("get", ",".join(_KINDS), "--output", "name", "--ignore-not-found").split()
        return sorted(re.sub(r"^([a-z]+)[.a-z0-9]*/", r"\1/", name) for name in names if name not in _OF_EVERY_NAMESPACE)

    @contextlib.contextmanager
    def address(self) -> Iterator[str]:
        """Give a URL of the coordinator from here, while the context lasts; of the pod that is ready now."""
        if self.wanted.url:
            yield self.wanted.url
            return
        eventually(lambda: bool(self.pods(COORDINATOR)), "a coordinator runs", within_s=300)
        target = f"service/{self.revision()}-private"
        command = [program("kubectl"), "--namespace", self.wanted.namespace, "port-forward", target, ":80"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as forward:
            try:
                assert forward.stdout is not None
                line = forward.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                assert found is not None, line
                yield f"http://127.0.0.1:{found[1]}"
            finally:
                forward.terminate()

    @contextlib.contextmanager
    def engine(self, settings: frazil.Settings | None = None) -> Iterator[frazil.Engine]:
        """Give an engine that sends to the coordinator that is ready now."""
        with self.address() as url, frazil.connect(url, token=self.token, settings=settings, timeout_s=120.0) as engine:
            yield engine
