"""Answers of tasks that are kept in the store: finding, keeping, forgetting and collecting them (docs/reuse.md).

Layout, below the prefix; no tenant's objects lie below another's::

    <tenant>/tasks/<work>/<task>                               what was answered: descriptor and inline output
    <tenant>/data/<2 hex>/<task>/<attempt>-<execution uuid>    output, as functions wrote it
    <tenant>/results/<digest>                                  the result of a query

Data is written first, what names it second, by one conditional PUT. All methods block; each says its requests. Next:
:mod:`frazil_coordinator.reuse.flights`.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import google_crc32c

from frazil_coordinator.reuse.digests import TaskDigest
from frazil_coordinator.reuse.forms import Kept, KeptResult, decode_kept, decode_result, encode_kept, encode_result
from frazil_functions.errors import BlockError, FrazilError
from frazil_functions.storage import ObjectInfo, Store

__all__ = ["KEPT_PREFIX", "KeptAnswers", "collect_kept"]

KEPT_PREFIX: Final = "kept"
"""Key prefix of all that is kept."""

_AT_ONCE: Final = 32
_FEW: Final = 12
"""Tasks up to which each is asked for by a GET: a LIST costs as much as twelve."""

_LOOKED_INTO_BYTES: Final = 1024 * 1024
_MARGIN_S: Final = 900.0
"""Seconds for which data stays after nobody may begin to use it any more: clocks differ."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswers:
    """The answers that one tenant's queries left."""

    store: Store = field(repr=False)
    tenant: str
    ttl_s: float
    """Seconds for which an answer is used again."""

    prefix: str = KEPT_PREFIX
    now_unix_s: Callable[[], float] = field(default=time.time, repr=False)

    @property
    def folder(self) -> str:
        """Where all of it lies: named by a digest, because a tenant's name may hold what no key may."""
        return f"{self.prefix}/{hashlib.sha256(self.tenant.encode()).hexdigest()[:16]}"

    def data_prefix(self, digest: TaskDigest) -> str:
        """Return the key prefix of a task's output (`frazil_functions.task.Output.prefix`)."""
        return f"{self.folder}/data/{digest.task[:2]}/{digest.task}"

    def is_kept(self, key: str) -> bool:
        """Return whether an object is one that stays when the query that wrote it has ended."""
        return key.startswith(f"{self.folder}/data/")

    def find(self, digests: Sequence[TaskDigest]) -> dict[str, Kept]:
        """Return what is kept of tasks, by digest; what can't be read, or is too old, is left out.

        Requests: for up to 12 tasks of equal work, 1 GET each; for more, 1 LIST per 1,000 of them that are kept, and 1 GET
        for each that is found.
        """
        by_work: dict[str, dict[str, TaskDigest]] = {}
        for digest in digests:
            by_work.setdefault(digest.work, {})[digest.task] = digest
        wanted = [one for work, tasks in by_work.items() for one in self._listed(work, tasks)]
        if len(wanted) <= 1:
            found = [self._read(one) for one in wanted]
        else:
            with ThreadPoolExecutor(min(_AT_ONCE, len(wanted)), thread_name_prefix="frazil-kept") as pool:
                found = list(pool.map(self._read, wanted))
        return {one.digest: one for one in found if one is not None}

    def is_whole(self, kept: Kept) -> bool:
        """Return whether the data of an answer is there, for who has nobody that would find out by reading it.

        Requests: none for an inline one; 1 GET up to 1 MiB, whose checksums are looked at; 1 HEAD above.
        """
        descriptor = kept.descriptor
        end = max((block.offset + block.length for block in descriptor.blocks), default=0)
        if descriptor.key is None or not end:
            return True
        try:
            if end > _LOOKED_INTO_BYTES:
                return self.store.head(descriptor.key).size >= end
            data = self.store.get_range(descriptor.key, 0, end)
        except BlockError:
            return False
        parts = ((block, data[block.offset : block.offset + block.length]) for block in descriptor.blocks)
        return all(google_crc32c.value(part) == block.crc32c for block, part in parts)

    def keep(self, digest: TaskDigest, kept: Kept) -> bool:
        """Keep an answer whose data is in place, and return whether it was written: 1 conditional PUT.

        Another answer that is there stays, unless it is too old or damaged: 1 GET, and then 1 PUT.
        """
        key, data = self._key(digest), encode_kept(kept)
        if self.store.create(key, data):
            return True
        if self._read(digest) is not None:
            return False
        self.store.put(key, [data])
        return True

    def forget(self, digest: TaskDigest) -> None:
        """Let nobody use an answer any more, whose data is lost: 1 DELETE."""
        self.store.delete([self._key(digest)])

    def keep_result(self, result: KeptResult) -> None:
        """Keep the result of a query, in the place of an older one: 1 PUT."""
        self.store.put(self._result_key(result.digest), [encode_result(result)])

    def find_result(self, digest: str, max_age_s: float | None) -> KeptResult | None:
        """Return the result of a query that ended at most `max_age_s` ago, if it can be read.

        Requests: 1 GET, and when there is one, 1 HEAD for each object that it lies in.
        """
        key = self._result_key(digest)
        try:
            result = decode_result(self.store.get(key), key)
            age_s = self.now_unix_s() - result.ended_unix_s
            if not self.is_fresh(result.ended_unix_s) or (max_age_s is not None and age_s > max_age_s):
                return None
            places = sorted({block.key for block in result.blocks if block.data is None})
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="frazil-kept") as pool:
                list(pool.map(self.store.head, places))
        except BlockError:
            return None  # there is none, or a part of it is gone
        except FrazilError as error:
            _LOGGER.warning("result that was kept not used", extra={"error": error.message})
            return None
        return result if result.digest == digest else None

    def result_prefix(self, digest: str, task: int) -> str:
        """Return the key prefix of what a task writes that is a part of a result, and has no digest of its own."""
        return f"{self.folder}/data/{digest[:2]}/{digest}-{task}"

    def _result_key(self, digest: str) -> str:
        return f"{self.folder}/results/{digest}"

    def is_fresh(self, kept_unix_s: float) -> bool:
        """Return whether an answer of that time may still be used."""
        return self.now_unix_s() - kept_unix_s < self.ttl_s

    def _listed(self, work: str, tasks: dict[str, TaskDigest]) -> list[TaskDigest]:
        """Return the tasks of which something may be kept."""
        if len(tasks) <= _FEW:
            return list(tasks.values())
        folder = f"{self.folder}/tasks/{work}"
        young = (info for info in self.store.list(folder) if not _is_older(info, self.ttl_s, self.now_unix_s()))
        names = (info.key.rpartition("/")[2] for info in young)
        return [tasks[name] for name in names if name in tasks]

    def _read(self, digest: TaskDigest) -> Kept | None:
        key = self._key(digest)
        try:
            kept = decode_kept(self.store.get(key), key)
        except BlockError:
            return None  # nothing is kept, or it was collected since it was listed
        except FrazilError as error:
            _LOGGER.warning("answer that was kept not used", extra={"error": error.message})
            return None
        return kept if kept.digest == digest.task and self.is_fresh(kept.kept_unix_s) else None

    def _key(self, digest: TaskDigest) -> str:
        return f"{self.folder}/tasks/{digest.work}/{digest.task}"


