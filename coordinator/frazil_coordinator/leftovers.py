"""What a query leaves behind when it has ended, and how that is deleted.

Filled by :mod:`frazil_coordinator.execution` while the query runs; :mod:`frazil_coordinator.hygiene` deletes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from frazil_coordinator.hygiene import Cleaner
from frazil_coordinator.plan.model import INLINE_FRAGMENT_BYTES, StageGraph
from frazil_coordinator.publication import Publication
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.replays import kept_of
from frazil_coordinator.schedule.profile import Profile
from frazil_coordinator.schedule.told import Told
from frazil_functions.task import BlockRef

__all__ = ["Leftovers"]


@dataclass(slots=True)
class Leftovers:
    """What a query left so far."""

    graph: StageGraph | None = None
    """What it was cut into at last; None while it is being planned."""

    profile: Profile | None = None
    """What its tasks did, once they have ended; None when none was sent."""

    sinks: list[Publication] = field(default_factory=list)
    """Where its tasks wrote files of the user's: more than one when it was planned again."""

    result: str | None = None
    """Digest of the query, when its result is to be kept."""

    told: Told | None = None
    """What its tasks were sent at last; None when none was."""

    runs: int = 0
    """How often it was run: more than once when it was planned again, or another coordinator had begun it."""

    async def delete(self, cleaner: Cleaner, record: QueryRecord, blocks: tuple[BlockRef, ...]) -> None:
        """Delete all but the blocks of the result; what is all inline costs no request to the store.

        Of a query whose tasks are all kept, only what it left elsewhere is deleted.
        """
        if not self.runs:
            return
        keep = {block.key for block in blocks if block.data is None}
        # Of a run before, or an attempt that was given up, somebody may still write: it is swept again.
        given_up = self.runs > 1 or any(stage.attempts > stage.done for stage in record.status.progress)
        stages = [] if self.profile is None else self.profile["stages"]
        wrote = any(stage["requests"].get("put") for stage in stages)
        sent_apart = self.graph is not None and any(
            len(stage.fragment) > INLINE_FRAGMENT_BYTES for stage in self.graph.stages
        )
        unfinished = [sink.discard for sink in self.sinks if given_up or not sink.finished]
        if not (given_up or wrote or sent_apart or keep or unfinished):
            return

        def other() -> None:
            for discard in unfinished:
                discard()

        keep_all = kept_of(record).all_tasks
        await cleaner.clear(record.id, keep=keep, keep_all=keep_all, again=given_up, other=other if unfinished else None)
