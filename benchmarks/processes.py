"""Processes that a benchmark starts: on loopback, with their output in a file, ended by their pid whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["ProcessError", "free_ports", "program", "run_process", "wait_until_healthy"]

_POLL_S = 0.05
_FRAME = " │╭╮╰╯─"
"""What the lines of a framed message begin and end with."""


class ProcessError(Exception):
    """A program is missing, or a server did not start; the message says why and what to do."""


def program(name: str) -> str:
    """Return the path of a program that came with a wheel of this environment, or is on the PATH.

    Raises
    ------
    ProcessError
        When there is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ProcessError(f"no program {name!r}: `make setup` installs it")
    return found


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports of loopback that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextlib.contextmanager
def run_process(
    command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, grace_s: float = 10.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` while the context lasts.

    It gets a session of its own, so that Ctrl-C reaches it only through the end of the context.

    Parameters
    ----------
    command
        Program and arguments.
    log
        File that takes standard output and error.
    env
        Variables on top of this process's.
    grace_s
        Seconds between SIGTERM and SIGKILL at the end.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process, grace_s)


def _stop(process: subprocess.Popen[bytes], grace_s: float) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace_s)
    if process.poll() is None:
        process.kill()
    process.wait()


def wait_until_healthy(url: str, *, name: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 60.0) -> None:
    """Return when `url` answers 200.

    Parameters
    ----------
    url
        The server's health page.
    name
        What the server is, for people.
    process
        The server, which may end instead.
    log
        File with its output.
    timeout_s
        Seconds to wait at most.

    Raises
    ------
    ProcessError
        When the server ended or was not ready in time; with its last words.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_S)  # a server of another vendor offers no event to wait for
    lines = [line.strip(_FRAME) for line in log.read_text(errors="replace").splitlines()]
    reason = next((line for line in reversed(lines) if line), "it said nothing")
    what = f"did not answer within {timeout_s:.0f} s" if process.poll() is None else f"ended ({process.returncode})"
    raise ProcessError(f"{name} {what}: {reason} (all of it: {log})")
