"""Questions about polars dtypes at any depth, for the codec and the partitioner."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import polars as pl
from polars.datatypes import DataTypeClass

__all__ = ["anywhere", "instance", "lacks", "without_dictionaries"]

_Inner: TypeAlias = pl.DataType | DataTypeClass


def anywhere(dtype: pl.DataType, test: Callable[[pl.DataType], bool]) -> bool:
    """Return whether `test` holds for `dtype` or for a dtype inside it."""
    if test(dtype):
        return True
    if isinstance(dtype, (pl.List, pl.Array)):
        return anywhere(instance(dtype.inner), test)
    if isinstance(dtype, pl.Struct):
        return any(anywhere(instance(field.dtype), test) for field in dtype.fields)
    if isinstance(dtype, pl.Map):
        return anywhere(instance(dtype.key), test) or anywhere(instance(dtype.value), test)
    return isinstance(dtype, pl.BaseExtension) and anywhere(instance(dtype.ext_storage()), test)


def lacks(dtype: pl.DataType, wanted: pl.DataType) -> bool:
    """Return whether `dtype` is `wanted`, or is it but for a Null inside where `wanted` says what the nulls are of."""
    if dtype in (wanted, pl.Null):
        return True
    if isinstance(dtype, pl.List) and isinstance(wanted, pl.List):
        return lacks(instance(dtype.inner), instance(wanted.inner))
    if isinstance(dtype, pl.Array) and isinstance(wanted, pl.Array):
        return dtype.size == wanted.size and lacks(instance(dtype.inner), instance(wanted.inner))
    if isinstance(dtype, pl.Struct) and isinstance(wanted, pl.Struct) and len(dtype.fields) == len(wanted.fields):
        pairs = zip(dtype.fields, wanted.fields, strict=True)
        return all(one.name == two.name and lacks(instance(one.dtype), instance(two.dtype)) for one, two in pairs)
    return False


def without_dictionaries(dtype: pl.DataType) -> pl.DataType:
    """Return `dtype` with String in the place of Categorical and Enum, except inside a Map, which polars can't cast."""
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(without_dictionaries(instance(dtype.inner)))
    if isinstance(dtype, pl.Array):
        return pl.Array(without_dictionaries(instance(dtype.inner)), dtype.size)
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(field.name, without_dictionaries(instance(field.dtype))) for field in dtype.fields])
    return dtype


def instance(dtype: _Inner) -> pl.DataType:
    """Return the dtype itself where polars also allows its class, e.g. in ``pl.List(pl.Int8)``."""
    return dtype if isinstance(dtype, pl.DataType) else dtype()
