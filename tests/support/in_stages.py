"""Runs the stages of a plan one task after the other inside this process, through the real planner and real fragments."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import TypeAlias

import polars as pl

from frazil_coordinator.plan.model import Stage, StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.schedule.barrier import Barrier
from frazil_coordinator.schedule.bind import output_for, result_blocks
from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.settings import Settings
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.errors import QueryError
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.run import run_task
from frazil_functions.storage import Store
from frazil_functions.task import Descriptor, ExchangeInput, TaskRequest, decode_request, encode_request

__all__ = ["Outcome", "answer_in_stages", "outcome"]

Outcome: TypeAlias = pl.DataFrame | str
"""An answer, or the name of the class that was raised."""


def answer_in_stages(
    query: pl.LazyFrame | StageGraph,
    settings: Settings,
    store: Store,
    *,
    divisions: int = 0,
    layouts: list[Layout] | None = None,
    unaggregated: bool = False,
) -> pl.DataFrame:
    """Plan a query unless it is planned, run its tasks one after the other in this process, and read the result.

    Parameters
    ----------
    query, settings, store
        The query, how it is planned, and where its exchange objects go.
    divisions
        How often every task that can be divided is divided, as if it had run out of memory.
    layouts
        Takes the layout of each stage.
    unaggregated
        Whether every second task leaves out the first step of a group_by, where it may.

    Raises
    ------
    FrazilError
        What planning or a task raises.
    """
    graph = query if isinstance(query, StageGraph) else plan_query(query.serialize(), settings)
    name = QueryId(uuid.uuid4().hex[:16])
    written: dict[StageId, list[Descriptor]] = {}
    barrier = Barrier(graph, settings)
    for number in _in_order(graph):
        layout = _divided(barrier.lay_out(number, written.get), divisions)
        barrier.layouts[number] = layout
        stage = layout.stage
        if layouts is not None:
            layouts.append(layout)
        written[stage.id] = []
        for task in layout.order:
            if stage.first_rows is not None and _rows(written[stage.id]) >= stage.first_rows:
                written[stage.id].append(Descriptor(key=None, blocks=()))
                continue
            request = TaskRequest(
                query=name,
                stage=stage.id,
                task=TaskIndex(task),
                attempt=0,
                fragment=stage.unaggregated if unaggregated and stage.unaggregated and task % 2 else stage.fragment,
                inputs=layout.shares[task].inputs,
                output=output_for(stage, task, query=name, settings=settings, exchange_prefix="exchange"),
                polars_version=pl.__version__,
                protocol_version=PROTOCOL_VERSION,
            )
            written[stage.id].append(_run(request, settings, store))
    blocks = result_blocks(written[graph.root.id])
    frames = read_exchange(store, ExchangeInput(blocks=blocks), with_columns=None, predicate=None, n_rows=None)
    parts = [frame for frame in frames if frame.width]
    return pl.concat(parts) if parts else pl.DataFrame(schema=graph.schema)


def _in_order(graph: StageGraph) -> list[StageId]:
    """Return the stages in an order in which none has to wait for what would tell it something."""
    order: dict[StageId, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.id in order:
            return
        for before in (*stage.producers, *stage.awaits):
            visit(graph.stages[before])
        order[stage.id] = stage

    visit(graph.root)
    return list(order)


def _run(request: TaskRequest, settings: Settings, store: Store) -> Descriptor:
    return run_task(decode_request(encode_request(request)), store=store, allow_udfs=settings.allow_udfs)


def _divided(layout: Layout, divisions: int) -> Layout:
    for _ in range(divisions):
        for task in layout.order:
            layout = layout.divided(task) or layout
    return layout


def _rows(written: Sequence[Descriptor]) -> int:
    return sum(block.rows for one in written for block in one.blocks)


def outcome(run: Callable[[], pl.DataFrame]) -> Outcome:
    """Return the answer, or the name of the Polars class that was raised."""
    try:
        return run()
    except QueryError as error:
        return error.exception
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return type(error).__name__
