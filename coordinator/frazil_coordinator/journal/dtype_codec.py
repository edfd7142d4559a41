"""Dtypes as plain values: ``["Datetime", "us", "UTC"]``, kept as exactly as polars compares them.

Polars' own forms do not keep all of them (arrays of no width can't be read back), so this is a closed list of them, written
out. What is on no list is refused when it is written. :mod:`~frazil_coordinator.journal.plan_codec` is its only user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

import polars as pl
from polars.datatypes import BaseExtension, DataType

from frazil_functions.errors import JournalError

__all__ = ["decode_schema", "encode_schema"]

_Row: TypeAlias = list[object]

_PLAIN: Final[Mapping[str, type[DataType]]] = {
    dtype.__name__: dtype
    for dtype in (
        pl.Binary, pl.Boolean, pl.Date, pl.Float16, pl.Float32, pl.Float64, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128,
        pl.Null, pl.String, pl.Time, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.UInt128,
    )
}  # fmt: skip


def encode_schema(schema: pl.Schema) -> list[list[object]]:
    """Return the columns as ``[name, dtype]``.

    Raises
    ------
    JournalError
        When a column holds Python objects, or a dtype that this version has no form for.
    """
    return [[name, _encode(name, dtype)] for name, dtype in schema.items()]


def decode_schema(columns: list[list[object]]) -> pl.Schema:
    """Return the schema that :func:`encode_schema` was given.

    Raises
    ------
    JournalError
        When it is not one of its answers.
    """
    try:
        return pl.Schema({str(name): _decode(cast("_Row", row)) for name, row in columns})
    except (TypeError, ValueError, AttributeError, IndexError, pl.exceptions.PolarsError) as error:
        raise JournalError(f"not a plan object: it has a schema that can't be read ({error})") from error


def _encode(column: str, dtype: object) -> _Row:
    match dtype:
        case pl.Datetime():
            return ["Datetime", dtype.time_unit, dtype.time_zone]
        case pl.Duration():
            return ["Duration", dtype.time_unit]
        case pl.Decimal():
            return ["Decimal", dtype.precision, dtype.scale]
        case pl.Enum():
            return ["Enum", dtype.categories.to_list()]
        case pl.Categorical():
            own = dtype.categories
            return ["Categorical", own.name(), own.namespace(), str(own.physical())]
        case pl.List():
            return ["List", _encode(column, dtype.inner)]
        case pl.Array():
            return ["Array", _encode(column, dtype.inner), dtype.size]
        case pl.Map():
            return ["Map", _encode(column, dtype.key), _encode(column, dtype.value)]
        case pl.Struct():
            return ["Struct", [[field.name, _encode(column, field.dtype)] for field in dtype.fields]]
        case BaseExtension():
            return ["Extension", dtype.ext_name(), _encode(column, dtype.ext_storage()), dtype.ext_metadata()]
        case DataType() if type(dtype).__name__ in _PLAIN:
            return [type(dtype).__name__]
        case _ if isinstance(dtype, type) and dtype.__name__ in _PLAIN:
            return [dtype.__name__]
        case _:
            raise JournalError(
                f"a plan whose column {column!r} has the dtype {dtype} can't be kept in the journal: cast the column, or "
                "run the query without a journal"
            )


def _decode(row: _Row) -> DataType:
    name, *rest = row
    if (plain := _PLAIN.get(str(name))) is not None and not rest:
        return plain()
    if (make := _MADE.get(str(name))) is None:
        raise ValueError(f"unknown dtype {name!r}")
    return make(*rest)


def _extension(name: str, storage: _Row, metadata: str | None) -> DataType:
    known = pl.get_extension_type(name)
    cls = known if isinstance(known, type) else pl.Extension
    return cast("DataType", cls.ext_from_params(name, _decode(storage), metadata))


_MADE: Final[Mapping[str, Callable[..., DataType]]] = {
    "Datetime": lambda unit, zone: pl.Datetime(unit, zone),
    "Duration": lambda unit: pl.Duration(unit),
    "Decimal": lambda precision, scale: pl.Decimal(precision, scale),
    "Enum": lambda categories: pl.Enum(pl.Series(categories, dtype=pl.String)),
    "Categorical": lambda name, namespace, physical: pl.Categorical(
        pl.Categories(name or None, namespace, _PLAIN[physical])
    ),
    "List": lambda inner: pl.List(_decode(inner)),
    "Array": lambda inner, size: pl.Array(_decode(inner), size),
    "Map": lambda key, value: pl.Map(_decode(key), _decode(value)),
    "Struct": lambda fields: pl.Struct([pl.Field(name, _decode(dtype)) for name, dtype in fields]),
    "Extension": _extension,
}
