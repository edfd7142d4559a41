"""The end of a plan that writes files: taken off before planning, and put on the relation that planning yields.

A sink is no operator over rows: what is planned is the query below it, and the tasks of the root stage write what they have
by the user's own sink node (:mod:`frazil_functions.sink`). What is decided here is only which tasks have the rows: every
task its own for a folder of files, one task all of them for one file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, cast

import msgspec
import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import plain_column, to_expr
from frazil_coordinator.plan.model import FILE_NUMBER, Sink
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import ANY, Relation, apply
from frazil_coordinator.plan.rules.running import number_rows
from frazil_coordinator.plan.targets import place_of
from frazil_functions.arena import Arena, Raw
from frazil_functions.arena_nodes import python_kinds
from frazil_functions.errors import PlanError, PythonPlanError
from frazil_functions.sink import placed, sink_options

__all__ = ["keeps_order", "spread", "take_sink"]

_ENDINGS: Final = {"Parquet": "parquet", "Csv": "csv", "Ipc": "ipc", "NDJson": "jsonl"}
"""Endings of the names that Polars gives to the files of a `pl.PartitionBy`."""

_COMPRESSED: Final = {"Gzip": ".gz", "Zstd": ".zst"}
_TABLES: Final = "Iceberg"
"""The one way of naming files of Polars' own but the default: no two files have one name, so that a table can take them."""

_NO_LIMIT: Final = 2**64 - 1
_NO_ROW_LIMIT: Final = 2**32 - 1
"""How polars writes that files may have any number of bytes, or of rows."""

_ELSEWHERE: Final = "or let polars write in one process, with engine='streaming'"


def take_sink(arena: Arena, *, ask_polars: bool = True) -> Sink | None:
    """Take the sink off the end of a plan, so that its root is what shall be written; None when it has none.

    Parameters
    ----------
    arena
        The plan.
    ask_polars
        Whether polars looks, too, whether the rows can be written so: it reads the files to know their columns.

    Raises
    ------
    PlanError
        When functions can't write such a sink; `PythonPlanError` when it holds Python objects, also where plans may.
    QueryError
        When polars would refuse it, as far as that can be known before rows are there.
    """
    kind = arena.kind(arena.root)
    if kind == "SinkMultiple":
        raise PlanError("a plan of several sinks can't be run as one query: collect them as queries of their own")
    if kind != "Sink":
        return None
    node = arena.nodes[arena.root]
    (payload_kind,) = cast("Raw", arena.payload(arena.root)["payload"])
    if payload_kind not in ("File", "Partitioned"):
        raise PlanError(f"a sink of kind {payload_kind} can't be written by functions: use sink_batches, {_ELSEWHERE}")
    body = cast("Raw", cast("Raw", arena.payload(arena.root)["payload"])[payload_kind])
    if found := sorted(set(python_kinds([body]))):
        raise PythonPlanError(
            f"the sink holds Python objects ({', '.join(found)}), which are refused: leave them out, {_ELSEWHERE}"
        )
    (arena.root,) = arena.inputs(arena.root)
    sink = _file(node, body) if payload_kind == "File" else _partitioned(node, body)
    if ask_polars:
        _ask_polars(node, sink, arena)
    return sink


def _file(node: Raw, body: Raw) -> Sink:
    target = _path(body["target"])
    many = target.endswith("/")
    sink = _sink(node, body, target, many=many)
    return replace(sink, kind="dataset", name=_ending(body)) if many else sink


def _partitioned(node: Raw, body: Raw) -> Sink:
    provider = body["file_path_provider"]
    if provider is not None and not (isinstance(provider, dict) and _TABLES in provider):
        raise PlanError(f"a file_path_provider of its own is refused: leave it out of pl.PartitionBy, {_ELSEWHERE}")
    sink = _sink(node, body, _path(body["base_path"]), many=True)
    if provider is not None:
        return replace(sink, kind="named")
    return replace(sink, kind="partitioned", name=_ENDINGS.get(sink.format, sink.format.lower()))


def _sink(node: Raw, body: Raw, target: str, *, many: bool) -> Sink:
    options = sink_options(node)
    place = place_of(target, many=many, mkdir=bool(options["mkdir"]))
    return Sink(
        node=msgspec.msgpack.encode(node),
        kind="file",
        format=next(iter(cast("Raw", body["file_format"]))),
        target=target,
        store=place.store,
        base=place.base,
        folder=place.folder,
        name=place.name,
        local=place.local,
        cloud_options=options.get("cloud_options"),
    )


