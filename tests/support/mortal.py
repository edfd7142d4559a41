"""A coordinator that dies: in its own process by SIGKILL, at the n-th segment of a journal that it writes.

``python -m support.mortal STORE PORT N WHEN SETTINGS``: serves a coordinator over HTTP that has its journal in the store of
the URL STORE (its options are in ``FRAZIL_STORE_OPTIONS``), with two local functions; just before or just after (WHEN) it
writes segment number N, counted from 0 over all queries, the process kills itself. With N below 0 it lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import httpx

from frazil._parts import leading
from frazil_coordinator.api.server import serve
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.journal.journal import Journal
from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.leadership import Leadership, probe_conditional_puts
from frazil_coordinator.platform.local import LocalPlatform
from frazil_coordinator.settings import Settings
from frazil_functions.storage import PassingStore, Store, open_store
from support.lease_process import RACERS
from support.processes import stop_process

__all__ = ["KEYS", "LEASE_S", "TOKEN", "DyingStore", "When", "mortal_coordinator"]

KEYS = ("a secret of thirty-two characters",)
TOKEN = "a-token"
LEASE_S = 2.0
"""Seconds after which a coordinator that stands by takes over from one that says nothing."""

When: TypeAlias = Literal["before", "after"]


class DyingStore(PassingStore):
    """A store that does something at the n-th object of some kind that is created, and passes everything on.

    Parameters
    ----------
    store
        The store that does the work.
    number
        Which creation, from 0.
    when
        Whether the object is there when it happens.
    die
        What happens. When it returns, so does the creation, as if nothing had happened.
    part
        What the keys of the objects hold.
    """

    def __init__(self, store: Store, number: int, when: When, die: Callable[[], None], *, part: str = "journal/") -> None:
        super().__init__(store)
        self._number = number
        self._when = when
        self._die = die
        self._part = part
        self._lock = threading.Lock()
        self.created = 0
        """Objects of the kind that were created."""

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            hit = self._part in key and self.created == self._number
            self.created += self._part in key
        if hit and self._when == "before":
            self._die()
        created = self._store.create(key, data)
        if hit and self._when == "after":
            self._die()
        return created


def _kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60.0)  # the signal is on its way


@contextlib.contextmanager
def mortal_coordinator(
    store: Path | str,
    port: int,
    settings: dict[str, object],
    log: Path,
    *,
    options: Mapping[str, str] | None = None,
    number: int = -1,
    when: When = "before",
    part: str = "journal/",
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a coordinator in a process of its own, and give the process when it answers; at the end it is stopped.

    Parameters
    ----------
    store, port
        Where its exchange and its journal are, and where it listens.
    settings
        Those of its queries that differ from the defaults.
    log
        File for what it prints.
    options
        Of the store.
    number, when, part
        At which object whose key holds `part` it dies.
    """
    command = [sys.executable, "-m", "support.mortal", str(store), str(port), str(number), when, part, json.dumps(settings)]
    with log.open("ab") as output:
        process = subprocess.Popen(  # our own interpreter and module
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "PYTHONPATH": ".", "FRAZIL_STORE_OPTIONS": json.dumps(dict(options or {}))},
        )
    try:
        _wait_ready(process, port, log)
        yield process
    finally:
        stop_process(process)


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return  # dead already: that may be what was asked for
        try:
            if httpx.get(f"http://127.0.0.1:{port}/healthz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError(f"the coordinator does not answer:\n{log.read_text()}")


async def _serve(url: str, port: int, number: int, when: When, part: str, settings: Settings) -> None:
    options = json.loads(os.environ["FRAZIL_STORE_OPTIONS"])
    store = DyingStore(open_store(url, options), number, when, _kill_myself, part=part)
    platform = LocalPlatform(max_functions=2, store_url=url, store_options=options)
    journal = Journal(store=store, sealer=Sealer.of(KEYS))
    probe = await asyncio.to_thread(lambda: probe_conditional_puts(store, "probe", racers=RACERS))
    leadership = Leadership(store, probe, lease_s=LEASE_S)
    coordinator = Coordinator(
        settings=settings, platform=platform, store=store, sweep_after_s=(0.1,), journal=journal, leadership=leadership
    )
    try:
        async with leading(coordinator, replace(settings, lease_s=LEASE_S)):
            await serve(coordinator, port=port, tokens=[TOKEN])
    finally:
        await platform.aclose()


if __name__ == "__main__":
    store_url, port_text, number_text, when_text, part_text, settings_text = sys.argv[1:]
    chosen: When = "before" if when_text == "before" else "after"
    asyncio.run(
        _serve(store_url, int(port_text), int(number_text), chosen, part_text, Settings(**json.loads(settings_text)))
    )
