"""Delta tables as targets: functions write the data files, and this process commits them to the table's log.

Polars' ``sink_delta`` streams all rows through the process that calls it, whatever the engine. :func:`delta_sink` makes of
the same arguments a sink of Parquet files below the table's folder, which is run as any other sink, and then the commit
(one version of the log). Until the commit no reader of the table sees a file. What deltalake checks row by row
(constraints, generated columns), and ``merge``, stay with Polars' own. :mod:`frazil._delta_files` tells the log what is in
the files. Used by :mod:`frazil._sinks`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import msgspec
import polars as pl

from frazil._delta_files import add_actions
from frazil._written import WrittenFile
from frazil_functions.arena import Arena

if TYPE_CHECKING:
    from deltalake import DeltaTable, Schema

    from frazil_functions.storage import Store

__all__ = ["DeltaSink", "delta_sink"]

Mode = Literal["error", "append", "overwrite", "ignore"]

_MODES: Final = frozenset({"error", "append", "overwrite", "ignore"})
_OPTIONS: Final = frozenset(
    {
        "partition_by",
        "name",
        "description",
        "configuration",
        "schema_mode",
        "commit_properties",
        "post_commithook_properties",
    }
)
_ROW_CHECKS: Final = frozenset({"delta.invariants", "delta.generationExpression", "delta.identity.start"})
_INSTEAD: Final = "use lf.sink_delta(…, engine=engine), which writes from this process"
_KEY_TYPES: Final = (pl.String, pl.Boolean, pl.Date)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaSink:
    """A sink to a Delta table, resolved."""

    lf: pl.LazyFrame
    """The query that writes the data files."""

    store: Callable[[], Store]
    """Opens the store of the table's folder."""

    prefix: str
    """Where the files are, relative to the table's folder: empty, or ends with ``/``."""

    keys: Sequence[str]
    """The partition columns: folders name their values."""

    write: Callable[[Sequence[object]], None]
    """Makes add actions a version of the table."""

    uri: str
    storage_options: dict[str, str] | None

    def commit(self, files: Sequence[WrittenFile]) -> None:
        """Make the files part of the table, in one version.

        Parameters
        ----------
        files
            What the query wrote.

        Raises
        ------
        deltalake.exceptions.DeltaError
            What the table's log refuses. The data files are deleted then, unless the table turns out to have them.
        """
        store = self.store()
        placed = [msgspec.structs.replace(file, path=f"{self.prefix}{file.path}") for file in files]
        try:
            self.write(add_actions([file for file in placed if file.rows], self.keys, self.prefix, store))
        except BaseException:
            self._delete(store, [file.path for file in placed])
            raise
        store.delete([file.path for file in placed if not file.rows])

    def _delete(self, store: Store, paths: Sequence[str]) -> None:
        """Delete what nobody reads; when the table can't be asked, an answer was lost perhaps, and the files stay."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        with suppress(Exception):  # the error that is being raised says more
            try:
                known = DeltaTable(self.uri, storage_options=self.storage_options).file_uris()
            except TableNotFoundError:
                known = []
            ends = tuple(f"/{path}" for path in paths)
            if not any(uri.endswith(ends) for uri in known):
                store.delete(paths)


def delta_sink(
    lf: pl.LazyFrame,
    target: str | Path | DeltaTable,
    *,
    mode: Mode,
    storage_options: Mapping[str, str] | None,
    write_options: Mapping[str, Any],
) -> DeltaSink | None:
    """Resolve a sink to a Delta table; its log is read.

    Returns
    -------
    DeltaSink or None
        None when there is nothing to do: the table exists, and the mode is ``ignore``.

    Raises
    ------
    ValueError, TypeError
        For what can't be written by functions, with advice.
    deltalake.exceptions.DeltaError
        As ``write_deltalake``: the table exists, its partition columns are others, its schema does not match.
    """
    from deltalake import DeltaTable, Schema
    from deltalake.exceptions import DeltaError
    from polars.io.delta._utils import _resolve_delta_lake_uri

    _check_arguments(mode, write_options)
    if isinstance(target, DeltaTable):
        uri, options = target.table_uri, target._storage_options  # noqa: SLF001  # no public door
    else:
        uri, options = _resolve_delta_lake_uri(str(target), strict=False), dict(storage_options or {}) or None
    table = DeltaTable(uri, storage_options=options) if DeltaTable.is_deltatable(uri, options) else None
    if table is not None and mode == "ignore":
        return None
    if table is not None and mode == "error":
        raise DeltaError(f"Generic error: A table already exists at: {uri}")
    keys = _partition_columns(table, write_options)
    replaces = table is None or (mode == "overwrite" and write_options.get("schema_mode") == "overwrite")
    dtypes = _new_dtypes(lf) if replaces else _table_dtypes(lf, cast("DeltaTable", table))
    _check_keys(keys, dtypes)
    schema = Schema.from_arrow(pl.DataFrame(schema=dtypes).to_arrow().schema)
    folder = uri if "://" in uri else str(Path(uri).absolute())
    prefix = f"frazil-{uuid.uuid4().hex}/" if keys else ""
    plan = _sink_plan(lf, dtypes, f"{_as_url(folder)}/{prefix}", keys, options)
    return DeltaSink(
        lf=plan,
        store=lambda: _store(folder, plan),
        prefix=prefix,
        keys=keys,
        write=_writer(table, schema, keys, mode, uri, options, write_options),
        uri=uri,
        storage_options=options,
    )


def _check_arguments(mode: str, write_options: Mapping[str, Any]) -> None:
    if mode not in _MODES:
        raise ValueError(f"mode {mode!r} is not one of {sorted(_MODES)}: {_INSTEAD}")
    if unknown := sorted(set(write_options) - _OPTIONS):
        raise ValueError(f"delta_write_options {unknown} are not for tables that functions write: {_INSTEAD}")
    schema_mode = write_options.get("schema_mode")
    if schema_mode is not None and (schema_mode, mode) != ("overwrite", "overwrite"):
        raise ValueError(
            f"schema_mode {schema_mode!r} with mode {mode!r} is not for tables that functions write: {_INSTEAD}"
        )


def _partition_columns(table: DeltaTable | None, write_options: Mapping[str, Any]) -> list[str]:
    from deltalake.exceptions import DeltaError

    asked = write_options.get("partition_by")
    wanted = [asked] if isinstance(asked, str) else asked and list(asked)
    if table is None:
        return wanted or []
    _check_table(table)
    existing = list(table.metadata().partition_columns)
    if wanted is not None and wanted != existing:
        said = "Generic error: Specified table partitioning does not match table partitioning"  # as deltalake says it
        raise DeltaError(f"{said}: expected: {existing}, got: {wanted}")
    return existing


def _check_table(table: DeltaTable) -> None:
    """Refuse tables whose rows deltalake looks at one by one, or whose columns have other names in files."""
    configuration = table.metadata().configuration
    held = [name for name in configuration if name.startswith("delta.constraints.")]
    if configuration.get("delta.columnMapping.mode", "none") != "none":
        held.append("delta.columnMapping.mode")
    for field in table.schema().fields:
        held += [f"{name} of {field.name}" for name in field.metadata if name in _ROW_CHECKS]
        held += [] if field.nullable else [f"{field.name} without nulls"]
    if held:
        raise ValueError(f"the table's {', '.join(held)} is not for tables that functions write: {_INSTEAD}")


def _table_dtypes(lf: pl.LazyFrame, table: DeltaTable) -> dict[str, pl.DataType]:
    """Return the dtypes of a table; the query must have the same columns, in any order, as ``write_deltalake`` asks."""
    import pyarrow as pa
    from deltalake.exceptions import SchemaMismatchError

    empty = cast("pl.DataFrame", pl.from_arrow(cast("Any", pa).schema(table.schema().to_arrow()).empty_table()))
    names = lf.collect_schema().names()
    if set(names) != set(empty.columns):
        raise SchemaMismatchError(f"the table has the columns {empty.columns}, and the query {names}")
    return dict(empty.schema)


def _new_dtypes(lf: pl.LazyFrame) -> dict[str, pl.DataType]:
    return {name: _delta_dtype(name, dtype) for name, dtype in lf.collect_schema().items()}


def _delta_dtype(name: str, dtype: pl.DataType) -> pl.DataType:
    """Return the dtype of a column as a Delta table has it.

    Notes
    -----
    Delta's types are those of Spark: no unsigned numbers, times in microseconds, zones are UTC ("Schema Serialization
    Format" of the Delta protocol). As ``write_deltalake`` maps them; categories become strings, as Polars' documentation
    says.
    """
    match dtype:
        case pl.UInt8() | pl.UInt16() | pl.UInt32() | pl.UInt64():
            return cast("type[pl.DataType]", getattr(pl, str(dtype)[1:]))()
        case pl.Categorical() | pl.Enum():
            return pl.String()
        case pl.Datetime():
            return pl.Datetime("us", dtype.time_zone and "UTC")
        case pl.List() | pl.Array():
            return pl.List(_delta_dtype(name, cast("pl.DataType", dtype.inner)))
        case pl.Struct():
            return pl.Struct([pl.Field(f.name, _delta_dtype(name, cast("pl.DataType", f.dtype))) for f in dtype.fields])
        case pl.Null() | pl.Time() | pl.Duration() | pl.Object() | pl.Int128() | pl.UInt128() | pl.Float16():
            raise TypeError(
                f"dataframe contains unsupported data types: {dtype!r} (column {name!r}): Delta has no such type"
            )
        case _:
            return dtype


def _check_keys(keys: Sequence[str], dtypes: Mapping[str, pl.DataType]) -> None:
    for key in keys:
        dtype = dtypes.get(key)
        if dtype is None:
            raise pl.exceptions.ColumnNotFoundError(f"partition_by names {key!r}, which is no column of {list(dtypes)}")
        if not (dtype.is_integer() or dtype in _KEY_TYPES):
            raise ValueError(f"partitions by {key!r}, a {dtype}, are not for tables that functions write: {_INSTEAD}")
    if keys and len(keys) == len(dtypes):
        raise ValueError("partition_by names every column: at least one must be left for the files")


def _sink_plan(
    lf: pl.LazyFrame, dtypes: Mapping[str, pl.DataType], folder: str, keys: Sequence[str], options: dict[str, str] | None
) -> pl.LazyFrame:
    given = lf.collect_schema()
    cast_lf = lf.select(pl.col(name) if given[name] == dtype else pl.col(name).cast(dtype) for name, dtype in dtypes.items())
    target = pl.PartitionBy(folder, key=list(keys), include_key=False) if keys else folder
    return cast_lf.sink_parquet(target, mkdir=True, maintain_order=False, storage_options=options, lazy=True)


def _as_url(folder: str) -> str:
    """Return the URL of a folder as Polars' sinks take it, without escapes: they refuse the path of a folder that exists."""
    return folder.rstrip("/") if "://" in folder else f"file://{folder}"


