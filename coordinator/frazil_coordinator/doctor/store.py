"""Tries an object store in every way that Frazil uses one: small objects of a fresh name, deleted again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Final

from frazil_coordinator.doctor.findings import Finding, good, problem, skipped, warning
from frazil_coordinator.leadership import probe_conditional_puts
from frazil_functions.errors import FrazilError
from frazil_functions.storage import Store
from frazil_functions.storage_object import ObjectStore

__all__ = ["check_store"]

_BODY: Final = bytes(range(256)) * 4
_PART_BYTES: Final = 5 * 1024 * 1024
"""Least size of a part of S3's but the last."""

_SKEW_S: Final = 5.0
_WORST_SKEW_S: Final = 60.0
_SLOW_S: Final = 0.5

_RIGHTS: Final = "give its identity the rights to get, put, list and delete below the store's prefix"


def check_store(store: Store, *, unix: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Yield what is found of a store.

    Requests: some 40, most of them the race of conditional PUTs.

    Parameters
    ----------
    store
        The exchange store.
    unix
        This machine's clock, in seconds.
    """
    prefix = f"doctor/{uuid.uuid4().hex}"
    key = f"{prefix}/object"
    began = time.monotonic()
    try:
        store.put(key, [_BODY])
    except FrazilError as error:
        fix = "check --store and its options (endpoint, region, credentials); " + _RIGHTS
        yield problem("store.put", f"{store.url}: {error}", fix)
        return
    took_s = time.monotonic() - began
    written_s = unix()
    yield good("store.put", f"{store.url}: an object was written in {took_s * 1000:.0f} ms")
    try:
        yield from _latency(took_s)
        yield _tried("store.get", lambda: store.get(key) == _BODY, "an object is read as it was written")
        yield _tried("store.range", lambda: store.get_range(key, 100, 50) == _BODY[100:150], "a range is read by itself")
        yield from _listed(store, prefix, written_s)
        yield from _multipart(store, prefix)
        yield _conditional(store, prefix)
    finally:
        yield _deleted(store, prefix)


def _tried(check: str, trial: Callable[[], bool], words: str) -> Finding:
    try:
        right = trial()
    except FrazilError as error:
        return problem(check, str(error), _RIGHTS)
    return good(check, words) if right else problem(check, "what was read is not what was written", "use another store")


def _latency(took_s: float) -> Iterator[Finding]:
    if took_s > _SLOW_S:
        yield warning(
            "store.latency",
            f"a small PUT took {took_s:.1f} s",
            "put the bucket into the cluster's region; each stage waits for some of them",
        )


def _listed(store: Store, prefix: str, written_s: float) -> Iterator[Finding]:
    try:
        found = store.list(prefix)
    except FrazilError as error:
        yield problem("store.list", str(error), _RIGHTS)
        return
    if [info.size for info in found] != [len(_BODY)]:
        yield problem("store.list", f"{len(found)} objects are listed where one was written", "use a consistent store")
        return
    yield good("store.list", "what was written is listed at once")
    skew_s = found[0].modified_unix_s - written_s
    words = f"the store's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine's"
    fix = "run NTP on both: requests are signed, tasks expire and leases end by the clock"
    if not found[0].modified_unix_s:
        yield skipped("store.clock", "the store does not tell when objects were written")
    elif abs(skew_s) > _WORST_SKEW_S:
        yield problem("store.clock", words, fix)
    elif abs(skew_s) > _SKEW_S:
        yield warning("store.clock", words, fix)
    else:
        yield good("store.clock", words)


def _multipart(store: Store, prefix: str) -> Iterator[Finding]:
    if not isinstance(store, ObjectStore):
        return
    parts = [b"a" * _PART_BYTES, b"b" * 1024]

    def trial() -> bool:
        store.put_in_parts(f"{prefix}/multipart", parts, _PART_BYTES)
        return store.get_range(f"{prefix}/multipart", _PART_BYTES - 1, 2) == b"ab"

    yield _tried("store.multipart", trial, "an object is written in parts")


def _conditional(store: Store, prefix: str) -> Finding:
    try:
        found = probe_conditional_puts(store, prefix)
    except FrazilError as error:
        return problem("store.conditional-put", str(error), _RIGHTS)
    if found.conditional:
        return good("store.conditional-put", found.detail)
    return warning(
        "store.conditional-put",
        f"conditional PUTs can't be relied on: {found.detail}",
        "run one coordinator only (single-writer mode), and expect a sink's files to be published by the last of two that "
        "race; or use a store that honours If-None-Match: *",
    )


def _deleted(store: Store, prefix: str) -> Finding:
    try:
        store.delete_prefix(prefix)
        left = len(store.list(prefix))
    except FrazilError as error:
        return problem("store.delete", f"objects below {prefix} are left: {error}", _RIGHTS)
    if left:
        return problem("store.delete", f"{left} objects below {prefix} are left", "use a consistent store")
    return good("store.delete", "what was written is deleted again")
