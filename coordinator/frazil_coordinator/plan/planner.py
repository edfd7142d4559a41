"""From the bytes of a plan to its stages: the face of planning.

Reads footers, so it blocks; call it in a thread. Main path: :mod:`~frazil_coordinator.plan.decode` →
:mod:`~frazil_coordinator.plan.distribute` → :mod:`~frazil_coordinator.plan.stages`.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from dataclasses import replace
from typing import Final

import polars as pl
from polars.exceptions import PanicException, PolarsError

from frazil_coordinator.plan.combining import combined_above
from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.distribute import Distributor
from frazil_coordinator.plan.estimate import WholeScans, estimate
from frazil_coordinator.plan.figures import StageEstimate
from frazil_coordinator.plan.memory import FACTORS, Factors, factor_of, largest_input_bytes, small_bytes, within_memory
from frazil_coordinator.plan.model import Stage, StageGraph
from frazil_coordinator.plan.nodes import DataFrameScan, Scan
from frazil_coordinator.plan.pruning import prune
from frazil_coordinator.plan.purity import why_never
from frazil_coordinator.plan.pushdown import Demand, observe
from frazil_coordinator.plan.randomness import set_apart
from frazil_coordinator.plan.sinks import keeps_order, spread, take_sink
from frazil_coordinator.plan.sql import expand_sql
from frazil_coordinator.plan.stages import build_stages
from frazil_coordinator.plan.tables import Table, Unsplittable, listed_bytes, open_table
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena
from frazil_functions.errors import FallbackError, FrazilError, PlanError, QueryError, SourceError, exception_name

__all__ = ["plan_query"]

logger = logging.getLogger(__name__)

_MOST_PARTITIONS: Final = 200
_MOST_BY_MEMORY: Final = 2_000
"""Partitions at most where fewer would not fit the memory of functions: a shuffle of P maps costs P GET a partition."""

_TINY_PARTITIONS: Final = 4
"""Partitions when `max_rows_per_split` forces tiny tasks: enough to be many, few enough to be quick."""


def plan_query(plan: bytes, settings: Settings, *, factors: Factors = FACTORS) -> StageGraph:
    """Plan a query.

    Parameters
    ----------
    plan
        ``LazyFrame.serialize()``.
    settings
        The query's settings.
    factors
        How many times their input tasks hold.

    Returns
    -------
    StageGraph
        With its estimates. Caps are not looked at: :func:`frazil_coordinator.plan.caps.check_caps` does it.

    Raises
    ------
    PlanError
        When the bytes are not a plan that may run: too large, truncated, of another polars version, with Python functions
        that `allow_udfs` does not permit, or (`FallbackError`) with a part that has no distributed form while
        ``fallback="raise"``.
    QueryError
        When polars raises: a missing file or column, a wrong dtype.
    SourceError
        When a store refuses, or a file is broken.

    Notes
    -----
    A sink at the end of the plan is taken off and becomes `StageGraph.sink`.
    """
    if len(plan) > settings.max_plan_bytes:
        raise PlanError(f"the plan has {len(plan)} bytes; at most {settings.max_plan_bytes} are accepted (max_plan_bytes)")
    arena = Arena.decode(plan)
    if not settings.allow_udfs:
        arena.refuse_python("Settings.allow_udfs is off, here or at the coordinator")
    try:
        return _plan_or_tell(arena, settings, factors)
    except RecursionError as error:
        raise PlanError("the plan is nested too deeply") from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, StopIteration) as error:
        if _is_written_by_polars(plan):
            raise
        raise PlanError(f"the plan is corrupt: {error!r}") from error


def _plan_or_tell(arena: Arena, settings: Settings, factors: Factors) -> StageGraph:
    # Polars calls some of the user's functions while it resolves a plan, and they may raise anything.
    foreseen = (Exception,) if arena.python_functions() else (PolarsError, OSError, TypeError, ValueError)
    try:
        return _plan(arena, settings, factors)
    except FrazilError:
        raise
    except foreseen as error:
        # What polars raises while it resolves the plan is what its user would see.
        raise QueryError(str(error), exception=exception_name(error), where=_broken_scan(arena)) from error


def _is_written_by_polars(plan: bytes) -> bool:
    """Return whether polars reads a plan and would write the same; if not, it may have any form: its sender is at fault."""
    try:
        arena = Arena.decode(plan)
        return Arena.of(arena.lazy()).digest() == arena.digest()
    except (FrazilError, PolarsError, PanicException, OSError, TypeError, ValueError, RecursionError):
        return False


def _broken_scan(arena: Arena) -> dict[str, str]:
    """Return the paths of the first scan that can't be resolved by itself: polars doesn't name a broken file."""
    for number in arena.reachable():
        node = decode_node(arena, number)
        if isinstance(node, Scan):
            try:
                arena.lazy(number).collect_schema()
            except (PolarsError, OSError):
                return {"file": ", ".join(node.paths)}
    return {}


def _plan(arena: Arena, settings: Settings, factors: Factors) -> StageGraph:
    sink = take_sink(arena)
    schema = arena.lazy().collect_schema()
    expand_sql(arena)
    set_apart(arena)
    settings = within_memory(settings, {arena.kind(number) for number in arena.reachable()}, factors)
    scans = {number: arena.lazy(number).collect_schema() for number in arena.reachable() if arena.kind(number) == "Scan"}
    tables = {number: _open(arena, number, found) for number, found in scans.items()}
    demands = _demands(arena, scans)
    columns = {number: _columns(uses, scans[number]) for number, uses in demands.items()}
    tables = {number: _pruned(table, demands[number]) for number, table in tables.items()}
    context = Context(arena, settings, tables=tables, columns=columns, small=_is_small(settings, arena, tables, columns))
    context.partitions = _partitions(context, factors)
    relation = Distributor(context, ordered=keeps_order(sink)).plan()
    if sink is not None:
        sink, relation = spread(sink, relation, context)
    graph = build_stages(
        relation,
        schema if sink is None else pl.Schema(),
        context.filters,
        adaptive=settings.broadcast_limit_bytes > 0,
        combined_above=combined_above(settings),
    )
    graph = replace(graph, sink=sink)
    if settings.reuse != "off":
        stages = tuple(_told_reuse(stage, writes_files=sink is not None and stage is graph.root) for stage in graph.stages)
        graph = replace(graph, stages=stages)
    if settings.fallback == "raise" and graph.fallbacks:
        reasons = "; ".join(graph.fallbacks)
        raise FallbackError(f'a part of the query would run in one task: {reasons} (fallback="allow" permits it)')
    return replace(graph, estimates=_estimates(graph, settings, _whole_scans(arena, tables), factors))


def _told_reuse(stage: Stage, *, writes_files: bool) -> Stage:
    """Return a stage that says why its answers are never used again, if there is a reason."""
    reason = why_never(stage, writes_files=writes_files)
    return stage if reason is None else replace(stage, details={**stage.details, "never reused": reason})


def _estimates(graph: StageGraph, settings: Settings, whole: WholeScans, factors: Factors) -> tuple[StageEstimate, ...]:
    """Return the estimates; none when polars fails over a fragment, as over one that only a function can resolve.

    Nobody needs them to run the query, and caps refuse a query without.
    """
    try:
        return estimate(graph, settings, whole, factors)
    except (PolarsError, PanicException) as error:
        logger.warning("a query could not be estimated", extra={"reason": str(error).partition("\n")[0]})
        return ()


def _whole_scans(arena: Arena, tables: dict[int, Table | str]) -> dict[tuple[str, ...], int]:
    """Return the sizes of the scans that can't be split; those whose files can't be listed are missing."""
    sizes: dict[tuple[str, ...], int] = {}
    for number, table in tables.items():
        node = decode_node(arena, number)
        if isinstance(table, Table) or not isinstance(node, Scan) or not node.paths:
            continue
        try:
            sizes[node.paths] = listed_bytes(node)
        except (SourceError, Unsplittable, OSError) as error:
            logger.info("size of a scan not known", extra={"reason": type(error).__name__})
    return sizes


def _open(arena: Arena, number: int, schema: pl.Schema) -> Table | str:
    node = decode_node(arena, number)
    if not isinstance(node, Scan):
        return "a scan of an unknown form is not split"
    try:
        return open_table(node, schema)
    except Unsplittable as reason:
        return str(reason)


def _demands(arena: Arena, scans: dict[int, pl.Schema]) -> dict[int, list[Demand]]:
    """Return what the query needs of each scan, of equal scans together; an empty list where nobody knows."""
    found = observe(arena, {number: ([number], schema) for number, schema in scans.items()})
    digests = arena.digests()
    if found is None:
        return {number: [] for number in scans}
    reads = Counter(digests[child] for number in arena.reachable() for child in arena.inputs(number))
    demands: dict[int, list[Demand]] = {}
    for number in scans:
        # Equal scans become one relation, whichever of them is planned first.
        uses = [use for other in scans if digests[other] == digests[number] for use in found[other]]
        # A use that polars skipped on empty data, or made one with another, may need more than is known.
        demands[number] = uses if len(uses) >= reads[digests[number]] else []
    return demands


def _columns(uses: list[Demand], schema: pl.Schema) -> tuple[str, ...] | None:
    """Return the columns that are read; None for all."""
    if not uses or any(use.columns is None for use in uses):
        return None
    wanted = {name for use in uses for name in use.columns or ()}
    return tuple(name for name in schema.names() if name in wanted)


def _pruned(table: Table | str, uses: list[Demand]) -> Table | str:
    """Leave out what no use of the table looks at. A predicate beside a limit holds for the limited rows only."""
    if isinstance(table, str) or any(use.predicate is None or use.rows is not None for use in uses):
        return table
    return prune(table, [pl.Expr.deserialize(io.BytesIO(use.predicate)) for use in uses if use.predicate is not None])


def _is_small(
    settings: Settings, arena: Arena, tables: dict[int, Table | str], columns: dict[int, tuple[str, ...] | None]
) -> bool:
    """Return whether the whole query should be one task: it must cost what polars costs and one request."""
    if not settings.start_small:
        return False
    if settings.reuse != "off" and any(isinstance(table, Table) and len(table.files) > 1 for table in tables.values()):
        return False  # one task would read all files again when one is added
    size = 0
    for number, table in tables.items():
        if isinstance(table, Table):
            size += table.bytes(columns[number])
        elif isinstance(scan := decode_node(arena, number), Scan) and scan.buffers:
            size += scan.buffers
        else:
            return False
    return size <= small_bytes(settings)


def _partitions(context: Context, factors: Factors) -> int:
    """Return the number of partitions of the query's shuffles."""
    settings, arena = context.settings, context.arena
    if settings.shuffle_partitions is not None:
        return settings.shuffle_partitions
    size, most = 0, 1
    for number, table in context.tables.items():
        if isinstance(table, Table):
            size += table.bytes(context.columns[number])
            most = max(most, len(context.cuts(number, table).groups))
    largest = largest_input_bytes(settings, factor_of((arena.kind(number) for number in arena.reachable()), factors))
    frames = any(isinstance(decode_node(arena, number), DataFrameScan) for number in arena.reachable())
    if settings.max_rows_per_split is not None and (frames or most > 1):
        return _TINY_PARTITIONS
    by_size = -(-size // settings.shuffle_target_bytes)
    by_memory = 0 if largest is None else -(-size // largest)
    if settings.reuse != "off":  # some more files shall not change where the rows of all others go
        by_size, by_memory = _power_of_two(by_size), _power_of_two(by_memory)
    return max(2 if most > 1 else 1, min(_MOST_PARTITIONS, by_size), min(_MOST_BY_MEMORY, by_memory))


def _power_of_two(number: int) -> int:
    """Return the least power of two that is not less; 0 for 0."""
    return 0 if number <= 0 else 1 << (number - 1).bit_length()
