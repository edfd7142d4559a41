"""Checkov's policies over terraform/ and over every overlay and component as kustomize renders it.

``python -m support.policies CHECKOV`` (``make policy``) ends with 1 when one is broken. Pods of Knative Services are checked
as plain Pods, since checkov knows no Knative. A policy that does not fit is skipped where it is broken, with its reason: by
a comment in Terraform, by an annotation in a manifest, and for every Knative Service in a table here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from support.crd import REPOSITORY
from support.kustomize import kustomized
from support.manifests import Resource

__all__ = ["as_pods", "failed", "main"]

_TIMEOUT_S: Final = 300
_ONLY_FOR_PODS_OF_KNATIVE: Final = {
    "CKV_K8S_15": "Knative turns the tag into a digest when it makes a Revision",
    "CKV_K8S_43": "as above",
    "CKV_K8S_29": "the container's own says it all; one of the pod stands behind a flag of Knative that is off",
    "CKV_K8S_35": "read once, at the start; the process is the only one of its pod that has that environment",
    "CKV_K8S_40": "the image names its user, 65532; Knative takes runAsUser only from who switches a flag on",
}
"""Policies that a Knative Service can't hold, with the reason."""

_ONLY_FOR: Final = {"frazil-coordinator": {"CKV_K8S_38": "it asks the API server what its roles let it, and nothing else"}}
"""The same of one service."""


def as_pods(resources: Sequence[Resource]) -> list[Resource]:
    """Return the resources with a Pod for each Knative Service, as Knative would make it."""
    found = []
    for each in resources:
        if each["apiVersion"] == "serving.knative.dev/v1":
            policies = {**_ONLY_FOR_PODS_OF_KNATIVE, **_ONLY_FOR.get(each["metadata"]["name"], {})}
            skipped = enumerate(policies.items(), start=1)
            annotations = {f"checkov.io/skip{number}": f"{policy}={reason}" for number, (policy, reason) in skipped}
            template = each["spec"]["template"]
            metadata = {**each["metadata"], "labels": template["metadata"]["labels"], "annotations": annotations}
            spec = {key: value for key, value in template["spec"].items() if not key.endswith(("Seconds", "Concurrency"))}
            found.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        else:
            found.append(each)
    return found


def failed(checkov: str, folder: Path, framework: str) -> list[str]:
    """Return each policy that is broken below a folder, with the resource that breaks it.

    Raises
    ------
    RuntimeError
        When checkov checked nothing.
    """
    command = [checkov, "--directory", str(folder), "--framework", framework, "--output", "json", "--quiet", "--compact"]
    # No module, no policy and no news from outside.
    environment = {**os.environ, "CHECKOV_RUN_SCA_PACKAGE_SCAN_V2": "false", "LOG_LEVEL": "ERROR"}
    done = subprocess.run(
        [*command, "--download-external-modules", "false", "--skip-download"],
        capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment, check=False,
    )  # fmt: skip
    report = json.loads(done.stdout or "{}")
    if not report.get("summary", {}).get("passed"):
        raise RuntimeError(f"checkov checked nothing below {folder}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    broken = report["results"]["failed_checks"]
    return [f"{each['check_id']} {each['check_name']}: {each['resource']} ({each['file_path']})" for each in broken]


def _render(folder: Path) -> None:
    """Write what kustomize makes of each overlay into a folder, and of one more with components that none of ours has."""
    with tempfile.TemporaryDirectory() as copied:
        knative = Path(copied) / "knative"
        shutil.copytree(REPOSITORY / "knative", knative)
        names = ("network-policies", "otel", "eventing", "tenants", "token-review", "source-sqs", "source-schedule")
        components = [f"../../components/{name}" for name in names]
        further = knative / "overlays" / "further"
        further.mkdir()
        document = {"namespace": "frazil", "resources": ["../../base"], "components": components}
        (further / "kustomization.yaml").write_text(yaml.safe_dump(document))
        for overlay in sorted((knative / "overlays").iterdir()):
            (folder / f"{overlay.name}.yaml").write_text(yaml.safe_dump_all(as_pods(kustomized(overlay))))


def main(arguments: Sequence[str]) -> int:
    """Check everything; print what is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkov", help="the command checkov")
    checkov: str = parser.parse_args(arguments).checkov
    with tempfile.TemporaryDirectory() as folder:
        _render(Path(folder))
        found = failed(checkov, Path(folder), "kubernetes") + failed(checkov, REPOSITORY / "terraform", "terraform")
    sys.stdout.write("".join(f"{each}\n" for each in found) + f"{len(found)} policies broken\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
