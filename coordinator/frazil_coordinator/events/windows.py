"""The query of one window: made, submitted as any query of the tenant's, waited for; what it wrote becomes a commit.

It writes nothing itself but through queries; :mod:`frazil_coordinator.events.runner` commits.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, cast

from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.consumed import digest_of, pack
from frazil_coordinator.events.merging import Merging
from frazil_coordinator.events.model import ObjectRef, Owned
from frazil_coordinator.events.preparing import Target, over_objects, to_place
from frazil_coordinator.events.publishing import WrittenFile, check, output_of
from frazil_coordinator.events.sources import ObjectSource
from frazil_coordinator.events.state import Published, State
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import QueryState, Wanted
from frazil_functions.errors import StandbyError, from_wire
from frazil_functions.ids import QueryId
from frazil_functions.storage import Store

__all__ = ["Done", "Windows", "cancel_queries", "label_of"]

_ENDED: Final = frozenset({QueryState.SUCCEEDED, QueryState.FAILED, QueryState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of a window."""

    record: Published | None
    """To be committed; None when there was nothing to read, or it is not known what was read."""

    leftover: tuple[ObjectRef, ...] = ()
    """Objects that were replaced meanwhile, as they are now."""


def label_of(owned: Owned) -> str:
    """Return what all queries of a trigger are called in lists."""
    return f"trigger:{owned.trigger.name}"


async def cancel_queries(coordinator: Coordinator, owned: Owned) -> None:
    """Stop the queries of a trigger that nobody waits for any more, as of a coordinator before this one."""
    wanted = Wanted(limit=1000, label=f"trigger-id:{owned.trigger.id}", tenant=owned.tenant)
    for status in coordinator.list(wanted):
        if status.state not in _ENDED:
            await coordinator.cancel(status.id)


@dataclass(frozen=True, slots=True)
class Windows:
    """Runs the windows of one trigger."""

    owned: Owned
    source: ObjectSource
    target: Target
    store: Store
    """That of the output."""

    coordinator: Coordinator
    on_point: Callable[..., None]

    async def run(self, state: State, batch: Sequence[ObjectRef], show: Callable[[str], None]) -> Done:
        """Run the query over a batch.

        Parameters
        ----------
        state
            What the log says.
        batch
            The objects.
        show
            Told the query's id.

        Raises
        ------
        FrazilError
            Why the query could not be run, or failed.
        """
        objects, replaced = await self._as_they_are(batch)
        self.on_point("looked")
        if not objects:
            return Done(record=None, leftover=replaced)
        attempt = f"{state.seq:012d}-{secrets.token_hex(4)}"
        staging = f"{self.target.own_folder(self.owned.trigger.id)}/{attempt}"
        kept = ""
        if self.owned.trigger.mode == "incremental":
            kept = f"kept-{attempt}/state.parquet"
            query = await self._merged(state, objects, kept, staging, show)
        else:
            query = await self._submitted(await asyncio.to_thread(self._plan, objects, staging), show)
        files = self._written(query)
        self.on_point("ran")
        now = await asyncio.to_thread(self.source.look, [ref.url for ref in objects])
        # By etag alone: some stores tell times to the millisecond in listings, and to the second otherwise.
        if any((found := now[ref.url]) is None or found.etag != ref.etag for ref in objects):
            # Which version was read is not known: what was written is left to be swept, and all are read again.
            await asyncio.to_thread(self.store.delete_prefix, staging)
            return Done(record=None, leftover=(*replaced, *(ref for ref in now.values() if ref is not None)))
        output = output_of(self.target, staging, files, self.owned.trigger.name, state.seq)
        await asyncio.to_thread(check, self.store, output)
        self.on_point("checked")
        record = Published(
            consumed=pack({digest_of(ref): ref.modified_unix_s for ref in objects}),
            output=output,
            query=query,
            objects=len(objects),
            object_bytes=sum(ref.size for ref in objects),
            unix_s=time.time(),
            seq=state.seq,
            kept=kept,
        )
        return Done(record=record, leftover=replaced)

    async def _as_they_are(self, batch: Sequence[ObjectRef]) -> tuple[tuple[ObjectRef, ...], tuple[ObjectRef, ...]]:
        """Return the objects of a batch that are still there, and those that were replaced, as they are now."""
        now = await asyncio.to_thread(self.source.look, [ref.url for ref in batch])
        same = tuple(ref for ref in batch if (found := now[ref.url]) is not None and found.etag == ref.etag)
        etags = {ref.url: ref.etag for ref in batch}
        replaced = tuple(found for found in now.values() if found is not None and found.etag != etags[found.url])
        return same, replaced

    async def _merged(
        self, state: State, objects: Sequence[ObjectRef], kept: str, staging: str, show: Callable[[str], None]
    ) -> QueryId:
        """Merge the aggregates of new objects into those kept, and make the result of them; two queries."""
        trigger, folder = self.owned.trigger, self.target.place(self.target.own_folder(self.owned.trigger.id))
        urls = sorted(ref.url for ref in objects)
        merging = await asyncio.to_thread(Merging.of, self.owned.plan, trigger.source, urls)
        before = f"{folder}/{state.kept}" if state.kept else ""
        place = f"{folder}/{kept}"
        await self._submitted(await asyncio.to_thread(merging.kept_plan, before, place, self.target), show)
        plan = await asyncio.to_thread(merging.result_plan, place, self.target)
        return await self._submitted(to_place(plan, f"{self.target.place(staging)}/{self.target.sink.name}"), show)

    def _plan(self, objects: Sequence[ObjectRef], staging: str) -> bytes:
        trigger, plan = self.owned.trigger, self.owned.plan
        if trigger.mode != "refresh":
            plan = over_objects(plan, trigger.source, sorted(ref.url for ref in objects))
        folder = self.target.place(staging)
        return to_place(plan, f"{folder}/" if self.target.many else f"{folder}/{self.target.sink.name}")

    def _settings(self) -> Settings:
        settings = self.coordinator.settings
        if self.owned.trigger.mode == "refresh" and settings.reuse == "off":
            return replace(settings, reuse="tasks")
        return settings

    async def _submitted(self, plan: bytes, show: Callable[[str], None]) -> QueryId:
        """Run a query to its end."""
        trigger, coordinator = self.owned.trigger, self.coordinator
        labels = (label_of(self.owned), f"trigger-id:{trigger.id}")
        submit = partial(coordinator.submit, settings=self._settings(), labels=labels, tenant=self.owned.tenant)
        status = await submit(plan, priority=trigger.priority, sql=trigger.sql)
        show(status.id)
        self.on_point("submitted")
        status = await coordinator.wait(status.id)
        if status.state not in _ENDED:
            raise StandbyError("another coordinator has taken over while a window ran")
        if status.error is not None:
            raise from_wire(status.error)
        return status.id

    def _written(self, query: QueryId) -> list[WrittenFile]:
        profile = self.coordinator.profile(query)
        sink = cast("Mapping[str, object]", profile.get("sink") or {})
        return cast("list[WrittenFile]", sink.get("file_list") or [])
