"""Tables of a TOML file, with errors that name the file, the table and the key.

Which tables: :mod:`~frazil_coordinator.tenancy.config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from frazil_functions.errors import RequestError

__all__ = ["made", "table", "tables", "values"]

_T = TypeVar("_T")


def values(file: Path, place: str, value: object, types: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a table, each of its type.

    Raises
    ------
    RequestError
        When it is no table, or holds what is unknown or of another type.
    """
    found: dict[str, object] = {}
    for key, given in table(file, place, value).items():
        if key not in types:
            raise RequestError(f"{file}: [{place}] {key} is unknown: there are {', '.join(sorted(types))}")
        try:
            found[key] = msgspec.convert(given, type=types[key])
        except msgspec.ValidationError as error:
            raise RequestError(f"{file}: [{place}] {key}: {error}") from error
    return found


def table(file: Path, place: str, value: object) -> dict[str, object]:
    """Return `value`, which must be a table."""
    if not isinstance(value, dict):
        raise RequestError(f"{file}: {place} must be a table")
    return value


def tables(file: Path, name: str, value: object) -> list[tuple[str, object]]:
    """Return the tables of an array of them, each with its place in the file."""
    if not isinstance(value, list):
        raise RequestError(f"{file}: {name} must be tables [[{name}]]")
    return [(f"{name}, number {number}", one) for number, one in enumerate(value, start=1)]


def made(place: str, make: Callable[[], _T]) -> _T:
    """Return what `make` returns; its refusal says where it belongs to."""
    try:
        return make()
    except RequestError as error:
        text = error.message if error.message.startswith(place.partition(":")[0]) else f"{place} {error.message}"
        raise RequestError(text) from error
