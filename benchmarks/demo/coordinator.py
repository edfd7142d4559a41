"""The coordinator's process, started by the real command line, and the functions that it starts."""

from __future__ import annotations

import contextlib
import json
import secrets
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.processes import ProcessError, free_ports, program, run_process, wait_until_healthy
from benchmarks.seaweed import Seaweed

__all__ = ["CoordinatorProcess", "run_coordinator"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorProcess:
    """A running coordinator."""

    url: str
    token: str
    pid: int

    def functions(self) -> int:
        """Return how many function processes exist now.

        Raises
        ------
        ProcessError
            When the coordinator does not answer.
        """
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=10) as answer:
                return msgspec.json.decode(answer.read(), type=_Ready).functions
        except OSError as error:
            raise ProcessError(f"the coordinator at {self.url} does not count its functions: {error}") from error


class _Ready(msgspec.Struct, frozen=True):
    functions: int


@contextlib.contextmanager
def run_coordinator(
    store: str, server: Seaweed, *, max_functions: int, idle_s: float, log: Path
) -> Iterator[CoordinatorProcess]:
    """Run ``frazil serve`` while the context lasts.

    Parameters
    ----------
    store
        URL of the exchange store.
    server
        Whose credentials it gets, in the environment: a command line is seen by everybody on the machine.
    max_functions
        Most function processes at once.
    idle_s
        Seconds without work after which a function is stopped.
    log
        File for its output.

    Raises
    ------
    ProcessError
        When it does not start.
    """
    (port,) = free_ports(1)
    token, url = secrets.token_urlsafe(16), f"http://127.0.0.1:{port}"
    command = [program("frazil"), "serve", f"--port={port}", f"--store={store}", f"--max-functions={max_functions}"]
    command.append(f"--idle-s={idle_s:g}")
    environment = {
        "FRAZIL_TOKEN": token,
        "FRAZIL_STORE_OPTIONS": json.dumps(server.storage_options),
        "RUST_BACKTRACE": "0",
    }
    with run_process(command, log=log, env=environment, grace_s=15.0) as process:
        wait_until_healthy(f"{url}/healthz", name="the coordinator", process=process, log=log)
        yield CoordinatorProcess(url=url, token=token, pid=process.pid)
