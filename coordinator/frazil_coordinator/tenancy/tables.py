"""Tables of a TOML file, with errors that name the file, the table and the key.

Which tables: :mod:`~frazil_coordinator.tenancy.config`, and :mod:`frazil_coordinator.catalog.config` of another file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from frazil_functions.errors import RequestError

__all__ = ["made", "read_toml", "table", "tables", "values"]

_T = TypeVar("_T")


def read_toml(file: Path, names: Collection[str], there: str) -> dict[str, object]:
    """Return the document of a file.

    Parameters
    ----------
    file
        The file.
    names, there
        What it may have at its top, and how that is told in a sentence.

    Raises
    ------
    RequestError
        When it can't be read, is not TOML, or has something else at its top.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file}: can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{file}: not TOML: {error}") from error
    if unknown := sorted(document.keys() - set(names)):
        raise RequestError(f"{file}: unknown: {', '.join(unknown)}; there are the tables {there}")
    return document


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
