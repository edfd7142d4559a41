"""A process that leads when it may, and writes a journal while it does: ``lease_process.py URL OPTIONS LEASE_S``.

It tells what it does on standard output, one JSON object a line. When its leadership is lost it tries once to go on
writing where it was, as a writer would that had not looked, and ends. SIGTERM: it ends cleanly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys

from frazil_coordinator.leadership import Leadership, probe_conditional_puts
from frazil_functions.storage import Store, open_store

RACERS = 2
"""Of the probe before: SeaweedFS lets a loser wait a second for its lock, so that the usual 32 take some ten. That they are
told apart there too is held by tests/unit/leadership/test_probe.py."""


def tell(event: str, **members: object) -> None:
    print(json.dumps({"event": event, "pid": os.getpid(), **members}), flush=True)


def append(store: Store, number: int, term: int) -> bool:
    return store.create(f"journal/{number:08d}", json.dumps({"term": term, "pid": os.getpid()}).encode())


async def write(store: Store, leadership: Leadership, term: int, stop: asyncio.Event) -> None:
    """Open the term in the journal, then write until the leadership is lost."""
    number = len(await asyncio.to_thread(store.list, "journal"))
    while leadership.leads and not await asyncio.to_thread(append, store, number, term):
        number += 1
    tell("opened", term=term, number=number)
    while leadership.leads and not stop.is_set():
        number += 1
        if not await asyncio.to_thread(append, store, number, term):
            tell("refused", number=number)
            break
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await stop.wait()
    if not stop.is_set():
        await leadership.lost.wait()
        written = await asyncio.to_thread(append, store, number + 1, term)
        tell("lost", term=term, written_afterwards=written, detail=leadership.standing.detail)


async def main(url: str, options: dict[str, str], lease_s: float) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = open_store(url, options)
    probe = await asyncio.to_thread(lambda: probe_conditional_puts(store, "probe", racers=RACERS))
    leadership = Leadership(store, probe, lease_s=lease_s)
    tell("probed", conditional=leadership.conditional)
    term = await leadership.acquire()
    tell("leads", term=term)
    await write(store, leadership, term, stop)
    await leadership.release()
    tell("ended")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])))
