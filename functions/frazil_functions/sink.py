"""Writes a task's rows to files of the user's, by the sink node that the user's plan ended in.

Polars itself writes them: the node goes back into a plan as it came, over a source that hands on the fragment's rows, with
one change, the place. Every execution writes into a folder of its own, so that nothing is ever written twice under one name
and an attempt that was given up disturbs nobody; what is to be seen of it is decided by the coordinator
(``frazil_coordinator.publication``, docs/sinks.md). Rows stream: no more of them is held than Polars' writer buffers.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Final, cast

import msgspec
import polars as pl
from msgspec import structs
from polars.io.partition import SinkedPathsCallbackArgs

from frazil_functions.arena import Arena, Raw
from frazil_functions.arena_nodes import python_kinds
from frazil_functions.errors import PlanError, PythonPlanError
from frazil_functions.task import SinkFile, SinkOutput

__all__ = ["node_of", "placed", "sink_options", "write_sink"]

_TARGETS: Final = {"File": "target", "Partitioned": "base_path"}
"""Kind of a sink → its member that says where to."""


class _Run:
    """One sink that is being written."""

    def __init__(self, frames: Iterable[pl.DataFrame]) -> None:
        self._frames = frames
        self.error: BaseException | None = None
        self.paths: list[tuple[str, int, int]] = []
        """Path, rows and bytes of the files, as Polars tells at the end."""

    def frames(self) -> Iterator[pl.DataFrame]:
        """Hand on the rows. The first error is kept: Polars may hand it on as text only."""
        try:
            yield from self._frames
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = self.error or error
            raise


_RUNS: Final[dict[str, _Run]] = {}
"""The sinks that are being written in this process. Polars pickles what a plan holds, so the plan holds a key into this."""


class _Rows:
    """The source of the plan that writes. Pickled by reference to this module, with its key only."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(
        self, with_columns: list[str] | None, _predicate: bytes | None, _n_rows: int | None, _batch_size: int | None
    ) -> tuple[Iterator[pl.DataFrame], bool]:
        frames = _RUNS[self._key].frames()
        return (frames if with_columns is None else (frame.select(with_columns) for frame in frames)), False


