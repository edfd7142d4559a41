"""What one query shares with others: the driver asks here before it sends a task, and tells what became of it.

It computes digests, looks for answers that are kept, joins flights, and has answers kept; it decides nothing about the
query. All methods but the look-up are plain calls of one event loop. Next: :mod:`frazil_coordinator.schedule.elsewhere`, by
which a driver asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import msgspec

from frazil_coordinator.metrics import Metrics
from frazil_coordinator.reuse.digests import Digests, TaskDigest
from frazil_coordinator.reuse.flights import Flights, Key, Then
from frazil_coordinator.reuse.forms import Kept
from frazil_coordinator.reuse.kept import KeptAnswers
from frazil_functions.errors import FrazilError
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.task import Descriptor, TaskRequest

__all__ = ["Candidate", "Claim", "Ref", "Sharing", "Write"]

Ref: TypeAlias = tuple[StageId, TaskIndex, int]
"""An attempt: stage, task, number."""

Write: TypeAlias = Callable[[str, Callable[[], object]], None]
"""Have something written in the background, after all that was to be written under the same name before."""

_LOGGER: Final = logging.getLogger(__name__)


class Candidate(NamedTuple):
    """A task, as it would be sent."""

    request: TaskRequest
    fragments: tuple[bytes, ...]
    """What it would run, and what does the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What is to be done for a task."""

    request: TaskRequest | None
    """What is to be sent; None when the answer comes from elsewhere."""

    kept: Kept | None = None
    """The answer, where it is there already."""

    flight: Key | None = None
    """What is to be followed, where it runs."""


class _Owner(NamedTuple):
    """Who leads or follows: a task of a query."""

    query: QueryId
    stage: StageId
    task: TaskIndex


@dataclass(slots=True)
class Sharing:
    """What one query shares. Mutable; belongs to its driver."""

    query: QueryId
    answers: KeptAnswers
    flights: Flights
    write: Write
    inline_limit_bytes: int
    """Inline output of kept answers that a stage takes at most."""

    metrics: Metrics | None = None
    result: str | None = None
    """Digest of the query, when its result shall be kept."""

    keys: set[str] = field(default_factory=set)
    """Objects that stay which the query refers to."""

    _digests: Digests = field(init=False)
    _sent: dict[Ref, TaskDigest] = field(default_factory=dict)
    _flying: set[Ref] = field(default_factory=set)
    _of_tasks: dict[tuple[StageId, TaskIndex], TaskDigest] = field(default_factory=dict)
    _ranged: dict[StageId, list[tuple[TaskDigest, Kept]]] = field(default_factory=dict)
    _spoiled: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._digests = Digests(self.answers.is_kept)

    async def look_up(self, candidates: Mapping[TaskIndex, Candidate], *, to_the_end: bool = False) -> dict[TaskIndex, Kept]:
        """Return the answers of tasks of one stage that are kept; `to_the_end`: of the stage that no other one reads.

        Requests are those of :meth:`KeptAnswers.find`, and the same once more for tasks that are not found, where there are
        two fragments that do the same. What can't be looked up is not found: the task runs. Data that no task will read is
        looked at (:meth:`KeptAnswers.is_whole`): where it is lost, a query that has ended could not run the task again.
        """
        digests = await asyncio.to_thread(self._candidates, candidates)
        recent = {one.task: self._recent(one) for own in digests.values() for one in own}
        found = {name: kept for name, kept in recent.items() if kept is not None}
        for form in range(max(map(len, digests.values()), default=0)):
            missing = [own for own in digests.values() if not any(one.task in found for one in own)]
            unknown = [own[form] for own in missing if form < len(own)]
            if not unknown:
                continue
            try:
                found |= await asyncio.to_thread(self.answers.find, unknown)
            except FrazilError as error:
                _LOGGER.warning("kept answers not looked up", extra={"query": self.query, "error": error.message})
        taken = self._taken(digests, found)
        return await self._whole(taken) if to_the_end else taken

    async def _whole(self, taken: dict[TaskIndex, Kept]) -> dict[TaskIndex, Kept]:
        """Return the answers whose data is there, and have the others forgotten."""
        whole: dict[TaskIndex, Kept] = {}
        for task, kept in taken.items():
            try:
                is_whole = await asyncio.to_thread(self.answers.is_whole, kept)
            except FrazilError as error:
                _LOGGER.warning("kept answer not used", extra={"query": self.query, "error": error.message})
                continue
            if is_whole:
                whole[task] = kept
            else:
                self._forget(TaskDigest(work=kept.work, task=kept.digest))
        return whole

    def _candidates(self, candidates: Mapping[TaskIndex, Candidate]) -> dict[TaskIndex, list[TaskDigest]]:
        digests: dict[TaskIndex, list[TaskDigest]] = {}
        for task, (request, fragments) in candidates.items():
            own = [self._digests.of(request, fragment) for fragment in fragments]
            digests[task] = [one for one in own if one is not None and one.task not in self._spoiled]
        return digests

    def _taken(self, digests: Mapping[TaskIndex, Sequence[TaskDigest]], found: Mapping[str, Kept]) -> dict[TaskIndex, Kept]:
        taken: dict[TaskIndex, Kept] = {}
        left = self.inline_limit_bytes
        for task, own in digests.items():
            kept = next((found[one.task] for one in own if one.task in found), None)
            size = 0 if kept is None else len(kept.descriptor.inline or b"")
            if kept is not None and size <= left:
                left -= size
                taken[task] = kept
        return taken

    def _recent(self, digest: TaskDigest) -> Kept | None:
        kept = self.flights.recent(self._key(digest))
        return kept if kept is not None and self.answers.is_fresh(kept.kept_unix_s) else None

    def take(self, ref: Ref, kept: Kept) -> None:
        """Note that an answer is used for a task."""
        stage, task, _ = ref
        self.refer(kept.descriptor)
        known = self._of_tasks.get((stage, task))
        if known is None or known.task != kept.digest:
            self._of_tasks[stage, task] = TaskDigest(work=kept.work, task=kept.digest)

    def claim(self, ref: Ref, request: TaskRequest, fragment: bytes, *, to_the_end: bool = False) -> Claim:
        """Return what is to be done for an attempt that is about to be sent; `to_the_end` as of :meth:`look_up`."""
        digest = self._digests.of(request, fragment)
        if digest is None:
            return Claim(request=request)
        key = self._key(digest)
        # Whether the data of what was answered a while ago is still there can't be seen without waiting.
        kept = None if to_the_end or digest.task in self._spoiled else self._recent(digest)
        if kept is not None:
            return Claim(request=None, kept=kept)
        if not self.flights.leads(key, _Owner(self.query, ref[0], ref[1])):
            return Claim(request=None, flight=key)
        self._sent[ref] = digest
        self._flying.add(ref)
        output = msgspec.structs.replace(request.output, prefix=self.answers.data_prefix(digest))
        return Claim(request=msgspec.structs.replace(request, output=output))

    def of_result(self, request: TaskRequest) -> TaskRequest:
        """Return what a task of the last stage is told, whose output shall stay when the query has ended."""
        if self.result is None or self.answers.is_kept(f"{request.output.prefix}/"):
            return request
        prefix = self.answers.result_prefix(self.result, request.task)
        return msgspec.structs.replace(request, output=msgspec.structs.replace(request.output, prefix=prefix))

    def follow(self, ref: Ref, flight: Key, then: Then) -> None:
        """Have `then` called when a task that runs elsewhere has ended."""
        self.flights.follow(flight, _Owner(self.query, ref[0], ref[1]), then)

    def answered(self, ref: Ref, descriptor: Descriptor) -> None:
        """Have the answer of an attempt kept, and give it to those who wait for it."""
        digest = self._sent.pop(ref, None)
        if digest is None:
            return
        self._flying.discard(ref)
        self.refer(descriptor)
        self._of_tasks[ref[0], ref[1]] = digest
        kept = Kept(digest=digest.task, work=digest.work, query=self.query, kept_unix_s=time.time(), descriptor=descriptor)
        if digest.ranged:
            self._ranged.setdefault(ref[0], []).append((digest, kept))
        else:
            self._keep(digest, kept)
        self.flights.landed(self._key(digest), kept, lasting=not digest.ranged)

    def completed(self, stage: StageId) -> None:
        """Have the answers kept that hold only when all tasks of their stage have one."""
        for digest, kept in self._ranged.pop(stage, ()):
            self.flights.remember(self._key(digest), kept)
            self._keep(digest, kept)

    def failed(self, ref: Ref) -> None:
        """Note that an attempt gives no answer, or that nobody waits for it; one may come after all."""
        digest = self._sent.get(ref)
        if digest is not None and ref in self._flying:
            self._flying.remove(ref)
            self.flights.failed(self._key(digest), _Owner(self.query, ref[0], ref[1]))

    def lost(self, stage: StageId, task: TaskIndex, candidate: Candidate) -> None:
        """Let nobody use the answer of a task any more, whose object can't be read; `candidate`: as it would be sent now."""
        digest = self._of_tasks.pop((stage, task), None) or self._digests.of(candidate.request, candidate.fragments[0])
        if digest is not None:
            self._forget(digest)

    def _forget(self, digest: TaskDigest) -> None:
        self._spoiled.add(digest.task)
        self.flights.forget(self._key(digest))
        self.write(digest.task, partial(self.answers.forget, digest))

    def close(self) -> None:
        """End it: what the query led is led by nobody, and it follows nothing."""
        self.flights.leave(self._is_own)

    def _is_own(self, owner: Hashable) -> bool:
        return isinstance(owner, _Owner) and owner.query == self.query

    def _keep(self, digest: TaskDigest, kept: Kept) -> None:
        self._spoiled.discard(digest.task)
        self.write(digest.task, partial(self.answers.keep, digest, kept))
        if self.metrics is not None:
            self.metrics.reuse.kept.inc()

    def refer(self, descriptor: Descriptor) -> None:
        """Note that the query needs the object of an answer, so that it is not collected."""
        if descriptor.key is not None:
            self.keys.add(descriptor.key)

    def _key(self, digest: TaskDigest) -> Key:
        return self.answers.tenant, digest.task
