"""Whether an object store decides races of conditional PUTs, found out by racing.

A store may accept ``If-None-Match: *`` and ignore it, or look first and write afterwards; either breaks everything that
:meth:`~frazil_functions.storage_model.Store.create` promises, and no header tells. This module only finds out;
:class:`~frazil_coordinator.leadership.lease.Leadership` draws the conclusion.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Final

from frazil_functions.errors import BlockError, FrazilError
from frazil_functions.storage import Store

__all__ = ["ProbeResult", "probe_conditional_puts"]

_MEET_S: Final = 30.0
"""Seconds within which all racers must have started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a probe found."""

    conditional: bool
    """Whether a conditional PUT can be relied on."""

    winners: int
    """Racers that were told that they wrote the object; 1 where the store is right."""

    detail: str
    """What was found, for people."""


def probe_conditional_puts(store: Store, prefix: str, *, racers: int = 32) -> ProbeResult:
    """Let `racers` threads create one object at once, and look who was told to have won.

    Blocking. Requests: ``racers + 1`` conditional PUT, 1 GET, 1 DELETE. It leaves no object.

    Parameters
    ----------
    store
        The store to be judged.
    prefix
        Where the object, of a fresh random name, is made.
    racers
        Writers at once.

    Raises
    ------
    FrazilError
        When the store fails, so that nothing can be said of it.
    """
    key = f"{prefix}/{uuid.uuid4().hex}"
    bodies = [f"racer {number} of {key}".encode() for number in range(racers)]
    try:
        return _judge(store, key, bodies, _race(store, key, bodies))
    finally:
        store.delete([key])


def _race(store: Store, key: str, bodies: Sequence[bytes]) -> list[bool | FrazilError]:
    """Return for each racer whether it was told to have won, or why it was told nothing."""
    start = Barrier(len(bodies))

    def race(body: bytes) -> bool | FrazilError:
        start.wait(_MEET_S)
        try:
            return store.create(key, body)
        except FrazilError as error:
            return error

    with ThreadPoolExecutor(len(bodies), thread_name_prefix="frazil-probe") as pool:
        return list(pool.map(race, bodies))


def _judge(store: Store, key: str, bodies: Sequence[bytes], told: Sequence[bool | FrazilError]) -> ProbeResult:
    won = [body for body, answer in zip(bodies, told, strict=True) if answer is True]
    failed = [answer for answer in told if isinstance(answer, FrazilError)]
    if not won and failed:
        raise failed[0]  # the store is out of order, which says nothing of its conditional PUTs
    faults = []
    if len(won) != 1:
        faults.append(f"{len(won)} of {len(bodies)} racing writers were told that they alone wrote an object")
    if store.create(key, b"late"):
        faults.append("an object that was there was overwritten")
    try:
        kept = store.get(key)
    except BlockError:
        kept = b""
    if len(won) == 1 and kept != won[0]:
        faults.append("the object does not hold what its writer wrote")
    if faults:
        return ProbeResult(conditional=False, winners=len(won), detail=f"{store.url}: {'; '.join(faults)}")
    detail = f"{store.url}: of {len(bodies)} racing writers exactly one wrote, and nobody afterwards"
    return ProbeResult(conditional=True, winners=1, detail=detail)
