"""Making bundles of tasks, and writing them down sealed; blocking.

Between :mod:`frazil_coordinator.replays.replays`, which says of which tasks, and :mod:`frazil_functions.bundle`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import msgspec

from frazil_coordinator.journal.sealing import Sealer
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.replays.kept import Kept, exchange_bytes, packed
from frazil_coordinator.schedule.bind import query_prefixes
from frazil_coordinator.schedule.told import Told
from frazil_functions.bundle import Bundle, encode_bundle, missing_bytes, with_blocks, with_fragment
from frazil_functions.errors import BlockError, CancelledQueryError, FrazilError, to_wire
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store
from frazil_functions.task import TaskRequest

__all__ = ["REPLAY_PREFIX", "Bundles", "Keeping"]

REPLAY_PREFIX: Final = "replay"
"""Key prefix of what is kept; the parts below it are those of the exchange."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundles:
    """Makes bundles, and reads and writes what is kept."""

    store: Store
    """That of the exchange."""

    sealer: Sealer

    def of(
        self,
        request: TaskRequest,
        *,
        limit: int,
        error: FrazilError | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> Bundle:
        """Return the bundle of a request.

        Parameters
        ----------
        request
            What the task was sent.
        limit
            Bytes of blocks above which they are left out.
        error
            What its query failed with.
        stopped
            Asked before each block and while waiting for one.

        Raises
        ------
        BlockError, StorageError, CancelledQueryError
            As `frazil_functions.bundle.with_blocks`.
        """
        request = with_fragment(request, self.store)
        size, left_out = missing_bytes(request), ""
        if size > limit:
            left_out = (
                f"the task reads {size:,} bytes of the exchange, more than replay_bytes={limit:,}: raise "
                "FRAZIL_REPLAY_BYTES of the coordinator, or name the exchange store (--store) while the query runs or all "
                "its inputs are kept"
            )
        else:
            request, size = with_blocks(request, self.store, cancelled=stopped), 0
        return Bundle(
            request=request,
            left_out_bytes=size,
            left_out=left_out,
            error=None if error is None else to_wire(error),
            frazil_version=version("frazil"),
            made_unix_s=time.time(),
        )

    def get(self, query: QueryId, name: str) -> bytes:
        """Return what was kept of a query under a name: 1 GET.

        Raises
        ------
        BlockError
            When it is no longer there; `StorageError` when the store fails, `JournalError` when it can't be unsealed.
        """
        return self.sealer.unseal(self.store.get(f"{_folder(query)}{name}"), context=f"{query}/{REPLAY_PREFIX}/{name}")

    def put(self, query: QueryId, name: str, data: bytes) -> int:
        """Keep something of a query under a name, and return the bytes written: 1 PUT."""
        sealed = self.sealer.seal(data, context=f"{query}/{REPLAY_PREFIX}/{name}")
        self.store.put(f"{_folder(query)}{name}", [sealed])
        return len(sealed)

    def delete(self, query: QueryId) -> None:
        """Delete what was kept of a query: LIST, then DELETE."""
        self.store.delete_prefix(_folder(query))


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Keeping something of one query that is about to end."""

    bundles: Bundles
    record: QueryRecord
    stopped: Callable[[], bool]
    """Whether nobody waits for it any more; then nothing is written."""

    def keep(self, told: Told, failed: TaskRequest | None, error: FrazilError | None) -> Kept:
        """Keep the task that the query failed with, and all others if the query wants it; return what is kept.

        Raises
        ------
        FrazilError
            When that can't be done.
        """
        kept = Kept()
        if self.record.settings.keep_inputs == "all":
            kept = self._keep_all(told)
        if failed is None:
            return kept
        bundle = self._bundle(failed, error)
        self._unless_stopped()
        name = f"{failed.stage}/{failed.task}/{failed.attempt}"
        size = self.bundles.put(self.record.id, name.replace("/", "-"), encode_bundle(bundle))
        note = "; ".join(text for text in (kept.note, bundle.left_out) if text)
        return Kept(failed_task=name, all_tasks=kept.all_tasks, bytes=kept.bytes + size, note=note)

    def _bundle(self, failed: TaskRequest, error: FrazilError | None) -> Bundle:
        limit = self.record.settings.replay_bytes
        try:
            return self.bundles.of(failed, limit=limit, error=error, stopped=self.stopped)
        except BlockError as lost:  # it may be what the query failed with
            bundle = self.bundles.of(failed, limit=-1, error=error)
            note = f"the blocks that the task reads can't be read ({lost.message})"
            return msgspec.structs.replace(bundle, left_out=note)

    def _keep_all(self, told: Told) -> Kept:
        settings = self.record.settings
        used = exchange_bytes(self.record.profile)
        if used > settings.keep_inputs_bytes:
            return Kept(
                note=f"all inputs not kept: the query left {used:,} bytes in the exchange, more than "
                f"keep_inputs_bytes={settings.keep_inputs_bytes:,}: raise FRAZIL_KEEP_INPUTS_BYTES of the coordinator"
            )
        every = packed(told, settings.replay_bytes)
        if every is None:
            return Kept(
                note=f"all inputs not kept: what the tasks were sent is more than replay_bytes={settings.replay_bytes:,}: "
                "raise FRAZIL_REPLAY_BYTES of the coordinator"
            )
        self._unless_stopped()
        return Kept(all_tasks=True, bytes=self.bundles.put(self.record.id, "tasks", every))

    def _unless_stopped(self) -> None:
        if self.stopped():
            raise CancelledQueryError("the query has ended meanwhile")


def _folder(query: QueryId) -> str:
    (prefix,) = query_prefixes(REPLAY_PREFIX, query)
    return prefix
