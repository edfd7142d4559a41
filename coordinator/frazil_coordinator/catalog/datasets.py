"""Tables of a lake (Delta, Iceberg), found here and sent as scans of their files.

``pl.scan_delta`` and ``pl.scan_iceberg`` put a Python object into the plan, which polars would ask for the table's files
where the query runs. It is asked here instead, in the process that it belongs to: the query reads the version of the table
that is the newest when it is sent (or the one that the user chose), and nothing of Python has to travel. Used by clients for
the tables of their own plans (``frazil._serialize``), and by :mod:`~frazil_coordinator.catalog.lake` for those with a name.
"""

from __future__ import annotations

import copyreg
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, cast
from weakref import WeakValueDictionary

import polars as pl
from polars.exceptions import PolarsError

from frazil_functions.arena import Arena, Raw
from frazil_functions.errors import PythonPlanError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["keep_versions", "resolve_datasets"]

_DATASET: Final = "PythonDataset"
_DELTA_MODULE: Final = "polars.io.delta._dataset"
_ICEBERG_MODULE: Final = "polars.io.iceberg._dataset"
_POLARS_PICKLE_HEADER_BYTES: Final = 3
_SET_BY_OTHERS: Final = ("row_index", "pre_slice", "include_file_paths")


class _Dataset(Protocol):
    """What polars asks of a table."""

    def to_dataset_scan(self) -> tuple[pl.LazyFrame, str] | None: ...


class _DeltaDataset(Protocol):
    """What is behind `polars.scan_delta`."""

    version: object
    table_: _Optional

    def __getstate__(self) -> dict[str, object]: ...


class _Optional(Protocol):
    def get(self) -> _DeltaTable | None: ...


class _DeltaTable(Protocol):
    def version(self) -> int: ...


class _IcebergTable(Protocol):
    """What is behind `polars.scan_iceberg`: a table of pyiceberg, and what finds it again in another process."""

    table_: _Settable
    table_descriptor_: object

    def __getstate__(self) -> dict[str, object]: ...


class _IcebergDataset(Protocol):
    def schema(self) -> pa.Schema: ...


class _Settable(Protocol):
    def get(self) -> object | None: ...
    def set(self, value: object) -> None: ...


_OPENED: Final[WeakValueDictionary[str, object]] = WeakValueDictionary()
"""Iceberg tables of this process by the place of their metadata, since plans were made of them."""


def keep_versions() -> None:
    """Let tables be written into plans as what polars would read; call it before a plan is serialised.

    Notes
    -----
    A ``DeltaTable`` of an older version, given to ``pl.scan_delta``, loses its version when polars 2.1 pickles it, and the
    newest one would be read without a word. A table of pyiceberg loses its catalog, whose credentials may be the only ones
    that open its metadata. `copyreg` is how a class of another module is told how to be pickled.
    """
    if (delta := sys.modules.get(_DELTA_MODULE)) is not None:
        copyreg.pickle(delta.DeltaDataset, _with_version)
    if (iceberg := sys.modules.get(_ICEBERG_MODULE)) is not None:
        copyreg.pickle(iceberg.IcebergTableWrap, _remembered)


def _with_version(dataset: _DeltaDataset) -> tuple[Callable[..., object], tuple[object, ...], object]:
    state = dict(dataset.__getstate__())
    table = dataset.table_.get()
    if dataset.version is None and table is not None:
        state["version"] = table.version()
    return copyreg.__newobj__, (type(dataset),), state  # type: ignore[attr-defined]  # what pickle's protocol 2 uses


def _remembered(wrap: _IcebergTable) -> tuple[Callable[..., object], tuple[object, ...], object]:
    state, table = wrap.__getstate__(), wrap.table_.get()
    if table is not None and isinstance(wrap.table_descriptor_, str):
        _OPENED[wrap.table_descriptor_] = table
    return copyreg.__newobj__, (type(wrap),), state  # type: ignore[attr-defined]  # what pickle's protocol 2 uses


def _open_again(dataset: object) -> bool:
    """Give the dataset of an Iceberg table, as it was pickled, the table that this process has opened, if it has."""
    wrap = cast("_IcebergTable | None", getattr(dataset, "table", None))
    place = getattr(wrap, "table_descriptor_", None)
    if wrap is not None and isinstance(place, str) and (table := _OPENED.get(place)) is not None:
        wrap.table_.set(table)
        return True
    return False


def resolve_datasets(arena: Arena) -> bool:
    """Replace tables in place by scans of their files; return whether there were any.

    A table whose files give other columns than the table is left as it is, and so is one that Python reads (pyarrow,
    pyiceberg, deletion vectors): polars calls such a function in a way of its own.
    """
    replacements: dict[int, int] = {}
    for number in arena.reachable():
        if arena.kind(number) == "Scan" and (scan := _scan_of(arena, number)) is not None:
            replacements[number] = arena.append(Arena.of(scan))
    arena.redirect(replacements)
    return bool(replacements)


def _scan_of(arena: Arena, number: int) -> pl.LazyFrame | None:
    payload = arena.payload(number)
    scan_type, arguments = payload["scan_type"], cast("Raw", payload["unified_scan_args"])
    if not isinstance(scan_type, dict) or _DATASET not in scan_type:
        return None
    if any(arguments[name] is not None for name in _SET_BY_OTHERS):
        return None
    data = scan_type[_DATASET]["dataset_object"]["dataset_object"]
    pickled = data if isinstance(data, bytes) else bytes(item & 0xFF for item in data)
    # What this process pickled itself a moment ago.
    dataset = cast("_Dataset", pickle.loads(pickled[_POLARS_PICKLE_HEADER_BYTES:]))  # noqa: S301
    opened = _open_again(dataset)
    found = dataset.to_dataset_scan()
    if found is None:
        return None
    # Polars would open the table anew, without its catalog.
    schema = pl.Schema(cast("_IcebergDataset", dataset).schema()) if opened else arena.lazy(number).collect_schema()
    try:
        if _reads_by_python(found[0]):
            return None
        scan = _with_schema(found[0], schema)
        same = dict(scan.collect_schema()) == dict(schema)
    except (PolarsError, PythonPlanError):  # deletion vectors are a Python function
        return None
    if not same:
        return None
    return scan if scan.collect_schema() == schema else scan.select(schema.names())


def _reads_by_python(scan: pl.LazyFrame) -> bool:
    arena = Arena.of(scan)
    return any(arena.kind(number) == "PythonScan" for number in arena.reachable())


def _with_schema(scan: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """Return a scan of Parquet files with the table's schema: its first file may lack columns that were added later."""
    arena = Arena.of(scan)
    if arena.kind(arena.root) != "Scan":
        return scan
    payload = arena.payload(arena.root)
    parquet = cast("Raw", payload["scan_type"]).get("Parquet")
    if not isinstance(parquet, dict) or parquet["options"]["schema"] is not None:
        return scan
    arguments = cast("Raw", payload["unified_scan_args"])
    hive = cast("Raw", arguments["hive_options"])
    folders = cast("Raw", cast("Raw", hive["schema"])["fields"]) if hive["enabled"] and hive["schema"] else {}
    columns = {name: dtype for name, dtype in schema.items() if name not in folders}
    stand_in = Arena.of(pl.scan_parquet("schema", schema=columns, glob=False))
    parquet["options"]["schema"] = cast("Raw", stand_in.payload(stand_in.root)["scan_type"])["Parquet"]["options"]["schema"]  # type: ignore[index]
    return arena.lazy()