class _Written:
    """Is told by Polars which files it wrote. Pickled as :class:`_Rows`."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, told: SinkedPathsCallbackArgs) -> None:
        _RUNS[self._key].paths.extend((file.path, file.num_rows, file.num_bytes) for file in told.paths)


def node_of(sink: SinkOutput) -> Raw:
    """Return the sink node of a task."""
    return cast("Raw", msgspec.msgpack.decode(sink.node))


def placed(node: Raw, place: str) -> Raw:
    """Return a sink node with another place to write to: that of its one file, or the folder of its many.

    Parameters
    ----------
    node
        ``{"Sink": …}`` as decoded from a plan.
    place
        Path or URL.

    Raises
    ------
    PlanError
        When it is a sink of another kind than those to one file or to partitions.
    """
    sink = cast("Raw", node["Sink"])
    kind, body = _kind_of(sink)
    return {"Sink": {**sink, "payload": {kind: {**body, _TARGETS[kind]: {"inner": place}}}}}


def sink_options(node: Raw) -> Raw:
    """Return the options that every kind of sink has, e.g. ``cloud_options``, ``maintain_order`` and ``mkdir``."""
    _, body = _kind_of(cast("Raw", node["Sink"]))
    return cast("Raw", body["unified_sink_args"])


def write_sink(frames: Iterable[pl.DataFrame], schema: pl.Schema, sink: SinkOutput, execution: str) -> tuple[SinkFile, ...]:
    """Write rows as `sink` says.

    Parameters
    ----------
    frames
        The rows; taken one by one as Polars' writer asks for them.
    schema
        Their schema.
    sink
        How and where to.
    execution
        Name of the folder below ``sink.folder`` that no other execution uses.

    Returns
    -------
    tuple of SinkFile
        The files, in the order of their rows as far as Polars keeps it; one without rows when there are none, but for a
        sink by keys, which then writes nothing.

    Raises
    ------
    PythonPlanError
        When the node holds Python objects.
    BaseException
        What `frames` raises, as it is; what Polars raises while it writes.
    """
    node = node_of(sink)
    if found := sorted(set(python_kinds([node]))):
        raise PythonPlanError(f"the sink holds Python objects ({', '.join(found)}), which are refused")
    key = uuid.uuid4().hex
    run = _RUNS[key] = _Run(frames)
    try:
        place = f"{sink.folder}/{execution}/{sink.name}"
        _writing_plan(placed(node, place), key, schema).collect(engine="streaming")
    except BaseException as error:
        if run.error is not None and run.error is not error:
            raise run.error from error
        raise
    finally:
        del _RUNS[key]
    if not run.paths and sink.name:
        return _empty_file(node, schema, sink, execution)
    start = len(sink.folder) + 1
    return tuple(SinkFile(path=path[start:], rows=rows, bytes=size) for path, rows, size in sorted(run.paths))


def _empty_file(node: Raw, schema: pl.Schema, sink: SinkOutput, execution: str) -> tuple[SinkFile, ...]:
    """Write a file that holds nothing but the schema of what a sink of many files would have written."""
    payload = cast("Raw", cast("Raw", node["Sink"])["payload"])
    if "Partitioned" not in payload:
        return ()
    body = cast("Raw", payload["Partitioned"])
    members = {name: body[name] for name in ("file_format", "unified_sink_args")}
    file = {"Sink": {**cast("Raw", node["Sink"]), "payload": {"File": {**members, "target": None}}}}
    dropped = [name for name in _dropped_keys(body) if name in schema]
    kept = pl.Schema({name: dtype for name, dtype in schema.items() if name not in dropped})
    return write_sink([], kept, structs.replace(sink, node=msgspec.msgpack.encode(file)), execution)


def _dropped_keys(body: Raw) -> list[str]:
    """Return the columns that are keys and not written."""
    strategy = body["partition_strategy"]
    keyed = cast("Raw", strategy["Keyed"]) if isinstance(strategy, dict) and "Keyed" in strategy else None
    if keyed is None or keyed["include_keys"]:
        return []
    return [str(key["Column"]) for key in cast("list[object]", keyed["keys"]) if isinstance(key, dict) and "Column" in key]


def _writing_plan(node: Raw, key: str, schema: pl.Schema) -> pl.LazyFrame:
    source = pl.LazyFrame._scan_python_function(  # noqa: SLF001  # register_io_source without its closure, which only cloudpickle can write
        schema=schema, scan_fn=_Rows(key), pyarrow=False, validate_schema=False, is_pure=False
    )
    # The one way to have Polars write the bytes by which its plans hold a callback; no folder may have the sink's name.
    told = Arena.of(pl.LazyFrame().sink_parquet("file:///x", lazy=True, sinked_paths_callback=_Written(key)))
    callback = sink_options(told.nodes[told.root])["sinked_paths_callback"]
    arena = Arena()
    rows = arena.append(Arena.of(source))
    with_callback = _with_options(node, sinked_paths_callback=callback, mkdir=True)
    arena.root = arena.add(arena.with_inputs(with_callback, [rows]))
    return arena.lazy()


def _with_options(node: Raw, **changes: object) -> Raw:
    sink = cast("Raw", node["Sink"])
    kind, body = _kind_of(sink)
    options = {**cast("Raw", body["unified_sink_args"]), **changes}
    return {"Sink": {**sink, "payload": {kind: {**body, "unified_sink_args": options}}}}


def _kind_of(sink: Raw) -> tuple[str, Raw]:
    payload = sink.get("payload")
    if isinstance(payload, dict) and len(payload) == 1:
        ((kind, body),) = payload.items()
        if kind in _TARGETS and isinstance(body, dict) and isinstance(body.get("unified_sink_args"), dict):
            return str(kind), body
    raise PlanError("a sink of this kind can't be written by functions")
