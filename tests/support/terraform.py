"""The terraform of this machine, run offline: providers come from a folder, state and plugins stay in the test's own one.

Where a provider or terraform itself is missing, a test that asks for it is skipped with a reason.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from support.crd import REPOSITORY

__all__ = ["EXAMPLES", "MODULES", "Terraform", "aws_provider", "terraform_program"]

MODULES: Final = REPOSITORY / "terraform" / "modules"
EXAMPLES: Final = REPOSITORY / "terraform" / "examples"
_COLOURED: Final = frozenset({"apply", "destroy", "init", "plan", "test", "validate"})
_AWS: Final = Path("registry.terraform.io") / "hashicorp" / "aws"


def terraform_program() -> str:
    """Return the path of terraform: ``FRAZIL_TERRAFORM``, or the one of the PATH; skip the test without one."""
    found = shutil.which(os.environ.get("FRAZIL_TERRAFORM", "terraform"))
    if found is None:
        pytest.skip("terraform is not on this machine: put it into the PATH, or name it by FRAZIL_TERRAFORM")
    return found


def aws_provider() -> Path:
    """Return the folder below which AWS' provider lies; skip the test without one.

    It is ``FRAZIL_TERRAFORM_PROVIDERS``, one of the folders that terraform itself looks into, or one of ``/opt``.
    """
    home = Path.home() / ".terraform.d" / "plugins"
    usual = (home, Path("/usr/local/share/terraform/plugins"), Path("/usr/share/terraform/plugins"))
    named = os.environ.get("FRAZIL_TERRAFORM_PROVIDERS")
    for folder in (Path(named),) if named else (*usual, *sorted(Path("/opt").glob("*"))):
        if any((folder / _AWS).glob("*/*/terraform-provider-aws*")):
            return folder
    pytest.skip("AWS' provider for terraform is not on this machine: name its mirror by FRAZIL_TERRAFORM_PROVIDERS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terraform:
    """Terraform in one folder, which holds the configuration."""

    folder: Path
    mirror: Path | None = None
    """Where providers come from; None for none, besides the one that terraform has in itself."""

    environment: dict[str, str] = field(default_factory=dict)
    """Beside the PATH."""

    def __post_init__(self) -> None:
        mirror = "" if self.mirror is None else f'  filesystem_mirror {{\n    path = "{self.mirror}"\n  }}\n'
        (self.folder / "cli.tfrc").write_text(f"disable_checkpoint = true\nprovider_installation {{\n{mirror}}}\n")

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run a command of terraform; what it prints is in the failure when its code is not one of `accept`."""
        done = subprocess.run(
            [terraform_program(), *arguments, *(["-no-color"] if arguments[0] in _COLOURED else [])],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "TF_CLI_CONFIG_FILE": str(self.folder / "cli.tfrc"),
                "TF_IN_AUTOMATION": "1",
                "TF_INPUT": "0",
                **self.environment,
            },
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode in accept, f"{arguments}: {done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done

    @staticmethod
    def formatted(folder: Path) -> str:
        """Return the files below a folder that ``terraform fmt`` would lay out otherwise, one a line."""
        command = [terraform_program(), "fmt", "-check", "-recursive", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

    def init(self) -> None:
        """Install modules and providers, from this machine only."""
        self.run("init", "-backend=false")

    def apply(self) -> None:
        """Make what is configured."""
        self.run("apply", "-auto-approve")

    def destroy(self) -> None:
        """Take it away."""
        self.run("destroy", "-auto-approve")

    def changes(self) -> str:
        """Return what an apply would change; empty for nothing."""
        planned = self.run("plan", "-detailed-exitcode", accept=(0, 2))
        return planned.stdout.partition("Terraform used the selected providers")[2] if planned.returncode == 2 else ""

    def resources(self) -> list[str]:
        """Return the addresses of what the state holds."""
        return self.run("state", "list", accept=(0, 1)).stdout.split()

    def outputs(self) -> dict[str, Any]:
        """Return the values of the outputs."""
        return {name: each["value"] for name, each in json.loads(self.run("output", "-json").stdout).items()}
