"""Temporary folders go with their process, killed ones with the next."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frazil_coordinator.scratch import scratch_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def _age(folder: Path) -> None:
    old = time.time() - 3600
    os.utime(folder, (old, old))


def test_folder_is_deleted_at_the_end(temporary: Path) -> None:
    with scratch_folder() as folder:
        (folder / "x").write_text("x")
        assert folder.parent == temporary
    assert list(temporary.iterdir()) == []


def test_folder_of_a_killed_process_is_deleted_by_the_next_one(temporary: Path) -> None:
    code = "import os, signal\nfrom frazil_coordinator.scratch import scratch_folder\n"
    code += "with scratch_folder():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(temporary)}, check=False)
    (left,) = temporary.iterdir()
    _age(left)
    with scratch_folder() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_folder_of_a_living_process_is_left_alone_however_old(temporary: Path) -> None:
    with scratch_folder() as mine:
        _age(mine)
        with scratch_folder() as other:
            assert mine.exists()
            assert other != mine


def test_folder_that_is_being_made_is_left_alone(temporary: Path) -> None:
    young = temporary / "frazil-scratch-young"
    young.mkdir()
    with scratch_folder():
        assert young.exists()
