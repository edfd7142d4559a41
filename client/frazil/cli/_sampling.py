"""Profiling of what this process does by py-spy (extra ``replay``), which samples the threads of Polars too.

Python functions of a query run on threads that Polars makes; profilers inside of the interpreter see those that Python made.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from frazil_functions.errors import RequestError

__all__ = ["FORMATS", "Sampling", "check_profile", "sampled"]

FORMATS: Final = {".svg": "flamegraph", ".json": "speedscope", ".txt": "raw"}
"""Suffix of a profile → py-spy's name of the format."""

_RATE: Final = 200
"""Samples a second."""

_END_S: Final = 30.0
_PR_SET_PTRACER: Final = 0x59616D61
"""Of ``linux/prctl.h``: who else than an ancestor may look into this process."""


def check_profile(path: Path) -> str:
    """Return the program that profiles, before anything else is done.

    Raises
    ------
    typer.BadParameter
        When `path` has no suffix of a format.
    ImportError
        When py-spy is not installed.
    """
    if path.suffix not in FORMATS:
        known = ", ".join(f"{suffix} ({name})" for suffix, name in FORMATS.items())
        raise typer.BadParameter(f"--profile takes a file that ends in one of: {known}; not {path.name!r}")
    beside = Path(sys.executable).parent / "py-spy"
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise ImportError("--profile needs py-spy: pip install 'frazil[replay]'")
    return program


@dataclass
class Sampling:
    """A profile that is being taken."""

    path: Path
    note: str = ""
    """Why there is none, once its context has ended."""


@contextmanager
def sampled(path: Path, program: str) -> Iterator[Sampling]:
    """Profile this process while the context lasts, and write the profile at its end; what is too short has none.

    Raises
    ------
    RequestError
        When this machine does not let a process look into another one: before anything ran.
    """
    _let_look()
    command = [program, "record", "--pid", str(os.getpid()), "--rate", str(_RATE), "--format", FORMATS[path.suffix]]
    process = subprocess.Popen(  # noqa: S603  # py-spy, with arguments of our own and the user's file
        [*command, "--output", str(path)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None  # noqa: S101  # for the type checker: it is a pipe
    first = process.stdout.readline()  # said when it samples, or why it can't
    sampling = Sampling(path)
    path.unlink(missing_ok=True)
    said = ""
    try:
        if "Sampling" not in first:
            raise RequestError(_refusal(first + process.communicate(timeout=_END_S)[0]))
        yield sampling
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=_END_S)[0]
    if not path.exists():
        short = process.returncode == -signal.SIGINT or "No stack counts" in said
        sampling.note = "none: the task was over before a sample was taken" if short else f"none: {(first + said).strip()}"


def _refusal(said: str) -> str:
    if "ermission" in said:
        return (
            "py-spy may not look into this process: run as root, or with the right SYS_PTRACE (docker run --cap-add "
            f"SYS_PTRACE); it said: {said.strip()}"
        )
    return f"py-spy can't profile this process: {said.strip()}"


def _let_look() -> None:
    """Let a child look into this process, where Linux allows that to ancestors only (yama)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
