"""Iceberg tables as targets: functions write the data files, and this process commits them by the table's catalog.

``lf.sink_iceberg(target, engine=engine)`` puts a sink node into the plan that holds a catalog's Python class and properties.
Polars' own code resolves it here: into a sink of Parquet files below the table's folder, with its field ids, partition keys
and sort order, which is run as any other sink, and then into the commit (a snapshot of the table). Until the commit no
reader of the table sees a file. Used by :mod:`frazil._engine`.
"""

from __future__ import annotations

import copyreg
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import polars as pl
from polars._utils.wrap import wrap_ldf
from polars.io.cloud._utils import NoPickleOption

from frazil._interrupts import interrupts_held
from frazil._streams import rows_held
from frazil._written import WrittenFile
from frazil_functions.arena import Arena, Raw

if TYPE_CHECKING:
    from polars.io.iceberg._sink import IcebergSinkState

__all__ = ["IcebergSink", "iceberg_sink", "is_iceberg_sink"]

_KIND: Final = "Iceberg"
_POLARS_PICKLE_HEADER_BYTES: Final = 3
_READERS: Final = 8
"""Footers that are read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IcebergSink:
    """A sink to an Iceberg table, resolved."""

    lf: pl.LazyFrame
    """The query that writes the data files: a sink to files below the table's folder, under names that no other file has."""

    folder: str
    """URL of the folder of data files; ends with ``/``."""

    keys: Sequence[Any]
    """The partition keys, as raw expressions over the columns of a data file; none for a table without partitions."""

    state: IcebergSinkState

    def commit(self, files: Sequence[WrittenFile]) -> pl.DataFrame:
        """Make the files part of the table, in one snapshot.

        Parameters
        ----------
        files
            What the query wrote.

        Returns
        -------
        DataFrame
            What ``sink_iceberg`` returns: ``metadata_path``, the place of the table's new metadata.

        Raises
        ------
        Exception
            What the catalog raises. The data files are deleted then, unless it is not known whether the commit succeeded.
        """
        from pyiceberg.exceptions import CommitStateUnknownException

        written = [file for file in files if file.rows]
        try:
            with ThreadPoolExecutor(_READERS) as readers:
                return self.state.commit(list(readers.map(self._described, written)))
        except CommitStateUnknownException:
            raise
        except BaseException:
            self._delete(written)
            raise

    def _described(self, file: WrittenFile) -> tuple[str, int, int, bytes, pl.DataFrame | None]:
        """Return a file as polars' own writer tells it: with its footer, and the keys of its partition."""
        import pyarrow as pa
        from pyarrow import parquet

        url = f"{self.folder}{file.path}"
        with self.state.table().io.new_input(url).open() as stream:
            footer = parquet.read_metadata(cast("Any", stream))
        bare = pa.BufferOutputStream()
        footer.write_metadata_file(bare)
        return url, file.rows, file.bytes, bare.getvalue().to_pybytes(), self._keys_of(url)

    def _keys_of(self, url: str) -> pl.DataFrame | None:
        """Return the keys of a file: those of its first row, because the rows of a file have the same."""
        if not self.keys:
            return None
        options = self.state._get_converted_storage_options()  # noqa: SLF001  # polars' own way to these options
        row = pl.scan_parquet(
            url, storage_options=cast("Any", options), glob=False, hive_partitioning=False, credential_provider=None
        ).head(1)
        arena = Arena.of(row.select(pl.first()))
        arena.payload(arena.root)["expr"] = list(self.keys)
        return arena.lazy().collect(engine="streaming")

    def _delete(self, files: Sequence[WrittenFile]) -> None:
        for file in files:
            with suppress(Exception):  # nobody reads them, and the error that is being raised says more
                self.state.table().io.delete(f"{self.folder}{file.path}")


def is_iceberg_sink(arena: Arena) -> bool:
    """Return whether a plan ends in a sink to an Iceberg table."""
    return arena.kind(arena.root) == "Sink" and _KIND in cast("Raw", arena.payload(arena.root)["payload"])


def iceberg_sink(lf: pl.LazyFrame, arena: Arena) -> IcebergSink:
    """Resolve a plan that ends in a sink to an Iceberg table; the catalog is asked for the table.

    Parameters
    ----------
    lf
        The query.
    arena
        Its plan.

    Raises
    ------
    Exception
        What polars and pyiceberg raise for a table that can't be written.
    """
    with interrupts_held(), rows_held(), _objects_kept():
        kept = Arena.decode(lf.serialize())
        state = _state_of(cast("Raw", cast("Raw", kept.payload(kept.root)["payload"])[_KIND]))
    (rows,) = arena.inputs(arena.root)
    resolved = Arena.of(wrap_ldf(state._attach_resolved_sink(arena.lazy(rows)._ldf)))  # noqa: SLF001  # what polars' engines call
    ((_, body),) = cast("dict[str, Raw]", resolved.payload(resolved.root)["payload"]).items()
    strategy, place = body["partition_strategy"], cast("Raw", body["base_path"])
    keys = cast("list[Any]", cast("Raw", strategy["Keyed"])["keys"]) if isinstance(strategy, dict) else []
    return IcebergSink(lf=resolved.lazy(), folder=str(place["inner"]), keys=keys, state=state)


def _state_of(fields: Raw) -> IcebergSinkState:
    """Return the object that polars made of the arguments of ``sink_iceberg``; the rows' plan holds its fields."""
    from polars.io.iceberg._sink import IcebergSinkState

    values = {name: _unpickled(value) for name, value in fields.items()}
    for name in ("mode", "schema_mode"):
        values[name] = values[name] and str(values[name]).lower()
    return IcebergSinkState(**cast("Any", values))


def _unpickled(value: object) -> object:
    """Return a field; what was a Python object is bytes that this process pickled a moment ago."""
    if isinstance(value, list):
        value = bytes(item & 0xFF for item in value)
    return pickle.loads(value[_POLARS_PICKLE_HEADER_BYTES:]) if isinstance(value, bytes) else value  # noqa: S301


# `sink_iceberg` returns what the commit leaves in an object that polars does not pickle, and a table that the caller passed
# shall show its new snapshot. So these objects are pickled by reference while a sink is resolved.

_kept = threading.local()


@contextmanager
def _objects_kept() -> Iterator[None]:
    copyreg.pickle(NoPickleOption, _by_reference)
    _kept.objects = []
    try:
        yield
    finally:
        _kept.objects = None


def _by_reference(option: NoPickleOption[Any]) -> tuple[Callable[..., Any], tuple[Any, ...], Any]:
    objects = getattr(_kept, "objects", None)
    if objects is None:
        return copyreg.__newobj__, (NoPickleOption,), ()  # type: ignore[attr-defined]  # what pickle's protocol 2 uses
    objects.append(option)
    return _object, (len(objects) - 1,), None


def _object(number: int) -> object:
    return _kept.objects[number]
