"""What is asked of tables by name: making them, and statements over them. For the HTTP API and for clients in this process.

It joins :mod:`frazil_coordinator.catalog`, which knows no queries, and :mod:`frazil_coordinator.coordinator`, which knows no
names. A tenant's folders hold for its tables: a plan over them is checked like any other, and a table outside of them can't
be made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial

import msgspec
import polars as pl

from frazil_coordinator.catalog.model import Column, Statistics, Table, TableSource, check_name
from frazil_coordinator.catalog.plans import Statement, plan_of, with_position, words_of
from frazil_coordinator.catalog.scans import scan_of
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryStatus
from frazil_coordinator.tenancy import DEFAULT_TENANT
from frazil_functions.errors import QueryError, RequestError

__all__ = ["explain_sql", "plan_sql", "put_table", "submit_sql"]


async def plan_sql(coordinator: Coordinator, statement: Statement, tenant: str = DEFAULT_TENANT) -> bytes:
    """Return the plan of a statement over a tenant's tables: 1 LIST, and 1 GET for each table that it names.

    Raises
    ------
    RequestError, QueryError
        As :func:`~frazil_coordinator.catalog.plans.plan_of`.
    """
    return await asyncio.to_thread(_plan, coordinator, statement, tenant)


def _plan(coordinator: Coordinator, statement: Statement, tenant: str) -> bytes:
    named = coordinator.catalog.some(tenant, words_of(statement.text))
    tables = {table.name: scan_of(table) for table in named}
    return plan_of(statement, tables)


async def submit_sql(
    coordinator: Coordinator,
    statement: Statement,
    *,
    labels: Sequence[str] = (),
    priority: int = 0,
    discard_result: bool = False,
    idempotency_key: str = "",
    settings: Settings | None = None,
    tenant: str = DEFAULT_TENANT,
) -> QueryStatus:
    """Accept a statement as a query, as :meth:`Coordinator.submit` does.

    Raises
    ------
    RequestError
        When it is an EXPLAIN, which is not run.
    FrazilError
        As :func:`plan_sql` and :meth:`Coordinator.submit`.
    """
    if statement.shown != "result":
        raise RequestError("EXPLAIN has no rows: ask for its explanation")
    plan = await plan_sql(coordinator, statement, tenant)
    return await coordinator.submit(
        plan,
        settings=settings,
        labels=labels,
        discard_result=discard_result,
        idempotency_key=idempotency_key,
        tenant=tenant,
        priority=priority,
        sql=statement.text,
    )


async def explain_sql(
    coordinator: Coordinator,
    statement: Statement,
    *,
    settings: Settings | None = None,
    dry_run: bool = False,
    tenant: str = DEFAULT_TENANT,
) -> Explanation:
    """Return how a statement would be cut into stages; after ``EXPLAIN ANALYZE``, what they did.

    Raises
    ------
    FrazilError
        As :meth:`Coordinator.explain` and :meth:`Coordinator.analyze`.
    """
    plan = await plan_sql(coordinator, statement, tenant)
    try:
        if statement.shown == "analysis":
            return await coordinator.analyze(plan, settings, tenant=tenant)
        return await coordinator.explain(plan, settings, dry_run=dry_run, tenant=tenant)
    except QueryError as error:
        raise with_position(error, statement) from error


async def put_table(
    coordinator: Coordinator, name: str, source: TableSource, *, expected: int | None = None, tenant: str = DEFAULT_TENANT
) -> Table:
    """Make or replace a table, after a look at its files.

    Raises
    ------
    RequestError, ForbiddenError
        When it may not be, or lies outside of the tenant's folders.
    SourceError, QueryError
        When its files can't be read.
    TableConflictError
        As :meth:`Catalog.put`.
    """
    given = source.checked()
    made = Table(
        name=check_name(name),
        location=given.location,
        format=given.format or "parquet",
        options=given.options,
        storage_options=given.storage_options,
        comment=given.comment,
        changed_unix_s=time.time(),
    )
    scan = await asyncio.to_thread(_scan, made)
    seen = await coordinator.explain(scan.serialize(), tenant=tenant)  # looks at the tenant's folders first
    made = msgspec.structs.replace(
        made, columns=msgspec.convert(seen.columns, tuple[Column, ...]), statistics=_statistics(seen)
    )
    return await asyncio.to_thread(partial(coordinator.catalog.put, tenant, made, expected))


def _scan(table: Table) -> pl.LazyFrame:
    try:
        return scan_of(table)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise RequestError(f"options: {error}") from error


def _statistics(seen: Explanation) -> Statistics:
    """Return what the planner knows of a scan's files."""
    stages = [msgspec.convert(stage, _Stage) for stage in seen.stages]
    sources = [source for stage in stages for source in stage.sources]
    known = Statistics(files=_sum([source.files for source in sources]), bytes=_sum([source.bytes for source in sources]))
    predicted = stages[0].predicted if len(stages) == 1 else None
    if predicted is None or predicted.rows_in.bound == "unknown":
        return known
    return msgspec.structs.replace(known, rows=predicted.rows_in.value, rows_bound=predicted.rows_in.bound)


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


class _Source(msgspec.Struct, frozen=True):
    files: int | None = None
    bytes: int | None = None


class _Figure(msgspec.Struct, frozen=True):
    value: int
    bound: str


class _Predicted(msgspec.Struct, frozen=True):
    rows_in: _Figure


class _Stage(msgspec.Struct, frozen=True):
    sources: tuple[_Source, ...] = ()
    predicted: _Predicted | None = None
