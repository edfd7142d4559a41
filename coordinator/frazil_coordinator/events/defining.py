"""From what somebody says of a trigger to the trigger: its query is looked through, its places are checked.

Nothing is written here, and nothing runs; :mod:`frazil_coordinator.events.triggers` keeps what is made.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace

from frazil_coordinator.catalog.plans import Statement
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.merging import Merging
from frazil_coordinator.events.model import Owned, Trigger, TriggerSource, check_trigger_name
from frazil_coordinator.events.preparing import Target, cloud_options_of, over_objects, sunk, target_of, to_place
from frazil_coordinator.events.sources import ObjectSource
from frazil_coordinator.publication.publish import sink_store
from frazil_coordinator.statements import plan_sql
from frazil_functions.arena import Arena
from frazil_functions.errors import PythonPlanError, RequestError, StorageError

__all__ = ["defined"]


async def defined(
    coordinator: Coordinator, name: str, given: TriggerSource, before: Owned | None, tenant: str, now: float
) -> Owned:
    """Return the trigger that `given` asks for.

    Parameters
    ----------
    coordinator
        Has the tenant's tables and rights.
    name, given, tenant
        What is asked for, and by whom.
    before
        What it replaces; what that one remembers of objects stays when the source and the output do.
    now
        Seconds since 1970.

    Raises
    ------
    RequestError
        When a value is not what it may be.
    ForbiddenError
        When it reads or writes outside of the tenant's folders.
    FrazilError
        When its query can't be planned over an object that is there.
    """
    check_trigger_name(name)
    source = given.checked()
    plan = await _plan(coordinator, source, tenant)
    await _check_rights(coordinator, source, plan, tenant)  # before anything is opened, or a folder looked at
    target = await asyncio.to_thread(target_of, plan)
    _check_mode(source, target)
    _check_apart(source, target)
    trigger_id = _id(source, target, before)
    await _check_query(coordinator, source, plan, target, trigger_id, tenant)
    old = None if before is None or before.trigger.id != trigger_id else before.trigger
    trigger = Trigger(
        name=name,
        id=trigger_id,
        source=source.source,
        suffix=source.suffix,
        sql=source.sql,
        sink=_sink(target),
        mode=source.mode,
        window=source.window,
        since_unix_s=old.since_unix_s if old is not None else 0.0 if source.backfill else now,
        max_attempts=source.max_attempts,
        list_every_s=source.list_every_s,
        lateness_s=source.lateness_s,
        priority=source.priority,
        comment=source.comment,
        paused=old is not None and old.paused,
        created_unix_s=now if old is None else old.created_unix_s,
        changed_unix_s=now,
    )
    return Owned(tenant=tenant, trigger=trigger, plan=plan)


async def _plan(coordinator: Coordinator, source: TriggerSource, tenant: str) -> bytes:
    if source.plan:
        plan = source.plan
        arena = await asyncio.to_thread(Arena.decode, plan)
        if arena.python_functions() and not coordinator.settings.allow_udfs:
            raise PythonPlanError("the plan holds Python functions, which are refused: use Polars expressions")
        if arena.kind(arena.root) == "Sink":
            if source.sink:
                raise RequestError("the plan has a sink already: leave out sink=, or the plan's own")
            return plan
    else:
        plan = await plan_sql(coordinator, Statement.of(source.sql, []), tenant)
    if not source.sink:
        raise RequestError("sink: say where the output goes: a folder such as s3://bucket/out/, or one file")
    return await asyncio.to_thread(sunk, plan, source.sink, source.format, source.storage_options, source.source)


def _check_mode(source: TriggerSource, target: Target) -> None:
    if source.mode == "append" and not target.many:
        raise RequestError(
            f"mode append adds files to a folder, and {_sink(target)} is one file: end it with /, or use mode refresh "
            "or incremental, which replace one file"
        )
    if source.mode != "append" and target.many:
        raise RequestError(
            f"mode {source.mode} replaces its output, and the files of the folder {_sink(target)} can't be replaced at "
            "once: name one file, such as report.parquet"
        )


def _check_apart(source: TriggerSource, target: Target) -> None:
    """Refuse an output that would be new objects of the source."""
    written = target.place("/".join(part for part in (target.sink.base, target.sink.folder) if part)) + "/"
    place = source.source.removeprefix("file://")
    if written.startswith(place) or (_sink(target).startswith(place)):
        raise RequestError(
            f"the output {_sink(target)} lies below the source {source.source}: the trigger would take its own output "
            "for new objects; write beside the source"
        )


def _sink(target: Target) -> str:
    """Return where the output goes, as people call it."""
    return target.sink.target.removeprefix("file://")


def _id(source: TriggerSource, target: Target, before: Owned | None) -> str:
    """Return the id of a trigger; the same as before when its log still tells what is in the output."""
    if before is not None:
        old = before.trigger
        if (old.source, old.sink, old.mode) == (source.source, _sink(target), source.mode) and (
            source.mode != "incremental" or before.plan == source.plan
        ):
            return old.id
    return secrets.token_hex(8)


async def _check_rights(coordinator: Coordinator, source: TriggerSource, plan: bytes, tenant: str) -> None:
    await coordinator.rights.check(plan, tenant, source.priority)
    probe = over_objects(plan, source.source, [f"{source.source}object{source.suffix}"])
    await coordinator.rights.check(probe, tenant, source.priority)


def _check_store(target: Target, trigger_id: str) -> None:
    """Refuse an output whose store does not answer: a bucket that is missing, wrong credentials."""
    try:
        sink_store(target.sink.store, target.sink.cloud_options).list(target.own_folder(trigger_id))
    except StorageError as error:
        raise RequestError(f"sink {_sink(target)}: {error.message}") from error


async def _check_query(
    coordinator: Coordinator, source: TriggerSource, plan: bytes, target: Target, trigger_id: str, tenant: str
) -> None:
    """Look at the right to stage files beside the output and, when there is an object already, plan the query over it."""
    options = await asyncio.to_thread(cloud_options_of, plan, source.source)
    folder = target.place(f"{target.own_folder(trigger_id)}/0")
    placed = to_place(plan, f"{folder}/" if target.many else f"{folder}/{target.sink.name}")
    await coordinator.rights.check(placed, tenant, source.priority)
    await asyncio.to_thread(_check_store, target, trigger_id)
    found = await asyncio.to_thread(ObjectSource(source.source, source.suffix, options).list)
    if found and source.mode == "incremental":
        await asyncio.to_thread(Merging.of, plan, source.source, [min(found)])
    if found:
        over = over_objects(placed, source.source, [min(found)])
        settings = replace(coordinator.settings, max_bytes_scanned=None, max_cost=None, max_tasks=None)
        await coordinator.explain(over, settings, tenant=tenant)
