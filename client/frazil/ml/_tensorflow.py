"""Batches as a ``tf.data.Dataset``; TensorFlow is imported when one is made, and is no dependency."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Final

import polars as pl

from frazil.ml._batches import Batches
from frazil_functions.errors import RequestError

__all__ = ["tensorflow_dataset"]

_NAMES: Final[Mapping[type[pl.DataType], str]] = {
    pl.Boolean: "bool", pl.Int8: "int8", pl.Int16: "int16", pl.Int32: "int32", pl.Int64: "int64", pl.UInt8: "uint8",
    pl.UInt16: "uint16", pl.UInt32: "uint32", pl.UInt64: "uint64", pl.Float32: "float32", pl.Float64: "float64",
    pl.String: "string", pl.Binary: "string",
}  # fmt: skip
"""Names of TensorFlow's dtypes."""


def _arrays(frame: pl.DataFrame) -> dict[str, object]:
    return {column.name: column.to_numpy() for column in frame}


def tensorflow_dataset(batches: Batches, *, convert: Callable[[pl.DataFrame], object] = _arrays) -> object:
    """Return a ``tf.data.Dataset`` whose elements are batches: dictionaries of tensors with one dimension.

    Parameters
    ----------
    batches
        What to read; share out by ``batches.sharded(worker, workers)``. Its ``state_dict`` says how far it was read, which
        may be ahead of what was trained on by what ``prefetch`` holds.
    convert
        Makes what TensorFlow takes of a batch. By default arrays of numpy.

    Raises
    ------
    ImportError
        When TensorFlow is not installed.
    RequestError
        When a column is of a dtype that tensors don't have.
    """
    try:
        tf = importlib.import_module("tensorflow")
    except ModuleNotFoundError as error:
        raise ImportError(f'this needs TensorFlow ({error}): pip install "tensorflow"') from error
    signature = {name: tf.TensorSpec(shape=(None,), dtype=_dtype(tf, name, of)) for name, of in batches.schema.items()}

    def generate() -> Iterator[object]:
        return map(convert, batches)

    made: object = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return made


def _dtype(tf: ModuleType, name: str, dtype: pl.DataType) -> object:
    found = _NAMES.get(type(dtype))
    if found is None:
        raise RequestError(f"column {name!r} is of dtype {dtype}, which tensors don't have: cast it in the query")
    return getattr(tf, found)
