"""Components for the Knative base: what an overlay that has them gives, and what it gives no right to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from frazil_coordinator.tenancy import Binding, Kubernetes, Role
from support.crd import REPOSITORY, crd_schema, violations
from support.kustomize import kustomized

KNATIVE = REPOSITORY / "knative"
BOTH = ("tenants", "token-review")


def render(folder: Path, *components: str) -> list[dict[str, Any]]:
    """Return what kustomize makes of an overlay with components; offline."""
    shutil.copytree(KNATIVE, folder / "knative", dirs_exist_ok=True)
    overlay = folder / "knative" / "overlay"
    overlay.mkdir(exist_ok=True)
    document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "a-namespace",
        "resources": ["../base"],
        "components": [f"../components/{name}" for name in components],
    }
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return kustomized(overlay)


def only(rendered: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [each for each in rendered if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def spec_of(rendered: list[dict[str, Any]], name: str = "frazil-coordinator") -> dict[str, Any]:
    spec: dict[str, Any] = only(rendered, "Service", name)["spec"]["template"]["spec"]
    return spec


def test_with_tenants_the_coordinator_reads_their_file_from_a_secret_and_the_rest_is_as_it_was(tmp_path: Path) -> None:
    plain, changed = spec_of(render(tmp_path)), spec_of(render(tmp_path, "tenants"))
    assert changed["containers"][0]["env"].pop() == {"name": "FRAZIL_TENANTS", "value": "/etc/frazil/tenants/tenants.toml"}
    mount, volume = changed["containers"][0]["volumeMounts"].pop(), changed["volumes"].pop()
    assert mount == {"name": "tenants", "mountPath": "/etc/frazil/tenants", "readOnly": True}
    assert volume == {"name": "tenants", "secret": {"secretName": "frazil-tenants"}}
    assert changed == plain
    docs = (REPOSITORY / "docs" / "deploy.md").read_text()
    assert "secret generic frazil-tenants --namespace frazil --from-file=tenants.toml" in docs


def test_the_one_token_may_be_left_out_of_the_secret(tmp_path: Path) -> None:
    """Else a pod with a file of tenants would not start: it takes one of both."""
    (token,) = [
        each for each in spec_of(render(tmp_path, "tenants"))["containers"][0]["env"] if each["name"] == "FRAZIL_TOKEN"
    ]
    assert token["valueFrom"]["secretKeyRef"]["optional"] is True


def test_with_token_review_only_the_coordinator_gets_one_right_and_a_token_to_use_it(tmp_path: Path) -> None:
    plain, rendered = render(tmp_path, "tenants"), render(tmp_path, *BOTH)
    assert only(rendered, "ClusterRole", "frazil-token-review")["rules"] == [
        {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
    ]
    binding = only(rendered, "ClusterRoleBinding", "frazil-token-review")
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "frazil-coordinator", "namespace": "a-namespace"}]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", "frazil-token-review")
    assert len(rendered) == len(plain) + 2
    assert spec_of(rendered) == {**spec_of(plain), "automountServiceAccountToken": True}
    assert spec_of(rendered)["serviceAccountName"] == "frazil-coordinator"
    assert spec_of(rendered, "frazil-function-small") == spec_of(plain, "frazil-function-small")


def test_the_token_that_is_mounted_is_where_the_coordinator_looks_for_it() -> None:
    looked = Kubernetes(audiences=("x",), bindings=(Binding(group="g", tenant="a", role=Role.READ),))
    # https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/: where automountServiceAccountToken puts them.
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert {looked.token_file, looked.ca_file} == {f"{folder}/token", f"{folder}/ca.crt"}


@pytest.mark.parametrize("components", [("tenants",), BOTH], ids="+".join)
def test_what_components_add_is_known_to_knative_and_allowed_by_default(tmp_path: Path, components: tuple[str, ...]) -> None:
    service = only(render(tmp_path, *components), "Service", "frazil-coordinator")
    found = [
        each for each in violations(service, crd_schema("serving/service.yaml")) if "podspec-volumes-emptydir" not in each
    ]
    assert found == []


def test_the_components_that_the_docs_show_are_there() -> None:
    docs = (REPOSITORY / "docs" / "deploy.md").read_text()
    (line,) = re.findall(r"^components: \[(.*)\]$", docs, re.MULTILINE)
    for name in line.split(", "):
        assert (KNATIVE / "overlay" / name).resolve().joinpath("kustomization.yaml").is_file()
