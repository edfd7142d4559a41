"""Starting, watching and ending the processes that tests need; always by pid, on loopback only."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["alive", "free_ports", "run_process", "stop_process"]


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports of loopback that nothing listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def alive(pid: int) -> bool:
    """Return whether a process of this id exists and is not a zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def stop_process(process: subprocess.Popen[bytes], *, grace_s: float = 5.0) -> int:
    """End `process` by SIGTERM, and by SIGKILL if it is still there after `grace_s` seconds; return its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


@contextlib.contextmanager
def run_process(
    command: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    grace_s: float = 5.0,
    pass_fds: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` while the context lasts, its output going to the file `log`.

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
    pass_fds
        File descriptors that it inherits.
    """
    with log.open("ab") as out:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            pass_fds=pass_fds,
        )
    try:
        yield process
    finally:
        stop_process(process, grace_s=grace_s)
