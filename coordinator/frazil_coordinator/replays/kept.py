"""The forms of what is kept of a query's tasks, and what an ended query says of it. Pure functions over values."""

from __future__ import annotations

from typing import Final

import msgspec

from frazil_coordinator.refusals import TaskGoneError, UnknownTaskError
from frazil_coordinator.registry import QueryRecord
from frazil_coordinator.schedule.told import Told
from frazil_functions.ids import QueryId
from frazil_functions.task import TaskRequest, decode_request, encode_request

__all__ = ["MEMBER", "NOTHING_KEPT", "Kept", "check_exists", "exchange_bytes", "gone", "kept_of", "packed", "sent"]

MEMBER: Final = "replay"
"""Member of a profile that says what is kept."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of an ended query: the member ``replay`` of its profile."""

    failed_task: str = ""
    """``<stage>/<task>/<attempt>`` that the query failed with; empty when that is not kept."""

    all_tasks: bool = False
    """Whether all tasks are kept, and the exchange as the query left it."""

    bytes: int = 0
    """What was written."""

    note: str = ""
    """What is not kept, and why."""


NOTHING_KEPT: Final = Kept()


class _Task(msgspec.Struct, frozen=True, array_like=True):
    """A task of :class:`_Tasks`."""

    fragment: int
    request: bytes
    """Without its fragment."""


class _Tasks(msgspec.Struct, frozen=True, kw_only=True):
    """What all tasks of a query were sent. Most of a stage share one fragment, which is here once."""

    version: int = 1
    fragments: tuple[bytes, ...]
    tasks: dict[str, _Task]
    """By ``<stage>/<task>``."""


def kept_of(record: QueryRecord) -> Kept:
    """Return what is kept of an ended query."""
    return msgspec.convert(record.profile.get(MEMBER, {}), Kept)


def packed(told: Told, limit: int) -> bytes | None:
    """Return what all tasks of a query were sent; None when it is more than `limit` bytes."""
    fragments: dict[bytes, int] = {}
    tasks: dict[str, _Task] = {}
    size = 0
    for request in told.every():
        known = len(fragments)
        number = fragments.setdefault(request.fragment, known)
        encoded = encode_request(msgspec.structs.replace(request, fragment=b""))
        size += len(encoded) + (len(request.fragment) if number == known else 0)
        if size > limit:
            return None
        tasks[f"{request.stage}/{request.task}"] = _Task(number, encoded)
    return msgspec.msgpack.encode(_Tasks(fragments=tuple(fragments), tasks=tasks))


def sent(every: bytes, stage: int, task: int, attempt: int | None) -> TaskRequest:
    """Return what a task was sent, of what :func:`packed` made.

    Raises
    ------
    UnknownTaskError
        When there is no such task, or another attempt of it is kept.
    """
    tasks = msgspec.msgpack.decode(every, type=_Tasks)
    found = tasks.tasks.get(f"{stage}/{task}")
    if found is None:
        raise UnknownTaskError(f"there is no task {task} in stage {stage} of the query, or it ended before the stage began")
    request = decode_request(found.request)
    if attempt not in (None, request.attempt):
        raise UnknownTaskError(
            f"only attempt {request.attempt} of task {task} in stage {stage} is kept: it was the last one; leave attempt out"
        )
    return msgspec.structs.replace(request, fragment=tasks.fragments[found.fragment])


def exchange_bytes(profile: dict[str, object]) -> int:
    """Return the encoded bytes of what the tasks of a query answered, by its profile."""
    stages = profile.get("stages")
    return sum(int(stage["bytes_out"]) for stage in stages) if isinstance(stages, list) else 0


def check_exists(record: QueryRecord, stage: int, task: int) -> None:
    """Refuse what an ended query never had.

    Raises
    ------
    UnknownTaskError
        When it had other stages or tasks; `TaskGoneError` when it had none.
    """
    stages = record.profile.get("stages")
    known = {one["stage"]: one for one in stages} if isinstance(stages, list) else {}
    if not known:
        raise TaskGoneError(f"query {record.id} ended before it had tasks: there is nothing to run again")
    if stage not in known:
        raise UnknownTaskError(f"there is no stage {stage}: the query had stages 0 to {max(known)}")
    told = known[stage]
    tasks = {one["task"] for one in (*told["task_list"], *told["failed_attempts"])}
    if task >= told["tasks"] and task not in tasks:
        raise UnknownTaskError(f"there is no task {task} in stage {stage}: it had tasks 0 to {told['tasks'] - 1}")


def gone(query: QueryId, kept: Kept) -> TaskGoneError:
    """Return the error for a task of an ended query that is not kept."""
    has = f"; of it, only the task that failed is kept: {kept.failed_task}" if kept.failed_task else ""
    why = f" ({kept.note})" if kept.note else ""
    return TaskGoneError(
        f"query {query} has ended, and what its tasks were sent is deleted{has}{why}: "
        "to run any task of it again, submit it with the setting keep_inputs='all'"
    )