def _path(member: object) -> str:
    inner = member.get("inner") if isinstance(member, dict) else member
    if not isinstance(inner, str):
        raise PlanError("a sink to something else than a path can't be written by functions")
    return inner


def _ending(body: Raw) -> str:
    """Return the ending of a dataset's files: that of Polars' own, and what its check of names asks of compressed ones."""
    ((name, options),) = cast("Raw", body["file_format"]).items()
    compression = options.get("compression") if isinstance(options, dict) and name in ("Csv", "NDJson") else None
    kind = next(iter(compression)) if isinstance(compression, dict) else str(compression)
    return f"{_ENDINGS.get(name, name.lower())}{_COMPRESSED.get(kind, '')}"


def _ask_polars(node: Raw, sink: Sink, arena: Arena) -> None:
    """Have polars resolve the sink over no rows: it refuses wrong names of files, keys and schemas."""
    place = f"{sink.target}part.{sink.name}" if sink.kind == "dataset" else sink.target
    empty = pl.LazyFrame(schema=arena.lazy().collect_schema())
    apply(placed(node, place), [empty]).collect_schema()


def keeps_order(sink: Sink | None) -> bool:
    """Return whether somebody sees the order of the plan's last rows."""
    return sink is None or bool(sink_options(_node(sink))["maintain_order"])


def spread(sink: Sink, relation: Relation, context: Context) -> tuple[Sink, Relation]:
    """Return `relation` with its rows in the tasks that shall write them, and the sink that these tasks are given.

    The files of a `pl.PartitionBy` are those that polars makes in one process, so that writing them again replaces them:
    rows of one key come into one task, and so do rows of one file.
    """
    how = "by one task"
    if sink.kind == "file":
        relation = context.gather(relation)
        how = "one file, by one task"
    elif not relation.is_single:
        if sink.kind in ("partitioned", "named"):
            sink, relation = _brought_together(sink, relation, context)
        how = "one file by each task" if sink.kind == "dataset" else "files by each task"
        how = "by one task" if relation.is_single else how
    text = f"SINK {sink.format.upper()} {sink.target} ({how})"
    return sink, relation.then(relation.lf, text, divisible=sink.kind == "dataset")  # others: their files are counted


def _brought_together(sink: Sink, relation: Relation, context: Context) -> tuple[Sink, Relation]:
    node = _node(sink)
    payload = cast("Raw", cast("Raw", node["Sink"])["payload"])
    body = cast("Raw", payload["Partitioned"])
    strategy = body["partition_strategy"]
    if isinstance(strategy, dict):
        keys = cast("list[RawExpr]", cast("Raw", strategy["Keyed"])["keys"])
        columns = {plain_column(key) for key in keys}
        if relation.distribution.kind == "hash" and set(relation.distribution.keys) <= columns:
            return sink, relation
        return sink, context.shuffle(relation, list(map(to_expr, keys)), delivers=ANY, kind="map")
    if sink.kind == "named":
        return sink, relation
    if cast("int", body["approximate_bytes_per_file"]) < _NO_LIMIT:
        reason = f"files of about so many bytes are cut by one task: end the target with / {_ELSEWHERE}"
        return sink, context.gather(relation, reason)
    numbered = number_rows(context, relation, name=FILE_NUMBER, offset=0)
    number = (pl.col(FILE_NUMBER) // cast("int", body["max_rows_per_file"])).alias(FILE_NUMBER)
    files = numbered.then(numbered.lf.with_columns(number))
    by_number = {"Keyed": {"keys": [{"Column": FILE_NUMBER}], "include_keys": False, "keys_pre_grouped": False}}
    body |= {"partition_strategy": by_number, "max_rows_per_file": _NO_ROW_LIMIT}
    shuffled = context.shuffle(files, [pl.col(FILE_NUMBER)], delivers=ANY, kind="map")
    return replace(sink, kind="numbered", node=msgspec.msgpack.encode(node)), shuffled


def _node(sink: Sink) -> Raw:
    return cast("Raw", msgspec.msgpack.decode(sink.node))