def collect_kept(store: Store, ttl_s: float, in_use: Callable[[], Collection[str]], prefix: str = KEPT_PREFIX) -> int:
    """Delete what is older than may be used again, but for objects that are in use; return how many objects that were.

    Requests: 1 LIST per 1,000 objects that are kept, 1 DELETE per 1,000 that go.

    Parameters
    ----------
    store, prefix
        Where it lies, that of all tenants.
    ttl_s
        See :attr:`KeptAnswers.ttl_s`. Data stays 15 minutes longer than what names it.
    in_use
        Keys that queries which run, or results that are there to be read, refer to; asked for after the listing.

    Raises
    ------
    StorageError
        When the store refuses.
    """
    now = time.time()
    margins = ((info, _MARGIN_S if "/data/" in info.key else 0.0) for info in store.list(prefix))
    old = [info.key for info, margin_s in margins if _is_older(info, ttl_s + margin_s, now)]
    held = in_use()
    gone = [key for key in old if key not in held]
    store.delete(gone)
    return len(gone)


def _is_older(info: ObjectInfo, age_s: float, now_unix_s: float) -> bool:
    """Return whether an object is certainly older: of a store that tells no times, none is."""
    return info.modified_unix_s > 0.0 and now_unix_s - info.modified_unix_s > age_s
