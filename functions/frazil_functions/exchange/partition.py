"""Which partition a row belongs to, and the order of sort keys as bytes.

Both depend on values alone: not on chunks, on nulls elsewhere in the column, on dictionaries, or on the process. They do
depend on the version of polars, which is why all sides of a query must run the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl
from polars.functions import _row_encode

from frazil_functions.errors import PlanError
from frazil_functions.exchange.dtypes import anywhere, instance, without_dictionaries
from frazil_functions.task import HashShare, SortKey

__all__ = ["hash_partitions", "in_share", "row_encode", "split_by_partition"]

_PARTITION: Final = "__frazil_partition"
_KEY: Final = "__frazil_key_"
_SEED: Final = 0x_F4A2_11ED
"""Differs from the seed of any hash table inside Polars, so that one partition's keys still spread in them."""


def hash_partitions(frame: pl.DataFrame, hash_keys: Sequence[bytes], partitions: int) -> pl.Series:
    """Return the partition of each row.

    Parameters
    ----------
    frame
        Rows to part.
    hash_keys
        Serialised `pl.Expr`, evaluated on `frame`. Rows whose keys are equal come into the same partition; null equals null,
        NaN equals NaN, -0.0 equals 0.0, and categoricals and enums equal their strings. No key: all rows go to partition 0.
    partitions
        Number of partitions.

    Returns
    -------
    pl.Series
        UInt32, one value a row.

    Raises
    ------
    PlanError
        When a key is no serialised expression.
    """
    if not hash_keys or partitions == 1:
        return pl.zeros(frame.height, dtype=pl.UInt32, eager=True).alias(_PARTITION)
    return (_hashes(frame, hash_keys) % partitions).cast(pl.UInt32).alias(_PARTITION)


def in_share(frame: pl.DataFrame, share: HashShare) -> pl.DataFrame:
    """Return the rows of a partition that are in `share`, in their order."""
    hashes = _hashes(frame, share.hash_keys)
    # What is left of the hash after the partition was taken from it.
    return frame.filter((hashes // share.partitions) % share.count == share.index)


def _hashes(frame: pl.DataFrame, hash_keys: Sequence[bytes]) -> pl.Series:
    """Return the hash of each row's keys, UInt64."""
    names = [f"{_KEY}{number}" for number in range(len(hash_keys))]
    keys = frame.with_columns(_expression(key).alias(name) for key, name in zip(hash_keys, names, strict=True)).select(names)
    keys = keys.select(_canonical(name, dtype) for name, dtype in keys.schema.items())
    if len(names) == 1 and not keys.dtypes[0].is_nested():
        hashed = pl.col(names).hash(_SEED)
    else:
        # Only the ordered encoding takes a categorical (one inside a map is left) by its string; the other takes its number.
        unordered = not any(anywhere(dtype, _is_categorical) for dtype in keys.dtypes)
        hashed = _row_encode([pl.col(name) for name in names], unordered=unordered).cast(pl.Binary).hash(_SEED)
    return keys.select(hashed.alias(_PARTITION)).to_series()


def split_by_partition(frame: pl.DataFrame, partition: pl.Series) -> dict[int, pl.DataFrame]:
    """Return the rows of each partition that has any, in their order."""
    parts = frame.with_columns(partition.alias(_PARTITION)).partition_by(
        _PARTITION, maintain_order=True, include_key=False, as_dict=True
    )
    return {int(key[0]): part for key, part in parts.items()}


def row_encode(frame: pl.DataFrame, sort_keys: Sequence[SortKey]) -> pl.Series:
    """Return the sort keys of each row as bytes whose order (memcmp) is the rows' order.

    Parameters
    ----------
    frame
        Rows that have the columns of `sort_keys`.
    sort_keys
        At least one.

    Returns
    -------
    pl.Series
        Binary, one value a row, none null.
    """
    encoded = _row_encode(
        [pl.col(key.column) for key in sort_keys],
        descending=[key.descending for key in sort_keys],
        nulls_last=[key.nulls_last for key in sort_keys],
    )
    return frame.select(encoded.cast(pl.Binary).alias(f"{_KEY}0")).to_series()


def _expression(serialised: bytes) -> pl.Expr:
    try:
        return pl.Expr.deserialize(serialised)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise PlanError(f"a hash key is no expression of polars {pl.__version__}: {error}") from error


def _canonical(name: str, dtype: pl.DataType) -> pl.Expr:
    """Return the column in a form that means the same in every process."""
    column = pl.col(name)
    if isinstance(dtype, pl.BaseExtension):
        column, dtype = column.ext.storage(), instance(dtype.ext_storage())
    plain = without_dictionaries(dtype)
    return column if plain == dtype else column.cast(plain)


def _is_categorical(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Categorical)
