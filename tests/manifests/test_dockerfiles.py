"""The images by their text: small, not root, nothing in them that was not named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.crd import REPOSITORY

IMAGES = {"coordinator": REPOSITORY / "coordinator" / "Dockerfile", "functions": REPOSITORY / "functions" / "Dockerfile"}
every_image = pytest.mark.parametrize("name", IMAGES)


def instructions(name: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile: word and arguments, continued lines joined."""
    text = re.sub(
        r"\\\n", " ", "\n".join(line for line in IMAGES[name].read_text().splitlines() if not line.startswith("#"))
    )
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    return [(word.upper(), arguments.strip()) for word, arguments in lines]


def last_stage(name: str) -> list[tuple[str, str]]:
    found = instructions(name)
    start = max(number for number, (word, _) in enumerate(found) if word == "FROM")
    return found[start:]


@every_image
def test_the_image_is_built_in_stages_so_that_build_tools_stay_behind(name: str) -> None:
    assert [word for word, _ in instructions(name)].count("FROM") >= 2
    assert not [
        arguments for word, arguments in last_stage(name) if word == "RUN" and re.search(r"\b(uv|pip|apt)", arguments)
    ]


@every_image
def test_the_process_is_not_root_by_number(name: str) -> None:
    (user,) = [arguments for word, arguments in last_stage(name) if word == "USER"]
    assert int(user.partition(":")[0]) > 0


@every_image
def test_only_named_files_are_copied(name: str) -> None:
    assert "ADD" not in [word for word, _ in instructions(name)]
    for word, arguments in instructions(name):
        sources = [part for part in arguments.split() if not part.startswith("--")][:-1]
        assert word != "COPY" or not {".", "./", "*"} & set(sources)


@every_image
def test_dependencies_come_from_the_lock_file_without_development_tools(name: str) -> None:
    synced = [
        arguments for word, arguments in instructions(name) if word == "RUN" and "uv " in arguments and "sync" in arguments
    ]
    assert synced
    for each in synced:
        assert "--frozen" in each or "--locked" in each
        assert "--no-dev" in each


@every_image
def test_python_is_compiled_beforehand_because_the_root_is_read_only(name: str) -> None:
    assert "UV_COMPILE_BYTECODE=1" in IMAGES[name].read_text()


@every_image
def test_no_secret_is_baked_in(name: str) -> None:
    assert not re.search(r"(?i)(token|secret|password|task_keys)\s*=", IMAGES[name].read_text())


@every_image
def test_an_image_says_where_the_list_of_what_is_in_it_lies(name: str) -> None:
    (labels,) = [arguments for word, arguments in last_stage(name) if word == "LABEL"]
    (path,) = re.findall(r'dev\.frazil\.sbom="([^"]+)"', labels)
    assert f"--output-file {path}" in exports(name)[0]
    assert ("COPY", f"--from=build {Path(path).parent} {Path(path).parent}") in last_stage(name)


def exports(name: str) -> list[str]:
    return [arguments for word, arguments in instructions(name) if word == "RUN" and "uv export" in arguments]


@every_image
def test_the_list_is_that_of_what_is_installed(name: str, tmp_path: Path) -> None:
    """By the command of the Dockerfile itself, from the repository's lock file."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        pytest.skip("uv is not on this machine")
    (export,) = exports(name)
    (synced,) = {" ".join(re.findall(r"--extra \w+", each)) for each in runs(name) if "uv sync" in each}
    assert " ".join(re.findall(r"--extra \w+", export)) == synced
    command = re.sub(r"--output-file \S+", f"--output-file {tmp_path / 'sbom.json'}", export).split()
    subprocess.run([uv, *command[1:], "--offline"], cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
    listed = {each["name"] for each in json.loads((tmp_path / "sbom.json").read_text())["components"]}
    assert {"polars", "obstore", "uvicorn"} <= listed
    assert ("fastapi" in listed) == ("opentelemetry-sdk" in listed) == (name == "coordinator")
    assert not {"pytest", "moto", "mypy"} & listed


def runs(name: str) -> list[str]:
    return [arguments for word, arguments in instructions(name) if word == "RUN"]


def test_the_coordinator_serves_the_knative_platform() -> None:
    found = dict(last_stage("coordinator"))
    assert found["ENTRYPOINT"] == '["frazil"]'
    assert found["CMD"] == '["serve", "--platform", "knative"]'
