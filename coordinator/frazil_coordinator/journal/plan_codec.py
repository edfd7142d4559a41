"""A planned query as bytes: its stage graph and its report, equal again when they are read (docs/journal.md, "Plan object").

Planning again might cut the files otherwise, so a query that goes on after a restart needs the plan that it began with. This
module neither plans nor stores. The classes that it writes are a closed list with their fields (:data:`_FIELDS`): an object
that names others is refused. Values that are used several times are written once, in pools, and referred to by number. What
is returned may hold the user's credentials: :mod:`~frazil_coordinator.journal.sealing` is next.
"""

from __future__ import annotations

import dataclasses
import struct
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints

import google_crc32c
import msgspec
import polars as pl
import pyarrow as pa

from frazil_coordinator.journal.dtype_codec import decode_schema, encode_schema
from frazil_coordinator.plan.figures import Amount, StageEstimate
from frazil_coordinator.plan.footers import Footer, ParquetFooter, RowGroup
from frazil_coordinator.plan.model import (
    ExchangeSource,
    ExchangeSpec,
    InlineSource,
    RuntimeFilter,
    ScanSource,
    Sink,
    Stage,
    StageGraph,
    Switch,
)
from frazil_coordinator.plan.report import Figure, Measured, Predicted, Report, SourceReport, StageReport
from frazil_coordinator.plan.tables import Table
from frazil_functions.errors import JournalError
from frazil_functions.scan_files import FileStat
from frazil_functions.task import BlockRef, SortKey, Split

__all__ = ["MAGIC", "VERSION", "PlannedQuery", "decode_plan", "encode_plan"]

_Hint: TypeAlias = Any
"""A type that is known at run time only: no checker has a name for it."""

MAGIC: Final = b"FRZPLAN\0"
VERSION: Final = 1
"""Version of the format. It changes with the header, the body's layout, and the fields of any class in it."""

_START: Final = struct.Struct("<8sH")
_HEADER: Final = struct.Struct("<8sHHIQ")
"""Magic, version, length of polars' version, CRC-32C of all that follows it, length of the body."""

_CHECKED_FROM: Final = 16
_ESTIMATES: Final = "rows_in rows_out bytes_scanned bytes_in bytes_out memory_bytes memory_limit_bytes scan_gets gets puts"

_FIELDS: Final[Mapping[type, tuple[str, ...]]] = {
    cls: tuple(names.split())
    for cls, names in {
        FileStat: "path size etag",
        RowGroup: "rows bytes first number whole_bytes",
        ParquetFooter: "data",
        Footer: "row_groups schema file_bytes pruned_groups pruned_rows columns parquet",
        Table: "scan files footers schema path first hive_start most scan_type counted row_index",
        BlockRef: "key offset length rows crc32c codec map_index data",
        Split: "path offset rows whole size etag rows_before hive_start start length header",
        SortKey: "column descending nulls_last",
        ScanSource: "splits path scan_type files bytes row_groups pruned columns table_columns table",
        ExchangeSource: "stage read first_task tasks partitions",
        InlineSource: "blocks rows",
        RuntimeFilter: "source column build key waits table",
        Switch: "join source small",
        ExchangeSpec: "kind partitions hash_keys sort_keys row_tag inline key_columns final",
        Stage: "id kind fragment sources tasks output operators distribution fallbacks divisible first_rows details "
        "unaggregated filters switch combiner reserve units notes",
        Sink: "node kind format target store base folder name local cloud_options",
        Amount: "value bound",
        StageEstimate: f"{_ESTIMATES} function_seconds dollars",
        StageGraph: "stages schema estimates sink",
        Figure: "value bound",
        Predicted: f"tasks {_ESTIMATES} function_seconds dollars",
        Measured: "tasks attempts rows_in rows_out bytes_scanned bytes_in bytes_out memory_bytes requests seconds "
        "function_seconds dollars cold_starts skew adaptations",
        SourceReport: "table files splits row_groups columns table_columns bytes pruned frame_rows stage read",
        StageReport: "stage kind tasks distribution output operators sources fallbacks details reserve predicted measured",
        Report: "stages predicted measured",
    }.items()
}
"""Every class that is written, and its fields in the order in which they are."""

_POOLED: Final = (FileStat, RowGroup, ParquetFooter, Footer, Table, BlockRef)
"""Classes whose values are written once each; those that a class refers to stand before it."""

_TAGGED: Final = frozenset({ScanSource, ExchangeSource, InlineSource})
"""Classes that may stand in one place: their rows begin with their names."""