def _store(folder: str, plan: pl.LazyFrame) -> Store:
    """Open the store of the table's folder with the credentials that the functions have."""
    from frazil_coordinator.publication.publish import sink_store
    from frazil_functions.sink import sink_options

    arena = Arena.of(plan)
    return sink_store(folder, sink_options(arena.nodes[arena.root]).get("cloud_options"))


def _writer(
    table: DeltaTable | None,
    schema: Schema,
    keys: Sequence[str],
    mode: Mode,
    uri: str,
    storage_options: dict[str, str] | None,
    write_options: Mapping[str, Any],
) -> Callable[[Sequence[object]], None]:
    """Return what makes add actions a version: the first one of a new table, or one more."""
    from deltalake.transaction import create_table_with_add_actions

    new = ("name", "description", "configuration")
    options = {name: value for name, value in write_options.items() if name not in ("partition_by", "schema_mode")}

    def create(actions: Sequence[object]) -> None:
        create_table_with_add_actions(
            uri, schema, cast("Any", actions), mode, list(keys), storage_options=storage_options, **options
        )

    def add(actions: Sequence[object]) -> None:
        known = cast("DeltaTable", table)
        known.update_incremental()
        properties = {name: value for name, value in options.items() if name not in new}
        known.create_write_transaction(list(cast("Any", actions)), mode, schema, list(keys), **properties)

    return create if table is None else add
