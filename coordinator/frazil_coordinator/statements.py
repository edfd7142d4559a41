"""What is asked of tables by name: making them, and statements over them. For the HTTP API and for clients in this process.

It joins :mod:`frazil_coordinator.catalog`, which knows no queries, and :mod:`frazil_coordinator.coordinator`, which knows no
names. A tenant's folders hold for its tables: a plan over them is checked like any other, and a table outside of them can't
be made.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec
import polars as pl

from frazil_coordinator.catalog.lake import Opened
from frazil_coordinator.catalog.model import Column, Statistics, Table, TableSource, UnknownTableError, check_name
from frazil_coordinator.catalog.plans import Statement, plan_of, with_position, words_of
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryStatus
from frazil_coordinator.tenancy import DEFAULT_TENANT
from frazil_functions.errors import QueryError, RequestError

__all__ = ["explain_sql", "plan_sql", "put_table", "show_table", "submit_sql"]

_PART: Final = re.compile(r'("(?:[^"]|"")*")|([^.]+)')
"""Of a name with dots."""


async def plan_sql(coordinator: Coordinator, statement: Statement, tenant: str = DEFAULT_TENANT) -> bytes:
    """Return the plan of a statement over a tenant's tables: 1 LIST, and 1 GET for each table that it names.

    Tables of a lake, and of catalogs, are opened here once each: a statement sees one version of each.

    Raises
    ------
    RequestError, QueryError
        As :func:`~frazil_coordinator.catalog.plans.plan_of`.
    """
    return await asyncio.to_thread(_plan, coordinator, statement, tenant)


def _plan(coordinator: Coordinator, statement: Statement, tenant: str) -> bytes:
    catalog = coordinator.catalog
    named = catalog.some(tenant, words_of(statement.text))
    tables = {table.name: partial(_opened, coordinator, tenant, table) for table in named}
    outside = {one.name: partial(_opened_of, coordinator, tenant, one.name) for one in catalog.sources.catalogs(tenant)}
    return plan_of(statement, tables, outside)


def _opened(coordinator: Coordinator, tenant: str, table: Table) -> pl.LazyFrame:
    return coordinator.catalog.sources.opened(tenant, table).scan


def _opened_of(coordinator: Coordinator, tenant: str, catalog: str, identifier: tuple[str, ...]) -> pl.LazyFrame:
    return coordinator.catalog.sources.opened_of(tenant, catalog, identifier).scan


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
        asked=msgspec.json.encode([statement.text, statement.parameters]),  # its plan may be another when it is sent again
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
        storage=given.storage,
        comment=given.comment,
        changed_unix_s=time.time(),
    )
    opened = await asyncio.to_thread(_looked_at, coordinator, made, tenant)
    seen = await coordinator.explain(opened.scan.serialize(), tenant=tenant)  # looks at the tenant's folders once more
    made = _described(made, seen, opened)
    return await asyncio.to_thread(partial(coordinator.catalog.put, tenant, made, expected))


def _looked_at(coordinator: Coordinator, table: Table, tenant: str) -> Opened:
    try:
        return coordinator.catalog.sources.opened(tenant, table)
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise RequestError(f"options: {error}") from error


async def show_table(coordinator: Coordinator, name: str, *, tenant: str = DEFAULT_TENANT) -> Table:
    """Return what is known of a table: one of the tenant's, or one of a catalog, ``catalog.namespace.table``, as it is now.

    Raises
    ------
    UnknownTableError
        When there is none.
    CatalogError, SourceError, ForbiddenError
        When that of a catalog can't be read.
    """
    catalog, *rest = _parts(name)
    if not rest:
        return await asyncio.to_thread(coordinator.catalog.get, tenant, name)
    sources = coordinator.catalog.sources
    try:
        opened = await asyncio.to_thread(sources.opened_of, tenant, catalog, tuple(rest))
    except QueryError as error:
        raise UnknownTableError(error.message) from error
    seen = await coordinator.explain(opened.scan.serialize(), tenant=tenant)
    return _described(Table(name=name, location=opened.location, format="iceberg"), seen, opened)


def _parts(name: str) -> list[str]:
    """Return the parts of a name as SQL says it."""
    return [quoted[1:-1].replace('""', '"') if quoted else plain for quoted, plain in _PART.findall(name)]


def _described(table: Table, seen: Explanation, opened: Opened) -> Table:
    statistics = msgspec.structs.replace(_statistics(seen), snapshot=opened.snapshot)
    columns = msgspec.convert(seen.columns, tuple[Column, ...])
    return msgspec.structs.replace(table, columns=columns, statistics=statistics)


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
