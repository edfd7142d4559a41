"""Leaves: files cut into splits, and what came with the plan: frames, and files as bytes.

Bytes of a file are read here, as rows, because every task would need all of them; there are no more than a plan may have.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.model import InlineSource, ScanSource
from frazil_coordinator.plan.nodes import DataFrameScan, Scan, Slice
from frazil_coordinator.plan.relation import ANY, SINGLE, Relation, placeholder
from frazil_coordinator.plan.rules.base import combine, distribute, run_single
from frazil_coordinator.plan.rules.running import number_rows
from frazil_coordinator.plan.tables import Table
from frazil_functions.arena import Arena
from frazil_functions.exchange.codec import choose_codec, crc32c, encode_block
from frazil_functions.stream import batches
from frazil_functions.task import BlockRef

logger = logging.getLogger(__name__)


@distribute.register
def _(node: Scan, context: Context, inputs: Sequence[Relation]) -> Relation:
    operator = f"SCAN {node.format} {', '.join(node.paths)}" if node.paths else f"SCAN {node.format}"
    table = context.tables[node.number]
    if not isinstance(table, Table):
        rows = None if context.small or not node.buffers else _read(node, context)
        return run_single(node, context, inputs, table, operator) if rows is None else rows
    columns = context.columns.get(node.number)
    cuts = context.cuts(node.number, table)
    groups = cuts.groups
    number = context.number()
    size = table.bytes(columns)
    projected = len(table.schema) if columns is None else len(columns)
    row_groups = sum(len(footer.row_groups) for footer in table.footers)
    source = ScanSource(
        splits=groups,
        path=table.path,
        files=sum(not footer.is_pruned for footer in table.footers),
        bytes=size,
        row_groups=row_groups,
        pruned={
            "files": sum(footer.is_pruned for footer in table.footers),
            "row_groups": sum(footer.pruned_groups for footer in table.footers),
        },
        columns=projected,
        table_columns=len(table.schema),
        scan_type=table.scan_type,
        table=table,
    )
    rows = Relation(
        lf=table.placeholder(number),
        leaves={number: source},
        distribution=SINGLE if len(groups) == 1 else ANY,
        kind="scan",
        operators=(f"SCAN {table.path}",),
        keeps_rows=True,
        bytes=size,
        divisible=frozenset({number}),
    )
    if cuts.reason is not None:
        reason = f"a file of {table.path} is one split: {cuts.reason}"
        rows = (
            replace(rows, fallbacks=(reason,))
            if rows.is_single
            else replace(rows, details={**rows.details, "read whole": reason})
        )
    if table.most is not None and not table.counted:
        rows = _first_rows(rows, table.first, table.most, context)
    if table.row_index is None:
        return rows
    name, offset = table.row_index
    if rows.is_single:
        return rows.then(rows.lf.with_row_index(name, offset), "ROW INDEX")
    return number_rows(context, rows, name=name, offset=offset)


def _first_rows(rows: Relation, offset: int, length: int, context: Context) -> Relation:
    """Return what a scan with ``n_rows`` yields, of rows that nobody has counted."""
    cut = Arena.of(pl.LazyFrame(schema=rows.schema).slice(offset, length))
    part = Slice(number=-1, inputs=(0,), raw=cut.nodes[cut.root], offset=offset, length=length)
    return distribute(part, context, [rows])


@distribute.register
def _(node: DataFrameScan, context: Context, inputs: Sequence[Relation]) -> Relation:
    del inputs  # a leaf has none
    lf = context.arena.lazy(node.number)
    frame = lf.collect(engine="in-memory")
    return _spread(lf, frame, context, f"FRAME {frame.height} rows")


def _read(node: Scan, context: Context) -> Relation | None:
    """Return the rows of files that came as bytes; None when they can't be read, or are more than a plan may have."""
    lf = context.arena.lazy(node.number)
    frames: list[pl.DataFrame] = []
    size = 0
    try:
        with closing(batches(lf)) as found:
            for frame in found:
                frames.append(frame)
                size += int(frame.estimated_size())
                if size > context.settings.max_plan_bytes:
                    return None
    except (PolarsError, pl.exceptions.PanicException, OSError) as error:
        # Whether the query looks at what is broken shows when it runs.
        logger.info("bytes of a scan not read", extra={"reason": type(error).__name__})
        return None
    schema = lf.collect_schema()
    rows = pl.concat(frames) if frames else pl.DataFrame(schema=schema)
    return _spread(lf, rows, context, f"SCAN {node.format} {node.buffers} bytes") if rows.schema == schema else None


def _spread(lf: pl.LazyFrame, frame: pl.DataFrame, context: Context, operator: str) -> Relation:
    """Return the relation of `lf`, whose rows are those of `frame`."""
    parts = [frame] if context.small else _parts(frame, context)
    if len(parts) == 1:
        return replace(
            combine([]), lf=lf, kind="scan", operators=(operator,), bytes=int(frame.estimated_size()), distribution=SINGLE
        )
    number = context.number()
    source = InlineSource(blocks=tuple((_block(part, index),) for index, part in enumerate(parts)), rows=frame.height)
    return Relation(
        lf=placeholder(number, frame.schema),
        leaves={number: source},
        distribution=ANY,
        kind="scan",
        operators=(operator,),
        bytes=int(frame.estimated_size()),
    )


def _parts(frame: pl.DataFrame, context: Context) -> list[pl.DataFrame]:
    """Cut a frame into parts of about `split_target_bytes` or at most `max_rows_per_split` rows."""
    rows, size = frame.height, int(frame.estimated_size())
    step = max(1, rows * context.settings.split_target_bytes // max(1, size))
    if context.settings.max_rows_per_split is not None:
        step = min(step, context.settings.max_rows_per_split)
    most = context.settings.max_tasks_per_stage
    if rows > step * most:  # structs without fields: billions of rows in no bytes
        step = -(-rows // most) if size else rows
    return [frame.slice(start, step) for start in range(0, rows, step)] or [frame]


def _block(frame: pl.DataFrame, index: int) -> BlockRef:
    codec = choose_codec("auto", schema=frame.schema, remote=True, raw_bytes=int(frame.estimated_size()))
    data = encode_block(frame.rechunk(), codec)
    return BlockRef(
        key="",
        offset=0,
        length=len(data),
        rows=frame.height,
        crc32c=crc32c(data),
        codec=codec,
        map_index=index,
        data=data,
    )