_WIDE: Final = frozenset({Amount, StageEstimate, Figure, Predicted})
"""Classes whose numbers are guesses, which may be too large for 64 bits: those are written as text."""

_Number: Final = Annotated[int, msgspec.Meta(ge=0)]
"""Number of a value in its pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedQuery:
    """What planning a query yielded."""

    graph: StageGraph
    report: Report | None
    """What EXPLAIN shows of it; None when nobody asked for it."""


def encode_plan(graph: StageGraph, report: Report | None) -> bytes:
    """Return a plan as bytes, of which :func:`decode_plan` makes an equal one.

    Parameters
    ----------
    graph
        The plan. It may hold credentials of the user's, and so do the bytes.
    report
        What EXPLAIN shows of it.

    Raises
    ------
    JournalError
        When it holds what has no form here: columns of Python objects, above all.
    """
    pools = _Pools()
    try:
        rows = [_ROWS[StageGraph].write(graph, pools), None if report is None else _ROWS[Report].write(report, pools)]
        shared = [list(pools.bytes), pools.trees, pools.schemas, *(pools.rows[cls] for cls in _POOLED)]
        body = msgspec.msgpack.encode([_NAMES, *shared, *rows])
        _BODY.decode(body)  # what could not be read must not be written
    except (TypeError, OverflowError, ValueError, msgspec.ValidationError) as error:
        raise JournalError(f"the plan can't be kept in the journal: {error}") from error
    packed = pa.compress(body, codec="zstd", asbytes=True)
    polars = pl.__version__.encode("ascii")
    header = bytearray(_HEADER.pack(MAGIC, VERSION, len(polars), 0, len(body)))
    checksum = google_crc32c.value(b"".join((header[_CHECKED_FROM:], polars, packed)))
    header[:_CHECKED_FROM] = _HEADER.pack(MAGIC, VERSION, len(polars), checksum, 0)[:_CHECKED_FROM]
    return b"".join((header, polars, packed))


def decode_plan(data: bytes) -> PlannedQuery:
    """Read a plan.

    Raises
    ------
    JournalError
        When it is of another version of the format or of polars, damaged, or no plan at all.
    """
    body = _unpacked(data)
    try:
        names, *shared, graph, report = _members(_BODY.decode(body))
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise JournalError(f"not a plan object: {error}") from error
    _check_fields(cast("Mapping[str, tuple[str, ...]]", names))
    values = _Values(shared)
    try:
        return PlannedQuery(
            graph=cast("StageGraph", _ROWS[StageGraph].read(graph, values)),
            report=None if report is None else cast("Report", _ROWS[Report].read(report, values)),
        )
    except IndexError as error:
        raise JournalError("not a plan object: it refers to a value that it does not have") from error


def _unpacked(data: bytes) -> bytes:
    """Return the body, checked."""
    if len(data) < _START.size or not data.startswith(MAGIC):
        raise JournalError("not a plan object: it begins with other bytes")
    version = _START.unpack_from(data)[1]
    if version != VERSION:
        raise JournalError(
            f"a plan object of version {version}, and this coordinator reads version {VERSION}: let a coordinator of the "
            "version that wrote it finish the query, or submit the query again"
        )
    if len(data) < _HEADER.size:
        raise JournalError("a damaged plan object: it is cut off")
    _, _, length, checksum, size = _HEADER.unpack_from(data)
    if google_crc32c.value(data[_CHECKED_FROM:]) != checksum:
        raise JournalError("a damaged plan object: its checksum is wrong")
    polars = data[_HEADER.size : _HEADER.size + length].decode("ascii", "replace")
    if polars != pl.__version__:
        raise JournalError(
            f"a plan of polars {polars}, and this coordinator has polars {pl.__version__}: let a coordinator with polars "
            f"{polars} finish the query, or submit the query again"
        )
    try:
        return pa.decompress(data[_HEADER.size + length :], decompressed_size=size, codec="zstd", asbytes=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise JournalError(f"a damaged plan object: {error}") from error


def _check_fields(names: Mapping[str, Sequence[str]]) -> None:
    if dict(names) == _NAMES:
        return
    for cls in sorted({*names, *_NAMES}):
        found, known = names.get(cls, ()), _NAMES.get(cls, ())
        if tuple(found) != known:
            raise JournalError(
                f"not a plan object of version {VERSION}: {cls} has the fields {', '.join(found) or 'of no class'}, and not "
                f"{', '.join(known) or 'of any class that is known'}"
            )


# Pools


class _Pools:
    """The values that are written once. Mutable; one for each object that is written."""

    def __init__(self) -> None:
        self.bytes: dict[bytes, int] = {}
        self.trees: list[object] = []
        self.schemas: list[object] = []
        self.rows: dict[type, list[object]] = {cls: [] for cls in _POOLED}
        self._numbers: dict[int, int] = {}
        """By identity; all of these values live as long as the plan does."""

    def number_of_bytes(self, value: bytes) -> int:
        """Return the number of some bytes; equal ones are the same."""
        return self.bytes.setdefault(bytes(value), len(self.bytes))

    def number_of_tree(self, value: object) -> int:
        """Return the number of a part of a plan as polars wrote it, decoded."""
        return self._number(value, self.trees, _plain)

    def number_of_schema(self, value: pl.Schema) -> int:
        """Return the number of a schema."""
        return self._number(value, self.schemas, encode_schema)

    def number_of_row(self, cls: type, value: object) -> int:
        """Return the number of a value of a class."""
        return self._number(value, self.rows[cls], partial(_ROWS[cls].write, pools=self))

    def _number(self, value: object, pool: list[object], write: Callable[[Any], object]) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            row = write(value)
            number = self._numbers[id(value)] = len(pool)
            pool.append(row)
        return number


class _Values:
    """The values that rows refer to, read pool by pool: those of a pool refer to earlier pools only."""

    def __init__(self, shared: Sequence[object]) -> None:
        data, trees, schemas, *rows = cast("list[list[Any]]", shared)
        self.bytes: list[bytes] = data
        self.trees: list[object] = trees
        self.schemas = [decode_schema(columns) for columns in schemas]
        self.rows: dict[type, list[object]] = {}
        try:
            for cls, own in zip(_POOLED, rows, strict=True):
                self.rows[cls] = [_ROWS[cls].read(row, self) for row in own]
        except (IndexError, KeyError) as error:
            raise JournalError("not a plan object: it refers to a value that it does not have") from error


def _plain(value: object) -> object:
    """Return a decoded part of a plan, which must be such that it is the same again after MessagePack."""
    if isinstance(value, dict):
        for name, item in value.items():
            # Numbers are those of columns, in scans of Iceberg tables.
            if not isinstance(name, (str, int)) or isinstance(name, bool):
                raise TypeError(f"it has a {type(name).__name__} as the name of a member")
            _plain(item)
    elif isinstance(value, list):
        for item in value:
            _plain(item)
    elif not (value is None or isinstance(value, (bool, int, float, str, bytes))):
        raise TypeError(f"it has a value of the class {type(value).__name__}")
    return value


# Rows: a value of a class is the list of its fields


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """How a value is written, read, and checked before."""

    wire: _Hint
    """What msgspec takes for it."""

    write: Callable[[Any, _Pools], object] | None = None
    """None: it is written as it is."""

    read: Callable[[Any, _Values], object] | None = None


class _Row:
    """How the values of one class are written and read."""

    def __init__(self, cls: type, names: tuple[str, ...]) -> None:
        declared = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else _struct(cls)
        if tuple(declared) != names:
            raise TypeError(f"{cls.__name__} has other fields than version {VERSION} of the plan object")
        # Not in the namespace of the class: there `bytes` may be a field.
        hints = get_type_hints(cls, localns={})
        kinds = [_kind(hints[name], wide=cls in _WIDE) for name in names]
        self._cls = cls
        self._tag = [cls.__name__] if cls in _TAGGED else []
        self._many = len(names) > 1  # of one name it gives no tuple
        self._fields = attrgetter(*names)
        self._writers = [(number, kind.write) for number, kind in enumerate(kinds) if kind.write is not None]
        self._names = names
        self._readers = [(name, kind.read) for name, kind in zip(names, kinds, strict=True) if kind.read is not None]
        self.wire = msgspec.defstruct(
            cls.__name__,
            [(name, kind.wire) for name, kind in zip(names, kinds, strict=True)],
            array_like=True,
            forbid_unknown_fields=True,
            tag=cls in _TAGGED,
        )

    def write(self, value: object, pools: _Pools) -> Sequence[object]:
        """Return the fields of `value`."""
        if not self._writers and not self._tag:
            return self._fields(value) if self._many else [self._fields(value)]
        row: list[object] = list(self._fields(value)) if self._many else [self._fields(value)]
        for number, write in self._writers:
            row[number] = write(row[number], pools)
        return [*self._tag, *row] if self._tag else row

    def read(self, row: object, values: _Values) -> object:
        """Return the value with these fields."""
        found = {name: getattr(row, name) for name in self._names}
        for name, read in self._readers:
            found[name] = read(found[name], values)
        return self._cls(**found)


def _struct(cls: type) -> Sequence[str]:
    return cast("type[msgspec.Struct]", cls).__struct_fields__


def _members(row: msgspec.Struct) -> tuple[Any, ...]:
    return msgspec.structs.astuple(row)


def _kind(hint: _Hint, *, wide: bool) -> _Kind:
    """Return how values of a type are written."""
    origin: _Hint = get_origin(hint)
    arguments: tuple[_Hint, ...] = get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(arguments, wide=wide)
    if origin is tuple and arguments[-1] is ...:
        return _items(_kind(arguments[0], wide=wide), tuple)
    if origin is frozenset:
        wire = _list_of(arguments[0])
        return _Kind(wire=wire, write=lambda value, _: sorted(value), read=lambda value, _: frozenset(value))
    if hint == dict[str, object] or hint is object:
        return _numbered(_Pools.number_of_tree, lambda values: values.trees)
    if hint is bytes:
        return _numbered(_Pools.number_of_bytes, lambda values: values.bytes)
    if hint is pl.Schema:
        return _numbered(_Pools.number_of_schema, lambda values: values.schemas)
    if hint in _POOLED:
        return _numbered(lambda pools, value: pools.number_of_row(hint, value), lambda values: values.rows[hint])
    if hint in _FIELDS:
        own = _row(hint)
        return _Kind(wire=own.wire, write=own.write, read=own.read)
    if hint is int and wide:
        return _Kind(wire=int | str, write=lambda value, _: value if -(2**63) <= value < 2**64 else str(value), read=_wide)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _Kind(wire=types.GenericAlias(dict, arguments), write=lambda value, _: dict(value))
    if origin in (None, Literal, tuple):
        return _Kind(wire=hint)
    raise TypeError(f"a field of the type {hint} has no form in a plan object")


def _numbered(write: Callable[[_Pools, Any], int], pool: Callable[[_Values], Sequence[object]]) -> _Kind:
    """Return how values are written of which the row has the number only."""
    return _Kind(wire=_Number, write=lambda value, pools: write(pools, value), read=lambda number, all_: pool(all_)[number])


def _list_of(wire: _Hint) -> _Hint:
    """Return the type of lists of what is known at run time only."""
    return types.GenericAlias(list, (wire,))


def _wide(value: int | str, _: _Values) -> int:
    return int(value)


def _items(kind: _Kind, make: Callable[[Any], object]) -> _Kind:
    write, read = kind.write, kind.read
    return _Kind(
        wire=_list_of(kind.wire),
        write=None if write is None else lambda value, pools: [write(item, pools) for item in value],
        read=lambda value, all_: make(value if read is None else [read(item, all_) for item in value]),
    )


def _union(arguments: Sequence[_Hint], *, wide: bool) -> _Kind:
    classes = [one for one in arguments if one is not type(None)]
    if len(classes) > 1:
        by_wire = {_row(cls).wire: _row(cls) for cls in classes}
        return _Kind(
            wire=Union[tuple(by_wire)],  # noqa: UP007  # of classes that are known at run time only
            write=lambda value, pools: _row(type(value)).write(value, pools),
            read=lambda value, all_: by_wire[type(value)].read(value, all_),
        )
    kind = _kind(classes[0], wide=wide)
    write, read = kind.write, kind.read
    return _Kind(
        wire=kind.wire | None,
        write=None if write is None else lambda value, pools: None if value is None else write(value, pools),
        read=None if read is None else lambda value, all_: None if value is None else read(value, all_),
    )


_ROWS: Final[dict[type, _Row]] = {}


def _row(cls: type) -> _Row:
    if cls not in _ROWS:
        _ROWS[cls] = _Row(cls, _FIELDS[cls])
    return _ROWS[cls]


def _body() -> type[msgspec.Struct]:
    pools = [(cls.__name__, _list_of(_row(cls).wire)) for cls in _POOLED]
    fields: list[tuple[str, Any]] = [
        ("names", dict[str, tuple[str, ...]]),
        ("bytes", list[bytes]),
        ("trees", list[Any]),
        ("schemas", list[list[list[Any]]]),
        *pools,
        ("graph", _row(StageGraph).wire),
        ("report", _row(Report).wire | None),
    ]
    return msgspec.defstruct("PlanObject", fields, array_like=True, forbid_unknown_fields=True)


_NAMES: Final = {cls.__name__: names for cls, names in _FIELDS.items()}
_BODY: Final = msgspec.msgpack.Decoder(_body())
