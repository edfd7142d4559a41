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
import struct
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import google_crc32c
import msgspec

from frazil_coordinator.reuse.digests import TaskDigest
from frazil_functions.errors import BlockError, FrazilError, JournalError
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store
from frazil_functions.task import Descriptor

__all__ = ["KEPT_PREFIX", "Kept", "KeptAnswers", "collect_kept", "decode_kept", "encode_kept"]

KEPT_PREFIX: Final = "kept"
"""Key prefix of all that is kept."""

_MAGIC: Final = b"FRZK"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sHxxI")
"""Magic, version, two zeros, CRC-32C of the body."""

_AT_ONCE: Final = 16
_FEW: Final = 12
"""Tasks up to which each is asked for by a GET: a LIST costs as much as twelve."""

_MARGIN_S: Final = 900.0
"""Seconds for which data stays after nobody may begin to use it any more: clocks differ."""

_LOGGER = logging.getLogger(__name__)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered."""

    digest: str
    """Of the task."""

    work: str
    """Of what is done for it."""

    query: QueryId
    """Whose task it was."""

    kept_unix_s: float
    """When the answer came."""

    descriptor: Descriptor


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Kept)


def encode_kept(kept: Kept) -> bytes:
    """Return the bytes of an answer that is kept."""
    body = _ENCODER.encode(kept)
    return _HEAD.pack(_MAGIC, _VERSION, google_crc32c.value(body)) + body


def decode_kept(data: bytes, name: str) -> Kept:
    """Return an answer that was kept.

    Raises
    ------
    JournalError
        When it is none, of another version, or damaged; `name` is what it is called then.
    """
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise JournalError(f"{name} is no answer that was kept")
    _, version, crc32c = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise JournalError(f"{name} is of version {version}, and this coordinator reads {_VERSION}")
    body = data[_HEAD.size :]
    if google_crc32c.value(body) != crc32c:
        raise JournalError(f"{name} is damaged: its checksum is wrong")
    try:
        return _DECODER.decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise JournalError(f"{name} can't be read: {error}") from error


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

    def is_fresh(self, kept_unix_s: float) -> bool:
        """Return whether an answer of that time may still be used."""
        return self.now_unix_s() - kept_unix_s < self.ttl_s

    def _listed(self, work: str, tasks: dict[str, TaskDigest]) -> list[TaskDigest]:
        """Return the tasks of which something may be kept."""
        if len(tasks) <= _FEW:
            return list(tasks.values())
        folder = f"{self.folder}/tasks/{work}"
        names = (info.key.rpartition("/")[2] for info in self.store.list(folder) if self.is_fresh(info.modified_unix_s))
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
    old = [
        info.key
        for info in store.list(prefix)
        if now - info.modified_unix_s > ttl_s + (_MARGIN_S if "/data/" in info.key else 0.0)
    ]
    held = in_use()
    gone = [key for key in old if key not in held]
    store.delete(gone)
    return len(gone)
